"""The quality of finished pictures: closed forms, and the order in which real pictures come out."""

from dataclasses import fields, replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFilter

from nst.config import TransferConfig
from nst.engine.images import from_uint8, resize, to_uint8
from nst.engine.inputs import prepare_inputs
from nst.engine.quality import (
    HELD_OUT_CONTENT,
    HELD_OUT_STYLE,
    QUALITY,
    bounds,
    clipped,
    color_distance,
    color_histogram,
    edge_ssim,
    evaluate,
    held_out_losses,
    histogram_distance,
    judged_losses,
    luminance_ssim,
    self_similarity_distance,
    settings_of_bounds,
)
from nst.engine.stylize import stylize
from nst.engine.weights import load_judge

CONFIG = TransferConfig(size=64, iterations=12, backbone="vgg16", precision="float32")


def flat(*color: int) -> tf.Tensor:
    return from_uint8(np.full((40, 48, 3), color, np.uint8))


@pytest.fixture(scope="module")
def painted(photo, painting, backbone, graphs) -> tf.Tensor:
    *_, last = stylize(photo, painting, CONFIG, backbone, graphs=graphs)
    return last.image


@pytest.fixture(scope="module")
def judge():
    """The network that only judges, which the tests' requirements install."""
    judge = load_judge()
    assert judge is not None
    return judge


def blurred(image: tf.Tensor) -> tf.Tensor:
    picture = Image.fromarray(to_uint8(image)).filter(ImageFilter.GaussianBlur(0.7))
    return from_uint8(np.asarray(picture))


@pytest.mark.parametrize("similarity", [luminance_ssim, edge_ssim])
def test_a_picture_is_most_similar_to_itself(similarity, photo, painted):
    assert similarity(photo, photo) == pytest.approx(1)
    assert similarity(painted, photo) < similarity(blurred(photo), photo) < 1


def test_the_luminance_of_a_negative_is_opposite_but_its_edges_are_the_same(photo):
    assert luminance_ssim(1 - photo, photo) < 0
    assert edge_ssim(1 - photo, photo) == pytest.approx(1, abs=1e-5)


def test_the_similarity_of_two_flat_pictures_is_the_formula_for_their_means():
    one, other = 51 / 255, 204 / 255
    constant = 0.01**2
    expected = (2 * one * other + constant) / (one**2 + other**2 + constant)
    assert luminance_ssim(flat(51, 51, 51), flat(204, 204, 204)) == pytest.approx(expected, abs=1e-3)


def test_the_distance_of_two_flat_colours_is_that_in_lab_over_the_root_of_three():
    # CIE Lab under D50: black 0, 0, 0; white 100, 0, 0; the red of sRGB 54.3, 80.8, 69.9.
    assert color_distance(flat(0, 0, 0), flat(255, 255, 255)) == pytest.approx(100 / 3**0.5, rel=0.01)
    red = np.hypot(np.hypot(54.3, 80.8), 69.9) / 3**0.5
    assert color_distance(flat(255, 0, 0), flat(0, 0, 0)) == pytest.approx(red, rel=0.02)
    green = np.linalg.norm([54.3 - 87.8, 80.8 + 79.3, 69.9 - 81.0]) / 3**0.5
    assert color_distance(flat(255, 0, 0), flat(0, 255, 0)) == pytest.approx(green, rel=0.02)


def test_colours_are_compared_whatever_the_size_and_place(photo):
    assert color_distance(photo, photo) == 0
    assert color_distance(photo, photo[:, ::-1]) == 0
    larger = tf.repeat(tf.repeat(photo, 2, axis=1), 2, axis=2)
    assert color_distance(larger, photo) < 0.5


# The histogram of HistoGAN


