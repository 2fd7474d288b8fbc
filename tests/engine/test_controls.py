"""The effect of the settings on real pictures: styles, scale, colours, masks, layers, and going on."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from comparison import EXAMPLES, HALF_A_LEVEL, SHALLOW, losses_of, mean_difference, strength_of_colors

from nst.config import TransferConfig
from nst.engine.color import luminance, match_colors, to_grey
from nst.engine.images import fitted_size, from_uint8, load_image, resize, to_uint8
from nst.engine.objective import Losses
from nst.engine.pyramid import coarse_to_fine
from nst.engine.stylize import Progress, stylize

LAYERS = {  # deep enough for strokes, and quicker than the default
    "content_layers": ("block3_conv2",),
    "style_layers": ("block1_conv1", "block2_conv1", "block3_conv1"),
}


def exactly(**settings) -> TransferConfig:
    """Configure a small run in float32."""
    return TransferConfig(**{"size": 64, "iterations": 10, "precision": "float32", **LAYERS, **settings})


@pytest.fixture(scope="module")
def losses(backbone, graphs):
    """Compute the losses of an image for a content and a style image."""

    def losses(image, content, style, config=None) -> Losses:
        return losses_of(image, content, style, config or exactly(), backbone, graphs)

    return losses


@pytest.fixture(scope="module")
def style_distance(losses):
    """Compute how far an image is from a style, with explicit weights, which do not depend on the image."""
    config = exactly()
    config = replace(config, style_layers=dict.fromkeys(config.style_layers, 1.0))
    return lambda image, style: losses(image, image, style, config).style


def seen(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resize an image, and clip it as people see it."""
    return tf.clip_by_value(resize(image, *fitted_size(*image.shape[1:3], size)), 0, 1)


@pytest.fixture(scope="module")
def scream() -> tf.Tensor:
    """Return a style image of 64 pixels in orange and brown; `painting` is blue and beige."""
    return load_image(EXAMPLES / "style" / "munch-the-scream.jpg", long_side=64)


@pytest.fixture(scope="module")
def large_photo() -> tf.Tensor:
    """Return a content image (1, 150, 200, 3), which a run makes smaller."""
    return load_image(EXAMPLES / "content" / "chenonceau.jpg", long_side=200)


@pytest.fixture(scope="module")
def paint(photo, painting, backbone, graphs):
    """Run with these settings to the end; the photo in the painting's style unless others are given."""

    def run(content=photo, style=painting, mask=None, start=None, **settings) -> Progress:
        config = exactly(**settings)
        *_, last = stylize(content, style, config, backbone, mask=mask, start=start, graphs=graphs)
        return last

    return run


def columns(values: Sequence[float], height: int) -> tf.Tensor:
    """Make a mask (1, height, len(values), 1) with a value for each column."""
    return tf.constant(np.tile(np.float32(values), (height, 1))[np.newaxis, ..., np.newaxis])


# Several styles


@pytest.fixture(scope="module")
def blends(paint, painting, scream) -> dict[tuple[float, ...], tf.Tensor]:
    """Return pictures by the weights of the painting and the scream."""
    weights = [(1, 1), (3, 1), (1, 3), (99, 1)]
    alone = {(1, 0): paint(style=painting).image, (0, 1): paint(style=scream).image}
    return alone | {pair: paint(style=[painting, scream], style_blend=pair).image for pair in weights}


def test_an_equal_blend_lies_between_its_styles(blends, painting, scream, style_distance):
    for style, alone, other in ((painting, (1, 0), (0, 1)), (scream, (0, 1), (1, 0))):
        near, middle, far = (style_distance(blends[pair], style) for pair in (alone, (1, 1), other))
        assert 1.5 * near < middle < far / 1.5


def test_the_weights_decide_which_style_is_nearer(blends, painting, scream, style_distance):
    for style, order in ((painting, [(3, 1), (1, 1), (1, 3)]), (scream, [(1, 3), (1, 1), (3, 1)])):
        distances = [style_distance(blends[pair], style) for pair in order]
        assert distances == sorted(distances)


def test_a_blend_of_99_to_1_is_almost_the_first_alone(blends):
    assert mean_difference(blends[99, 1], blends[1, 0]) < 0.1 * mean_difference(blends[0, 1], blends[1, 0])


