"""What a picture may become: its pixels in range, and the photo's where a mask or its colours are kept."""

import tensorflow as tf

from nst.images import resize

# A sigmoid keeps the pixels in range while they are optimised, so that the picture people get is the one that
# was optimised. Its headroom lets black and white be reached, and is less than half an 8-bit step.
_HEADROOM = 0.0019


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
        own = luminance(photo) if keep_colors else photo
        self._colors = photo - own if keep_colors else tf.zeros([1, 1, 1, 1])
        low = -tf.reduce_min(self._colors, axis=3, keepdims=True)
        high = 1 - tf.reduce_max(self._colors, axis=3, keepdims=True)
        if mask is not None:
            low, high = own + mask * (low - own), own + mask * (high - own)
        self._low, self._span = low, high - low

    def image(self, numbers: tf.Tensor) -> tf.Tensor:
        """What the network reads, (1, H, W, 3), for numbers shaped as those of `numbers_of`."""
        own = self._low + self._span * (tf.sigmoid(numbers) * (1 + 2 * _HEADROOM) - _HEADROOM)
        return tf.repeat(own, 3, axis=3) if self._keep_colors else own

    def picture(self, image: tf.Tensor) -> tf.Tensor:
        """What people see where the network reads `image`: both (1, H, W, 3), the one in [0, 1]."""
        return tf.clip_by_value(image + self._colors, 0, 1)

    def numbers_of(self, picture: tf.Tensor) -> tf.Tensor:
        """The numbers (1, H, W, 3), or (1, H, W, 1) for luminance, that come nearest to `picture`."""
        own = luminance(picture) if self._keep_colors else picture
        share = (tf.math.divide_no_nan(own - self._low, self._span) + _HEADROOM) / (1 + 2 * _HEADROOM)
        share = tf.clip_by_value(share, _HEADROOM / 2, 1 - _HEADROOM / 2)
        return tf.math.log(share / (1 - share))


def blended(picture: tf.Tensor, photo: tf.Tensor, strength: float) -> tf.Tensor:
    """`picture` (1, H, W, 3) laid over `photo` (1, h, w, 3), fully at strength 1 and not at all at 0."""
    if strength == 1:
        return picture
    under = tf.clip_by_value(resize(photo, *picture.shape[1:3]), 0, 1)
    return under + strength * (picture - under)
