#!/usr/bin/env bash
# threadpoolctl 3.8.0: two limits that overlap in two threads leave NumPy's BLAS at the lower limit for good.
#
# Version 3.8.0 lets only one thread at a time control OpenBLAS, so that threads do not undo each other's limits. It
# does not help where the first thread leaves before the second: the second is not heeded when it enters (it sees the
# first one's limit, and again two threads once the first has left), but it is in control when it leaves, and "restores"
# the number that it met, which was the first one's limit. A limit for each product of several threads therefore
# ends with one thread for the whole process. Version 3.6.0, without that control, ends the same way.
#
# Seen, with NumPy at two threads before: 3.6.0 inside the second limit 2, afterwards 1; 3.8.0 inside 2, afterwards 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
for version in 3.6.0 3.8.0; do
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.3.5 "threadpoolctl==$version"
    OPENBLAS_NUM_THREADS=2 "$folder/venv/bin/python" - <<'PYTHON'
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from threading import Event

import numpy  # noqa: F401
from threadpoolctl import threadpool_info, threadpool_limits

first_in, second_in, first_out = Event(), Event(), Event()


def threads():
    return [library["num_threads"] for library in threadpool_info()]


def first():
    with threadpool_limits(1, user_api="blas"):
        first_in.set()
        second_in.wait()
    first_out.set()


def second():
    first_in.wait()
    with threadpool_limits(1, user_api="blas"):
        second_in.set()
        first_out.wait()
        return threads()


before = threads()
with ThreadPoolExecutor() as pool:
    runs = pool.submit(first), pool.submit(second)
    inside = [run.result() for run in runs][1]
print(f"threadpoolctl {version('threadpoolctl')}: before {before}, inside the second limit {inside}, after {threads()}")
assert (before, inside, threads()) == ([2], [2], [1])
PYTHON
done
