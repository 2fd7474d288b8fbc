"""Of a run of any length, a bounded number of moments is kept, evenly spread, and always the last one."""

from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf

from nst.engine.objective import Losses
from nst.engine.pyramid import Level
from nst.engine.stylize import Progress
from nst.runs.record import history_row
from nst.runs.recorder import Recorder


def step(number: int, size: int = 1) -> Progress:
    """A step of a made-up run whose picture, `size` pixels a side, tells its number."""
    color = (number % 256) / 255, (number // 256) / 255, 0.5
    return Progress(
        schedule=(Level(64, 1000),),
        level=1,
        size=64,
        step=number,
        steps=1000,
        evaluations=number + 1,
        losses=Losses(content=0.5, style=1 / number, tv=0.25, total=2.0),
        seconds=number / 8,
        image=tf.broadcast_to(tf.constant(color), (1, size, size, 3)),
    )


def growing(snapshots: Recorder, numbers: range) -> Iterator[tuple[int, list[int]]]:
    """The number of each step, and the steps that are kept once it is added."""
    for number in numbers:
        snapshots.add(step(number))
        yield number, [moment.row["step"] for moment in snapshots.moments]


def test_of_1_to_1000_steps_at_most_32_are_kept_evenly_spread_and_the_last_one():
    most = 0
    for number, kept in growing(Recorder(), range(1, 1001)):
        stride = 1
        while number > 32 * stride:
            stride *= 2
        assert kept == [*range(stride, number, stride), number]
        most = max(most, len(kept))
    assert most == 32


@pytest.mark.parametrize("most", [1, 2, 5, 8])
def test_their_number_can_be_chosen(most):
    for number, kept in growing(Recorder(most), range(1, 101)):
        assert min(number, most // 2) <= len(kept) <= most
        assert kept[-1] == number
        assert len({*np.diff([0, *kept[:-1]])}) <= 1


def test_steps_may_be_left_out_where_a_level_ends_early():
    snapshots = Recorder()
    for first, last in (1, 7), (41, 60), (81, 500):
        for number, kept in growing(snapshots, range(first, last + 1)):
            assert len(kept) <= 32
            assert kept == sorted({*kept})
            assert kept[-1] == number
    assert kept[0] <= 60  # the early levels have not been crowded out


def test_a_moment_has_the_row_and_the_picture_of_its_own_step():
    snapshots = Recorder()
    for number in range(1, 301):
        snapshots.add(step(number))
    for moment in snapshots.moments:
        number = moment.row["step"]
        assert moment.row == history_row(step(number))
        assert moment.pixels.dtype == np.uint8
        assert moment.pixels.tolist() == [[[number % 256, number // 256, 128]]]


def test_pictures_keep_the_size_of_their_level():
    snapshots = Recorder()
    for number in 1, 2, 3:
        snapshots.add(step(number, size=4 * number))
    assert [moment.pixels.shape for moment in snapshots.moments] == [(4, 4, 3), (8, 8, 3), (12, 12, 3)]


def test_before_the_first_step_there_are_none_and_what_was_handed_out_stays():
    snapshots = Recorder(2)
    assert snapshots.moments == ()
    snapshots.add(step(1))
    first = snapshots.moments
    for number in range(2, 10):
        snapshots.add(step(number))
    assert [moment.row["step"] for moment in first] == [1]
