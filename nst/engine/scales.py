"""What the loss of each layer is divided by, so that a weight means the same wherever it is used.

Each loss has two bounds that anybody can picture: the photo unchanged, and the painting itself. Content loss
is divided by that of the painting itself, style loss by that of the photo unchanged. So both run from 0 to
about 1, whatever the network, the layer, the size and the pair of images. Dividing by the energy of the
target alone does not do that, as docs/method.md shows.

F and P are feature maps and G and A Gram matrices, as in losses.py.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nst.engine.images import Array
from nst.engine.vgg import block

# A photo may have a layer's style already; without a limit, that layer would then count more than all others.
_LEAST_DISTANCE = 0.01  # of the energy of A
# How much a style layer counts, by its block. Strokes are in the middle ones. The first knows grain, which is
# noise in a flat sky. The deepest know whole objects: with equal weights, a hand or a face of the painting
# appears in the photo.
_BLOCK_WEIGHTS = (1 / 4, 1, 1, 1 / 4, 1 / 16)
_TINY = 1e-12  # a layer may be silent for a flat image


class Moments(NamedTuple):
    """Hold the mean of each channel of a feature map, (c,), and the mean square of all its values."""

    mean: Array
    energy: float


def moments(features: npt.NDArray[Any]) -> Moments:
    """Compute the moments of a feature map (1, h, w, c) in float32."""
    mean, energy = np.zeros(features.shape[-1], np.float32), 0.0
    for row in features[0]:  # row by row, because a copy of a large map would be large
        values = row.astype(np.float32)
        mean += values.sum(axis=0)
        energy += float(np.vdot(values, values))
    positions = features.shape[1] * features.shape[2]
    return Moments(mean / np.float32(positions), energy / features.size) if positions else Moments(mean, 0.0)


def combined(parts: Iterable[tuple[float, Moments]]) -> Moments:
    """Compute the moments of several feature maps together, each given with its share of the positions."""
    weighted = [(share * part.mean, share * part.energy) for share, part in parts]
    return Moments(
        np.sum([mean for mean, _ in weighted], axis=0), float(sum(energy for _, energy in weighted))
    )


def content_scale(photo: Moments, painting: Moments) -> float:
    """Compute the content loss of the painting itself, mean((F - P)^2), wherever its motifs may lie.

    F and P are taken to be unrelated, so that this is E[F^2] + E[P^2] - 2 E[F] E[P], channel by channel.

    Args:
        photo: the moments of P.
        painting: the moments of F.
    """
    return photo.energy + painting.energy - 2 * float(np.mean(photo.mean * painting.mean))


def style_scale(photo: Array, target: Array) -> Array:
    """Compute the style loss of the photo unchanged, mean((G - A)^2), or 1 % of mean(A^2) where that is more.

    Args:
        photo: the Gram matrices of the photo, (r, c, c).
        target: A, (r, c, c).

    Returns:
        float32 (r,).
    """
    distance = np.mean(np.square(photo - target), axis=(1, 2))
    scale: Array = np.maximum(distance, _LEAST_DISTANCE * np.mean(np.square(target), axis=(1, 2)))
    return scale


def style_shares(layers: Iterable[str]) -> dict[str, float]:
    """Compute the shares of style layers in the style loss, which sum to 1."""
    weights = {layer: _BLOCK_WEIGHTS[block(layer) - 1] for layer in layers}
    return {layer: weight / sum(weights.values()) for layer, weight in weights.items()}


def factors(shares: Mapping[str, float], scales: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
    """Compute what the loss of each layer is multiplied by: its share, divided by its scale."""
    return {
        layer: np.asarray(share / np.maximum(scales[layer], _TINY), np.float32)
        for layer, share in shares.items()
    }
