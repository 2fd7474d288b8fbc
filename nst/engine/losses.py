"""The losses, each by its name: the formulas of Gatys, Ecker and Bethge 2016.

F is a layer's feature map of the picture: one row for each of its M = h * w positions, one column for each of
its c channels. P is that of the content image. G and A are the Gram matrices of the picture and of the style
image. objective.py says which layers they are taken at, and how layers are averaged.
"""

from collections.abc import Callable

import tensorflow as tf


def total_loss(losses: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Compute L = alpha * L_content + beta * L_style + gamma * L_tv.

    Gatys et al. 2016, eq. 7 (eq. 1 of the student paper that this project started from), and total variation.

    Args:
        losses: L_content, L_style and L_tv, (3,).
        weights: alpha, beta and gamma, (3,).

    Returns:
        float32 ().
    """
    return tf.reduce_sum(weights * losses)


def content_loss(features: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Compute the content loss of one layer: L_content = mean((F - P)^2).

    Gatys et al. 2016, eq. 1, where half of the sum takes the place of the mean. A mean does not grow with the
    size.

    Args:
        features: F, (1, h, w, c).
        target: P, (1, h, w, c).

    Returns:
        float32 ().
    """
    return tf.reduce_mean(tf.square(tf.cast(features, tf.float32) - tf.cast(target, tf.float32)))


def gram_matrix(features: tf.Tensor) -> tf.Tensor:
    """Compute the Gram matrix of one layer: G = F^T F / M.

    Gatys et al. 2016, eq. 3. They divide by the number of positions in eq. 4; this divides here, as
    their code does.

    Args:
        features: F, (1, h, w, c).

    Returns:
        float32 (c, c).
    """
    return _second_moment(tf.reshape(features, [-1, features.shape[-1]]))


def style_loss(gram: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Compute the style loss of one layer: E = mean((G - A)^2).

    Gatys et al. 2016, eq. 4, without its constant factor of 1/4.

    Args:
        gram: G, (..., c, c).
        target: A, (..., c, c).

    Returns:
        float32 (...).
    """
    return tf.reduce_mean(tf.square(gram - target), axis=(-2, -1))


def total_variation(image: tf.Tensor) -> tf.Tensor:
    """Compute the total variation: L_tv = mean((x' - x)^2) over all pairs x, x' of neighbouring values.

    After Mahendran and Vedaldi 2015, "Understanding deep image representations by inverting them", eq. 6,
    with beta = 2.

    Args:
        image: x, (1, H, W, c).

    Returns:
        float32 ().
    """
    _, height, width, channels = tf.unstack(tf.shape(image))
    pairs = (height * (width - 1) + (height - 1) * width) * channels
    return (squared_change(image, axis=2) + squared_change(image, axis=1)) / tf.cast(pairs, image.dtype)


def squared_change(image: tf.Tensor, axis: int) -> tf.Tensor:
    """Sum up (x' - x)^2 over the neighbours in an image (1, H, W, c), down (axis 1) or across (axis 2)."""
    step = tf.one_hot(axis, 4, dtype=tf.int32)
    size = tf.shape(image) - step  # by tf.slice, because the gradient of indexing is slow
    return tf.reduce_sum(tf.square(tf.slice(image, step, size) - tf.slice(image, [0, 0, 0, 0], size)))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _second_moment(rows: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Compute F^T F / M of F (M, c), with a gradient that takes one product where TensorFlow's takes two."""
    m, c = tf.unstack(tf.shape(rows))
    count = tf.cast(m, tf.float32)

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        return tf.matmul(rows, tf.cast((upstream + tf.transpose(upstream)) / count, rows.dtype))

    def product(part: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.matmul(part, part, transpose_a=True), tf.float32)

    # A product in bfloat16 is rounded to its 8 bits, so it is summed up from parts in float32.
    number = 8 if rows.dtype == tf.bfloat16 else 1
    even = m // number * number
    parts = tf.reshape(rows[:even], [number, m // number, c])
    return (tf.reduce_sum(product(parts), axis=0) + product(rows[even:])) / count, gradient
