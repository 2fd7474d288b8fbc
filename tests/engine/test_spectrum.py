"""The coordinates of a picture's parameters: there and back, the chain rule, and what a step favours."""

import numpy as np
import pytest

from nst.engine.spectrum import Spectrum

pytestmark = pytest.mark.quick

SIDES = 45, 64


@pytest.fixture
def parameters() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, *SIDES, 3)).astype(np.float32)


def test_the_coordinates_of_parameters_give_the_parameters(parameters):
    spectrum = Spectrum(*SIDES)
    again = spectrum.parameters(spectrum.coordinates(parameters))
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, parameters, atol=1e-5)


def test_the_gradient_is_pulled_back_by_the_chain_rule(parameters):
    spectrum, direction = Spectrum(*SIDES), np.random.default_rng(1).normal(size=parameters.shape)
    rise = np.vdot(parameters, spectrum.parameters(direction.astype(np.float32)))  # the map is linear
    assert np.vdot(spectrum.pull_back(parameters), direction) == pytest.approx(rise, rel=1e-4)


def gain(wavelength: int) -> float:
    """Compute how much longer a step along the gradient is for a wave across than without a spectrum."""
    wave = np.cos(2 * np.pi * (np.arange(256) + 0.5) / wavelength).astype(np.float32)
    wave = np.broadcast_to(wave[np.newaxis, np.newaxis, :, np.newaxis], (1, 32, 256, 1))
    spectrum = Spectrum(32, 256)
    return float(np.vdot(wave, spectrum.parameters(spectrum.pull_back(wave))) / np.vdot(wave, wave))


def test_a_step_along_the_gradient_moves_a_wave_by_its_length_up_to_64_pixels():
    assert gain(64) == pytest.approx(16 * gain(4), rel=1e-3)
    assert gain(8) == pytest.approx(2 * gain(4), rel=1e-3)
    assert gain(256) == pytest.approx(gain(64), rel=1e-3)


def test_random_coordinates_give_parameters_as_large(parameters):
    assert np.std(Spectrum(*SIDES).parameters(parameters)) == pytest.approx(np.std(parameters), rel=0.05)
