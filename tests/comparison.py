"""Measures of how far images, gradients and losses are apart, and settings that many tests use."""

from contextlib import closing
from pathlib import Path

import numpy as np
import tensorflow as tf

from nst.config import TransferConfig
from nst.engine.color import luminance
from nst.engine.graph import GraphCache
from nst.engine.objective import Losses, Region, build_objective
from nst.engine.vgg import Backbone

EXAMPLES = Path(__file__).parents[1] / "examples"
HALF_A_LEVEL = 0.5 / 255  # half an 8-bit step
SHALLOW = {  # quick to compute, for tests in which any layers will do
    "content_layers": ("block2_conv1",),
    "style_layers": ("block1_conv1", "block2_conv1"),
}


def strength_of_colors(image: tf.Tensor, photo: tf.Tensor) -> np.ndarray:
    """Compute how much of the photo's colours an image (1, H, W, 3) has, (1, H, W); it has no others."""
    colors, own = (np.asarray(picture - luminance(picture)) for picture in (image, photo))
    strength = np.sum(colors * own, axis=3) / np.maximum(np.sum(own * own, axis=3), 1e-9)
    np.testing.assert_allclose(colors, strength[..., np.newaxis] * own, atol=2 * HALF_A_LEVEL)
    return strength


def mean_difference(image: tf.Tensor, other: tf.Tensor) -> float:
    """Compute the mean absolute difference of two images of the same size."""
    return float(tf.reduce_mean(tf.abs(image - other)))


def relative_error(actual: tf.Tensor, expected: tf.Tensor) -> float:
    """Compute the length of the difference, relative to the length of the expected value."""
    return float(tf.norm(tf.cast(actual, tf.float32) - expected) / tf.norm(expected))


def losses_of(
    image: tf.Tensor,
    content: tf.Tensor,
    style: tf.Tensor,
    config: TransferConfig,
    backbone: Backbone,
    graphs: GraphCache,
) -> Losses:
    """Compute the losses of an image of the content image's size."""
    with closing(build_objective(config, backbone, graphs)) as objective:
        return objective.losses(image, objective.targets(content, Region([style])))
