"""The parameters that the optimiser moves: unbounded numbers, every choice of which is a valid picture."""

import numpy as np
import tensorflow as tf

from nst.engine.color import luminance
from nst.engine.images import Array

# The sigmoid is stretched by this much at both ends, so that black and white can be reached. It is less than
# half of an 8-bit step.
_HEADROOM = np.float32(0.0019)


class Parameterization:
    """Map parameters, any numbers from -inf to inf, to the pictures that a run may make of a photo.

    A sigmoid keeps the pixels in range while they are optimised, so that the picture that people get is the
    one that was optimised. Clipping at the end, as published scripts do, would raise its loss again.

    With a mask, a pixel moves away from the photo as far as the mask is white. With `keep_colors`, only the
    luminance is optimised, and read by the network, and the photo's colours are laid over it (Gatys et al.
    2016, "Preserving color in neural artistic style transfer"): all channels of a pixel move by the same
    amount, and its colour is weakened as far as one of them would leave the range.

    Args:
        photo: (1, H, W, 3) in [0, 1], at the size of the picture.
        mask: (1, H, W, 1) in [0, 1], or None.
        keep_colors: whether the picture keeps the colours of the photo.
    """

    def __init__(self, photo: tf.Tensor, mask: tf.Tensor | None, *, keep_colors: bool) -> None:
        self._keep_colors = keep_colors
        own = np.asarray(luminance(photo) if keep_colors else photo)
        self._colors = np.asarray(photo) - own if keep_colors else np.zeros([1, 1, 1, 1], np.float32)
        low, high = np.zeros([1, 1, 1, 1], np.float32), np.ones([1, 1, 1, 1], np.float32)
        if mask is not None:
            low, high = own - np.asarray(mask) * own, own + np.asarray(mask) * (1 - own)
        self._low, self._span = low, high - low

    def image(self, parameters: Array) -> Array:
        """Compute the image that the network reads.

        Args:
            parameters: (1, H, W, 3), or (1, H, W, 1) of luminance alone.

        Returns:
            float32 (1, H, W, 3).
        """
        own = _sigmoid(parameters)
        own *= 1 + 2 * _HEADROOM
        own -= _HEADROOM
        own *= self._span
        own += self._low
        return np.repeat(own, 3, axis=3) if self._keep_colors else own

    def pull_back(self, parameters: Array, gradient: Array) -> Array:
        """Turn the gradient of the image into the gradient of the parameters, by the chain rule.

        Args:
            parameters: shaped as those of `image`.
            gradient: (1, H, W, 3), at their image.

        Returns:
            float32, shaped as the parameters.
        """
        slope = _sigmoid(parameters)
        for row in slope[0]:  # row by row, which takes no second array of that size
            row *= 1 - row
        slope *= (1 + 2 * _HEADROOM) * self._span
        with np.errstate(invalid="ignore"):  # the optimiser notices what is not finite
            slope *= gradient.sum(axis=3, keepdims=True) if self._keep_colors else gradient
        return slope

    def picture(self, image: Array) -> tf.Tensor:
        """Compute what people see, (1, H, W, 3) in [0, 1], where the network reads an image (1, H, W, 3)."""
        seen = np.clip(image, 0, 1)
        if self._keep_colors:
            seen += self._colors * self._strength(seen)
        return tf.constant(np.clip(seen, 0, 1, out=seen))

    def _strength(self, grey: Array) -> Array:
        """Compute how much of the photo's colours there is room for over a grey image, (1, H, W, 1)."""
        strength = np.ones((*grey.shape[:3], 1), np.float32)
        for end in (self._colors.max(axis=3, keepdims=True), self._colors.min(axis=3, keepdims=True)):
            room = np.where(end > 0, 1 - grey[..., :1], grey[..., :1])
            share = np.divide(room, np.abs(end), out=np.ones_like(room), where=end != 0)
            np.minimum(strength, share, out=strength)
        return strength

    def parameters(self, picture: tf.Tensor | Array) -> Array:
        """Compute the parameters whose picture comes nearest to a picture (1, H, W, 3)."""
        own = luminance(tf.constant(picture)) if self._keep_colors else picture
        share: Array = np.asarray(own) - self._low
        np.divide(share, self._span, out=share, where=self._span != 0)
        share += _HEADROOM
        share /= 1 + 2 * _HEADROOM
        np.clip(share, _HEADROOM / 2, 1 - _HEADROOM / 2, out=share)
        share /= 1 - share
        np.log(share, out=share)
        return share


def _sigmoid(parameters: Array) -> Array:
    """Compute 1 / (1 + exp(-x)) in one new array.

    Not by scipy.special.expit, which takes more than twice as long and rounds every sixth value differently.
    """
    share = np.negative(parameters)
    with np.errstate(over="ignore"):  # infinity is right
        np.exp(share, out=share)
    share += 1
    return np.reciprocal(share, out=share)
