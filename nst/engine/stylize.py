"""The algorithm from top to bottom: optimise the pixels of a picture, level by level."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from nst.config import TransferConfig
from nst.engine.graph import GraphCache
from nst.engine.images import Array, resize
from nst.engine.inputs import (
    LevelInputs,
    check_layers,
    check_mask,
    check_start,
    check_styles,
    prepare_inputs,
)
from nst.engine.objective import Losses, Objective, Targets, build_objective
from nst.engine.optimizers import OPTIMIZERS, NonFiniteError, Vector
from nst.engine.parameterization import Parameterization
from nst.engine.pyramid import Level, coarse_to_fine, run_cost
from nst.engine.spectrum import Spectrum
from nst.engine.vgg import Backbone
from nst.engine.weights import load_backbone
from nst.errors import TransferError

_NOISE = 0.04  # contrast of a start from noise, round mid-grey; full contrast would stay in the picture


@dataclass(frozen=True)
class Progress:
    """Hold what one step yields.

    Args:
        schedule: the levels of the run.
        level: of the schedule, counted from 1.
        size: long side of the level in pixels.
        step: counted from 1 over all levels.
        steps: of the whole run.
        evaluations: so far, over all levels.
        losses: of the picture: each part before weighting, and the weighted total.
        seconds: since the start.
        image: the picture, (1, H, W, 3) in [0, 1], at the size of the level.
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

    @property
    def seconds_left(self) -> float:
        """Estimate how long the rest of the run takes."""
        done = run_cost(self.schedule, self.level, self.step)
        return self.seconds * (run_cost(self.schedule) / done - 1)


def stylize(
    content: tf.Tensor,
    style: tf.Tensor | Sequence[tf.Tensor],
    config: TransferConfig = TransferConfig(),
    backbone: Backbone | None = None,
    *,
    mask: tf.Tensor | None = None,
    start: tf.Tensor | None = None,
    stop: Callable[[], bool] = lambda: False,
    graphs: GraphCache | None = None,
) -> Iterator[Progress]:
    """Stylize a content image, and yield every step.

    The arguments are checked at once; the work begins with the first step. Closing the iterator ends the run.

    Args:
        content: the content image, float32 (1, H, W, 3) in [0, 1].
        style: the style image, (1, H, W, 3) in [0, 1], or up to four of them.
        config: all settings.
        backbone: the network; None: the one that the config names.
        mask: (1, h, w, 1) in [0, 1], of the content's aspect, whose white is painted; the config's
            `mask_mode` says what black is for.
        start: a picture (1, h, w, 3) to continue from.
        stop: asked before each evaluation, and before each tile of a large picture; True ends the run.
        graphs: what runs that follow each other in one thread may share, which saves setting up.

    Raises:
        ValueError: an image has another type or shape.
        ConfigError: the images and the config do not go together.
        WeightsError: the weights of the network are not available.
        TransferError: from the iterator, where the loss stays non-finite; it has the last good step.
    """
    # 1. Check the inputs.
    styles = [style] if isinstance(style, tf.Tensor) else list(style)
    for image, channels in (*((image, 3) for image in (content, *styles, start)), (mask, 1)):
        if image is not None and (
            image.dtype != tf.float32 or image.shape.rank != 4 or image.shape[::3] != (1, channels)
        ):
            raise ValueError(
                f"An image must be float32 (1, H, W, {channels}), not {image.dtype.name} {image.shape}."
            )
    check_styles(len(styles), config, mask)
    if mask is not None:
        check_mask(mask.shape[1:3], content.shape[1:3])
    if start is not None:
        check_start(start.shape[1:3], content.shape[1:3])
    backbone = backbone or load_backbone(config.backbone)
    check_layers(config, backbone)
    return _run(partial(_prepare, content, styles, mask, config), start, config, backbone, stop, graphs)


