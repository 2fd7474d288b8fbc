"""The bookkeeping of a run in progress: history, moments, attempts, and how it ended."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from nst.config import TransferConfig
from nst.engine.color import blend
from nst.engine.images import Pixels, to_uint8
from nst.engine.pyramid import run_cost
from nst.engine.quality import Measure
from nst.engine.stylize import Progress
from nst.engine.vgg import Backbone
from nst.errors import TransferError
from nst.runs.job import Job
from nst.runs.record import history_row, run_record
from nst.runs.runner import Runner


class Moment(NamedTuple):
    """Hold one step of a run to come back to.

    Args:
        row: of the history.
        pixels: uint8 (H, W, 3), the picture at the size of its level.
    """

    row: dict[str, float]
    pixels: Pixels


class Recorder:
    """Record a run.

    Moments are spread evenly over the run: every step at first, then every second, fourth and so on, and
    always the last one.

    Args:
        config: of the run.
        most_moments: how many are kept; 0 for a run that nobody comes back to.
    """

    def __init__(self, config: TransferConfig, most_moments: int = 32) -> None:
        self.config = config
        self.progress: Progress | None = None  # the last step
        self.attempts = 0  # more than one where a worker was lost
        self.ended = "stopped"  # or, in the end, "finished", "out of time" or "failed"
        self.failure: TransferError | None = None
        self._most_moments = most_moments
        self._clear()

    def _clear(self) -> None:
        self.history: list[dict[str, float]] = []  # a row of history_row() for each step
        self._moments: list[Moment] = []
        self._stride = 1

    @property
    def moments(self) -> tuple[Moment, ...]:
        """Return the moments so far, in order."""
        return tuple(self._moments)

    @property
    def picture(self) -> tf.Tensor:
        """Return the picture of the last step, (1, H, W, 3) in [0, 1].

        Raises:
            ValueError: there is no step yet.
        """
        if self.progress is None:
            raise ValueError("there is no picture before the first step")
        return self.progress.image

    def result(self, job: Job) -> tf.Tensor:
        """Lay the picture of the last step over the photo, as far as the config's strength says.

        Args:
            job: the run.

        Returns:
            float32 (1, H, W, 3), the picture that is saved.
        """
        if self.config.strength == 1:  # large pictures have no memory for a photo that nobody sees
            return self.picture
        return blend(self.picture, job.photo(), self.config.strength)

    @property
    def pace(self) -> float | None:
        """Return the seconds for one unit of `run_cost`, measured after the first step; None if too early."""
        if self.progress is None or len(self.history) < 4:
            return None
        first, last = self.history[0], self.history[-1]
        before, after = (
            run_cost(self.progress.schedule, int(row["level"]), int(row["step"])) for row in (first, last)
        )
        return (last["seconds"] - first["seconds"]) / (after - before)

    def follow(
        self, steps: Iterator[Progress], stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Progress]:
        """Record the steps of a run, and pass each of them on.

        Args:
            steps: of the run. A run that begins again, at step 1, is recorded from there.
            stop: what ends the run early; the recorder asks it at the end, to know how the run ended.

        Raises:
            TransferError: the run cannot continue; `failure` has the error as well.
        """
        try:
            for progress in steps:
                self._add(progress)
                yield progress
        except TransferError as error:
            self.ended, self.failure = "failed", error
            raise
        self.ended = "stopped" if stop() else "finished"

    def record(self, job: Job, backbone: Backbone) -> dict[str, Any]:
        """Return the run record of what has been recorded so far."""
        return run_record(self.config, backbone, self.history, self.ended, job.images, self.attempts)

    def _add(self, progress: Progress) -> None:
        if progress.step == 1:
            self.attempts += 1
            self._clear()
        self.history.append(history_row(progress))
        # Where steps share a picture (see Runner.stylize), it belongs to the first of them.
        if self._most_moments and (self.progress is None or progress.image is not self.progress.image):
            self._add_moment(Moment(self.history[-1], to_uint8(progress.image)))
        self.progress = progress

    def _add_moment(self, moment: Moment) -> None:
        if self._moments and self._moments[-1].row["step"] % self._stride:
            self._moments.pop()  # it was there only as the last one
        self._moments.append(moment)
        if len(self._moments) > self._most_moments:
            self._stride *= 2
            *earlier, last = self._moments
            self._moments = [one for one in earlier if one.row["step"] % self._stride == 0]
            self._moments.append(last)


def run_job(
    runner: Runner, job: Job, stop: Callable[[], bool] = lambda: False
) -> tuple[Recorder, dict[str, Measure]]:
    """Run a job from its first step to its end, and evaluate its result if it is finished.

    Args:
        runner: where it runs.
        job: the run.
        stop: ends it early.

    Returns:
        What was recorded, without moments, and the numbers of `Runner.evaluate`, empty if it did not finish.

    Raises:
        TransferError, RunnerError, LostRunError: as `Runner.stylize`.
    """
    recorder = Recorder(job.config, most_moments=0)
    for _ in recorder.follow(runner.stylize(job, stop), stop):
        pass
    if recorder.ended != "finished":
        return recorder, {}
    return recorder, runner.evaluate(recorder.result(job), job)