def histogram_by_the_formula(pixels: np.ndarray) -> np.ndarray:
    """The RGB-uv histogram of pixels (n, 3), one term of the sum after the other: (3, 64, 64)."""
    bins = np.linspace(-3, 3, 64)
    found = np.zeros((3, 64, 64))
    for pixel in pixels:
        for channel, others in enumerate([(1, 2), (0, 2), (0, 1)]):
            u, v = (np.log((pixel[channel] + 1e-6) / (pixel[other] + 1e-6)) for other in others)
            along, across = (1 / (1 + ((value - bins) / 0.02) ** 2) for value in (u, v))
            found[channel] += np.sqrt(np.sum(pixel**2) + 1e-6) * np.outer(along, across)
    return found / found.sum()


def test_the_histogram_is_the_formula():
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 3)) / 255
    pixels[0, 0] = 0  # black
    histogram = color_histogram(tf.constant(pixels[None], tf.float32))
    assert histogram.shape == (3, 64, 64)
    assert histogram.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(histogram, histogram_by_the_formula(pixels.reshape(-1, 3)), atol=1e-6)


def test_the_histogram_distance_is_that_of_hellinger(photo, painting):
    assert histogram_distance(photo, photo) == 0
    assert histogram_distance(photo, painting) == histogram_distance(painting, photo)
    assert 0 < histogram_distance(photo, painting) < 1
    assert histogram_distance(photo, photo[:, ::-1]) == pytest.approx(0, abs=1e-3)  # wherever colours are
    # Of hue and saturation: greys have one chroma. Colours of opposite hue have hardly a bin in common.
    assert histogram_distance(flat(60, 60, 60), flat(200, 200, 200)) == pytest.approx(0, abs=1e-3)
    red, cyan = flat(200, 40, 40), flat(40, 200, 200)
    apart = histogram_distance(red, cyan)
    assert 0.9 < apart < 1
    # Half of one and half of another of equal intensity: sqrt(1 - sum sqrt(H (H + H') / 2)).
    green = flat(40, 200, 40)
    half = tf.concat([red, green], axis=1)
    shared = np.sum(np.sqrt(color_histogram(red) * (color_histogram(red) + color_histogram(green)) / 2))
    assert histogram_distance(half, red) == pytest.approx(np.sqrt(1 - shared), abs=1e-3)


def test_a_large_image_has_the_histogram_of_a_smaller_copy(painting):
    large = resize(painting, 600, 400)
    copy = tf.image.resize(large, [150, 150])
    np.testing.assert_array_equal(color_histogram(large), color_histogram(copy))
    assert histogram_distance(resize(painting, 300, 200), large) < 0.05


# The likeness of patches


def test_images_with_the_same_patches_alike_have_no_distance(photo, painting):
    assert self_similarity_distance(photo, photo) == 0
    assert self_similarity_distance(1 - photo, photo) == pytest.approx(0, abs=1e-6)
    assert self_similarity_distance(0.3 * photo + 0.4, photo) == pytest.approx(0, abs=1e-6)
    assert self_similarity_distance(flat(9, 9, 9), flat(200, 0, 90)) == 0


def test_the_self_similarity_distance_of_waves_and_a_flat_image_is_known():
    # On the left nothing, on the right waves across. All patches of a flat image are equally alike.
    waves = 0.5 + 0.4 * np.sin(np.pi / 4 * np.maximum(np.arange(256) - 128, 0))
    image = tf.constant(np.broadcast_to(waves[None, None, :, None], (1, 128, 256, 3)), tf.float32)
    plain = tf.fill(image.shape, 0.5)
    # Patches of waves have features of length 1 / (1 + 0.1 / 2), the others none: a row of S has weights
    # exp(10 / 1.05^2) for half of the patches and 1 for the other half, or 1 for all.
    share = 1 / (1 + np.exp(10 / 1.05**2))
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    expected = (np.log(2) - entropy) / 2
    assert self_similarity_distance(plain, image) == pytest.approx(expected, abs=2e-3)
    # Of the flat image's rows, half are equal, and half differ by the mean logarithm of those weights.
    expected = (-np.log(2) - (np.log(share) + np.log(1 - share)) / 2) / 2
    assert self_similarity_distance(image, plain) == pytest.approx(expected, rel=2e-3)


