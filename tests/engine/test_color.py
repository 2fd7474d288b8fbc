"""Luminance, colour matching and blending, in closed form and on real images."""

import numpy as np
import pytest
import tensorflow as tf
from comparison import EXAMPLES

from nst.engine.color import blend, luminance, match_colors, to_grey
from nst.engine.images import load_image, resize

pytestmark = pytest.mark.quick

PHOTO = EXAMPLES / "content" / "chenonceau.jpg"


# Luminance and blending


def test_luminance_has_the_weights_of_bt_601():
    colours = tf.constant([[[[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 1, 1]]]])
    assert luminance(colours).numpy().ravel() == pytest.approx([0.299, 0.587, 0.114, 1])
    np.testing.assert_array_equal(to_grey(colours), tf.repeat(luminance(colours), 3, axis=3))


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_blending_lays_the_picture_over_the_photo(photo, painting, strength):
    other = tf.clip_by_value(resize(painting, *photo.shape[1:3]), 0, 1)
    small = resize(photo, 24, 32)
    np.testing.assert_allclose(
        blend(other, photo, strength), strength * other + (1 - strength) * photo, atol=1e-5
    )
    assert blend(small, photo, strength).shape == small.shape


# Matching


def colours(image: tf.Tensor) -> np.ndarray:
    return np.asarray(image, np.float64).reshape(-1, 3)


def muted(image: tf.Tensor) -> tf.Tensor:
    """Move colours so near to grey that matching them reaches neither black nor white."""
    return 0.5 + 0.15 * (image - tf.reduce_mean(image, axis=(0, 1, 2)))


def with_colours(mean, deviations, seed: int) -> tf.Tensor:
    noise = np.random.default_rng(seed).uniform(-1, 1, (1, 40, 50, 3)) * 3**0.5  # of variance 1
    return tf.constant(np.array(mean) + np.array(deviations) * noise, tf.float32)


@pytest.mark.parametrize("style", ["munch-the-scream", "hokusai-great-wave", "kandinsky-composition-viii"])
def test_matched_colours_have_the_references_mean_and_covariance(style):
    image = muted(load_image(PHOTO, long_side=80))
    reference = muted(load_image(EXAMPLES / "style" / f"{style}.jpg", long_side=60))
    matched = match_colors(image, reference)
    assert matched.shape == image.shape
    assert matched.dtype == tf.float32
    found, wanted = colours(matched), colours(reference)
    np.testing.assert_allclose(found.mean(axis=0), wanted.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(np.cov(found.T), np.cov(wanted.T), atol=5e-5)
    assert np.abs(np.cov(colours(image).T) - np.cov(wanted.T)).max() > 1e-4


def test_matching_its_own_colours_changes_nothing():
    image = load_image(PHOTO, long_side=80)
    np.testing.assert_allclose(match_colors(image, image), image, atol=1e-5)


def test_independent_channels_are_stretched_and_shifted_one_by_one():
    image = with_colours((0.4, 0.5, 0.6), (0.02, 0.04, 0.03), seed=1)
    reference = with_colours((0.5, 0.3, 0.5), (0.06, 0.04, 0.01), seed=2)
    expected = (image - (0.4, 0.5, 0.6)) * (3, 1, 1 / 3) + (0.5, 0.3, 0.5)
    np.testing.assert_allclose(match_colors(image, reference), expected, atol=0.01)


def test_the_colours_move_as_little_as_they_can():
    # Of the linear maps that give the reference's covariance, the one with a symmetric positive matrix moves
    # least (Pitié and Kokaram 2007); one through Cholesky factors does the same with a larger move.
    image = muted(load_image(PHOTO, long_side=80))
    reference = muted(load_image(EXAMPLES / "style" / "munch-the-scream.jpg", long_side=60))
    own, other = colours(image), colours(reference)
    cholesky = np.linalg.cholesky(np.cov(other.T)) @ np.linalg.inv(np.linalg.cholesky(np.cov(own.T)))
    another = (own - own.mean(axis=0)) @ cholesky.T + other.mean(axis=0)
    np.testing.assert_allclose(np.cov(another.T), np.cov(other.T), atol=1e-8)
    moved = np.mean((colours(match_colors(image, reference)) - own) ** 2)
    assert moved < 0.99 * np.mean((another - own) ** 2)
    centred = own - own.mean(axis=0)
    matrix = np.linalg.lstsq(centred, colours(match_colors(image, reference)) - other.mean(axis=0))[0]
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-4)
    assert np.linalg.eigvalsh((matrix + matrix.T) / 2).min() > 0


def test_the_noise_in_the_colours_of_a_sepia_scan_is_stretched_by_6_at_most():
    grey = np.asarray(luminance(load_image(PHOTO, long_side=80)))
    rng = np.random.default_rng(0)
    scan = 0.1 + 0.8 * grey * (1.0, 0.85, 0.65) + rng.normal(0, 0.002, (*grey.shape[:3], 3))
    scan = tf.constant(scan, tf.float32)
    reference = load_image(EXAMPLES / "style" / "kandinsky-composition-viii.jpg", long_side=60)
    own, matched = (np.cov(colours(image).T) for image in (scan, match_colors(scan, reference)))
    assert np.linalg.eigvalsh(matched).min() <= 1.05 * 36 * np.linalg.eigvalsh(own).min()
    assert np.linalg.eigvalsh(matched).max() > 0.5 * np.linalg.eigvalsh(np.cov(colours(reference).T)).max()


def test_matched_colours_stay_in_range():
    dark = load_image(PHOTO, long_side=80) * 0.2
    stark = load_image(EXAMPLES / "style" / "kandinsky-composition-viii.jpg", long_side=60) > 0.6
    matched = match_colors(dark, tf.cast(stark, tf.float32))
    assert float(tf.reduce_min(matched)) == 0
    assert float(tf.reduce_max(matched)) == 1


def test_a_flat_or_grey_picture_can_give_and_take_colours():
    image = load_image(PHOTO, long_side=80)
    flat = tf.ones((1, 40, 50, 3)) * (0.2, 0.5, 0.7)
    grey = tf.tile(tf.reduce_mean(image, axis=3, keepdims=True), (1, 1, 1, 3))
    np.testing.assert_allclose(match_colors(flat, image)[0, 0, 0], np.mean(image, axis=(0, 1, 2)), atol=1e-4)
    assert np.abs(colours(match_colors(image, flat)) - (0.2, 0.5, 0.7)).max() < 0.02
    matched = match_colors(image, grey)
    assert np.ptp(colours(matched), axis=1).max() < 0.05
    assert np.isfinite(match_colors(grey, image)).all()
    assert np.isfinite(match_colors(flat, flat)).all()