def test_weights_go_with_the_styles_in_order(blends, paint, painting, scream):
    turned = paint(style=[scream, painting], style_blend=(1, 3)).image
    assert mean_difference(turned, blends[3, 1]) < 0.01
    assert mean_difference(blends[3, 1], blends[1, 3]) > 0.03


def test_equal_weights_are_no_weights(blends, paint, painting, scream):
    for weights in ((), (2.5, 2.5)):
        same = paint(style=[painting, scream], style_blend=weights).image
        np.testing.assert_array_equal(same, blends[1, 1])


def test_one_style_in_a_list_is_that_style(blends, paint, painting):
    for settings in ({}, {"style_blend": (7,)}):
        np.testing.assert_array_equal(paint(style=[painting], **settings).image, blends[1, 0])


def test_four_styles_are_blended(paint, painting, scream, photo, losses):
    four = [painting, scream, resize(painting, 40, 50), photo]
    last = paint(style=four, style_blend=(1, 2, 3, 4), iterations=3)
    assert np.isfinite(last.losses).all()
    assert last.losses.total < losses(photo, photo, painting).total


# The size of the style


@pytest.fixture(scope="module")
def large_painting() -> tf.Tensor:
    return load_image(EXAMPLES / "style" / "hokusai-great-wave.jpg", long_side=256)


@pytest.mark.parametrize(("style_scale", "side"), [(0.25, 16), (0.5, 32), (1, 64), (2, 128)])
def test_the_reported_losses_are_those_for_the_style_at_its_scale(
    paint, photo, large_painting, style_scale, side, losses
):
    last = paint(style=large_painting, style_scale=style_scale, iterations=4)
    scaled = resize(large_painting, *fitted_size(*large_painting.shape[1:3], side))
    assert last.losses.style == pytest.approx(losses(last.image, photo, scaled).style, rel=0.01)


def test_a_small_style_makes_finer_strokes_than_a_large_one(paint, large_photo, large_painting):
    def fine(image: tf.Tensor) -> float:
        """Compute the share of the picture's variance that half its size cannot hold."""
        small = resize(resize(image, 48, 64), 96, 128)
        return float(tf.math.reduce_variance(image - small) / tf.math.reduce_variance(image))

    settings = {"size": 128, "tv_weight": 0, "content_weight": 0.1, "iterations": 12}
    pictures = (
        paint(large_photo, large_painting, style_scale=scale, **settings).image for scale in (0.25, 2)
    )
    small, large = map(fine, pictures)
    assert small > 1.2 * large


@pytest.mark.parametrize("shape", [(32, 256), (256, 32), (40, 40)])
def test_a_style_of_any_shape_works_at_its_smallest_scale(paint, painting, shape):
    last = paint(style=resize(painting, *shape), style_scale=0.25, iterations=2)
    assert np.isfinite(last.losses).all()


# Colours


@pytest.mark.parametrize("init", ["content", "noise"])
def test_in_luminance_only_the_lightness_changes(large_photo, painting, backbone, init, graphs):
    """The photo's chroma, rgb minus Y, is kept at every step, weakened where there is no room for it."""
    photo = seen(large_photo, 64)
    config = exactly(colors="luminance", init=init)
    for progress in stylize(large_photo, painting, config, backbone, graphs=graphs):
        strength_of_colors(progress.image, photo)
    assert mean_difference(luminance(progress.image), luminance(photo)) > 0.02


def test_in_luminance_the_losses_are_those_of_grey_pictures(paint, photo, painting, losses):
    first, last = (paint(colors="luminance", iterations=iterations) for iterations in (1, 15))
    assert last.losses.style < 0.6 * first.losses.style
    grey = to_grey(photo)
    style = match_colors(to_grey(painting), grey)
    np.testing.assert_allclose(losses(to_grey(last.image), grey, style), last.losses, rtol=0.01)


