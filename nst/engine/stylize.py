"""The whole algorithm on one screen: Progress and stylize()."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from nst.config import MAX_STYLES, ConfigError, TransferConfig
from nst.engine.images import Array, fitted_size, resize
from nst.engine.inputs import Scene, scene_of
from nst.engine.objective import Computations, Losses, Objective, Targets
from nst.engine.optimizers import OPTIMIZERS, NonFiniteError, Vector
from nst.engine.parameterization import Canvas
from nst.engine.vgg import Backbone, load_backbone


class TransferError(RuntimeError):
    """A run that can't go on; `progress` is its last good step, None where there was none."""

    def __init__(self, message: str, progress: "Progress | None") -> None:
        super().__init__(message)
        self.progress = progress


class Level(NamedTuple):
    """One size of the coarse-to-fine schedule: the long side in pixels, and its number of steps."""

    size: int
    steps: int


@dataclass(frozen=True)
class Progress:
    """What one step yields: where the run stands, its losses, and the picture (1, H, W, 3) in [0, 1].

    `level` of `schedule` counts from 1, `step` of `steps` and `evaluations` run over all levels; `seconds`
    since the start.
    """

    schedule: tuple[Level, ...]
    level: int
    size: int
    step: int
    steps: int
    evaluations: int
    losses: Losses
    seconds: float
    image: tf.Tensor


# More coarse steps lose what is shown, and no later level finds it again. Beyond 1024 pixels the brushwork is
# laid out, and steps are slow.
_FEW_STEPS = 10
_LARGE_SIZE = 1024  # pixels


