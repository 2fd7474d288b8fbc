"""The line in which the page's runs wait for a worker, and what is known of each."""

import asyncio
import contextlib
import ctypes
import heapq
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import tensorflow as tf

from nst.config import TransferConfig
from nst.engine.images import from_uint8, to_uint8
from nst.engine.stylize import Progress, TransferError, coarse_to_fine, cost, seconds_left
from nst.engine.vgg import Backbone, load_backbone
from nst.runs.record import history_row, run_record
from nst.runs.recorder import Snapshots
from nst.runs.runner import Job, Local, Runner
from nst.serving.limits import Allowance, Limits
from nst.serving.telemetry import Metrics

logger = logging.getLogger("nst")


class BusyError(RuntimeError):
    """Too many runs are waiting; one plain sentence that says what to do."""


class Run:
    """One stylization on its way; `progress`, `history` and `snapshots` grow while it runs, and stay.

    `entries` is what its record says of the job's images (see run_record).
    """

    def __init__(self, job: Job, entries: Mapping[str, Any] | None = None) -> None:
        self.config = job.config
        self.visitor: str | None = None  # who has put it into the line, if that is known
        self.joined = time.monotonic()
        self.backbone: Backbone | None = None  # known once the run has begun
        self.progress: Progress | None = None
        self.attempts = 0  # more than one where its worker was lost
        self.history: list[dict[str, float]] = []
        self.snapshots = Snapshots()
        self.ended = "stopped"  # or, in time, "finished", "out of time" or "failed"
        self.future: Future[None]  # done once the run is; holds the exception that ended it, if one did
        self._entries = entries or {}
        # In 8 bits, as they were read: paintings of a large scale wait in the line with many others.
        self._images = [
            None if image is None else to_uint8(image) for image in (job.content, job.start, *job.styles)
        ]
        self._mask = job.mask
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the run within one evaluation, or before it begins. What it has painted so far stays."""
        self._stopping.set()
        if self.future.cancel():
            self._images = []  # the executor keeps a cancelled run until its turn would have come

    def paint(self, runner: Runner, seconds: float) -> None:
        """Carry the run out, for at most that many seconds."""
        content, start, *styles = (None if pixels is None else from_uint8(pixels) for pixels in self._images)
        self.backbone = load_backbone(self.config.backbone)
        deadline = time.monotonic() + seconds

        def stop() -> bool:
            return self._stopping.is_set() or time.monotonic() > deadline

        try:
            for progress in runner.paint(Job(content, styles, self.config, self._mask, start), stop):
                if progress.step == 1:
                    self.attempts += 1
                    self.history, self.snapshots = [], Snapshots()
                self.history.append(history_row(progress))
                if self.progress is None or progress.image is not self.progress.image:  # it is its own
                    self.snapshots.add(progress)
                self.progress = progress
        except TransferError:
            if self.progress is None:
                raise
            self.ended = "failed"
        else:
            late = time.monotonic() > deadline
            self.ended = "stopped" if self._stopping.is_set() else "out of time" if late else "finished"

    @property
    def pace(self) -> float | None:
        """Seconds for one unit of cost(), after the first step; None where there are too few to say."""
        if self.progress is None or len(self.history) < 4:
            return None
        first, last = self.history[0], self.history[-1]
        before, after = (
            cost(self.progress.schedule, int(row["level"]), int(row["step"])) for row in (first, last)
        )
        return (last["seconds"] - first["seconds"]) / (after - before)

    def record(self) -> dict[str, Any]:
        """The run record, once the run has ended with a picture."""
        assert self.backbone is not None
        return run_record(self.config, self.backbone, self.history, self.ended, self._entries)


class Line:
    """Runs first come, first served, as many at once as the runner has workers.

    Before the first of them, `warm_up` loads the default backbone and traces the objective.
    """

    def __init__(self, runner: Runner | None = None, limits: Limits = Limits()) -> None:
        self._runner = runner or Local(limits.at_once)
        self.limits = limits
        self._pictures = Allowance(limits.per_minute, 60)
        self._runs: list[Run] = []  # that have not ended
        self.pace: float | None = None  # seconds for one unit of cost(), as the last run has had it
        self.metrics = Metrics(self.state)
        self._changing = threading.Lock()
        self._threads = ThreadPoolExecutor(self._runner.workers)
        noise = tf.random.stateless_uniform([1, 128, 128, 3], seed=(0, 0))
        self.warm_up = self._begin(Run(Job(noise, [noise**2], TransferConfig(size=128, iterations=8))))

    async def warmed_up(self) -> None:
        """Return once the warm-up has ended, after which the pace is known."""
        while not self.warm_up.future.done():
            await asyncio.sleep(0.2)

    def admit(self, visitor: str | None) -> None:
        """Count a visitor's request. Raises BusyError where their minute is full, or as join() does.

        To be asked before anything is done for them: reading their images is work as well.
        """
        if not self._pictures.take(visitor):
            self.metrics.refused.inc()
            raise BusyError("That was quick: please wait a minute before the next picture.")
        with self._changing:
            self._check_places(visitor)

    def join(self, run: Run, visitor: str | None = None) -> Run:
        """Put a run at the end of the line. Raises BusyError where that, or the visitor's share, is full."""
        with self._changing:
            self._check_places(visitor)
            run.visitor = visitor
            self._runs.append(self._begin(run))
        return run

    def _check_places(self, visitor: str | None) -> None:
        self._runs = [run for run in self._runs if not run.future.cancelled()]
        if len(self._runs) >= self.limits.places:
            self.metrics.refused.inc()
            raise BusyError("Too many people are waiting: please try again in a few minutes.")
        if visitor and sum(run.visitor == visitor for run in self._runs) >= self.limits.per_visitor:
            self.metrics.refused.inc()
            raise BusyError("Your other pictures are still in the line: please wait for one of them.")

    def _begin(self, run: Run) -> Run:
        run.future = self._threads.submit(self._carry_out, run)
        return run

    def _carry_out(self, run: Run) -> None:
        self.metrics.waited.observe(time.monotonic() - run.joined)
        try:
            run.paint(self._runner, self.limits.seconds)
        except Exception:
            run.ended = "failed"
            raise
        finally:
            steps, seconds = len(run.history), run.history[-1]["seconds"] if run.history else 0
            size, most = run.config.size, run.config.iterations
            logger.info("%s: %d px, %d of %d steps, %.1f s", run.ended, size, steps, most, seconds)
            self.metrics.ended.labels(run.ended).inc()
            self.metrics.took.observe(seconds)
            self.pace = run.pace or self.pace
            _give_back()
            with self._changing:  # whoever follows the run has it still; here it would stay in memory
                self._runs = [other for other in self._runs if other is not run]

    def ahead(self, run: Run) -> int:
        """How many runs have to end before `run` begins."""
        return max(len(self._before(run)) - self._runner.workers + 1, 0)

    def seconds(self, config: TransferConfig) -> float | None:
        """About how long a run takes, at most its limit; None where nothing has told the pace yet."""
        if self.pace is None:
            return None
        return min(self.pace * cost(coarse_to_fine(config.size, config.iterations)), self.limits.seconds)

    def wait(self, run: Run | None = None) -> float | None:
        """In about how many seconds `run` begins, or a new one would; None where nothing tells."""
        if self.pace is None:
            return None
        free = [0.0] * self._runner.workers  # when each worker is
        for other in self._before(run):
            begun = other.progress
            seconds = seconds_left(begun) if begun else self.seconds(other.config) or 0.0
            heapq.heapreplace(free, free[0] + min(seconds, self.limits.seconds))
        return free[0]

    def _before(self, run: Run | None = None) -> list[Run]:
        """Those that wait or are painted and have joined before `run`, or all; none where it has ended."""
        runs = self._runs
        if run is not None:
            runs = runs[: runs.index(run)] if run in runs else []
        return [other for other in runs if not other.future.cancelled()]

    @property
    def length(self) -> int:
        """How many runs wait or are painted."""
        return len(self._before())

    def state(self) -> dict[str, Any]:
        """Whether it is starting, ready or busy, and how many runs are being painted and are waiting."""
        runs = self.length
        painted = min(runs, self._runner.workers)
        word = "busy" if painted == self._runner.workers else "ready"
        if not self.warm_up.future.done():
            word = "starting"
        return {"state": word, "painted": painted, "waiting": runs - painted, "places": self.limits.places}

    def close(self) -> None:
        """Stop every run and take no more."""
        for run in (self.warm_up, *self._runs):
            run.stop()
        self._threads.shutdown()
        self._runner.close()


def _give_back() -> None:
    """Let the system have what is free: glibc keeps it, in pieces, for each of a server's many threads."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
