"""Metrics for the host in Prometheus' text format: counts and seconds, nothing about any visitor."""

from collections.abc import Callable
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


class Telemetry:
    """Count the runs of a queue.

    Args:
        state: says how many runs are "painted" and how many are "waiting" (see `RunQueue.state`).
    """

    def __init__(self, state: Callable[[], dict[str, Any]]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        here: dict[str, Any] = {"namespace": "nst", "registry": self._registry}
        self.ended = Counter("runs", "Runs that have ended, by how", ["ended"], **here)
        self.refused = Counter("refused", "Requests for which there was no place", **here)
        self.waited = Histogram("wait_seconds", "Seconds in the queue", buckets=_SECONDS, **here)
        self.took = Histogram("run_seconds", "Seconds of a run", buckets=_SECONDS, **here)
        for name in ("painted", "waiting"):
            gauge = Gauge(name, f"Runs that are {name} now", **here)
            gauge.set_function(partial(_count, state, name))

    def text(self) -> bytes:
        """Write all counts, as /metrics answers."""
        return generate_latest(self._registry)


def _count(state: Callable[[], dict[str, Any]], name: str) -> float:
    return float(state()[name])
