"""The coarse-to-fine schedule: the sizes and steps of a run, and what they cost."""

from collections.abc import Sequence
from typing import NamedTuple

from nst.config import TransferConfig


class Level(NamedTuple):
    """Hold one size of the schedule: the long side in pixels, and its number of steps."""

    size: int
    steps: int


# More steps at the coarse levels lose content, which no later level finds again. Beyond 1024 pixels the
# brushwork is laid out, and steps are slow.
_COARSE_STEPS = 10
_LARGE_SIZE = 1024  # pixels


def coarse_to_fine(size: int, iterations: int, start_size: int = 0) -> tuple[Level, ...]:
    """Plan sizes that double up to the final one: the coarse ones are cheap, and lay the picture out.

    A picture of more than 1024 pixels has a level of 1024 on its way, and only its last level may be less
    than twice as large as the one before. Each level gets 10 steps, and the largest of up to 1024 pixels gets
    the rest. Where there are few steps, all levels get equal shares.

    Args:
        size: long side of the result in pixels.
        iterations: steps over all levels.
        start_size: long side of the picture that the run continues from; smaller levels are left out.
    """
    sizes = [min(size, _LARGE_SIZE)]
    while sizes[0] >= 256:
        sizes.insert(0, round(sizes[0] / 2))
    while sizes[-1] < size:
        sizes.append(min(2 * sizes[-1], size))
    sizes = [level for level in sizes if level >= start_size or level == size][-iterations:]
    few = min(_COARSE_STEPS, iterations // len(sizes))
    main = max((size for size in sizes if size <= _LARGE_SIZE), default=sizes[0])
    rest = iterations - few * (len(sizes) - 1)
    return tuple(Level(size, rest if size == main else few) for size in sizes)


# The cost of a step grows with its pixels, but is never nothing. The targets, the start and the first
# evaluation of a level take about as long as 3 of its steps, and setting up a run as 10 of its first ones.
_STEPS_BEFORE_LEVEL = 3
_STEPS_BEFORE_RUN = 10


def _step_cost(level: Level) -> float:
    """Estimate the cost of one step, in pixels."""
    in_tiles = 2 if level.size > _LARGE_SIZE else 1
    return (level.size**2 + 170**2) * in_tiles


def run_cost(schedule: Sequence[Level], level: int | None = None, step: int | None = None) -> float:
    """Estimate the cost of a run, roughly proportional to its seconds.

    Args:
        schedule: of the run.
        level: the level that has begun, counted from 1; None: all of them.
        step: the number of steps made; None: all of them.
    """
    here = schedule[: len(schedule) if level is None else level]
    begun = sum(_STEPS_BEFORE_LEVEL * _step_cost(one) for one in here)
    steps = [_step_cost(one) for one in schedule for _ in range(one.steps)][:step]
    return _STEPS_BEFORE_RUN * _step_cost(schedule[0]) + begun + sum(steps)


def config_cost(config: TransferConfig) -> float:
    """Estimate the cost of a whole run with a config: see `run_cost`."""
    return run_cost(coarse_to_fine(config.size, config.iterations))
