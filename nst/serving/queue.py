"""The queue in which runs wait for a worker, and each run in it."""

import asyncio
import contextlib
import ctypes
import heapq
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from nst.config import TransferConfig
from nst.engine.pyramid import config_cost
from nst.engine.quality import Measure
from nst.engine.vgg import Backbone
from nst.engine.weights import load_backbone
from nst.errors import BusyError, RunnerError, TransferError
from nst.runs.job import Job
from nst.runs.recorder import Recorder
from nst.runs.runner import LocalRunner, Runner
from nst.serving.limits import Limits
from nst.serving.pace import Pace
from nst.serving.rate_limit import Rate, RateLimiter, Share
from nst.serving.telemetry import Telemetry

WAIT_SECONDS = 2  # between two tries to get a place in a queue that is full
POLL_SECONDS = 0.1

logger = logging.getLogger("nst")


class Run:
    """Follow one job through the queue; its `recorder` grows while it runs, and stays.

    Args:
        job: what to run.
        for_study: whether the result is evaluated, and no moments are kept.
    """

    def __init__(self, job: Job, *, for_study: bool = False) -> None:
        self.config = job.config
        self.recorder = Recorder(job.config, most_moments=0) if for_study else Recorder(job.config)
        self.quality: dict[str, Measure] = {}  # of a finished run of a study
        self.joined = time.monotonic()
        self.future: Future[None]  # done once the run is; holds the exception that ended it, if one did
        self._job: Job | None = job
        self._backbone: Backbone | None = None
        self._for_study = for_study
        self._stopping = threading.Event()

    @property
    def job(self) -> Job:
        """Return the job; a run that was stopped before it began has given it up."""
        assert self._job is not None
        return self._job

    @property
    def has_begun(self) -> bool:
        """Return whether the run has begun, with its network loaded."""
        return self._backbone is not None

    @property
    def backbone(self) -> Backbone:
        """Return the network, once the run has begun."""
        assert self._backbone is not None
        return self._backbone

    def stop(self) -> None:
        """End the run within one evaluation, or before it begins; the picture so far stays."""
        self._stopping.set()
        if self.future.cancel():
            self._job = None  # the executor keeps a cancelled run until its turn would have come

    def carry_out(self, runner: Runner, seconds: float) -> None:
        """Run the job from its first step to its end.

        Args:
            runner: where it runs.
            seconds: how long at most.
        """
        self._backbone = load_backbone(self.config.backbone)
        deadline = time.monotonic() + seconds

        def stop() -> bool:
            return self._stopping.is_set() or time.monotonic() > deadline

        try:
            for _ in self.recorder.follow(runner.stylize(self.job, stop), stop):
                pass
        except TransferError:
            if self.recorder.progress is None:
                raise
        if self.recorder.ended == "stopped" and not self._stopping.is_set():
            self.recorder.ended = "out of time"
        if self._for_study and self.recorder.ended == "finished":
            self.quality = runner.evaluate(self.recorder.result(self.job), self.job)