def _run(
    prepare: Callable[[Sequence[Level]], list[LevelInputs]],
    picture: tf.Tensor | None,
    config: TransferConfig,
    backbone: Backbone,
    stop: Callable[[], bool],
    graphs: GraphCache | None,
) -> Iterator[Progress]:
    began, step, progress = time.perf_counter(), 0, None

    def check() -> None:
        if stop():
            raise _StoppedError

    # 2. Plan the levels, and prepare the images of each. Every `del` is for the memory of large pictures.
    start_size = 0 if picture is None else max(picture.shape[1:3])
    schedule = coarse_to_fine(config.size, config.iterations, start_size)
    levels = prepare(schedule)
    del prepare

    # 3. Build the objective, which serves all levels.
    with suppress(_StoppedError), closing(build_objective(config, backbone, graphs, check)) as objective:
        for number, level in enumerate(schedule, start=1):
            # 4. Compute the targets of the level, and its start in the coordinates that the optimiser moves.
            inputs = levels.pop(0)
            parameterization = inputs.parameterization(config)
            targets = objective.targets(inputs.content, *inputs.regions)
            first = parameterization.parameters(_start(picture, inputs.init_image, config))
            spectrum = Spectrum(*first.shape[1:3])
            evaluate = partial(_evaluate, objective, targets, parameterization, spectrum, check)
            descent = _descend(evaluate, spectrum.coordinates(first), level.steps, config)
            del inputs, targets, evaluate, picture, first

            # 5. Descend, and show the picture after every step.
            first_step = step
            try:
                for losses, coordinates in descent:
                    step += 1
                    picture = parameterization.picture(
                        parameterization.image(spectrum.parameters(coordinates))
                    )
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
                    "The losses are out of range from the first picture on: please try smaller weights."
                    if progress is None
                    else "The picture went out of range twice, so the run ended early: please try smaller "
                    "weights."
                )
                raise TransferError(sentence, progress) from error
            step = first_step + level.steps  # even where the loss could not be lowered any further
            del descent, coordinates, spectrum, parameterization


def _prepare(
    content: tf.Tensor,
    styles: Sequence[tf.Tensor],
    mask: tf.Tensor | None,
    config: TransferConfig,
    schedule: Sequence[Level],
) -> list[LevelInputs]:
    inputs = prepare_inputs(content, styles, mask, config)
    return [inputs.resized(level.size) for level in schedule]


def _start(picture: tf.Tensor | None, init_image: tf.Tensor, config: TransferConfig) -> Array:
    """Choose the start of a level: the picture of the level before, or else noise or the init image."""
    if picture is None and config.init == "noise":
        noise = tf.random.stateless_uniform(init_image.shape, seed=(config.seed, 0))
        return np.asarray(_NOISE * (noise - 0.5) + 0.5)
    if picture is None:
        return np.asarray(init_image)
    if config.init == "noise":  # whose picture takes no pixel from the photo
        return np.array(resize(picture, *init_image.shape[1:3]))
    return _upsample_with_detail(picture, init_image)


def _upsample_with_detail(picture: tf.Tensor, init_image: tf.Tensor) -> Array:
    """Resize a picture to the init image, and add the fine detail that the smaller size could not hold.

    Without it, windows and faces turn to mush.
    """
    small, large = picture.shape[1:3], init_image.shape[1:3]
    upsampled = np.array(init_image)
    upsampled -= resize(resize(init_image, *small), *large)
    upsampled += resize(picture, *large)
    return upsampled


class _Evaluation(NamedTuple):
    loss: float
    gradient: Vector
    losses: Losses


class _StoppedError(Exception):
    pass


def _evaluate(
    objective: Objective,
    targets: Targets,
    parameterization: Parameterization,
    spectrum: Spectrum,
    check: Callable[[], None],
    coordinates: Array,
) -> _Evaluation:
    """Compute the loss, and its gradient with respect to the coordinates."""
    check()
    parameters = spectrum.parameters(coordinates)
    losses, gradient = objective(parameterization.image(parameters), targets)
    pulled_back = spectrum.pull_back(parameterization.pull_back(parameters, gradient))
    return _Evaluation(losses.total, pulled_back.ravel(), losses)


def _descend(
    evaluate: Callable[[Array], _Evaluation], start: Array, steps: int, config: TransferConfig
) -> Iterator[tuple[Losses, Array]]:
    """Yield the losses and the coordinates, shaped as the start, after each step that the optimiser accepts.

    There are fewer steps where the loss cannot be lowered any further. After a non-finite loss the optimiser
    begins again at the last good point, with smaller steps; after a second one NonFiniteError is raised.
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
