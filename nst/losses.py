"""Gram matrix; content, style and total-variation losses; the weighted objective."""

from collections.abc import Mapping
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
    """Correlations of the channels of `features` (1, h, w, c), F^T F / (h*w): (c, c).

    Gatys et al. 2016, eq. 3, with the division by the number of positions that their code has.
    """
    rows = tf.reshape(features, [-1, features.shape[-1]])  # (h*w, c)
    return tf.matmul(rows, rows, transpose_a=True) / tf.cast(tf.shape(rows)[0], rows.dtype)


def total_variation(image: tf.Tensor) -> tf.Tensor:
    """Mean squared difference of the neighbouring values, across and down, of `image` (1, H, W, c)."""
    across = tf.square(image[:, :, 1:] - image[:, :, :-1])
    down = tf.square(image[:, 1:] - image[:, :-1])
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
        self._evaluate = _traced(backbone, tuple(content_layers), tuple(style_layers), pooling)

    def targets(self, content: tf.Tensor, style: tf.Tensor) -> Targets:
        """The targets that images `content` and `style` (1, H, W, 3) set at their present sizes."""
        features = self._backbone(content, tuple(self._content_layers), self._pooling)
        grams = {
            layer: gram_matrix(activations)
            for layer, activations in self._backbone(style, tuple(self._style_layers), self._pooling).items()
        }
        return Targets(
            features, grams, _factors(self._content_layers, features), _factors(self._style_layers, grams)
        )

    def __call__(self, image: tf.Tensor, targets: Targets) -> tuple[Losses, tf.Tensor]:
        """The losses of `image` (1, H, W, 3) and the gradient of the total with respect to its pixels."""
        self.evaluations += 1
        values, gradient = self._evaluate(
            image,
            targets.content,
            targets.style,
            targets.content_factors,
            targets.style_factors,
            self._weights,
        )
        return Losses(*values.numpy().tolist()), gradient


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
    """One traced function for every picture size and weight: a trace per size costs a second and stays."""
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
    def evaluate(
        image: tf.Tensor,
        content_targets: dict[str, tf.Tensor],
        style_targets: dict[str, tf.Tensor],
        content_factors: dict[str, tf.Tensor],
        style_factors: dict[str, tf.Tensor],
        weights: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(image)
            features = backbone(image, layers, pooling)
            content = tf.add_n(
                [
                    content_factors[layer]
                    * tf.reduce_mean(tf.square(features[layer] - content_targets[layer]))
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
            total = tf.reduce_sum(weights * parts)
        return tf.concat([parts, [total]], axis=0), tape.gradient(total, image)

    return evaluate