def test_a_stylized_picture_has_more_of_the_structure_than_the_painting_or_a_mirrored_photo(
    photo, painting, painted
):
    kept = self_similarity_distance(painted, photo)
    assert self_similarity_distance(blurred(photo), photo) < kept
    assert 0 < kept < self_similarity_distance(photo[:, :, ::-1], photo)
    assert kept < self_similarity_distance(resize(painting, *photo.shape[1:3]), photo)


# Losses


def test_a_stylized_picture_is_nearer_to_the_painting_than_the_photo_is(
    photo, painting, painted, backbone, graphs
):
    inputs = prepare_inputs(photo, [painting], None, CONFIG)
    assert color_distance(painted, painting) < 0.7 * color_distance(photo, painting)
    assert histogram_distance(painted, painting) < 0.9 * histogram_distance(photo, painting)
    (content, style), untouched = held_out_losses([painted, photo], inputs, CONFIG, backbone, graphs)
    assert 0.05 < content < 1
    assert style < 0.5
    assert untouched == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-3))


def test_held_out_losses_leave_out_the_layers_that_were_optimised(photo, painting, painted, backbone, graphs):
    def losses(**layers):
        config = TransferConfig(size=64, precision="float32", **layers)
        inputs = prepare_inputs(photo, [painting], None, config)
        (found,) = held_out_losses([painted], inputs, config, backbone, graphs)
        return found

    content, style = losses()
    assert losses(content_layers=HELD_OUT_CONTENT) == (None, pytest.approx(style))
    assert losses(style_layers=HELD_OUT_STYLE) == (pytest.approx(content), None)
    assert losses(content_layers=HELD_OUT_CONTENT, style_layers=HELD_OUT_STYLE) == (None, None)
    _, fewer = losses(style_layers=HELD_OUT_STYLE[:1])
    assert fewer != pytest.approx(style, rel=1e-3)


def test_the_judge_is_another_network_that_reads_every_picture_in_one_way(
    photo, painting, painted, backbone, judge, graphs
):
    def losses(backbone, judge, **settings):
        config = replace(CONFIG, **settings)
        inputs = prepare_inputs(photo, [painting], None, config)
        return judged_losses([painted, photo], inputs, config, backbone, judge, graphs)

    (content, style), untouched = losses(backbone, judge)
    assert 0.05 < content < 1
    assert style < 0.7
    assert untouched == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-3))
    inputs = prepare_inputs(photo, [painting], None, CONFIG)
    assert held_out_losses([painted], inputs, CONFIG, judge, graphs) == [pytest.approx((content, style))]
    assert held_out_losses([painted], inputs, CONFIG, backbone, graphs) != [
        pytest.approx((content, style), rel=0.05)
    ]
    others = {"content_layers": HELD_OUT_CONTENT, "style_layers": HELD_OUT_STYLE[:1], "pooling": "avg"}
    assert losses(backbone, judge, **others)[0] == pytest.approx((content, style))


def test_nobody_judges_its_own_picture(photo, painting, painted, backbone, graphs):
    inputs = prepare_inputs(photo, [painting], None, CONFIG)
    for judge in (None, backbone, replace(backbone, name="another name")):
        assert judged_losses([painted] * 2, inputs, CONFIG, backbone, judge, graphs) == [(None, None)] * 2


def test_clipped_values_are_counted():
    pixels = np.full((40, 48, 3), 128, np.uint8)
    pixels[:10] = 0
    pixels[10:20, :, 0] = 255
    assert clipped(from_uint8(pixels)) == pytest.approx(1 / 4 + 1 / 12)


# All measures, and their bounds


