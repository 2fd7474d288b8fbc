"""The coarse-to-fine schedule: sizes, steps and cost."""

from functools import partial
from itertools import pairwise

import pytest
import tensorflow as tf

from nst.engine.objective import Losses
from nst.engine.pyramid import coarse_to_fine, run_cost
from nst.engine.stylize import Progress

pytestmark = pytest.mark.quick

SIZES = [64, 100, 255, 256, 257, 500, 511, 512, 768, 1000, 1024, 1025, 1040, 1536, 2048, 3000, 4095, 4096]
STARTS = [0, 16, 64, 200, 256, 400, 512, 513, 1024, 1500, 2048, 5000]


@pytest.mark.parametrize("size", SIZES)
def test_the_schedule_divides_all_steps(size):
    for iterations in range(1, 1001):
        schedule = coarse_to_fine(size, iterations)
        assert sum(level.steps for level in schedule) == iterations
        assert min(level.steps for level in schedule) >= 1
        assert schedule[-1].size == size
        assert schedule[0].size < 256 or len(schedule) == iterations
        for coarse, fine in pairwise(schedule):
            assert coarse.size >= 128
            if fine is schedule[-1] and size > 1024:
                assert coarse.size < fine.size <= 2 * coarse.size
            else:
                assert abs(fine.size - 2 * coarse.size) <= 1


@pytest.mark.parametrize("size", SIZES)
def test_all_levels_have_10_steps_or_equal_shares_and_the_largest_of_up_to_1024_pixels_the_rest(size):
    for iterations in range(1, 1001):
        schedule = coarse_to_fine(size, iterations)
        main = max((level for level in schedule if level.size <= 1024), default=schedule[0])
        others = {level.steps for level in schedule if level is not main}
        assert others <= {min(10, iterations // len(schedule))}
        assert all(level.steps <= main.steps for level in schedule)


def test_no_size_has_fewer_steps_at_its_largest_level_of_up_to_1024_pixels_than_a_larger_one():
    def spent(size):
        return max((level.size, level.steps) for level in coarse_to_fine(size, 80) if level.size <= 1024)

    for size in range(1025, 4097, 7):
        assert spent(size)[0] == 1024
        assert spent(size) >= spent(4096)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("start_size", STARTS)
def test_a_run_that_goes_on_leaves_out_the_sizes_below_its_picture(size, start_size):
    sizes = [level.size for level in coarse_to_fine(size, 1000)]
    left = [level for level in sizes if level >= start_size] or [size]
    for iterations in (1, 2, 3, 7, 120, 1000):
        schedule = coarse_to_fine(size, iterations, start_size)
        assert [level.size for level in schedule] == left[-iterations:]
        assert sum(level.steps for level in schedule) == iterations


def test_the_schedule_of_some_runs():
    assert coarse_to_fine(200, 7) == ((200, 7),)
    assert coarse_to_fine(512, 80) == ((128, 10), (256, 10), (512, 60))
    assert coarse_to_fine(512, 80, 512) == ((512, 80),)
    assert coarse_to_fine(1024, 20) == ((128, 5), (256, 5), (512, 5), (1024, 5))
    assert coarse_to_fine(1025, 80) == ((128, 10), (256, 10), (512, 10), (1024, 40), (1025, 10))
    assert coarse_to_fine(1536, 80) == ((128, 10), (256, 10), (512, 10), (1024, 40), (1536, 10))
    assert coarse_to_fine(4096, 80) == ((128, 10), (256, 10), (512, 10), (1024, 30), (2048, 10), (4096, 10))
    assert coarse_to_fine(4096, 50, 2048) == ((2048, 40), (4096, 10))


# Cost


def test_the_cost_of_a_run_grows_with_every_step_and_level():
    schedule = coarse_to_fine(512, 80)
    costs = [run_cost(schedule, 0, 0)]
    step = 0
    for number, level in enumerate(schedule, start=1):
        costs.append(run_cost(schedule, number, step))
        for step in range(step + 1, step + level.steps + 1):  # noqa: B020
            costs.append(run_cost(schedule, number, step))
    assert costs[0] > 0
    assert all(earlier < later for earlier, later in pairwise(costs))
    assert costs[-1] == run_cost(schedule)


def share_done(size: int, level: int, step: int, seconds: float = 1.0) -> float:
    """Compute the share of its time that a run of 100 steps up to `size` has taken by its own estimate."""
    progress = Progress(
        schedule=coarse_to_fine(size, 100),
        level=level,
        size=size,
        step=step,
        steps=100,
        evaluations=step + 1,
        losses=Losses(0.0, 0.0, 0.0, 0.0),
        seconds=seconds,
        image=tf.zeros((1, 32, 32, 3)),
    )
    return seconds / (seconds + progress.seconds_left)


@pytest.mark.parametrize("size", [256, 512, 2048])
def test_the_time_left_follows_the_pace_so_far_and_the_pixels_of_a_step(size):
    share = partial(share_done, size)
    assert share(1, 5, 8.0) == pytest.approx(share(1, 5, 4.0))
    first, done, spent = 0, [], 0.0
    for number, (_, steps) in enumerate(coarse_to_fine(size, 100), start=1):
        done.append((share(number, first + steps) - share(number, first + 1)) / (steps - 1))
        spent += steps * done[-1]
        first += steps
    assert 0.7 < spent < 1  # the rest is what comes before the first step of each level
    for (coarse, fine), level in zip(pairwise(done), coarse_to_fine(size, 100)[1:], strict=True):
        assert 2 < fine / coarse <= (8 if level.size == 2048 else 4)
