#!/usr/bin/env bash
# anyio 4.16.0 on asyncio: Task.cancel() frees the place in a CapacityLimiter while its thread still works.
#
# anyio.to_thread.run_sync() shields its thread: cancelling an anyio scope waits for it, and only then gives the
# limiter's token back. A cancellation by asyncio's own Task.cancel(), which is what asyncio servers do when a client
# hangs up, goes through the shield. The task ends at once and the token is returned, so more threads than the limiter
# allows are at work: a limit on memory or processors does not hold. asyncio.shield() around the call keeps it.
#
# Seen, with a limiter of one: cancelled by asyncio 2 threads at once, cancelled by anyio 1, with asyncio.shield() 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check anyio==4.16.0
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import threading
import time
from importlib.metadata import version

import anyio
import anyio.to_thread


class Work:
    """Sleeps in a thread, and knows how many did so at once."""

    def __init__(self):
        self.now = self.most = 0
        self.lock = threading.Lock()

    def __call__(self):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.5)
        with self.lock:
            self.now -= 1


async def cancelled_by_asyncio(work, limiter):
    task = asyncio.create_task(anyio.to_thread.run_sync(work, limiter=limiter))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await anyio.to_thread.run_sync(work, limiter=limiter)


async def cancelled_by_anyio(work, limiter):
    with anyio.move_on_after(0.1):
        await anyio.to_thread.run_sync(work, limiter=limiter)
    await anyio.to_thread.run_sync(work, limiter=limiter)


async def shielded(work, limiter):
    inner = asyncio.create_task(anyio.to_thread.run_sync(work, limiter=limiter))
    task = asyncio.ensure_future(asyncio.shield(inner))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await anyio.to_thread.run_sync(work, limiter=limiter)


async def most_at_once(scenario):
    work, limiter = Work(), anyio.CapacityLimiter(1)
    await scenario(work, limiter)
    while work.now:
        await asyncio.sleep(0.1)
    return work.most


seen = {}
for scenario in (cancelled_by_asyncio, cancelled_by_anyio, shielded):
    seen[scenario.__name__] = asyncio.run(most_at_once(scenario))
    print(f"anyio {version('anyio')}, {scenario.__name__}: {seen[scenario.__name__]} at once, of 1 allowed")
assert seen == {"cancelled_by_asyncio": 2, "cancelled_by_anyio": 1, "shielded": 1}, seen
PYTHON