def test_every_measure_has_a_value_and_a_description(photo, painting, painted, backbone, judge, graphs):
    found = evaluate(painted, photo, [painting], CONFIG, backbone, judge, graphs)
    assert found.keys() == QUALITY.keys()
    assert all(QUALITY.values())
    assert all(np.isfinite(value) for value in found.values())
    assert found == evaluate(painted, photo, [painting], CONFIG, backbone, judge)
    assert found["luminance_ssim"] == pytest.approx(luminance_ssim(painted, photo), abs=0.02)
    alone = evaluate(painted, photo, [painting], CONFIG, backbone, graphs=graphs)
    assert alone == {**found, "judged_content": None, "judged_style": None}


def test_the_bounds_are_the_photo_unchanged_and_the_painting_itself(
    photo, painting, painted, backbone, judge, graphs
):
    fitting = from_uint8(to_uint8(resize(painting, *photo.shape[1:3])))
    found = bounds(photo, [fitting], CONFIG, backbone, judge, graphs)
    assert found.keys() == QUALITY.keys()
    of_photo, of_painting = ({name: both[place] for name, both in found.items()} for place in (0, 1))
    for loss in ("held_out", "judged"):
        assert of_photo[f"{loss}_content"] == pytest.approx(0, abs=1e-6)
        assert of_photo[f"{loss}_style"] == pytest.approx(1, abs=1e-3)
        assert of_painting[f"{loss}_content"] == pytest.approx(1, abs=0.25)
        assert of_painting[f"{loss}_style"] == pytest.approx(0, abs=1e-6)
    for name in ("luminance_ssim", "edge_ssim"):
        assert of_photo[name] == pytest.approx(1)
        assert of_painting[name] < 0.5
    assert of_photo["self_similarity_distance"] == 0 < of_painting["self_similarity_distance"]
    for name in ("color_distance", "histogram_distance"):
        assert of_painting[name] == 0 < of_photo[name]
    for picture, expected in ((photo, of_photo), (fitting, of_painting)):
        assert expected["clipped"] == pytest.approx(clipped(picture), rel=1e-4)
        assert evaluate(picture, photo, [fitting], CONFIG, backbone, judge, graphs) == expected
    between = evaluate(painted, photo, [fitting], CONFIG, backbone, judge, graphs)
    for name in QUALITY.keys() - {"clipped"}:
        low, high = sorted(found[name])
        assert low <= between[name] <= high


def test_a_painting_of_another_shape_is_resized_to_the_picture(photo, painting, backbone, graphs):
    found = bounds(photo, [painting], CONFIG, backbone, graphs=graphs)
    resized = resize(painting, *photo.shape[1:3])
    of_painting = {name: value for name, (_, value) in found.items()}
    assert of_painting == evaluate(resized, photo, [painting], CONFIG, backbone, graphs=graphs)
    assert of_painting["held_out_style"] < 0.3
    assert of_painting["histogram_distance"] < 0.1


def test_configs_share_bounds_where_they_differ_in_nothing_that_matters(photo, painting, backbone, graphs):
    others = {
        "content_weight": 2,
        "style_weight": 5,
        "tv_weight": 0,
        "strength": 0.5,
        "iterations": 3,
        "optimizer": "adam",
        "init": "noise",
        "seed": 7,
        "style_blend": (2.0,),
        "style_scale": 0.5,
        "colors": "luminance",
        "mask_mode": "styles",
        "size": 48,
        "backbone": "auto",
        "precision": "bfloat16",
        "pooling": "avg",
        "content_layers": HELD_OUT_CONTENT,
        "style_layers": HELD_OUT_STYLE[:1],
    }
    assert others.keys() == {setting.name for setting in fields(CONFIG)}
    shared = settings_of_bounds(CONFIG)
    same = {name: settings_of_bounds(replace(CONFIG, **{name: others[name]})) == shared for name in others}
    assert sorted(name for name in others if same[name]) == sorted([*others][:8])
    expected = bounds(photo, [painting], CONFIG, backbone, graphs=graphs)
    config = replace(CONFIG, **{name: others[name] for name in others if same[name]})
    assert bounds(photo, [painting], config, backbone, graphs=graphs) == expected
