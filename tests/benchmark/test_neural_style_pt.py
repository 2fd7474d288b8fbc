"""neural-style-pt's procedure: its objective against the formulas, and a short run."""

import os

import numpy as np
import pytest
import tensorflow as tf
from comparison import relative_error

from nst.benchmark import references
from nst.benchmark.references import Stopwatch, Task
from nst.config import TransferConfig
from nst.engine.images import from_uint8, resize, to_uint8

pytestmark = pytest.mark.quick

if not os.environ.get("NST_REQUIRE_TORCH"):
    pytest.importorskip("torch")

from nst.benchmark.neural_style_pt import (  # noqa: E402
    convert_weights,
    make_objective,
    neural_style_pt,
    to_image,
    to_pixels,
)


@pytest.fixture
def task(backbone, photo, painting):
    """A pair of images of different sizes that no pooling divides evenly."""
    content, style = resize(photo, 44, 60), resize(painting, 64, 50)
    return Task(content, style, TransferConfig(size=60, precision="float32"), backbone)


@pytest.fixture
def noisy(task):
    """A picture that is unlike the content image."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, task.content.shape)
    return tf.clip_by_value(task.content + tf.constant(noise, tf.float32), 0, 1)


def objective_of(task):
    mean = task.backbone.mean
    return make_objective(
        convert_weights(task.backbone), to_pixels(task.content, mean), to_pixels(task.style, mean)
    )


def loss_by_formula(image, task):
    """Compute neural-style-pt's loss with the features that TensorFlow computes."""
    style_layers = [f"block{block}_conv1" for block in range(1, 6)]
    layers = ["block4_conv2", *style_layers]
    picture, content, style = (
        task.backbone(one, layers) for one in (image, tf.constant(task.content), task.style)
    )

    def gram(features):
        _, h, w, c = features.shape
        return tf.einsum("bhwc,bhwd->cd", features, features) / (c * h * w)

    content_loss = tf.reduce_mean((picture["block4_conv2"] - content["block4_conv2"]) ** 2)
    style_loss = sum(
        tf.reduce_mean((gram(picture[layer]) - gram(style[layer])) ** 2) for layer in style_layers
    )
    down, across = image[:, 1:] - image[:, :-1], image[:, :, 1:] - image[:, :, :-1]
    variation = 255 * (tf.reduce_sum(tf.abs(down)) + tf.reduce_sum(tf.abs(across)))
    return 5 * content_loss + 100 * style_loss + 0.001 * variation


def test_loss_and_gradient_are_those_of_the_formulas(task, noisy):
    pixels = to_pixels(noisy, task.backbone.mean).requires_grad_()
    loss = objective_of(task)(pixels)
    loss.backward()
    with tf.GradientTape() as tape:
        tape.watch(noisy)
        expected = loss_by_formula(noisy, task)
    assert loss.item() == pytest.approx(float(expected), rel=1e-4)
    gradient = 255 * pixels.grad.permute(0, 2, 3, 1).numpy()[..., ::-1]  # of an image from 0 to 1, in RGB
    assert relative_error(gradient, tape.gradient(expected, noisy)) < 1e-3


def test_an_image_becomes_pixels_and_back_and_is_clipped(task, noisy):
    mean = task.backbone.mean
    pixels = to_pixels(noisy, mean)
    assert pixels[0, 0, 1, 2].item() == pytest.approx(255 * float(noisy[0, 1, 2, 2]) - mean[0], abs=1e-4)
    np.testing.assert_allclose(to_image(pixels, mean), noisy, atol=1e-6)
    assert float(tf.reduce_max(to_image(pixels + 300, mean))) == 1
    assert float(tf.reduce_min(to_image(pixels - 300, mean))) == 0


def test_a_run_lowers_its_own_loss_and_is_the_same_again(task, monkeypatch):
    monkeypatch.setattr(references, "EVALUATIONS", 12)
    first, second = Stopwatch(task), Stopwatch(task)
    for watch in (first, second):
        neural_style_pt(task, watch)
    assert [row.evaluations for row in first.rows] == [*range(1, 13)]
    assert [row[1:] for row in first.rows] == [row[1:] for row in second.rows]  # all but the seconds
    objective, mean = objective_of(task), task.backbone.mean
    before, after = (
        objective(to_pixels(image, mean)).item() for image in (task.content, from_uint8(first.picture))
    )
    assert after < 0.2 * before
    np.testing.assert_array_equal(first.picture, second.picture)
    assert not np.array_equal(first.picture, to_uint8(task.content))
