"""The recorder: history, moments, attempts and pace of a run, and how it ended."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from nst.config import TransferConfig
from nst.engine.objective import Losses
from nst.engine.pyramid import coarse_to_fine, run_cost
from nst.engine.stylize import Progress
from nst.errors import LostRunError, TransferError
from nst.runs.job import Job
from nst.runs.record import history_row
from nst.runs.recorder import Recorder, run_job

pytestmark = pytest.mark.quick

CONFIG = TransferConfig(size=64, iterations=1000)


def step(number: int, size: int = 1, **fields) -> Progress:
    """Make up a step of a run, whose picture of `size` pixels a side tells its number."""
    color = (number % 256) / 255, (number // 256) / 255, 0.5
    return Progress(
        **{
            "schedule": coarse_to_fine(64, 1000),
            "level": 1,
            "size": 64,
            "step": number,
            "steps": 1000,
            "evaluations": number + 1,
            "losses": Losses(content=0.5, style=1 / number, tv=0.25, total=2.0),
            "seconds": number / 8,
            "image": tf.broadcast_to(tf.constant(color), (1, size, size, 3)),
            **fields,
        }
    )


def recorded(numbers: Sequence[int], **options) -> Recorder:
    """Record the steps of those numbers."""
    recorder = Recorder(CONFIG, **options)
    for _ in recorder.follow(map(step, numbers)):
        pass
    return recorder


def steps_of(recorder: Recorder) -> list[int]:
    return [moment.row["step"] for moment in recorder.moments]


def growing(recorder: Recorder, numbers: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Yield the number of each step, and the steps whose moments are kept then."""
    for progress in recorder.follow(map(step, numbers)):
        yield progress.step, steps_of(recorder)


# Moments


def test_of_1_to_1000_steps_at_most_32_are_kept_evenly_spread_and_the_last_one():
    most = 0
    for number, kept in growing(Recorder(CONFIG), range(1, 1001)):
        stride = 1
        while number > 32 * stride:
            stride *= 2
        assert kept == [*range(stride, number, stride), number]
        most = max(most, len(kept))
    assert most == 32


