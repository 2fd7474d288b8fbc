"""Gram matrix; content, style and total-variation losses; the weighted objective."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nst.backbones import Backbone

# TensorFlow keeps what oneDNN compiles for each shape (see Objective); oneDNN need not do so once more, and
# for ever. It reads this when it is first used.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0")

Array = npt.NDArray[np.float32]
LayerWeights = tuple[str, ...] | Mapping[str, float]


class Losses(NamedTuple):
    """The parts of the objective for one image, before weighting, and their weighted sum."""

    content: float
    style: float
    tv: float
    total: float


def gram_matrix(features: tf.Tensor) -> tf.Tensor:
    """Correlations of the channels of `features` (1, h, w, c), F^T F / (h*w): float32 (c, c).

    Gatys et al. 2016, eq. 3, with the division by the number of positions that their code has.
    """
    return _second_moment(tf.reshape(features, [-1, features.shape[-1]]))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _second_moment(rows: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """F^T F / n of F (n, c), with a gradient that takes one product where TensorFlow's takes two."""
    n, c = tf.unstack(tf.shape(rows))
    count = tf.cast(n, tf.float32)

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        return tf.matmul(rows, tf.cast((upstream + tf.transpose(upstream)) / count, rows.dtype))

    def product(part: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.matmul(part, part, transpose_a=True), tf.float32)

    # A product in bfloat16 is rounded to its 8 bits, so it is summed up from parts in float32.
    number = 8 if rows.dtype == tf.bfloat16 else 1
    even = n // number * number
    parts = tf.reshape(rows[:even], [number, n // number, c])
    return (tf.reduce_sum(product(parts), axis=0) + product(rows[even:])) / count, gradient


def total_variation(image: tf.Tensor) -> tf.Tensor:
    """Mean squared difference of the neighbouring values, across and down, of `image` (1, H, W, c)."""
    _, height, width, channels = tf.unstack(tf.shape(image))

    def part(y: int, x: int, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        return tf.slice(image, [0, y, x, 0], [1, height, width, channels])  # [y:] has a slow gradient

    across = tf.square(part(0, 1, height, width - 1) - part(0, 0, height, width - 1))
    down = tf.square(part(1, 0, height - 1, width) - part(0, 0, height - 1, width))
    pairs = tf.size(across) + tf.size(down)
    return (tf.reduce_sum(across) + tf.reduce_sum(down)) / tf.cast(pairs, image.dtype)


@dataclass(frozen=True)
class Targets:
    """What the content and the style image ask for, layer by layer, and how much each layer counts."""

    content: dict[str, Array]  # {layer: features (1, h, w, c)}
    style: dict[str, Array]  # {layer: Gram matrix (c, c)}
    content_factors: dict[str, Array]  # {layer: ()}
    style_factors: dict[str, Array]  # {layer: ()}


class Objective:
    """alpha * content + beta * style + tv, the paper's eq. 1, for images of any one size.

    With layer names each part is divided by the energy of its own target and averaged over its layers; with a
    mapping {layer: weight} each layer's mean squared error is multiplied by exactly that weight, which
    reproduces other published objectives (Gatys' own: content 1, style 1000 / c**2).
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        content_layers: LayerWeights,
        style_layers: LayerWeights,
        content_weight: float,
        style_weight: float,
        tv_weight: float,
        pooling: str,
    ) -> None:
        self._backbone = backbone
        self._content_layers = content_layers
        self._style_layers = style_layers
        self._weights = np.array([content_weight, style_weight, tv_weight], np.float32)
        self.evaluations = 0  # calls so far
        self._traced = _trace(backbone, tuple(content_layers), tuple(style_layers), pooling)
        self._captured = [tensor.numpy() for tensor in self._traced.captured_inputs]
        # TensorFlow's threads keep what oneDNN has compiled for each shape that they have met, for as long as
        # they live. In a session they live no longer than the objective: memory stays flat over many sizes.
        threads = tf.compat.v1.ConfigProto(use_per_session_threads=True)
        self._session = tf.compat.v1.Session(graph=self._traced.graph, config=threads)
        self._calls: dict[str, Callable[..., Any]] = {}

    def close(self) -> None:
        """Give back its threads and memory; it can't be used afterwards."""
        self._session.close()

    def targets(self, content: tf.Tensor, style: tf.Tensor) -> Targets:
        """The targets that images `content` and `style` (1, H, W, 3) set at their present sizes."""
        features = self._compute("features", content)
        grams = self._compute("grams", style)
        return Targets(
            features, grams, _factors(self._content_layers, features), _factors(self._style_layers, grams)
        )

    def __call__(self, image: tf.Tensor, targets: Targets) -> tuple[Losses, tf.Tensor]:
        """The losses of `image` (1, H, W, 3) and the gradient of the total with respect to its pixels."""
        self.evaluations += 1
        values, gradient = self._compute("losses_and_gradient", image, targets)
        return Losses(*values.tolist()), tf.constant(gradient)

    def losses(self, image: tf.Tensor, targets: Targets) -> Losses:
        """The losses of `image` (1, H, W, 3) alone, at less than half the cost."""
        return Losses(*self._compute("losses", image, targets).tolist())

    def _compute(self, what: str, image: tf.Tensor, targets: Targets | None = None) -> Any:
        """One of the outputs of `_trace`, of which no more is computed than it needs."""
        inputs = [image.numpy(), *self._captured]
        if targets is not None:
            parts = targets.content, targets.style, targets.content_factors, targets.style_factors
            inputs += [*tf.nest.flatten(parts), self._weights]
        if what not in self._calls:
            fixed = len(self._traced.inputs) - len(self._captured)
            placeholders = [tensor.name for tensor in self._traced.inputs]
            needed = [placeholders[0], *placeholders[fixed:], *placeholders[1:fixed]][: len(inputs)]
            outputs = tf.nest.map_structure(lambda tensor: tensor.name, self._traced.structured_outputs[what])
            self._calls[what] = self._session.make_callable(outputs, needed)
        return self._calls[what](*inputs)


def _factors(layers: LayerWeights, targets: dict[str, Array]) -> dict[str, Array]:
    """What each layer's mean squared error is multiplied by."""
    if isinstance(layers, Mapping):
        return {layer: np.array(weight, np.float32) for layer, weight in layers.items()}
    tiny = 1e-12  # a layer that a flat image leaves silent has no energy to divide by
    return {
        layer: np.array(1 / (len(layers) * max(float(np.mean(np.square(target))), tiny)), np.float32)
        for layer, target in targets.items()
    }


@lru_cache(maxsize=8)
def _trace(
    backbone: Backbone, content_layers: tuple[str, ...], style_layers: tuple[str, ...], pooling: str
) -> Any:
    """What an objective computes, traced once for every picture size and weight.

    A trace per size would cost a second each and stay in memory.
    """
    layers = tuple(dict.fromkeys(content_layers + style_layers))
    tensor = tf.TensorSpec
    signature = [
        tensor([1, None, None, 3]),
        {layer: tensor([1, None, None, None]) for layer in content_layers},
        {layer: tensor([None, None]) for layer in style_layers},
        {layer: tensor([]) for layer in content_layers},
        {layer: tensor([]) for layer in style_layers},
        tensor([3]),
    ]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def compute(
        image: tf.Tensor,
        content_targets: dict[str, tf.Tensor],
        style_targets: dict[str, tf.Tensor],
        content_factors: dict[str, tf.Tensor],
        style_factors: dict[str, tf.Tensor],
        weights: tf.Tensor,
    ) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            tape.watch(image)
            activations = backbone(image, layers, pooling)
            features = {layer: tf.cast(activations[layer], tf.float32) for layer in content_layers}
            grams = {layer: gram_matrix(activations[layer]) for layer in style_layers}
            content = tf.add_n(
                [
                    content_factors[layer]
                    * tf.reduce_mean(tf.square(features[layer] - content_targets[layer]))
                    for layer in content_layers
                ]
            )
            style = tf.add_n(
                [
                    style_factors[layer] * tf.reduce_mean(tf.square(grams[layer] - style_targets[layer]))
                    for layer in style_layers
                ]
            )
            parts = tf.stack([content, style, total_variation(image)])
            total = tf.reduce_sum(weights * parts)
        losses = tf.concat([parts, [total]], axis=0)  # as in Losses
        return {
            "features": features,
            "grams": grams,
            "losses": losses,
            "losses_and_gradient": (losses, tape.gradient(total, image)),
        }

    return compute.get_concrete_function()
