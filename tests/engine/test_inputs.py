"""The images of a run: which are refused, and how they are prepared for each level."""

import numpy as np
import pytest
import tensorflow as tf
from comparison import mean_difference
from sentences import one_sentence

from nst.config import TransferConfig
from nst.engine.color import match_colors, to_grey
from nst.engine.images import resize
from nst.engine.inputs import check_layers, check_start, check_styles, prepare_inputs
from nst.engine.pyramid import coarse_to_fine
from nst.engine.stylize import stylize
from nst.errors import ConfigError

pytestmark = pytest.mark.quick


# Refusals


@pytest.mark.parametrize("name", ["content_layers", "style_layers"])
@pytest.mark.parametrize("layers", [["<b>block9_conv9</b>"], {"block1_conv1": 1, "block9_conv9": 1}])
def test_layers_that_the_network_lacks_are_refused_at_once(photo, painting, backbone, name, layers):
    config = TransferConfig(**{name: layers})
    with pytest.raises(ConfigError) as caught:
        stylize(photo, painting, config, backbone)
    sentence = one_sentence(caught.value)
    assert "block9" not in sentence
    assert sentence.endswith(f"{', '.join(backbone.layers)}.")


def blank(*shape: int, dtype: tf.DType = tf.float32) -> tf.Tensor:
    return tf.ones(shape, dtype)


@pytest.mark.parametrize(
    "arguments",
    [
        {"styles": 0},
        {"styles": 5},
        {"styles": 2, "style_blend": (1,)},
        {"styles": 2, "style_blend": (1, 2, 3)},
        {"style_blend": (1, 1)},
        {"mask": 0 * blank(1, 20, 20, 1)},
        {"mask": blank(1, 20, 20, 1) / 600},  # less than half an 8-bit step
        {"styles": 2, "mask_mode": "styles", "mask": 0 * blank(1, 20, 20, 1)},
        {"styles": 2, "mask_mode": "styles", "mask": blank(1, 20, 20, 1)},
        {"styles": 1, "mask_mode": "styles", "mask": blank(1, 20, 20, 1) / 2},
        {"styles": 3, "mask_mode": "styles", "mask": blank(1, 20, 20, 1) / 2},
        {"styles": 2, "style_blend": (1, 2), "mask_mode": "styles", "mask": blank(1, 20, 20, 1) / 2},
        {"start": blank(1, 48, 48, 3)},  # the photo is 48 x 64
        {"start": blank(1, 32, 64, 3)},
    ],
    ids=lambda arguments: ", ".join(arguments),
)
def test_images_that_do_not_fit_the_settings_are_refused_at_once(photo, painting, backbone, arguments):
    settings = dict(arguments)
    styles = [painting] * settings.pop("styles", 1)
    pictures = {name: settings.pop(name) for name in ("mask", "start") if name in settings}
    with pytest.raises(ConfigError) as caught:
        stylize(photo, styles, TransferConfig(**settings), backbone, **pictures)
    one_sentence(caught.value)


@pytest.mark.parametrize("size", [(24, 32), (36, 48), (49, 65), (480, 640), (15, 20)])
def test_a_picture_of_the_photos_shape_may_be_gone_on_from_at_any_size(photo, painting, backbone, size):
    stylize(photo, painting, TransferConfig(), backbone, start=blank(1, *size, 3))


WRONG_IMAGES = {
    "of four channels": blank(1, 40, 40, 4),
    "of one batch too many": blank(2, 40, 40, 3),
    "without a batch": blank(40, 40, 3),
    "of bytes": blank(1, 40, 40, 3, dtype=tf.uint8),
    "in double precision": blank(1, 40, 40, 3, dtype=tf.float64),
}
WRONG_MASKS = {
    "of three channels": blank(1, 40, 40, 3),
    "of one batch too many": blank(2, 40, 40, 1),
    "without channels": blank(1, 40, 40),
    "of bytes": blank(1, 40, 40, 1, dtype=tf.uint8),
    "of truths": blank(1, 40, 40, 1, dtype=tf.bool),
}


@pytest.mark.parametrize(
    ("where", "image"),
    [
        *(
            (where, wrong)
            for where in ("content", "style", "second style", "start")
            for wrong in WRONG_IMAGES
        ),
        *(("mask", wrong) for wrong in WRONG_MASKS),
    ],
)
def test_tensors_that_are_no_images_are_refused_at_once(photo, painting, backbone, where, image):
    wrong = (WRONG_MASKS if where == "mask" else WRONG_IMAGES)[image]
    given = {"content": photo, "style": painting, "config": TransferConfig(size=64), "backbone": backbone}
    if where == "second style":
        given["style"] = [painting, wrong]
    else:
        given[where] = wrong
    with pytest.raises(ValueError, match=r"^An image must be float32 \(1, H, W, [13]\), not .+\.$") as caught:
        stylize(**given)
    one_sentence(caught.value)


