"""The one executor of studies, behind the command line and the page."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache, partial

import tensorflow as tf

from nst.engine.quality import Measure
from nst.engine.weights import load_backbone
from nst.errors import ImageError, LostRunError, StudyError, TransferError
from nst.runs.job import Job, read_image, read_inputs
from nst.runs.recorder import Recorder, run_job
from nst.runs.runner import Runner
from nst.study.folder import RunResult, StudyFolder
from nst.study.plan import Plan, StudyRun

Stop = Callable[[], bool]


@dataclass(frozen=True)
class Outcome:
    """Say how one run of a study ended.

    Args:
        run: the run of the plan.
        reason: why it failed, in one sentence; None where it was made.
        new: whether this execution made it; False where the folder already had it.
    """

    run: StudyRun
    reason: str | None = None
    new: bool = True


def execute(
    plan: Plan,
    folder: StudyFolder,
    runner: Runner,
    *,
    run: Callable[[Job, Stop], tuple[Recorder, Mapping[str, Measure]]] | None = None,
    stop: Stop = lambda: False,
    watch: Callable[[StudyRun], None] = lambda _: None,
    at_once: int | None = None,
) -> Iterator[Outcome]:
    """Make the runs of a plan that its folder lacks, and yield each run as it comes to its end.

    A run that fails is kept in the folder with its reason, and the study continues. A lost cluster ends it. A
    run that `stop` ends is dropped. Closing the iterator stops the runs in flight within one evaluation
    each and waits for them.

    Args:
        plan: the runs to make, in this order.
        folder: where they are kept; the caller holds `folder.locked()`.
        runner: where the runs are made.
        run: makes one job as `run_job` does, in a thread of this function's own; by default `run_job` on
            `runner`. It must follow the `stop` it is given.
        stop: asked before each run and each evaluation, from several threads.
        watch: told of each run that begins, just before its images are read, in the thread that then calls
            `run`.
        at_once: how many runs are in flight at most; by default as many as the runner has workers.

    Yields:
        An outcome for each run that was made, failed, or was there already; in the order in which they end.

    Raises:
        RunnerError: where no run can go on (the cluster is gone).
        ImageError, OSError: where the folder cannot be written.
    """
    leaving = threading.Event()
    workers = runner.workers if at_once is None else at_once
    make_run = run or partial(run_job, runner)
    read = lru_cache(maxsize=4 * workers)(read_image)  # so that a painting is decoded once for its runs

    def ending() -> bool:
        return leaving.is_set() or stop()

    def make(planned: StudyRun) -> Outcome | None:
        """Make one run; None where `stop` ended it."""
        watch(planned)
        try:
            job = read_inputs(
                planned.config,
                planned.content.path,
                [planned.style.path],
                label=lambda role, path: path.name,
                read=read,
            )
            recorder, quality = make_run(job, ending)
            if ending() or recorder.ended == "stopped":
                return None
            if recorder.ended != "finished":
                raise recorder.failure or StudyError(f"The run ended early ({recorder.ended}).")
        except (ImageError, TransferError, LostRunError, StudyError, MemoryError, tf.errors.OpError) as error:
            reason = _failure_reason(error)
            folder.keep_failure(planned, reason)
            return Outcome(planned, reason)
        record = recorder.record(job, load_backbone(planned.config.backbone))
        folder.keep(planned, RunResult(recorder.result(job), record, quality))
        return Outcome(planned)

    in_flight: set[Future[Outcome | None]] = set()

    def collect(most: int) -> Iterator[Outcome]:
        """Wait until at most that many runs are in flight, and yield those that ended."""
        nonlocal in_flight
        while len(in_flight) > most:
            done, in_flight = wait(in_flight, return_when=FIRST_COMPLETED)
            yield from filter(None, (future.result() for future in done))

    with ThreadPoolExecutor(workers) as threads:
        try:
            for planned in plan:
                yield from collect(workers - 1)
                if stop():
                    break
                if folder.has(folder.run_id(planned)):
                    yield Outcome(planned, new=False)
                else:
                    in_flight.add(threads.submit(make, planned))
            yield from collect(0)
        finally:
            leaving.set()


def _failure_reason(error: BaseException) -> str:
    """Say why a run failed, in words for whoever reads the study."""
    if isinstance(error, MemoryError | tf.errors.ResourceExhaustedError):
        return "There was not enough memory: please use a smaller size."
    if isinstance(error, tf.errors.OpError):
        return f"TensorFlow could not compute it: {error.message.splitlines()[0]}"
    return str(error)