class RunQueue:
    """Carry out runs, first come, first served, as many at once as the runner has workers.

    Before the first of them, `warm_up` loads the default backbone and traces the objective.

    Args:
        runner: where runs happen; by default in this process.
        limits: how many may wait, how long each takes, and each visitor's share.
    """

    def __init__(self, runner: Runner | None = None, limits: Limits = Limits()) -> None:
        self.runner = runner or LocalRunner(limits.at_once)
        self.limits = limits
        self.rate_limiter = RateLimiter(limits)
        self.pace = Pace()
        self.telemetry = Telemetry(self.state)
        self._runs: list[Run] = []  # that have not ended
        self._closed = False
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(self.runner.workers)
        noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
        self.warm_up = self._begin(Run(Job(TransferConfig(size=128, iterations=8), noise, [noise // 2])))

    async def warmed_up(self) -> None:
        """Wait for the end of the warm-up, after which the pace is known."""
        while not self.warm_up.future.done():
            await asyncio.sleep(2 * POLL_SECONDS)

    def admit(self, visitor: str | None) -> None:
        """Count a visitor's request for a run, before anything is done for it: to read images is work.

        Raises:
            BusyError: the visitor has asked for too many in this minute, or there is no place (see `join`).
        """
        if not self.rate_limiter.use(Rate.PICTURES, visitor):
            raise self._refuse("That was quick: please wait a minute before the next picture.")
        with self._lock:
            self._check_places()
            if not self.rate_limiter.has_room(Share.RUNS, visitor):
                raise self._refuse_more()

    def join(self, run: Run, visitor: str | None = None) -> Run:
        """Put a run at the end of the queue.

        Raises:
            BusyError: the queue, or the visitor's share of it, is full.
            RunnerError: the queue is closed.
        """
        with self._lock:
            if self._closed:
                raise RunnerError("The server is stopping: please come back later.")
            self._check_places()
            leave = self.rate_limiter.take(Share.RUNS, visitor)
            if leave is None:
                raise self._refuse_more()
            self._runs.append(self._begin(run))
        run.future.add_done_callback(lambda _: leave())
        return run

    def run(
        self,
        job: Job,
        visitor: str | None = None,
        stop: Callable[[], bool] = lambda: False,
        watch: Callable[[Run], None] = lambda run: None,
    ) -> tuple[Recorder, dict[str, Measure]]:
        """Wait for a place, and run a job of a study to its end, as `run_job` does.

        Args:
            job: what to run.
            visitor: whose it is.
            stop: ends it, at any time.
            watch: is given the run once it is in the queue.

        Returns:
            As `run_job`; `ended` is "stopped" also where `stop` ended it before it began.

        Raises:
            Exception: whatever made the run fail.
        """
        run = Run(job, for_study=True)
        tries_at = time.monotonic()
        while True:
            if stop():
                return run.recorder, {}
            if time.monotonic() >= tries_at:
                try:
                    self.join(run, visitor)
                    break
                except BusyError:
                    tries_at = time.monotonic() + WAIT_SECONDS
            time.sleep(POLL_SECONDS)
        watch(run)
        while not run.future.done():
            if stop():
                run.stop()
            time.sleep(POLL_SECONDS)
        if not run.future.cancelled():
            run.future.result()
        return run.recorder, run.quality

    def _check_places(self) -> None:
        self._runs = [run for run in self._runs if not run.future.cancelled()]
        if len(self._runs) >= self.limits.places:
            raise self._refuse("Too many people are waiting: please try again in a few minutes.")

    def _refuse_more(self) -> BusyError:
        return self._refuse("Your other pictures are still in the queue: please wait for one of them.")

    def _refuse(self, sentence: str) -> BusyError:
        self.telemetry.refused.inc()
        return BusyError(sentence)

    def _begin(self, run: Run) -> Run:
        run.future = self._threads.submit(self._carry_out, run)
        return run

    def _carry_out(self, run: Run) -> None:
        recorder = run.recorder
        self.telemetry.waited.observe(time.monotonic() - run.joined)
        try:
            run.carry_out(self.runner, self.limits.seconds)
        except Exception:
            recorder.ended = "failed"
            raise
        finally:
            history = recorder.history
            steps, seconds = len(history), history[-1]["seconds"] if history else 0
            size, most = run.config.size, run.config.iterations
            logger.info("%s: %d px, %d of %d steps, %.1f s", recorder.ended, size, steps, most, seconds)
            self.telemetry.ended.labels(recorder.ended).inc()
            self.telemetry.took.observe(seconds)
            if recorder.pace is not None:
                self.pace.add(recorder.pace)
            _trim_memory()
            with self._lock:  # whoever follows the run has it still; here it would stay in memory
                self._runs = [other for other in self._runs if other is not run]

    def ahead(self, run: Run) -> int:
        """Count the runs that have to end before `run` begins."""
        return max(len(self._before(run)) - self.runner.workers + 1, 0)

    def estimate_seconds(self, config: TransferConfig) -> tuple[float, float] | None:
        """Estimate between how many seconds a run takes, at most its limit; None before any run was timed."""
        likely = self.pace.likely(config_cost(config))
        return likely and (min(likely[0], self.limits.seconds), min(likely[1], self.limits.seconds))

    def estimate_wait(self, run: Run | None = None) -> float | None:
        """Estimate the seconds until `run` begins, or a new one would; None before any run has been timed."""
        free = [0.0] * self.runner.workers  # when each worker is
        for other in self._before(run):
            begun = other.recorder.progress
            seconds = begun.seconds_left if begun else self.pace.seconds(config_cost(other.config))
            if seconds is None:
                return None
            heapq.heapreplace(free, free[0] + min(seconds, self.limits.seconds))
        return free[0]

    def _before(self, run: Run | None = None) -> list[Run]:
        """List the runs that wait or go on and joined before `run`, or all; none where it has ended."""
        runs = self._runs
        if run is not None:
            runs = runs[: runs.index(run)] if run in runs else []
        return [other for other in runs if not other.future.cancelled()]

    @property
    def runs(self) -> list[Run]:
        """List the runs that wait or go on, in their order."""
        return self._before()

    def state(self) -> dict[str, Any]:
        """Describe the queue: "starting", "ready" or "busy", and how many runs are painted and wait."""
        runs = len(self.runs)
        painted = min(runs, self.runner.workers)
        word = "busy" if painted == self.runner.workers else "ready"
        if not self.warm_up.future.done():
            word = "starting"
        return {"state": word, "painted": painted, "waiting": runs - painted, "places": self.limits.places}

    def close(self) -> None:
        """Stop every run and take no more."""
        with self._lock:
            self._closed = True
        for run in (self.warm_up, *self._runs):
            run.stop()
        self._threads.shutdown()
        self.runner.close()


def _trim_memory() -> None:
    """Give the system what is free: glibc keeps it, in pieces, for each of a server's many threads."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
