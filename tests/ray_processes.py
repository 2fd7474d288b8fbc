"""Processes of a Ray cluster on this machine: find them, kill them, and wait for their end."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from nst.runs.options import Resources

CORES = len(os.sched_getaffinity(0))  # other numbers of threads round differently
ONE_WORKER = Resources(cpus=CORES, memory=0.5)  # one fits on each node
HEAD = {
    "num_cpus": CORES,
    "include_dashboard": False,
    "_system_config": {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500},
}


def find_processes(name: str) -> list[int]:
    """Return the ids of the processes whose program has that in its name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            program, *_ = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:  # it has just ended
            continue
        if name in program:
            found.append(int(process.name))
    return found


def find_workers(task: str = "") -> list[int]:
    """Return the ids of all workers, or of those that carry out that task at this moment."""
    return find_processes(f"ray::_Worker{task}")


def end_soon(find: Callable[[], list[int]]) -> bool:
    """Wait up to a minute until none of those processes is left; return whether that is so."""
    for _ in range(600):
        if not find():
            return True
        time.sleep(0.1)
    return False


def kill_a_worker() -> None:
    """Kill the first worker that is at a run."""
    while not (busy := find_workers(".stylize")):
        time.sleep(0.01)
    os.kill(busy[0], signal.SIGKILL)


def seconds_computed(process: int) -> float:
    """Return the processor time that a process has had."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
