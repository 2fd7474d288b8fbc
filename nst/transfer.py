"""The whole algorithm on one screen: TransferConfig, Progress and stylize()."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import tensorflow as tf

from nst.backbones import BACKBONES, PRECISIONS, Backbone, load_backbone
from nst.images import fitted_size, match_colors, resize
from nst.losses import LayerWeights, Losses, Objective, Targets
from nst.optimizers import LBFGS, Adam, NonFiniteError, Vector

OPTIMIZERS = {"lbfgs": LBFGS, "adam": Adam}


class ConfigError(ValueError):
    """A setting that can't be used, in one plain sentence that says what to do."""


class TransferError(RuntimeError):
    """A run that can't go on; `progress` is its last good step, None where there was none."""

    def __init__(self, message: str, progress: "Progress | None") -> None:
        super().__init__(message)
        self.progress = progress


def _number(default: float, low: float, high: float, help: str) -> Any:
    return field(default=default, metadata={"range": (low, high), "help": help})


def _choice(default: str, choices: tuple[str, ...], help: str) -> Any:
    return field(default=default, metadata={"choices": choices, "help": help})


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """Every setting of a run; a field's metadata has its "range" or "choices", and its "help".

    Raises ConfigError for a value out of its range.
    """

    content_weight: float = _number(1.0, 0, 10, "how much the result shows what the content image shows (α)")
    style_weight: float = _number(100.0, 0.1, 100_000, "how much it is painted as the style image is (β)")
    tv_weight: float = _number(10.0, 0, 100, "how much speckle is smoothed away (total variation)")
    size: int = _number(512, 64, 1024, "long side of the result in pixels")
    iterations: int = _number(120, 1, 1000, "steps over all levels")
    backbone: str = _choice("auto", BACKBONES, "the network that reads the images")
    precision: str = _choice(
        "auto", PRECISIONS, "what it computes with; bfloat16 is faster on processors made for it, and as good"
    )
    pooling: str = _choice("max", ("max", "avg"), "how the network halves its feature maps")
    content_layers: LayerWeights = field(
        default=("block4_conv2",),
        metadata={"help": "layers of the content loss: names, or a mapping from name to explicit weight"},
    )
    style_layers: LayerWeights = field(
        default=("block1_conv1", "block2_conv1", "block3_conv1", "block4_conv1", "block5_conv1"),
        metadata={"help": "layers of the style loss: names, or a mapping from name to explicit weight"},
    )
    optimizer: str = _choice("lbfgs", tuple(OPTIMIZERS), "what changes the pixels")
    init: str = _choice("content", ("content", "noise"), "what the picture starts as")
    seed: int = _number(0, 0, 2**31 - 1, "makes a start from noise repeatable")

    def __post_init__(self) -> None:
        for setting in fields(self):
            value, name = getattr(self, setting.name), setting.name.replace("_", " ")
            if "choices" in setting.metadata:
                choices = setting.metadata["choices"]
                if value not in choices:
                    raise ConfigError(f"Please choose the {name} from {', '.join(choices)}.")
            elif "range" in setting.metadata:
                low, high = setting.metadata["range"]
                whole = setting.type is int
                if not _is_number(value, low, high) or (whole and value != int(value)):
                    kind = "whole number" if whole else "number"
                    raise ConfigError(f"Please set the {name} to a {kind} from {low:,} to {high:,}.")
                object.__setattr__(self, setting.name, int(value) if whole else float(value))
            else:
                object.__setattr__(self, setting.name, _clean_layers(name, value))


def _clean_layers(name: str, layers: Any) -> LayerWeights:
    """A copy that nobody else can change, of names in a list or tuple, or of a mapping to weights."""
    if not isinstance(layers, list | tuple | Mapping) or not all(isinstance(layer, str) for layer in layers):
        raise ConfigError(f"Please give the {name} as a list of names, or as names with a weight each.")
    if not layers or len(set(layers)) < len(layers):
        raise ConfigError(f"Please name at least one of the {name}, and each only once.")
    if not isinstance(layers, Mapping):
        return tuple(layers)
    low, high = 0, 10**12
    if not all(_is_number(weight, low, high) for weight in layers.values()):
        raise ConfigError(f"Please give each of the {name} a weight from {low:,} to {high:,}.")
    return {layer: float(weight) for layer, weight in layers.items()}


