"""Colours: luminance, colour matching, and blending one picture over another."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nst.engine.images import resize

# What colours are stretched by at most, along any direction. Photos need up to 5.5; a sepia scan would need
# more, and what is stretched would be the noise that JPEG leaves in its colours.
_MOST_GAIN = 6


def luminance(image: tf.Tensor) -> tf.Tensor:
    """Compute the luminance of an image, the Y of YIQ (ITU-R BT.601).

    Args:
        image: float32 (1, H, W, 3).

    Returns:
        float32 (1, H, W, 1).
    """
    return tf.reduce_sum(image * [0.299, 0.587, 0.114], axis=3, keepdims=True)


def to_grey(image: tf.Tensor) -> tf.Tensor:
    """Replace all three channels of an image (1, H, W, 3) with its luminance."""
    return tf.repeat(luminance(image), 3, axis=3)


def match_colors(image: tf.Tensor, reference: tf.Tensor) -> tf.Tensor:
    """Give an image the mean and the covariance of the colours of another.

    Of all linear maps that do so, this is the one that moves the colours least: Pitié and Kokaram 2007, "The
    linear Monge-Kantorovitch linear colour mapping for example-based colour transfer". Where colours would
    have to be stretched by more than 6, they keep a smaller covariance.

    Args:
        image: float32 (1, H, W, 3).
        reference: float32 (1, h, w, 3), of any size.

    Returns:
        float32 (1, H, W, 3), clipped to [0, 1].
    """
    colors, wanted = (np.asarray(picture, np.float64).reshape(-1, 3) for picture in (image, reference))
    noise = 1e-5 * np.eye(3)  # below an 8-bit step; keeps the covariance of a grey or flat image invertible
    own, other = np.cov(colors.T) + noise, np.cov(wanted.T) + noise
    root, inverse = _power(own, 0.5), _power(own, -0.5)
    transform = inverse @ _power(root @ other @ root, 0.5) @ inverse  # (3, 3), symmetric
    gains, directions = np.linalg.eigh(transform)
    transform = (directions * np.minimum(gains, _MOST_GAIN)) @ directions.T
    moved = (colors - colors.mean(axis=0)) @ transform + wanted.mean(axis=0)
    return tf.constant(np.clip(moved, 0, 1).reshape(image.shape), tf.float32)


def _power(matrix: npt.NDArray[np.float64], exponent: float) -> npt.NDArray[np.float64]:
    """Raise a symmetric positive semidefinite matrix to a power."""
    values, vectors = np.linalg.eigh(matrix)
    product: npt.NDArray[np.float64] = (vectors * np.maximum(values, 0) ** exponent) @ vectors.T
    return product


def blend(picture: tf.Tensor, photo: tf.Tensor, strength: float) -> tf.Tensor:
    """Lay a picture over a photo.

    Args:
        picture: float32 (1, H, W, 3).
        photo: float32 (1, h, w, 3), resized to the picture.
        strength: opacity of the picture, from 0 to 1.

    Returns:
        float32 (1, H, W, 3).
    """
    if strength == 1:
        return picture
    under = tf.clip_by_value(resize(photo, *picture.shape[1:3]), 0, 1)
    return under + strength * (picture - under)
