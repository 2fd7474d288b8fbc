"""Every setting of a run: its default, its range, its help, and the named presets.

This module loads no TensorFlow, so that flags, sliders and documentation can be made from it at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from numbers import Real
from typing import Any

from nst.errors import ConfigError

LayerWeights = tuple[str, ...] | Mapping[str, float]  # names, or {name: explicit weight}

MAX_STYLES = 4
BACKBONES = ("auto", "vgg19", "vgg16")  # each but "auto" has an entry in engine.weights.NETWORKS
PRECISIONS = ("auto", "float32", "bfloat16")
OPTIMIZERS = ("lbfgs", "adam")  # each has an entry in engine.optimizers.OPTIMIZERS


def _number(default: float, low: float, high: float, help: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"range": (low, high), "help": help, **metadata})


def _choice(default: str, choices: tuple[str, ...], help: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"choices": choices, "help": help, **metadata})


def _clean_layers(name: str, layers: Any) -> LayerWeights:
    """Return a private copy of layer names or of a mapping from names to weights."""
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


def _clean_blend(name: str, weights: Any) -> tuple[float, ...]:
    low, high = 0.01, 100
    if not isinstance(weights, list | tuple) or not all(_is_number(weight, low, high) for weight in weights):
        raise ConfigError(f"Please give the {name} as a list of numbers from {low} to {high}.")
    if len(weights) > MAX_STYLES:
        raise ConfigError(f"Please give at most {MAX_STYLES} weights as {name}.")
    return tuple(float(weight) for weight in weights)


def parse_layers(items: Iterable[str]) -> LayerWeights:
    """Parse layers from text.

    Args:
        items: a name each, or "name:weight" each.

    Returns:
        A tuple of names, or {name: weight} where weights are given.

    Raises:
        ConfigError: a layer is named twice, or only some of them have a weight.
    """
    parts = [item.partition(":") for item in items]
    names, colons, weights = (tuple(part[place] for part in parts) for place in range(3))
    if len(set(names)) < len(names):
        raise ConfigError("Please name each layer once.")
    if not any(colons):
        return names
    try:
        return dict(zip(names, map(float, weights), strict=True))
    except ValueError:
        raise ConfigError(
            "Please give each layer a weight, as in block1_conv1:0.5, or none of them."
        ) from None


def _is_number(value: Any, low: float, high: float) -> bool:
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and bool(low <= value <= high)


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """Hold every setting of a run.

    The metadata of a field has its "help", and its "range", its "choices" or the function that makes it
    "clean". A setting that a study may vary has an "axis" as well: the format of its values in a title.
    Layers are names, or a mapping from name to explicit weight (see engine.objective.Objective).

    Raises:
        ConfigError: a value is out of its range.
    """

    content_weight: float = _number(
        1.0, 0, 10, "how closely the result keeps the content image (α)", axis="α {:g}"
    )
    style_weight: float = _number(
        10.0, 0.1, 100_000, "how closely the result follows the style image (β)", axis="β {:g}"
    )
    tv_weight: float = _number(30.0, 0, 100, "how strongly noise is smoothed out (total variation)")
    style_blend: tuple[float, ...] = field(
        default=(),
        metadata={
            "clean": _clean_blend,
            "help": "weights of several style images, one for each, or none for equal shares",
        },
    )
    style_scale: float = _number(
        1.0,
        0.25,
        2,
        "size of the style image relative to the result: small makes fine strokes, large makes broad ones",
    )
    colors: str = _choice(
        "style",
        ("style", "luminance", "matched"),
        "colours of the result: the style's; the photo's own, with only the lightness painted; or the "
        "style's, matched to the photo's first",
    )
    mask_mode: str = _choice(
        "keep",
        ("keep", "styles"),
        "what black in the mask means: keep the photo, or paint it like the second of two styles",
    )
    strength: float = _number(1.0, 0, 1, "opacity of the result over the photo")
    size: int = _number(512, 32, 4096, "long side of the result in pixels", axis="{} px")
    iterations: int = _number(80, 1, 1000, "steps over all levels")
    backbone: str = _choice("auto", BACKBONES, "the network whose features are compared", axis="{}")
    precision: str = _choice(
        "auto",
        PRECISIONS,
        "number format of the network; bfloat16 is faster on processors that support it, with equal quality",
    )
    pooling: str = _choice("max", ("max", "avg"), "how the network halves its feature maps")
    content_layers: LayerWeights = field(
        default=("block4_conv2",),
        metadata={
            "clean": _clean_layers,
            "help": "layers whose features are kept: early ones keep edges, deep ones the overall layout",
        },
    )
    style_layers: LayerWeights = field(
        default=("block1_conv1", "block2_conv1", "block3_conv1", "block4_conv1"),
        metadata={
            "clean": _clean_layers,
            "help": "layers whose Gram matrices are matched: early ones for grain, deep ones for shapes, "
            "the deepest for whole objects",
        },
    )
    optimizer: str = _choice("lbfgs", OPTIMIZERS, "the algorithm that updates the pixels", axis="{}")
    init: str = _choice("content", ("content", "noise"), "what the optimisation starts from", axis="from {}")
    seed: int = _number(
        0, 0, 2**31 - 1, "seed of the noise, which makes a start from noise repeatable", axis="seed {}"
    )

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
                object.__setattr__(self, setting.name, setting.metadata["clean"](name, value))


SETTINGS: Mapping[str, Field[Any]] = {setting.name: setting for setting in fields(TransferConfig)}
AXES: Mapping[str, str] = {  # the settings that a study may vary, and how it writes a value
    name: setting.metadata["axis"] for name, setting in SETTINGS.items() if "axis" in setting.metadata
}

DEFAULT_PRESET = "painting"
PRESETS: Mapping[str, TransferConfig] = {
    DEFAULT_PRESET: TransferConfig(),
    "light-wash": TransferConfig(style_weight=1, colors="matched", strength=0.8),
    "own-colours": TransferConfig(colors="luminance"),
    "detail-keeper": TransferConfig(style_weight=3, content_layers=("block2_conv2", "block3_conv2")),
    "fine-strokes": TransferConfig(style_scale=0.5),
    "poster": TransferConfig(style_layers=("block1_conv1", "block2_conv1"), tv_weight=100),
    "dissolved": TransferConfig(
        content_weight=0.05,
        style_weight=100,
        style_scale=1.5,
        style_layers=("block1_conv1", "block2_conv1", "block3_conv1", "block4_conv1", "block5_conv1"),
        iterations=120,
    ),
}
