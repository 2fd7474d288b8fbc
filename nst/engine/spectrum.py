"""The coordinates that the optimiser moves: the waves that the parameters of a picture are made of."""

import numpy as np
import scipy.fft

from nst.engine.images import Array

# Longer waves are amplified no further; a small picture would then have too few steps for its detail.
_LONGEST_WAVE = 64  # pixels
_LONGEST_SHARE = 1 / 8  # of the longer side


class Spectrum:
    """Map coordinates to the parameters of a picture by a cosine transform that favours long waves.

    A step along the gradient of single pixels is mostly grain. Here a parameter's wave is its coordinate
    times the square root of its length, so that a step along the gradient moves it by its length more: broad
    colours and strokes come first, and flat skies stay calm. This is preconditioning (Olah, Mordvintsev and
    Schubert 2017, "Feature visualization", who multiply by the length itself): the pictures that can be
    reached, and their losses, stay the same.

    Args:
        height: of the picture in pixels.
        width: of the picture in pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        vertical = np.arange(height)[:, np.newaxis] / (2 * height)  # cycles per pixel
        horizontal = np.arange(width) / (2 * width)
        longest = min(_LONGEST_WAVE, _LONGEST_SHARE * max(height, width))
        frequency = np.maximum(np.hypot(vertical, horizontal), 1 / longest)
        gain = 1 / np.sqrt(frequency)
        gain /= np.sqrt(np.mean(np.square(gain)))  # a random step is as long as without it
        self._gain = gain[np.newaxis, ..., np.newaxis].astype(np.float32)

    def parameters(self, coordinates: Array) -> Array:
        """Compute the parameters (1, H, W, c) at coordinates (1, H, W, c)."""
        parameters: Array = scipy.fft.idctn(coordinates * self._gain, axes=(1, 2), norm="ortho")
        return parameters

    def pull_back(self, gradient: Array) -> Array:
        """Turn the gradient of the parameters, (1, H, W, c), into the gradient of the coordinates."""
        spectrum: Array = scipy.fft.dctn(gradient, axes=(1, 2), norm="ortho")
        spectrum *= self._gain
        return spectrum

    def coordinates(self, parameters: Array) -> Array:
        """Compute the coordinates of parameters (1, H, W, c)."""
        spectrum: Array = scipy.fft.dctn(parameters, axes=(1, 2), norm="ortho")
        spectrum /= self._gain
        return spectrum
