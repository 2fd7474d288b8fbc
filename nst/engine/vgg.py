"""The VGG feature extractor: a forward pass with the preprocessing that the weights were trained with."""

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import tensorflow as tf

from nst.config import BACKBONES, PRECISIONS

_POOLINGS = {"max": tf.nn.max_pool2d, "avg": tf.nn.avg_pool2d}


@dataclass(frozen=True, eq=False)
class Backbone:
    """Extract features with the convolutions of a VGG (Simonyan and Zisserman 2015, table 1).

    Args:
        name: as a config gives it.
        layers: the names of the convolutions in order, as Keras has them ("block4_conv2").
        mean: BGR, 0..255, subtracted from each pixel.
        weights: {layer: (kernel (3, 3, c, d), bias (d,))}.
        note: why "auto" stands for this network and not for VGG-19; "" where it was asked for.
    """

    name: str
    layers: tuple[str, ...]
    mean: tuple[float, float, float]
    weights: Mapping[str, tuple[tf.Tensor, tf.Tensor]] = field(repr=False)
    note: str = ""

    def __call__(self, image: tf.Tensor, layers: Iterable[str], pooling: str = "max") -> dict[str, tf.Tensor]:
        """Compute the activations of layers after their ReLU, and nothing deeper.

        Args:
            image: float32 (1, H, W, 3), sRGB in [0, 1].
            layers: names of layers.
            pooling: "max" or "avg".

        Returns:
            {layer: (1, h, w, c)} in the precision of the weights.

        Raises:
            ValueError: a layer or the pooling is unknown, or the image is too small for the layers (those of
                block 5 need 16 pixels each way).
        """
        wanted = tuple(layers)
        if unknown := [layer for layer in wanted if layer not in self.layers]:
            raise ValueError(f"{self.name} has no layer {unknown[0]!r}, only {', '.join(self.layers)}.")
        if pooling not in _POOLINGS:
            raise ValueError(f"Pooling must be one of {', '.join(_POOLINGS)}, not {pooling!r}.")

        depth = max((self.layers.index(layer) + 1 for layer in wanted), default=0)
        activations: dict[str, tf.Tensor] = {}
        x = image * 255.0 - self.mean[::-1]
        for layer in self.layers[:depth]:
            if layer.endswith("_conv1") and activations:
                if 1 in x.shape[1:3].as_list():
                    raise ValueError(f"The image is too small for {layer}, whose block starts by halving it.")
                x = _POOLINGS[pooling](x, ksize=2, strides=2, padding="VALID")
            kernel, bias = self.weights[layer]
            if not activations:
                kernel = kernel[:, :, ::-1]  # the weights take BGR
                if kernel.dtype == tf.bfloat16:
                    x, kernel = _split_bfloat16(x), tf.concat([kernel, kernel], axis=2)
            x = tf.nn.bias_add(tf.nn.conv2d(x, kernel, strides=1, padding="SAME"), bias)
            x = activations[layer] = tf.nn.relu(x)
        return {layer: activations[layer] for layer in wanted}

    @property
    def dtype(self) -> tf.DType:
        """Return the type that the network computes in."""
        kernel, _ = self.weights[self.layers[0]]
        return kernel.dtype

    @functools.cached_property
    def digest(self) -> str:
        """Compute the SHA-256 of all weights, in the order of the layers."""
        found = hashlib.sha256()
        for kernel, bias in self.weights.values():
            found.update(kernel.numpy().data)
            found.update(bias.numpy().data)
        return found.hexdigest()

    def receptive_field(self, layers: Iterable[str]) -> int:
        """Return the radius in pixels of the receptive field of the deepest of these layers."""
        depth = max(self.layers.index(layer) + 1 for layer in layers)
        return sum(map(stride, self.layers[:depth]))

    def in_precision(self, precision: str) -> "Backbone":
        """Return this network with its weights in "float32", "bfloat16" or, for "auto", the faster one here.

        Raises:
            ValueError: the precision is unknown.
        """
        return self if resolve_precision(precision) == "float32" else to_bfloat16(self)


def block(layer: str) -> int:
    """Return the number of the block that a layer is in, from 1 to 5."""
    return int(layer.removeprefix("block")[0])


def stride(layer: str) -> int:
    """Return the number of pixels between two neighbouring positions of a layer."""
    return int(2 ** (block(layer) - 1))


@functools.lru_cache(maxsize=len(BACKBONES) + 1)  # and the judge
def to_bfloat16(backbone: Backbone) -> Backbone:
    """Round the weights of a network to bfloat16, once for every network."""
    weights = {
        layer: (tf.cast(kernel, tf.bfloat16), tf.cast(bias, tf.bfloat16))
        for layer, (kernel, bias) in backbone.weights.items()
    }
    return replace(backbone, weights=weights)


def _split_bfloat16(x: tf.Tensor) -> tf.Tensor:
    """Split float32 (1, H, W, 3) into bfloat16 (1, H, W, 6): the rounded values, then what rounding lost.

    Pixels need more than the 8 bits of a bfloat16's mantissa; together the two parts have 16.
    """
    rounded = tf.cast(x, tf.bfloat16)
    rest = tf.cast(x - tf.cast(rounded, tf.float32), tf.bfloat16)
    return tf.concat([rounded, tf.stop_gradient(rest)], axis=3)


@functools.cache
def resolve_precision(precision: str) -> str:
    """Resolve "auto" to the faster precision on this processor; return the other names as they are.

    bfloat16 is four times as fast where the processor has tile instructions for it (AMX), slower elsewhere.

    Raises:
        ValueError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"The precision must be one of {', '.join(PRECISIONS)}, not {precision!r}.")
    if precision != "auto":
        return precision
    flags = Path("/proc/cpuinfo")  # Linux only: on other systems no build of TensorFlow uses AMX
    return "bfloat16" if flags.is_file() and "amx_bf16" in flags.read_text() else "float32"