@pytest.mark.parametrize("most", [1, 2, 5, 8])
def test_their_number_can_be_chosen(most):
    for number, kept in growing(Recorder(CONFIG, most), range(1, 101)):
        assert min(number, most // 2) <= len(kept) <= most
        assert kept[-1] == number
        assert len({*np.diff([0, *kept[:-1]])}) <= 1


def test_steps_may_be_left_out_where_a_level_ends_early():
    numbers = [*range(1, 8), *range(41, 61), *range(81, 501)]
    for number, kept in growing(Recorder(CONFIG), numbers):
        assert len(kept) <= 32
        assert kept == sorted({*kept})
        assert kept[-1] == number
    assert kept[0] <= 60  # the early levels have not been crowded out


def test_a_moment_has_the_row_and_the_picture_of_its_own_step():
    for moment in recorded(range(1, 301)).moments:
        number = moment.row["step"]
        assert moment.row == history_row(step(number))
        assert moment.pixels.dtype == np.uint8
        assert moment.pixels.tolist() == [[[number % 256, number // 256, 128]]]


def test_moments_keep_the_size_of_their_level():
    recorder = Recorder(CONFIG)
    for _ in recorder.follow(step(number, size=4 * number) for number in (1, 2, 3)):
        pass
    assert [moment.pixels.shape for moment in recorder.moments] == [(4, 4, 3), (8, 8, 3), (12, 12, 3)]


def test_moments_that_were_handed_out_stay_as_they_are():
    recorder = Recorder(CONFIG, 2)
    assert recorder.moments == ()
    steps = recorder.follow(map(step, range(1, 10)))
    next(steps)
    first = recorder.moments
    assert len(list(steps)) == 8
    assert [moment.row["step"] for moment in first] == [1]
    assert steps_of(recorder) != [1]


def test_a_picture_that_several_steps_share_belongs_to_the_first_of_them():
    shared = {"image": step(2).image}
    recorder = Recorder(CONFIG)
    for _ in recorder.follow(step(number, **(shared if 2 <= number <= 4 else {})) for number in range(1, 7)):
        pass
    assert steps_of(recorder) == [1, 2, 5, 6]
    assert len(recorder.history) == 6


def test_without_moments_no_picture_is_kept_but_the_last():
    recorder = recorded(range(1, 50), most_moments=0)
    assert recorder.moments == ()
    assert len(recorder.history) == 49
    assert recorder.progress.step == 49


# History, attempts and pace


def test_every_step_is_recorded_and_passed_on():
    recorder = Recorder(CONFIG)
    assert (recorder.progress, recorder.history, recorder.attempts) == (None, [], 0)
    with pytest.raises(ValueError, match="no picture"):
        _ = recorder.picture
    given = [step(number) for number in (1, 2, 3)]
    for number, progress in enumerate(recorder.follow(iter(given))):
        assert progress is given[number] is recorder.progress
        assert recorder.picture is progress.image
        assert recorder.history == [history_row(one) for one in given[: number + 1]]
    assert recorder.attempts == 1


def test_a_run_that_begins_again_is_recorded_from_there():
    recorder = recorded([*range(1, 41), *range(1, 6)])
    assert recorder.attempts == 2
    assert [row["step"] for row in recorder.history] == steps_of(recorder) == [1, 2, 3, 4, 5]
    assert recorder.progress.step == 5
    assert recorder.ended == "finished"


def test_the_pace_is_the_time_for_a_unit_of_cost_after_the_first_step():
    recorder = Recorder(CONFIG)
    schedule = coarse_to_fine(64, 1000)
    for progress in recorder.follow(step(number, seconds=7 + 0.5 * number) for number in range(1, 10)):
        if progress.step < 4:
            assert recorder.pace is None
        else:
            one_step = run_cost(schedule, 1, 2) - run_cost(schedule, 1, 1)
            assert recorder.pace == pytest.approx(0.5 / one_step)


# The end


def test_a_run_is_finished_unless_it_was_stopped():
    for stopped, ended in ((False, "finished"), (True, "stopped")):
        recorder = Recorder(CONFIG)
        assert recorder.ended == "stopped"  # as long as it goes on, and where nobody follows it to its end
        for _ in recorder.follow(map(step, range(1, 4)), stop=lambda stopped=stopped: stopped):
            assert recorder.ended == "stopped"
        assert recorder.ended == ended
        assert recorder.failure is None


def test_a_run_that_nobody_follows_any_further_was_stopped():
    recorder = Recorder(CONFIG)
    steps = recorder.follow(map(step, range(1, 100)))
    next(steps)
    steps.close()
    assert recorder.ended == "stopped"
    assert len(recorder.history) == 1


def failing(error: Exception, after: int) -> Iterator[Progress]:
    yield from map(step, range(1, after + 1))
    raise error


@pytest.mark.parametrize("after", [0, 5])
def test_a_failure_is_recorded_and_raised(after):
    recorder, error = Recorder(CONFIG), TransferError("The picture went out of range twice.")
    with pytest.raises(TransferError) as caught:
        list(recorder.follow(failing(error, after)))
    assert caught.value is recorder.failure is error
    assert recorder.ended == "failed"
    assert len(recorder.history) == after
    assert (recorder.progress is None) == (after == 0)


# A whole job


class MadeUpRunner:
    """A runner whose runs are made up."""

    workers = 1

    def __init__(self, *numbers: int, error: Exception | None = None) -> None:
        self.numbers, self.error = numbers, error

    def stylize(self, job, stop):
        for number in self.numbers:
            if stop():
                return
            yield step(number)
        if self.error is not None:
            raise self.error

    def evaluate(self, picture, job):
        return {"sum": float(np.sum(picture))}


@pytest.fixture
def job() -> Job:
    pixels = np.zeros((48, 64, 3), np.uint8)
    return Job(CONFIG, pixels, [pixels], images={"content": {"name": "a.jpg"}, "styles": [{"name": "b.jpg"}]})


def test_a_job_is_run_to_its_end(job, backbone):
    recorder, quality = run_job(MadeUpRunner(1, 2, 3), job)
    assert quality == {"sum": float(np.sum(recorder.result(job)))}
    assert (recorder.config, recorder.ended, recorder.moments) == (job.config, "finished", ())
    record = recorder.record(job, backbone)
    assert record["history"] == recorder.history
    assert record["images"] == job.images
    assert record["ended"] == "finished"
    assert record["config"]["size"] == 64
    assert "attempts" not in record


def test_the_record_of_a_job_that_began_again_says_so(job, backbone):
    recorder, _ = run_job(MadeUpRunner(1, 2, 1, 2, 3), job)
    record = recorder.record(job, backbone)
    assert record["attempts"] == 2
    assert len(record["history"]) == 3


def test_stop_ends_a_job(job):
    asked = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) > 2

    recorder, quality = run_job(MadeUpRunner(1, 2, 3), job, stop)
    assert (recorder.ended, len(recorder.history), quality) == ("stopped", 2, {})


def test_the_result_lies_over_the_photo_as_far_as_the_strength_says(job):
    for strength in (1.0, 0.25):
        weaker = replace(job, config=replace(job.config, strength=strength))
        recorder, _ = run_job(MadeUpRunner(1), weaker)
        np.testing.assert_allclose(recorder.result(weaker), strength * recorder.picture, atol=1e-6)


@pytest.mark.parametrize("error", [TransferError("It failed."), LostRunError("It was lost.")])
def test_the_failure_of_a_job_is_raised(job, error):
    with pytest.raises(type(error)) as caught:
        run_job(MadeUpRunner(1, 2, error=error), job)
    assert caught.value is error
