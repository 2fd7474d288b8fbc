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


@pytest.mark.parametrize(("width", "longest"), [(1024, 64), (512, 64), (128, 16)])
def test_a_step_along_the_gradient_moves_a_wave_by_its_length_up_to_the_longest(width, longest):
    spectrum = Spectrum(32, width)

    def gain(length: int) -> float:
        wave = np.cos(2 * np.pi * (np.arange(width) + 0.5) / length).astype(np.float32)
        wave = np.broadcast_to(wave[np.newaxis, np.newaxis, :, np.newaxis], (1, 32, width, 1))
        return float(np.vdot(wave, spectrum.parameters(spectrum.pull_back(wave))) / np.vdot(wave, wave))

    assert gain(8) == pytest.approx(2 * gain(4), rel=1e-3)
    assert gain(longest) == pytest.approx(longest / 4 * gain(4), rel=1e-3)
    assert gain(width) == pytest.approx(gain(longest), rel=1e-3)


def test_random_coordinates_give_parameters_as_large(parameters):
    assert np.std(Spectrum(*SIDES).parameters(parameters)) == pytest.approx(np.std(parameters), rel=0.05)
