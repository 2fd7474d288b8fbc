"""The paper's formulas in closed form."""

import numpy as np
import pytest
import tensorflow as tf
from comparison import relative_error

from nst.engine.losses import content_loss, gram_matrix, style_loss, total_loss, total_variation

pytestmark = pytest.mark.quick


# Total loss


def test_total_loss_is_equation_1_with_total_variation():
    losses, weights = tf.constant([0.5, 0.02, 0.003]), tf.constant([2.0, 100.0, 10.0])
    assert float(total_loss(losses, weights)) == pytest.approx(2 * 0.5 + 100 * 0.02 + 10 * 0.003)


# Content loss


def test_content_loss_is_the_mean_squared_difference():
    features = tf.reshape(tf.constant([1.0, 2.0, 3.0, 4.0]), (1, 2, 1, 2))
    target = tf.reshape(tf.constant([1.0, 0.0, 0.0, 8.0]), (1, 2, 1, 2))
    assert float(content_loss(features, target)) == (0 + 4 + 9 + 16) / 4
    assert float(content_loss(target, features)) == (0 + 4 + 9 + 16) / 4
    assert float(content_loss(features, features)) == 0


def test_content_loss_of_bfloat16_is_computed_in_float32():
    features = tf.fill((1, 40, 50, 8), tf.constant(1.0, tf.bfloat16))
    target = tf.fill((1, 40, 50, 8), tf.constant(1.0078125, tf.bfloat16))  # the next number in bfloat16
    loss = content_loss(features, target)
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(0.0078125**2)


# Style loss


@pytest.mark.parametrize("shape", [(1, 1, 1, 4), (1, 5, 3, 4), (1, 40, 2, 7)])
def test_gram_matrix_of_ones_is_all_ones(shape):
    assert np.array_equal(gram_matrix(tf.ones(shape)), np.ones((shape[-1], shape[-1])))


def test_gram_matrix_of_two_pixels():
    features = tf.constant([[[[1.0, 2.0, 0.0]], [[3.0, -4.0, 5.0]]]])  # (1, 2, 1, 3)
    expected = np.array([[10, -10, 15], [-10, 20, -20], [15, -20, 25]]) / 2
    assert np.array_equal(gram_matrix(features), expected)


def plain_gram_matrix(features: tf.Tensor) -> tf.Tensor:
    rows = tf.reshape(features, [-1, features.shape[-1]])
    return tf.matmul(rows, rows, transpose_a=True) / len(rows)


def value_and_gradient(formula, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Compute the matrix of a formula, and the gradient of its sum with random weights."""
    with tf.GradientTape() as tape:
        tape.watch(features)
        value = formula(features)
        weights = np.random.default_rng(1).normal(size=value.shape).astype(np.float32)
        total = tf.reduce_sum(weights * value)
    return value, tape.gradient(total, features)


def random_features(positions: int, channels: int = 16) -> tf.Tensor:
    normal = np.random.default_rng(positions).normal(size=(1, positions, 1, channels))
    return tf.constant(np.maximum(normal, 0), tf.float32)


@pytest.mark.parametrize("positions", [1, 5, 8, 64, 67, 1000])
def test_gram_matrix_has_the_gradient_of_the_plain_formula(positions):
    features = random_features(positions)
    value, gradient = value_and_gradient(gram_matrix, features)
    expected_value, expected_gradient = value_and_gradient(plain_gram_matrix, features)
    np.testing.assert_allclose(value, expected_value, rtol=1e-5, atol=1e-6)
    assert relative_error(gradient, expected_gradient) < 1e-5


@pytest.mark.parametrize(("positions", "tolerance"), [(5, 3e-3), (8, 3e-3), (1000, 1e-3), (1003, 1e-3)])
def test_gram_matrix_of_bfloat16_is_summed_in_float32(positions, tolerance):
    features = tf.cast(random_features(positions), tf.bfloat16)
    value, gradient = value_and_gradient(gram_matrix, features)
    expected_value, expected_gradient = value_and_gradient(gram_matrix, tf.cast(features, tf.float32))
    assert value.dtype == tf.float32
    assert relative_error(value, expected_value) < tolerance
    assert gradient.dtype == tf.bfloat16
    assert relative_error(gradient, expected_gradient) < 1e-2


def test_style_loss_is_the_mean_squared_difference_of_the_gram_matrices():
    gram, target = tf.constant([[1.0, 2.0], [2.0, 5.0]]), tf.constant([[1.0, 0.0], [0.0, 3.0]])
    assert float(style_loss(gram, target)) == (0 + 4 + 4 + 4) / 4
    assert float(style_loss(gram, gram)) == 0


def test_style_loss_has_a_value_for_each_region():
    gram, target = tf.ones((2, 3, 3)), tf.stack([tf.ones((3, 3)), tf.fill((3, 3), 3.0)])
    assert style_loss(gram, target).numpy().tolist() == [0, 4]


# Total variation


def test_total_variation_of_a_checkerboard_is_one():
    board = np.indices((6, 9)).sum(0) % 2
    image = tf.constant(np.repeat(board[np.newaxis, ..., np.newaxis], 3, axis=3), tf.float32)
    assert float(total_variation(image)) == 1


def test_total_variation_of_a_flat_image_is_zero():
    assert float(total_variation(tf.fill((1, 6, 9, 3), 0.7))) == 0


def test_total_variation_is_a_mean_over_neighbours_across_and_down():
    image = tf.reshape(tf.constant([0.0, 1.0, 3.0, 0.0, 1.0, 3.0]), (1, 2, 3, 1))  # two equal rows
    assert float(total_variation(image)) == pytest.approx((1 + 4 + 1 + 4 + 0 + 0 + 0) / 7)
    assert float(total_variation(tf.transpose(image, (0, 2, 1, 3)))) == pytest.approx(10 / 7)


@pytest.mark.parametrize("size", [(6, 9), (1, 4), (5, 1), (48, 64)])
def test_the_gradient_of_total_variation_pulls_neighbours_together(size):
    image = np.random.default_rng(0).random((1, *size, 3), np.float32)
    across, down = np.diff(image, axis=2), np.diff(image, axis=1)
    expected = np.zeros_like(image)
    expected[:, :, 1:] += across
    expected[:, :, :-1] -= across
    expected[:, 1:] += down
    expected[:, :-1] -= down
    expected *= 2 / (across.size + down.size)
    with tf.GradientTape() as tape:
        tape.watch(pixels := tf.constant(image))
        total = total_variation(pixels)
    np.testing.assert_allclose(tape.gradient(total, pixels), expected, atol=1e-6 * expected.max())
