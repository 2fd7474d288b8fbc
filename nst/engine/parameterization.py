"""What a picture may become: its pixels in range, and the photo's where a mask or its colours are kept."""

import numpy as np
import tensorflow as tf

from nst.engine.images import Array, resize

# A sigmoid keeps the pixels in range while they are optimised, so that the picture people get is the one that
# was optimised. Its headroom lets black and white be reached, and is less than half an 8-bit step.
_HEADROOM = np.float32(0.0019)


def luminance(image: tf.Tensor) -> tf.Tensor:
    """The Y of YIQ (ITU-R BT.601) of `image` (1, H, W, 3): (1, H, W, 1)."""
    return tf.reduce_sum(image * [0.299, 0.587, 0.114], axis=3, keepdims=True)


def in_grey(image: tf.Tensor) -> tf.Tensor:
    """`image` (1, H, W, 3) without its colours, (1, H, W, 3)."""
    return tf.repeat(luminance(image), 3, axis=3)


class Canvas:
    """The pictures that a run may choose from at one size, each given by any numbers from -inf to inf.

    A mask (1, H, W, 1) says how far each pixel of `photo` (1, H, W, 3) may be painted over. With
    `keep_colors` only the luminance is painted, and read by the network: all channels of a pixel move by the
    same amount, as far as they have room (after Gatys et al. 2016, "Preserving color in neural artistic style
    transfer").
    """

    def __init__(self, photo: tf.Tensor, mask: tf.Tensor | None, *, keep_colors: bool) -> None:
        self._keep_colors = keep_colors
        own = np.asarray(luminance(photo) if keep_colors else photo)
        self._colors = np.asarray(photo) - own if keep_colors else np.zeros([1, 1, 1, 1], np.float32)
        low = -self._colors.min(axis=3, keepdims=True)
        high = 1 - self._colors.max(axis=3, keepdims=True)
        if mask is not None:
            low, high = own + np.asarray(mask) * (low - own), own + np.asarray(mask) * (high - own)
        self._low, self._span = low, high - low

    def image(self, numbers: Array) -> Array:
        """What the network reads, (1, H, W, 3), for numbers shaped as those of `numbers_of`."""
        own = _sigmoid(numbers)
        own *= 1 + 2 * _HEADROOM
        own -= _HEADROOM
        own *= self._span
        own += self._low
        return np.repeat(own, 3, axis=3) if self._keep_colors else own

    def slope(self, numbers: Array, gradient: Array) -> Array:
        """The gradient with respect to the numbers of what has `gradient` (1, H, W, 3) at their image."""
        share = _sigmoid(numbers)
        for row in share[0]:  # without a second array of that size
            row *= 1 - row
        share *= (1 + 2 * _HEADROOM) * self._span
        with np.errstate(invalid="ignore"):  # whoever asked sees that it isn't finite
            share *= gradient.sum(axis=3, keepdims=True) if self._keep_colors else gradient
        return share

    def picture(self, image: Array) -> tf.Tensor:
        """What people see where the network reads `image`: both (1, H, W, 3), the one in [0, 1]."""
        seen = image + self._colors
        return tf.constant(np.clip(seen, 0, 1, out=seen))

    def numbers_of(self, picture: tf.Tensor | Array) -> Array:
        """The numbers (1, H, W, 3), or (1, H, W, 1) for luminance, that come nearest to `picture`."""
        own = luminance(tf.constant(picture)) if self._keep_colors else picture
        share: Array = np.asarray(own) - self._low
        np.divide(share, self._span, out=share, where=self._span != 0)
        share += _HEADROOM
        share /= 1 + 2 * _HEADROOM
        np.clip(share, _HEADROOM / 2, 1 - _HEADROOM / 2, out=share)
        share /= 1 - share
        np.log(share, out=share)
        return share


def _sigmoid(numbers: Array) -> Array:
    """1 / (1 + exp(-numbers)), in one array: those of a large picture are large."""
    share = np.negative(numbers)
    with np.errstate(over="ignore"):  # infinity is right
        np.exp(share, out=share)
    share += 1
    return np.reciprocal(share, out=share)


def blended(picture: tf.Tensor, photo: tf.Tensor, strength: float) -> tf.Tensor:
    """`picture` (1, H, W, 3) laid over `photo` (1, h, w, 3), fully at strength 1 and not at all at 0."""
    if strength == 1:
        return picture
    under = tf.clip_by_value(resize(photo, *picture.shape[1:3]), 0, 1)
    return under + strength * (picture - under)
