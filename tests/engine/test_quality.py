"""The quality of finished pictures: closed forms, and the order in which real pictures come out."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFilter

from nst.config import TransferConfig
from nst.engine.images import from_uint8, to_uint8
from nst.engine.inputs import prepare_inputs
from nst.engine.quality import (
    HELD_OUT_CONTENT,
    HELD_OUT_STYLE,
    QUALITY,
    clipped,
    color_distance,
    edge_ssim,
    evaluate,
    held_out_losses,
    luminance_ssim,
)
from nst.engine.stylize import stylize

CONFIG = TransferConfig(size=64, iterations=12, backbone="vgg16", precision="float32")


def flat(*color: int) -> tf.Tensor:
    return from_uint8(np.full((40, 48, 3), color, np.uint8))


@pytest.fixture(scope="module")
def painted(photo, painting, backbone, graphs) -> tf.Tensor:
    *_, last = stylize(photo, painting, CONFIG, backbone, graphs=graphs)
    return last.image


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


def test_a_stylized_picture_is_nearer_to_the_painting_than_the_photo_is(
    photo, painting, painted, backbone, graphs
):
    inputs = prepare_inputs(photo, [painting], None, CONFIG)
    assert color_distance(painted, painting) < 0.7 * color_distance(photo, painting)
    content, style = held_out_losses(painted, inputs, CONFIG, backbone, graphs)
    untouched_content, untouched_style = held_out_losses(photo, inputs, CONFIG, backbone, graphs)
    assert style < 0.7 * untouched_style
    assert content > 0.05
    assert untouched_content == pytest.approx(0, abs=1e-6)


def test_held_out_losses_leave_out_the_layers_that_were_optimised(photo, painting, painted, backbone, graphs):
    def losses(**layers):
        config = TransferConfig(size=64, precision="float32", **layers)
        inputs = prepare_inputs(photo, [painting], None, config)
        return held_out_losses(painted, inputs, config, backbone, graphs)

    content, style = losses()
    assert losses(content_layers=HELD_OUT_CONTENT) == (None, pytest.approx(style))
    assert losses(style_layers=HELD_OUT_STYLE) == (pytest.approx(content), None)
    assert losses(content_layers=HELD_OUT_CONTENT, style_layers=HELD_OUT_STYLE) == (None, None)
    _, fewer = losses(style_layers=HELD_OUT_STYLE[:1])
    assert fewer != pytest.approx(style, rel=1e-3)


def test_clipped_values_are_counted():
    pixels = np.full((40, 48, 3), 128, np.uint8)
    pixels[:10] = 0
    pixels[10:20, :, 0] = 255
    assert clipped(from_uint8(pixels)) == pytest.approx(1 / 4 + 1 / 12)


def test_every_measure_has_a_value_and_a_description(photo, painting, painted, backbone, graphs):
    found = evaluate(painted, photo, [painting], CONFIG, backbone, graphs)
    assert found.keys() == QUALITY.keys()
    assert all(QUALITY.values())
    assert all(np.isfinite(value) for value in found.values())
    assert found == evaluate(painted, photo, [painting], CONFIG, backbone)
    assert found["luminance_ssim"] == pytest.approx(luminance_ssim(painted, photo), abs=0.02)