def coarse_to_fine(size: int, iterations: int, start_size: int = 0) -> tuple[Level, ...]:
    """Sizes that double up to `size`: the coarse ones are cheap and lay the picture out.

    The largest of up to 1024 pixels has all steps but 10 for each of the others; of few steps all have equal
    shares. A run that goes on from a picture of `start_size` has no smaller level than that.
    """
    sizes = [size]
    while sizes[0] >= 256 and round(sizes[0] / 2) >= start_size and len(sizes) < iterations:
        sizes.insert(0, round(sizes[0] / 2))
    few = min(_FEW_STEPS, iterations // len(sizes))
    main = max((size for size in sizes if size <= _LARGE_SIZE), default=sizes[0])
    rest = iterations - few * (len(sizes) - 1)
    return tuple(Level(size, rest if size == main else few) for size in sizes)


# What a step costs grows with its pixels, but is never nothing. A level's targets, start and first evaluation
# take about as long as 3 of its steps, and setting up a run as 10 of its first ones.
_STEPS_BEFORE_LEVEL = 3
_STEPS_BEFORE_RUN = 10


def _cost(level: Level) -> float:
    """Of one step, in pixels."""
    in_tiles = 2 if level.size > _LARGE_SIZE else 1
    return (level.size**2 + 170**2) * in_tiles


def cost(schedule: Sequence[Level], level: int | None = None, step: int | None = None) -> float:
    """What a run costs, or what it has cost at a step of a level: about proportional to its seconds."""
    here = schedule[: len(schedule) if level is None else level]
    begun = sum(_STEPS_BEFORE_LEVEL * _cost(one) for one in here)
    steps = [_cost(one) for one in schedule for _ in range(one.steps)][:step]
    return _STEPS_BEFORE_RUN * _cost(schedule[0]) + begun + sum(steps)


def seconds_left(progress: Progress) -> float:
    """Estimate what the rest of the run takes."""
    done = cost(progress.schedule, progress.level, progress.step)
    return progress.seconds * (cost(progress.schedule) / done - 1)


def objective_of(
    config: TransferConfig,
    backbone: Backbone,
    shared: Computations | None = None,
    before_tile: Callable[[], None] = lambda: None,
) -> Objective:
    """The objective that a run with that config lowers, in the config's precision."""
    return Objective(
        backbone.at(config.precision),
        content_layers=config.content_layers,
        style_layers=config.style_layers,
        content_weight=config.content_weight,
        style_weight=config.style_weight,
        tv_weight=config.tv_weight,
        pooling=config.pooling,
        shared=shared,
        before_tile=before_tile,
    )


def stylize(
    content: tf.Tensor,
    style: tf.Tensor | Sequence[tf.Tensor],
    config: TransferConfig = TransferConfig(),
    backbone: Backbone | None = None,
    *,
    mask: tf.Tensor | None = None,
    start: tf.Tensor | None = None,
    stop: Callable[[], bool] = lambda: False,
    shared: Computations | None = None,
) -> Iterator[Progress]:
    """Paint image `content` as `style` is painted, an image or up to four; yield every step.

    Images are (1, H, W, 3) in [0, 1]. What is white in `mask` (1, h, w, 1) is painted; the config's
    `mask_mode` says what black is for. A run goes on from the picture `start` where there is one. Runs that
    follow each other in one thread may share their computations, which saves setting up.

    What is wrong with the arguments is raised at once, as ValueError, ConfigError or WeightsError. Closing
    the iterator ends the run; `stop` is asked before each evaluation, and each tile of a large picture, and
    ends it from another thread. Where the loss stays non-finite, the iterator raises TransferError with the
    last good step.
    """
    styles = [style] if isinstance(style, tf.Tensor) else list(style)
    for image, channels in (*((image, 3) for image in (content, *styles, start)), (mask, 1)):
        if image is not None and (
            image.dtype != tf.float32 or image.shape.rank != 4 or image.shape[::3] != (1, channels)
        ):
            raise ValueError(
                f"An image must be float32 (1, H, W, {channels}), not {image.dtype.name} {image.shape}."
            )
    check_images(len(styles), config, mask)
    if start is not None:
        check_start(start, content)
    backbone = backbone or load_backbone(config.backbone)
    check_layers(config, backbone)
    set_scenes = partial(_scenes, content, styles, mask, config)
    return _levels(set_scenes, start, config, backbone, stop, shared)


def check_layers(config: TransferConfig, backbone: Backbone) -> None:
    """Raise ConfigError where a config names layers that the backbone lacks."""
    if not {*config.content_layers, *config.style_layers} <= {*backbone.layers}:
        raise ConfigError(f"Please name layers that {backbone.name} has: {', '.join(backbone.layers)}.")


def check_images(number: int, config: TransferConfig, mask: tf.Tensor | None) -> None:
    """Raise ConfigError where a config can't be used with that number of styles, and that mask or none."""
    if not 1 <= number <= MAX_STYLES:
        raise ConfigError(f"Please give one to {MAX_STYLES} style images.")
    if config.style_blend and len(config.style_blend) != number:
        raise ConfigError(
            "Please give as many weights as style images, or none to blend them in equal shares."
        )
    if mask is None:
        return
    if float(tf.reduce_max(mask)) < 0.5 / 255:
        raise ConfigError("The mask is black all over: please make white what is to be painted.")
    if config.mask_mode == "styles":
        if number != 2:
            raise ConfigError(
                "Please give two style images: one for the mask's white, and one for its black."
            )
        if config.style_blend:
            raise ConfigError(
                "Please give the style images no weights: each has a part of the mask of its own."
            )
        if float(tf.reduce_min(mask)) > 1 - 0.5 / 255:
            raise ConfigError("The mask is white all over: please make black what the second style is for.")


def check_start(start: tf.Tensor, content: tf.Tensor) -> None:
    """Raise ConfigError where the picture to go on from can't be one of the content image."""
    (height, width), (high, wide) = start.shape[1:3], content.shape[1:3]
    fitted = fitted_size(high, wide, max(height, width))
    if max(abs(height - fitted[0]), abs(width - fitted[1])) > 1:
        raise ConfigError(
            "The picture to go on from has another shape than the photo: please use the photo it shows."
        )


def _scenes(
    content: tf.Tensor,
    styles: Sequence[tf.Tensor],
    mask: tf.Tensor | None,
    config: TransferConfig,
    schedule: Sequence[Level],
) -> list[Scene]:
    scene = scene_of(content, styles, mask, config)
    return [scene.at(level.size) for level in schedule]


def _levels(
    set_scenes: Callable[[Sequence[Level]], list[Scene]],
    picture: tf.Tensor | None,
    config: TransferConfig,
    backbone: Backbone,
    stop: Callable[[], bool],
    shared: Computations | None,
) -> Iterator[Progress]:
    began = time.perf_counter()
    schedule = coarse_to_fine(
        config.size, config.iterations, 0 if picture is None else max(picture.shape[1:3])
    )
    scenes, progress, first_step = set_scenes(schedule), None, 1
    del set_scenes  # Large pictures need the memory: nothing is held for longer than it is used.

    def check() -> None:
        if stop():
            raise _StoppedError

    with suppress(_StoppedError), closing(objective_of(config, backbone, shared, check)) as objective:
        for number, level in enumerate(schedule, start=1):
            painted = _painted(objective, scenes.pop(0), picture, level.steps, config, check)
            try:
                for step, (losses, picture) in enumerate(painted, start=first_step):
                    progress = Progress(
                        schedule=schedule,
                        level=number,
                        size=level.size,
                        step=step,
                        steps=config.iterations,
                        evaluations=objective.evaluations,
                        losses=losses,
                        seconds=time.perf_counter() - began,
                        image=picture,
                    )
                    yield progress
            except NonFiniteError as error:
                sentence = (
                    "The picture went out of range twice, so the run ended early: please try smaller weights."
                )
                raise TransferError(sentence, progress) from error
            first_step += level.steps


def _painted(
    objective: Objective,
    scene: Scene,
    picture: tf.Tensor | None,
    steps: int,
    config: TransferConfig,
    check: Callable[[], None],
) -> Iterator[tuple[Losses, tf.Tensor]]:
    """The losses and the picture after each step of one level; `picture` is that of the level before."""
    canvas, targets = scene.canvas(config), objective.targets(scene.read, *scene.regions)
    start = canvas.numbers_of(_start(picture, scene.guide, config))
    descent = _descend(partial(_evaluate, objective, targets, canvas, check), start, steps, config)
    del scene, picture, start
    for losses, numbers in descent:
        yield losses, canvas.picture(canvas.image(numbers))


def _start(picture: tf.Tensor | None, guide: tf.Tensor, config: TransferConfig) -> Array:
    """What a level starts from: the picture of the level before, or else noise or the guide."""
    if picture is not None:
        return _handed_up(picture, guide)
    if config.init == "noise":
        guide = tf.random.stateless_uniform(guide.shape, seed=(config.seed, 0))
    return np.asarray(guide)


def _handed_up(image: tf.Tensor, guide: tf.Tensor) -> Array:
    """`image` at the size of `guide`, with the fine detail of `guide` that the smaller size couldn't hold."""
    small, large = image.shape[1:3], guide.shape[1:3]
    handed_up = np.array(guide)
    handed_up -= resize(resize(guide, *small), *large)
    handed_up += resize(image, *large)
    return handed_up


class _Evaluation(NamedTuple):
    loss: float
    gradient: Vector
    losses: Losses


class _StoppedError(Exception):
    pass


def _evaluate(
    objective: Objective, targets: Targets, canvas: Canvas, check: Callable[[], None], numbers: Array
) -> _Evaluation:
    check()
    losses, gradient = objective(canvas.image(numbers), targets)
    return _Evaluation(losses.total, canvas.slope(numbers, gradient).ravel(), losses)


def _descend(
    evaluate: Callable[[Array], _Evaluation], start: Array, steps: int, config: TransferConfig
) -> Iterator[tuple[Losses, Array]]:
    """The losses and the numbers, shaped as `start`, after up to `steps` steps that the optimiser accepted.

    Once the loss can't be lowered there are no more. After a non-finite loss it goes on from the last good
    one with a fresh memory and smaller steps; after a second one it raises NonFiniteError.
    """
    shape, point = start.shape, start.ravel()
    del start

    def at(point: Vector) -> _Evaluation:
        return evaluate(point.reshape(shape))

    for step_size in (0.1, 0.01):
        try:
            optimizer = OPTIMIZERS[config.optimizer](at, point, step_size=step_size)
            moved = True
            while moved and steps > 0:
                moved, steps, point = optimizer.step(), steps - 1, optimizer.point
                yield optimizer.evaluation.losses, point.reshape(shape)
            return
        except NonFiniteError as error:
            failure = error
    raise failure