def test_matched_colours_are_nearer_to_the_photos(paint, photo, painting):
    def mean(image: tf.Tensor) -> np.ndarray:
        return np.mean(image, axis=(0, 1, 2))

    off = {
        colors: np.linalg.norm(mean(paint(colors=colors).image) - mean(photo))
        for colors in ("style", "luminance", "matched")
    }
    assert off["matched"] < 0.4 * off["style"]
    assert off["luminance"] < 0.4 * off["style"]


@pytest.mark.parametrize("colors", ["style", "luminance", "matched"])
@pytest.mark.parametrize("kind", ["grey", "black", "flat", "white"])
def test_photos_without_colours_are_stylized(paint, photo, painting, kind, colors):
    shades = {"black": 0.0, "flat": 0.4, "white": 1.0}
    content = to_grey(photo) if kind == "grey" else tf.fill(photo.shape, shades[kind])
    for style in (painting, to_grey(painting), tf.fill(painting.shape, 0.7)):
        last = paint(content, style, colors=colors, iterations=3, **SHALLOW)
        assert np.isfinite(last.losses).all()
        assert np.isfinite(last.image).all()
        if colors == "luminance":
            np.testing.assert_allclose(last.image, to_grey(last.image), atol=1e-5)


# Masks that keep the photo


@pytest.fixture(scope="module")
def thirds() -> tf.Tensor:
    """Return a mask that is black, grey and white from left to right, (1, 48, 64, 1)."""
    return columns([0.0] * 22 + [0.5] * 20 + [1.0] * 22, 48)


@pytest.mark.parametrize("colors", ["style", "luminance", "matched"])
def test_black_keeps_the_photo_and_white_is_stylized(photo, painting, backbone, thirds, colors, graphs):
    config = exactly(colors=colors)
    for progress in stylize(photo, painting, config, backbone, graphs=graphs, mask=thirds):
        assert np.array_equal(to_uint8(progress.image)[:, :22], to_uint8(photo)[:, :22])
    changes = np.abs(progress.image - photo)[0]
    assert changes[:, 22:42].max() <= 0.5 + HALF_A_LEVEL
    assert 0 < changes[:, 22:42].mean() < changes[:, 42:].mean()
    assert changes[:, 42:].mean() > 0.05


@pytest.mark.parametrize("grey", [0.1, 0.3, 0.7])
def test_grey_limits_how_far_the_picture_may_change(paint, photo, grey):
    changes = np.abs(paint(mask=columns([grey] * 64, 48), style_weight=10_000).image - photo)
    assert 0.05 * grey < changes.mean()
    assert changes.max() <= grey + HALF_A_LEVEL


