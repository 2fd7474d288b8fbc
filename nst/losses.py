"""Gram matrix; content, style and total-variation losses; the weighted objective."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import tensorflow as tf

from nst.backbones import Backbone

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

    content: dict[str, tf.Tensor]  # {layer: features (1, h, w, c)}
    style: dict[str, tf.Tensor]  # {layer: Gram matrix (c, c)}
    content_factors: dict[str, tf.Tensor]  # {layer: ()}
    style_factors: dict[str, tf.Tensor]  # {layer: ()}


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
        self._weights = tf.constant([content_weight, style_weight, tv_weight], tf.float32)
        self._pooling = pooling
        self.evaluations = 0  # calls so far
        self._evaluate, self._measure = _traced(backbone, tuple(content_layers), tuple(style_layers), pooling)

    def targets(self, content: tf.Tensor, style: tf.Tensor) -> Targets:
        """The targets that images `content` and `style` (1, H, W, 3) set at their present sizes."""
        shown = self._backbone(content, tuple(self._content_layers), self._pooling)
        features = {layer: tf.cast(activations, tf.float32) for layer, activations in shown.items()}
        painted = self._backbone(style, tuple(self._style_layers), self._pooling)
        grams = {layer: gram_matrix(activations) for layer, activations in painted.items()}
        return Targets(
            features, grams, _factors(self._content_layers, features), _factors(self._style_layers, grams)
        )

    def __call__(self, image: tf.Tensor, targets: Targets) -> tuple[Losses, tf.Tensor]:
        """The losses of `image` (1, H, W, 3) and the gradient of the total with respect to its pixels."""
        self.evaluations += 1
        values, gradient = self._evaluate(image, *self._asked(targets))
        return Losses(*values.numpy().tolist()), gradient

    def losses(self, image: tf.Tensor, targets: Targets) -> Losses:
        """The losses of `image` (1, H, W, 3) alone, at less than half the cost."""
        return Losses(*self._measure(image, *self._asked(targets)).numpy().tolist())

    def _asked(self, targets: Targets) -> tuple[Any, ...]:
        return (
            targets.content,
            targets.style,
            targets.content_factors,
            targets.style_factors,
            self._weights,
        )


def _factors(layers: LayerWeights, targets: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """What each layer's mean squared error is multiplied by."""
    if isinstance(layers, Mapping):
        return {layer: tf.constant(weight, tf.float32) for layer, weight in layers.items()}
    tiny = 1e-12  # a layer that a flat image leaves silent has no energy to divide by
    return {
        layer: 1 / (len(layers) * tf.maximum(tf.reduce_mean(tf.square(target)), tiny))
        for layer, target in targets.items()
    }


@lru_cache(maxsize=8)
def _traced(
    backbone: Backbone, content_layers: tuple[str, ...], style_layers: tuple[str, ...], pooling: str
) -> Any:
    """Traced once for every picture size and weight: the losses with the gradient, and the losses alone.

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

    def losses(
        image: tf.Tensor,
        content_targets: dict[str, tf.Tensor],
        style_targets: dict[str, tf.Tensor],
        content_factors: dict[str, tf.Tensor],
        style_factors: dict[str, tf.Tensor],
        weights: tf.Tensor,
    ) -> tf.Tensor:  # (4,), as in Losses
        features = backbone(image, layers, pooling)
        content = tf.add_n(
            [
                content_factors[layer]
                * tf.reduce_mean(tf.square(tf.cast(features[layer], tf.float32) - content_targets[layer]))
                for layer in content_layers
            ]
        )
        style = tf.add_n(
            [
                style_factors[layer]
                * tf.reduce_mean(tf.square(gram_matrix(features[layer]) - style_targets[layer]))
                for layer in style_layers
            ]
        )
        parts = tf.stack([content, style, total_variation(image)])
        return tf.concat([parts, [tf.reduce_sum(weights * parts)]], axis=0)

    def losses_and_gradient(image: tf.Tensor, *asked: Any) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(image)
            values = losses(image, *asked)
            total = values[-1]
        return values, tape.gradient(total, image)

    traced = tf.function(input_signature=signature)
    return traced(losses_and_gradient), traced(losses)
