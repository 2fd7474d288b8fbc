"""The pictures that a run may make: range, masks and colours, in closed form and on real images."""

import numpy as np
import pytest
import tensorflow as tf
from comparison import HALF_A_LEVEL, strength_of_colors

from nst.engine.color import luminance, to_grey
from nst.engine.images import from_uint8, resize, to_uint8
from nst.engine.parameterization import Parameterization

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def other(photo, painting) -> tf.Tensor:
    """Resize the painting to the photo."""
    return tf.clip_by_value(resize(painting, *photo.shape[1:3]), 0, 1)


@pytest.fixture(scope="module")
def mask(photo) -> tf.Tensor:
    """Return a mask that is black at the left, white at the right and grey in between."""
    _, height, width, _ = photo.shape
    ramp = np.clip(np.linspace(-1, 2, width), 0, 1).astype(np.float32)
    return tf.constant(np.tile(ramp, (height, 1))[np.newaxis, ..., np.newaxis])


def shown(parameterization: Parameterization, parameters: tf.Tensor) -> tf.Tensor:
    return parameterization.picture(parameterization.image(parameters))


def test_pixels_reach_black_and_white_and_exceed_them_by_less_than_rounding(photo):
    parameterization = Parameterization(photo, None, keep_colors=False)
    darkest, lightest = (
        float(parameterization.image(tf.fill((1, 1, 1, 3), far))[0, 0, 0, 0]) for far in (-100.0, 100.0)
    )
    assert -HALF_A_LEVEL < darkest <= 0
    assert 1 <= lightest < 1 + HALF_A_LEVEL
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(
        to_uint8(shown(parameterization, parameterization.parameters(from_uint8(levels)))), levels
    )
    beyond = parameterization.parameters(tf.constant([[[[-0.3, 0.5, 1.3]]]]))
    np.testing.assert_allclose(parameterization.image(beyond)[0, 0, 0], (0, 0.5, 1), atol=HALF_A_LEVEL)


@pytest.mark.parametrize("keep_colors", [False, True])
def test_black_of_a_mask_keeps_the_photo_for_any_parameters(photo, other, mask, keep_colors):
    parameterization = Parameterization(photo, mask, keep_colors=keep_colors)
    parameters = parameterization.parameters(other)
    for wild in (parameters, parameters + 50, parameters - 50):
        assert np.array_equal(
            to_uint8(shown(parameterization, wild))[mask[0, ..., 0] == 0],
            to_uint8(photo)[mask[0, ..., 0] == 0],
        )
    assert not np.array_equal(to_uint8(shown(parameterization, parameters)), to_uint8(photo))


def test_grey_of_a_mask_limits_the_range(photo, mask):
    for far, end in ((100.0, 1.0), (-100.0, 0.0)):
        extreme = Parameterization(photo, mask, keep_colors=False).image(tf.fill(photo.shape, far))
        np.testing.assert_allclose(extreme, photo + mask * (end - photo), atol=HALF_A_LEVEL)


@pytest.mark.parametrize("with_mask", [False, True])
def test_the_parameters_of_a_picture_give_the_picture(photo, other, mask, with_mask):
    own_mask = mask if with_mask else None
    parameterization = Parameterization(photo, own_mask, keep_colors=False)
    within = photo + mask * (other - photo) if with_mask else other
    np.testing.assert_allclose(
        shown(parameterization, parameterization.parameters(within)), within, atol=HALF_A_LEVEL
    )


def test_kept_colors_are_the_photos_as_far_as_there_is_room_and_the_luminance_is_free(photo, other):
    parameterization = Parameterization(photo, None, keep_colors=True)
    picture = shown(parameterization, parameterization.parameters(other))
    np.testing.assert_allclose(luminance(picture), luminance(other), atol=2 * HALF_A_LEVEL)
    strength = strength_of_colors(picture, photo)
    assert np.all(strength < 1.01)
    at_the_end = np.any((picture < HALF_A_LEVEL) | (picture > 1 - HALF_A_LEVEL), axis=3)
    colored = np.abs(photo - luminance(photo)).max(axis=3) > 0.02
    assert np.all(at_the_end | (strength > 0.97) | ~colored)
    for far, end in ((100.0, 1.0), (-100.0, 0.0)):
        extreme = shown(parameterization, tf.fill((*photo.shape[:3], 1), far))
        np.testing.assert_allclose(extreme, tf.fill(photo.shape, end), atol=1e-5)


@pytest.mark.parametrize("color", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)])
def test_saturated_colors_can_be_painted(color):
    flat = tf.fill((1, 4, 4, 3), 0.0) + tf.constant(color, tf.float32)
    parameterization = Parameterization(flat, None, keep_colors=True)
    grey = tf.linspace(0.0, 1.0, 16)
    strokes = tf.reshape(tf.repeat(grey, 3), (1, 4, 4, 3))
    picture = shown(parameterization, parameterization.parameters(strokes))
    np.testing.assert_allclose(luminance(picture)[0, ..., 0], strokes[0, ..., 0], atol=2 * HALF_A_LEVEL)
    np.testing.assert_allclose(shown(parameterization, parameterization.parameters(flat)), flat, atol=0.01)


def test_the_network_reads_kept_colors_in_grey(photo, other):
    parameterization = Parameterization(photo, None, keep_colors=True)
    read = parameterization.image(parameterization.parameters(other))
    np.testing.assert_allclose(read, tf.repeat(read[..., :1], 3, axis=3))


def test_a_grey_photo_with_kept_colors_has_the_whole_range(photo):
    parameterization = Parameterization(to_grey(photo), None, keep_colors=True)
    for far, end in ((100.0, 1.0), (-100.0, 0.0)):
        np.testing.assert_allclose(
            shown(parameterization, tf.fill((*photo.shape[:3], 1), far)), tf.fill(photo.shape, end), atol=1e-5
        )


@pytest.mark.parametrize("keep_colors", [False, True])
def test_the_gradient_is_pulled_back_by_the_chain_rule(photo, other, mask, keep_colors):
    parameterization = Parameterization(photo, mask, keep_colors=keep_colors)
    parameters = np.clip(parameterization.parameters(other), -3, 3)
    rng = np.random.default_rng(0)
    gradient = rng.normal(size=photo.shape).astype(np.float32)
    direction = rng.normal(size=parameters.shape).astype(np.float32)
    ahead, behind = (parameterization.image(parameters + step * direction) for step in (0.01, -0.01))
    rise = np.sum(gradient * (ahead - behind).astype(np.float64)) / 0.02
    pulled_back = parameterization.pull_back(parameters, gradient)
    assert pulled_back.shape == parameters.shape
    assert np.sum(pulled_back.astype(np.float64) * direction) == pytest.approx(rise, rel=0.01)