@pytest.mark.parametrize("width", [32, 160, 200])
def test_a_mask_of_another_size_is_resized(paint, photo, width):
    """It does not ring: beyond the pixels that its edge crosses, black stays black."""
    mask = columns(np.repeat([0.0, 1.0], width // 2), width * 3 // 4)
    changed = np.abs(
        np.int16(to_uint8(paint(mask=mask, style_weight=10_000).image)) - np.int16(to_uint8(photo))
    )
    assert changed[:, :30].max() == 0
    assert changed[:, 34:].mean() > 5


def test_a_white_mask_is_as_good_as_none(paint):
    with_mask, without = paint(mask=columns([1.0] * 64, 48), iterations=5), paint(iterations=5)
    assert mean_difference(with_mask.image, without.image) < 0.005
    np.testing.assert_allclose(with_mask.losses, without.losses, rtol=0.02)


def test_a_mask_works_at_every_level(paint):
    photo = load_image(EXAMPLES / "content" / "chenonceau.jpg", long_side=256)
    mask = columns([0.0] * 50 + [1.0] * 50, 75)
    picture = paint(photo, mask=mask, size=256, iterations=4, **SHALLOW).image
    assert np.array_equal(to_uint8(picture)[:, :120], to_uint8(photo)[:, :120])
    assert mean_difference(picture[:, :, 136:], photo[:, :, 136:]) > 0.05


def test_a_spot_that_vanishes_in_deep_layers_is_stylized_alone(paint, photo):
    spot = np.zeros((1, 48, 64, 1), np.float32)
    spot[0, 20:22, 30:32] = 1
    last = paint(mask=tf.constant(spot))
    assert np.isfinite(last.losses).all()
    changed = (to_uint8(last.image) != to_uint8(photo)).any(axis=2)
    assert changed[20:22, 30:32].any()
    assert not changed[spot[0, ..., 0] == 0].any()


# Masks that choose the style


@pytest.fixture(scope="module")
def halves() -> tf.Tensor:
    """Return a mask that is white at the left and black at the right, (1, 48, 64, 1)."""
    return columns([1.0] * 32 + [0.0] * 32, 48)


@pytest.fixture(scope="module")
def in_two_styles(paint, painting, scream, halves) -> tf.Tensor:
    return paint(style=[painting, scream], mask=halves, mask_mode="styles").image


def test_white_gets_the_first_style_and_black_the_second(in_two_styles, painting, scream, style_distance):
    left, right = in_two_styles[:, :, :32], in_two_styles[:, :, 32:]
    for style, own, other in ((painting, left, right), (scream, right, left)):
        near, far = (style_distance(half, style) for half in (own, other))
        assert near < 0.5 * far


def test_each_half_takes_the_colours_of_its_style(in_two_styles, painting, scream):
    def mean(image: tf.Tensor) -> np.ndarray:
        return np.mean(image, axis=(0, 1, 2))

    for half, own, other in (
        (in_two_styles[:, :, :32], painting, scream),
        (in_two_styles[:, :, 32:], scream, painting),
    ):
        near, far = (np.linalg.norm(mean(half) - mean(style)) for style in (own, other))
        assert near < 0.5 * far


def test_styles_change_places_with_white_and_black(paint, in_two_styles, painting, scream, halves):
    turned = paint(style=[scream, painting], mask=1 - halves, mask_mode="styles").image
    assert mean_difference(turned, in_two_styles) < 0.01


def test_with_two_styles_no_part_of_the_photo_is_kept(in_two_styles, photo):
    for half in (slice(0, 32), slice(32, 64)):
        assert mean_difference(in_two_styles[:, :, half], photo[:, :, half]) > 0.05


@pytest.mark.parametrize("colors", ["luminance", "matched"])
def test_masks_work_with_every_choice_of_colours(paint, photo, painting, scream, halves, colors):
    last = paint(style=[painting, scream], mask=halves, mask_mode="styles", colors=colors)
    assert np.isfinite(last.losses).all()
    off = np.mean(last.image, axis=(0, 1, 2)) - np.mean(photo, axis=(0, 1, 2))
    assert np.linalg.norm(off) < 0.1


# Layers


def test_an_early_content_layer_keeps_more_of_the_photo(paint, photo):
    settings = {"content_weight": 10, "style_weight": 1, "tv_weight": 0}
    early, deep = (
        mean_difference(paint(content_layers=(layer,), **settings).image, photo)
        for layer in ("block1_conv2", "block5_conv2")
    )
    assert early < 0.7 * deep


def test_the_style_is_matched_in_the_layers_that_are_named(paint, photo, painting, losses):
    layers = ("block1_conv1", "block4_conv1")
    pictures = {layer: paint(style_layers=(layer,), content_weight=0, tv_weight=0).image for layer in layers}
    for layer, other in (layers, layers[::-1]):
        config = exactly(style_layers=(layer,))
        named, not_named = (losses(pictures[key], photo, painting, config).style for key in (layer, other))
        assert named < 0.5 * not_named


def test_a_layer_of_weight_zero_changes_nothing(paint):
    alone, together = (
        paint(style_layers=layers, iterations=4).image
        for layers in ({"block2_conv1": 1e-6}, {"block2_conv1": 1e-6, "block3_conv1": 0})
    )
    assert mean_difference(alone, together) < 1e-3


def test_explicit_weights_decide_which_layer_counts(paint, photo, painting, losses):
    def distances(weights: dict[str, float]) -> list[float]:
        picture = paint(style_layers=weights, content_weight=0, tv_weight=0).image
        return [losses(picture, photo, painting, exactly(style_layers=(layer,))).style for layer in weights]

    first, second = "block1_conv1", "block4_conv1"
    for_first = distances({first: 1e-4, second: 1e-12})
    for_second = distances({first: 1e-12, second: 1e-4})
    assert for_first[0] < for_second[0]
    assert for_first[1] > for_second[1]


# Going on


@pytest.fixture(scope="module")
def before(paint) -> Progress:
    """Make a picture to go on from."""
    return paint(iterations=20)


def test_going_on_begins_at_the_picture(paint, before, photo):
    after = paint(start=before.image, iterations=1)
    assert after.losses.total <= 1.01 * before.losses.total
    assert mean_difference(after.image, before.image) < 0.2 * mean_difference(before.image, photo)


def test_going_on_lowers_the_losses_further(paint, before):
    assert paint(start=before.image, iterations=20).losses.total < 0.95 * before.losses.total


def test_going_on_skips_the_levels_below_the_picture(large_photo, painting, backbone, graphs):
    config = exactly(size=256, iterations=4, **SHALLOW)
    for side, sizes in ((64, [128, 256]), (128, [128, 256]), (129, [256]), (256, [256]), (400, [256])):
        start = resize(large_photo, *fitted_size(*large_photo.shape[1:3], side))
        history = list(stylize(large_photo, painting, config, backbone, graphs=graphs, start=start))
        assert list(dict.fromkeys(progress.size for progress in history)) == sizes
        assert {progress.schedule for progress in history} == {coarse_to_fine(256, 4, side)}
        assert history[-1].step == 4


@pytest.mark.parametrize("shape", [(30, 40), (48, 64), (150, 200)])
def test_going_on_from_a_picture_of_another_size(paint, scream, shape):
    other = tf.clip_by_value(resize(scream, *shape), 0, 1)
    after = paint(start=other, iterations=1, content_weight=10).image
    assert mean_difference(after, resize(other, 48, 64)) < 0.1


def test_going_on_to_a_larger_size_keeps_the_picture(paint, before):
    after = paint(start=before.image, size=128, iterations=1).image
    assert mean_difference(resize(after, 48, 64), before.image) < 0.05


def test_going_on_with_other_weights_leads_elsewhere(paint, before, photo, painting, losses):
    kept = paint(start=before.image, content_weight=10, style_weight=1).image
    content = [losses(image, photo, painting).content for image in (before.image, kept)]
    assert content[1] < 0.6 * content[0]


def test_going_on_from_a_coloured_picture_with_kept_colours(paint, before, photo):
    after = paint(start=before.image, colors="luminance", iterations=1).image
    strength_of_colors(after, photo)
    assert mean_difference(luminance(after), luminance(before.image)) < 0.5 * mean_difference(
        luminance(photo), luminance(before.image)
    )


def test_going_on_with_a_mask_brings_the_photo_back_where_it_is_black(paint, before, photo, halves):
    after = paint(start=before.image, mask=halves, iterations=1).image
    assert np.array_equal(to_uint8(after)[:, 32:], to_uint8(photo)[:, 32:])
    assert mean_difference(after[:, :, :32], before.image[:, :, :32]) < 0.5 * mean_difference(
        photo[:, :, :32], before.image[:, :, :32]
    )


# Large pictures


def test_a_picture_in_tiles_is_stylized_and_keeps_the_photo_where_the_mask_is_black(thin_backbone):
    content, style = (
        from_uint8(to_uint8(resize(load_image(EXAMPLES / path, long_side=side), side, side)))
        for path, side in (("content/berlin-cathedral.jpg", 1040), ("style/munch-the-scream.jpg", 1040))
    )
    mask = columns([0.0] * 260 + [1.0] * 780, 1040)
    config = exactly(size=1040, iterations=10, **SHALLOW)
    history = list(stylize(content, style, config, thin_backbone, mask=mask))
    assert [progress.size for progress in history] == [128, 128, 256, 256, 512, 512, 1024, 1024, 1040, 1040]
    for progress in history:
        assert np.isfinite(progress.losses).all()
        assert progress.image.shape == (1, progress.size, progress.size, 3)
    before, first, after = history[-3:]
    assert np.array_equal(to_uint8(after.image)[:, :260], to_uint8(content)[:, :260])
    assert after.losses.style < first.losses.style
    upsampled = resize(before.image, 1040, 1040)
    assert mean_difference(after.image, upsampled) < 0.5 * mean_difference(
        content[:, :, 260:], upsampled[:, :, 260:]
    )