def test_images_and_settings_that_go_together_pass(backbone):
    mask = np.zeros((1, 20, 20, 1), np.float32)
    mask[:, :10] = 1
    check_layers(TransferConfig(), backbone)
    for number, settings in (
        (1, {}),
        (4, {}),
        (1, {"style_blend": (7,)}),
        (3, {"style_blend": (1, 2, 3)}),
        (2, {"mask_mode": "styles"}),
    ):
        check_styles(number, TransferConfig(**settings), tf.constant(mask))
        check_styles(number, TransferConfig(**settings))
    check_styles(1, TransferConfig(), tf.ones_like(mask))
    check_start((75, 100), (300, 400))
    with pytest.raises(ConfigError):
        check_start((75, 97), (300, 400))


# Preparation


@pytest.mark.parametrize("style_scale", [0.25, 0.3, 1, 2])
def test_the_style_keeps_its_scale_at_every_level(photo, painting, style_scale):
    inputs = prepare_inputs(photo, [painting], None, TransferConfig(size=1000, style_scale=style_scale))
    for level in coarse_to_fine(1000, 100):
        here = inputs.resized(level.size)
        (style,) = here.regions[0].styles
        assert max(here.photo.shape) == level.size
        assert max(style.shape) == pytest.approx(style_scale * level.size, abs=1)


def test_the_photo_and_the_mask_are_resized_to_the_result(photo, painting):
    mask = tf.ones((1, 10, 12, 1))
    inputs = prepare_inputs(photo, [painting], mask, TransferConfig(size=128))
    assert inputs.photo.shape == inputs.content.shape == inputs.init_image.shape == (1, 96, 128, 3)
    (region,) = inputs.regions
    assert region.mask.shape == (1, 96, 128, 1)
    smaller = inputs.resized(64)
    assert smaller.photo.shape == (1, 48, 64, 3)
    assert smaller.regions[0].mask.shape == (1, 48, 64, 1)
    np.testing.assert_allclose(smaller.photo, photo, atol=0.1)


def test_the_init_image_is_the_photo_in_the_colours_of_the_style(photo, painting):
    inputs = prepare_inputs(photo, [painting], None, TransferConfig(size=64))
    np.testing.assert_allclose(inputs.init_image, match_colors(photo, painting), atol=1e-5)
    np.testing.assert_array_equal(inputs.content, photo)


def test_the_init_image_blends_the_colours_of_several_styles_by_weight(photo, painting):
    styles, config = [painting, 1 - painting], TransferConfig(size=64, style_blend=(3, 1))
    expected = 0.75 * match_colors(photo, painting) + 0.25 * match_colors(photo, 1 - painting)
    inputs = prepare_inputs(photo, styles, None, config)
    np.testing.assert_allclose(inputs.init_image, expected, atol=1e-5)


def test_in_luminance_every_image_is_grey_but_the_photo(photo, painting):
    inputs = prepare_inputs(photo, [painting], None, TransferConfig(size=64, colors="luminance"))
    np.testing.assert_array_equal(inputs.photo, photo)
    for image in (inputs.content, inputs.init_image, *inputs.regions[0].styles):
        np.testing.assert_allclose(image, to_grey(image), atol=1e-5)


def test_matched_styles_have_the_colours_of_the_photo(photo, painting):
    inputs = prepare_inputs(photo, [painting], None, TransferConfig(size=64, colors="matched"))
    np.testing.assert_allclose(inputs.regions[0].styles[0], match_colors(painting, photo), atol=1e-5)
    assert mean_difference(inputs.init_image, photo) < 0.02


def test_a_mask_for_two_styles_makes_two_regions_that_cover_the_picture(photo, painting):
    mask = resize(photo[..., :1], 20, 30)
    config = TransferConfig(size=64, mask_mode="styles")
    first, second = prepare_inputs(photo, [painting, photo], mask, config).regions
    np.testing.assert_allclose(first.mask + second.mask, tf.ones((1, 48, 64, 1)), atol=1e-6)
    np.testing.assert_array_equal(first.styles[0], painting)
    np.testing.assert_array_equal(second.styles[0], photo)