def _is_number(value: Any, low: float, high: float) -> bool:
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and bool(low <= value <= high)


class Level(NamedTuple):
    """One size of the coarse-to-fine schedule: the long side in pixels, and its number of steps."""

    size: int
    steps: int


@dataclass(frozen=True)
class Progress:
    """What one step yields: where the run stands, its losses, and the picture (1, H, W, 3) in [0, 1].

    `level` counts from 1, `step` of `steps` and `evaluations` run over all levels; `seconds` since the start.
    """

    level: int
    size: int
    step: int
    steps: int
    evaluations: int
    losses: Losses
    seconds: float
    image: tf.Tensor


_COARSE_STEPS = 40  # more of them hardly change what the next level makes of it


def coarse_to_fine(size: int, iterations: int) -> tuple[Level, ...]:
    """Sizes that double up to `size`: the coarse ones are cheap and lay the picture out.

    All have the same number of steps as long as the coarse ones need more; the rest goes to the last.
    """
    sizes = [size]
    while sizes[0] >= 256 and len(sizes) < iterations:
        sizes.insert(0, round(sizes[0] / 2))
    *coarse, last = sizes
    steps = min(_COARSE_STEPS, iterations // len(sizes))
    return *(Level(size, steps) for size in coarse), Level(last, iterations - steps * len(coarse))


def seconds_left(progress: Progress, config: TransferConfig) -> float:
    """Estimate what the rest of the run takes; a step's cost grows a little slower than its pixels."""
    before = 3  # a level's targets, start and first evaluation take about as long as 3 of its steps
    schedule = coarse_to_fine(config.size, config.iterations)
    costs: list[float] = [level.size**1.75 for level in schedule for _ in range(before + level.steps)]
    done = before * progress.level + progress.step
    return progress.seconds * sum(costs[done:]) / sum(costs[:done])


def objective_of(config: TransferConfig, backbone: Backbone) -> Objective:
    """The objective that a run with that config lowers, in the config's precision."""
    return Objective(
        backbone.at(config.precision),
        content_layers=config.content_layers,
        style_layers=config.style_layers,
        content_weight=config.content_weight,
        style_weight=config.style_weight,
        tv_weight=config.tv_weight,
        pooling=config.pooling,
    )


def stylize(
    content: tf.Tensor,
    style: tf.Tensor,
    config: TransferConfig = TransferConfig(),
    backbone: Backbone | None = None,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Paint image `content` as image `style` is painted, both (1, H, W, 3) in [0, 1]; yield every step.

    What is wrong with the arguments is raised at once, as ValueError, ConfigError or WeightsError. Closing
    the iterator ends the run; `stop` is asked before each evaluation and ends it from another thread. Where
    the loss stays non-finite, the iterator raises TransferError with the last good step.
    """
    for image in (content, style):
        if image.dtype != tf.float32 or image.shape.rank != 4 or (image.shape[0], image.shape[3]) != (1, 3):
            raise ValueError(f"An image must be float32 (1, H, W, 3), not {image.dtype.name} {image.shape}.")
    backbone = backbone or load_backbone(config.backbone)
    if not {*config.content_layers, *config.style_layers} <= {*backbone.layers}:
        raise ConfigError(f"Please name layers that {backbone.name} has: {', '.join(backbone.layers)}.")
    return _levels(content, style, config, backbone, stop)


def _levels(
    content: tf.Tensor, style: tf.Tensor, config: TransferConfig, backbone: Backbone, stop: Callable[[], bool]
) -> Iterator[Progress]:
    began = time.perf_counter()
    with closing(objective_of(config, backbone)) as objective:
        content, style = _fitted(content, config.size), _fitted(style, config.size)
        recolored = match_colors(content, style)
        progress = None
        first_step = 1
        for number, level in enumerate(coarse_to_fine(config.size, config.iterations), start=1):
            targets = objective.targets(_fitted(content, level.size), _fitted(style, level.size))
            guide = _fitted(recolored, level.size)
            if progress is not None:
                start = _handed_up(progress.image, guide)
            elif config.init == "noise":
                start = tf.random.stateless_uniform(guide.shape, seed=(config.seed, 0))
            else:
                start = guide
            evaluate = partial(_evaluate, objective, targets, guide.shape, stop)
            try:
                for step, evaluation in enumerate(
                    _descend(evaluate, start, level.steps, config), start=first_step
                ):
                    progress = Progress(
                        level=number,
                        size=level.size,
                        step=step,
                        steps=config.iterations,
                        evaluations=objective.evaluations,
                        losses=evaluation.losses,
                        seconds=time.perf_counter() - began,
                        image=tf.clip_by_value(evaluation.image, 0, 1),
                    )
                    yield progress
            except _StoppedError:
                return
            except NonFiniteError as error:
                sentence = (
                    "The picture went out of range twice, so the run ended early: please try smaller weights."
                )
                raise TransferError(sentence, progress) from error
            first_step += level.steps


def _fitted(image: tf.Tensor, long_side: int) -> tf.Tensor:
    height, width = image.shape[1:3]
    return resize(image, *fitted_size(height, width, long_side))


def _handed_up(image: tf.Tensor, guide: tf.Tensor) -> tf.Tensor:
    """`image` at the size of `guide`, with the fine detail of `guide` that the smaller size couldn't hold."""
    small, large = image.shape[1:3], guide.shape[1:3]
    return resize(image, *large) + guide - resize(resize(guide, *small), *large)


class _Evaluation(NamedTuple):
    loss: float
    gradient: Vector
    losses: Losses
    image: tf.Tensor


class _StoppedError(Exception):
    pass


def _evaluate(
    objective: Objective, targets: Targets, shape: tf.TensorShape, stop: Callable[[], bool], point: Vector
) -> _Evaluation:
    if stop():
        raise _StoppedError
    latent = tf.reshape(point, shape)
    with tf.GradientTape() as tape:
        tape.watch(latent)
        image = _to_pixels(latent)
    losses, gradient = objective(image, targets)
    slope = tape.gradient(image, latent, output_gradients=gradient)
    return _Evaluation(losses.total, slope.numpy().ravel(), losses, image)


# A sigmoid keeps the pixels in range while they are optimised, so that the picture people get is the one that
# was optimised. Its headroom lets black and white be reached, and is less than half an 8-bit step.
_HEADROOM = 0.0019


def _to_pixels(latent: tf.Tensor) -> tf.Tensor:
    return tf.sigmoid(latent) * (1 + 2 * _HEADROOM) - _HEADROOM


def _from_pixels(image: tf.Tensor) -> tf.Tensor:
    share = tf.clip_by_value((image + _HEADROOM) / (1 + 2 * _HEADROOM), _HEADROOM / 2, 1 - _HEADROOM / 2)
    return tf.math.log(share / (1 - share))


def _descend(
    evaluate: Callable[[Vector], _Evaluation], start: tf.Tensor, steps: int, config: TransferConfig
) -> Iterator[_Evaluation]:
    """Up to `steps` evaluations, each accepted by the optimiser; once the loss can't be lowered, no more.

    After a non-finite loss it goes on from the last good one with a fresh memory and smaller steps; after a
    second one it raises NonFiniteError.
    """
    point = _from_pixels(start).numpy().ravel()
    for step_size in (0.1, 0.01):
        try:
            optimizer = OPTIMIZERS[config.optimizer](evaluate, point, step_size=step_size)
            moved = True
            while moved and steps > 0:
                moved, steps, point = optimizer.step(), steps - 1, optimizer.point
                yield optimizer.evaluation
            return
        except NonFiniteError as error:
            failure = error
    raise failure
