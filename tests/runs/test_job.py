"""From files to a job: each opened once, resized, checked, described, and refused with its name."""

import hashlib
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from comparison import EXAMPLES
from PIL import ExifTags, Image
from sentences import one_sentence

from nst.config import TransferConfig
from nst.engine.images import decode_image, decode_mask, from_uint8, load_image
from nst.errors import ConfigError, ImageError
from nst.runs.job import InputImage, Job, read_image, read_inputs

pytestmark = pytest.mark.quick

PHOTO = EXAMPLES / "content" / "chenonceau.jpg"
WAVE = EXAMPLES / "style" / "hokusai-great-wave.jpg"
SCREAM = EXAMPLES / "style" / "munch-the-scream.jpg"
CONFIG = TransferConfig(size=64, style_scale=0.5)


def entry(path: Path) -> dict[str, str]:
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def draw(path: Path, color: int | tuple[int, int, int] = 128, size: tuple[int, int] = (64, 48)) -> Path:
    """Write an image of one colour, or a grey one with a white left half."""
    Image.new("L" if isinstance(color, int) else "RGB", size, color).save(path)
    return path


@pytest.fixture
def halves(tmp_path) -> Path:
    """Draw a mask whose left half is white, and whose right half is black."""
    picture = Image.new("L", (80, 60), 0)
    picture.paste(255, (0, 0, 40, 60))
    picture.save(tmp_path / "halves.png")
    return tmp_path / "halves.png"


@pytest.fixture(scope="module")
def opened():
    """Return a list that grows by the path of every file that this process opens."""
    paths: list[str] = []

    def listen(event: str, arguments: tuple) -> None:
        if event == "open":
            paths.append(str(arguments[0]))

    sys.addaudithook(listen)
    return paths


# What is read


def test_an_image_is_read_with_its_name_and_hash(tmp_path):
    found = read_image(PHOTO, 64)
    assert np.array_equal(found.pixels, decode_image(PHOTO, long_side=64))
    assert found.entry == entry(PHOTO)
    small = draw(tmp_path / "Größe α.png", 7)
    assert read_image(small, 100).pixels.shape == (75, 100, 3)
    assert read_image(small, 100, enlarge=False).pixels.shape == (48, 64, 3)
    assert read_image(small).entry == entry(small)
    assert read_image(small).entry["name"] == "Größe α.png"


def test_inputs_are_read_at_the_sizes_of_the_run(halves):
    job = read_inputs(CONFIG, PHOTO, [WAVE, SCREAM], mask=halves, start=halves)
    assert job.config is CONFIG
    assert np.array_equal(job.content, decode_image(PHOTO, long_side=64))
    for style, path in zip(job.styles, (WAVE, SCREAM), strict=True):
        assert np.array_equal(style, decode_image(path, long_side=32))
    with halves.open("rb") as file:
        assert np.array_equal(job.mask, decode_mask(file, long_side=64))
    assert np.all(job.mask[:, :31] == 255)  # without the rings of a Lanczos filter
    assert np.all(job.mask[:, 33:] == 0)
    assert np.array_equal(job.start, decode_image(halves, long_side=64))
    for image in (job.content, *job.styles, job.mask, job.start):
        assert image.dtype == np.uint8


def test_each_file_is_opened_once(halves, opened, tmp_path):
    start = draw(tmp_path / "start.png")
    files = [PHOTO, WAVE, SCREAM, halves, start]
    opened.clear()
    job = read_inputs(CONFIG, PHOTO, [WAVE, SCREAM], mask=halves, start=start)
    assert {path: count for path, count in Counter(opened).items() if Path(path) in files} == {
        str(path): 1 for path in files
    }
    assert job.images["content"] == entry(PHOTO)


def test_the_record_names_every_image_and_its_hash(halves):
    assert read_inputs(CONFIG, PHOTO, [WAVE]).images == {"content": entry(PHOTO), "styles": [entry(WAVE)]}
    assert read_inputs(CONFIG, PHOTO, [SCREAM, WAVE], mask=halves, start=halves).images == {
        "content": entry(PHOTO),
        "styles": [entry(SCREAM), entry(WAVE)],
        "mask": entry(halves),
        "start": entry(halves),
    }


def test_a_larger_start_is_reduced_and_a_smaller_one_stays(tmp_path):
    for width, expected in ((400, (48, 64)), (64, (48, 64)), (48, (36, 48))):
        start = draw(tmp_path / "start.png", size=(width, width * 3 // 4))
        job = read_inputs(CONFIG, PHOTO, [WAVE], start=start)
        assert job.start.shape[:2] == expected


def test_a_start_may_be_a_picture_that_is_there_already():
    pixels = np.full((24, 32, 3), 9, np.uint8)
    job = read_inputs(CONFIG, PHOTO, [WAVE], start=InputImage(pixels, {"name": "picture before"}))
    assert job.start is pixels
    assert job.images["start"] == {"name": "picture before"}


def test_files_may_be_read_by_another_function():
    asked = []

    def read(path: Path, long_side: int, enlarge: bool) -> InputImage:
        asked.append((path, long_side, enlarge))
        return read_image(path, long_side, enlarge)

    read_inputs(CONFIG, PHOTO, [WAVE], start=PHOTO, read=read)
    assert asked == [(PHOTO, 64, True), (WAVE, 32, True), (PHOTO, 64, False)]


# What is refused


@pytest.mark.parametrize("role", ["photo", "painting", "mask", "start"])
def test_an_unusable_file_is_named_by_its_role(tmp_path, role):
    broken = tmp_path / "broken.png"
    broken.write_text("just some words")
    files = {"photo": PHOTO, "painting": WAVE, "mask": None, "start": None, role: broken}
    arguments = CONFIG, files["photo"], [SCREAM, files["painting"]]
    options = {"mask": files["mask"], "start": files["start"]}
    with pytest.raises(
        ImageError, match=f"^{role.capitalize()}: This file is not a readable image"
    ) as caught:
        read_inputs(*arguments, **options)
    one_sentence(caught.value)
    with pytest.raises(ImageError, match=f"^{role} broken.png: This file is not a readable image"):
        read_inputs(*arguments, **options, label=lambda role, path: f"{role} {path.name}")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"^Painting: The image file cannot be opened"):
        read_inputs(CONFIG, PHOTO, [tmp_path / "missing.png"])


@pytest.mark.parametrize(
    ("settings", "styles", "mask", "sentence"),
    [
        ({}, 0, None, "Please give one to 4 style images."),
        ({}, 5, None, "Please give one to 4 style images."),
        ({"style_blend": (1, 2)}, 1, None, "Please give as many weights as style images"),
        ({}, 1, 0, "The mask is black all over"),
        ({"mask_mode": "styles"}, 2, 255, "The mask is white all over"),
        ({"mask_mode": "styles"}, 1, 128, "Please give two style images"),
        ({"mask_mode": "styles", "style_blend": (1, 2)}, 2, 128, "Please give the style images no weights"),
    ],
)
def test_images_that_do_not_fit_the_config_are_refused(tmp_path, settings, styles, mask, sentence):
    path = None if mask is None else draw(tmp_path / "mask.png", mask)
    with pytest.raises(ConfigError, match=sentence) as caught:
        read_inputs(TransferConfig(size=64, **settings), PHOTO, [WAVE] * styles, mask=path)
    one_sentence(caught.value)


def test_a_start_of_another_shape_is_refused(tmp_path):
    for size in (48, 64), (64, 40), (64, 64):
        start = draw(tmp_path / "start.png", size=size)
        with pytest.raises(ConfigError, match="The picture to go on from has another shape than the photo"):
            read_inputs(CONFIG, PHOTO, [WAVE], start=start)


# The images as tensors


def test_the_images_of_a_job_are_those_that_a_run_takes(halves):
    job = read_inputs(CONFIG, PHOTO, [WAVE], mask=halves, start=PHOTO)
    tensors = job.tensors()
    assert tensors.keys() == {"content", "style", "mask", "start"}
    np.testing.assert_array_equal(tensors["content"], load_image(PHOTO, long_side=64))
    np.testing.assert_array_equal(job.photo(), tensors["content"])
    (style,) = tensors["style"]
    np.testing.assert_array_equal(style, load_image(WAVE, long_side=32))
    np.testing.assert_array_equal(tensors["start"], from_uint8(job.start))
    for image in (tensors["content"], style, tensors["mask"], tensors["start"]):
        assert image.dtype == tf.float32


def test_a_mask_is_the_luminance_of_its_file(halves, tmp_path):
    opacity = read_inputs(CONFIG, PHOTO, [WAVE], mask=halves).opacity()
    assert opacity.shape == (1, 48, 64, 1)
    np.testing.assert_allclose(opacity[0, :, :30], 1, atol=1e-6)
    np.testing.assert_allclose(opacity[0, :, 34:], 0, atol=1e-6)
    red = draw(tmp_path / "red.png", (255, 0, 0))
    np.testing.assert_allclose(read_inputs(CONFIG, PHOTO, [WAVE], mask=red).opacity(), 0.299, atol=1e-6)


@pytest.fixture
def cut_out(tmp_path) -> Callable[..., Path]:
    """Make a PNG file of 64 × 48 pixels: a picture at the left, and nothing but transparency at the right."""

    def make(picture: Image.Image, transparent: str = "black") -> Path:
        layer = Image.new("RGBA", (64, 48), transparent)
        layer.paste(picture.resize((32, 48)).convert("RGBA"))
        alpha = Image.new("L", (64, 48), 0)
        alpha.paste(255, (0, 0, 32, 48))
        layer.putalpha(alpha)
        layer.save(tmp_path / "cut-out.png")
        return tmp_path / "cut-out.png"

    return make


@pytest.mark.parametrize("color", ["white", "black", "red"])
@pytest.mark.parametrize("transparent", ["white", "black"])
def test_strokes_on_a_transparent_layer_are_the_mask_whatever_their_colour(cut_out, color, transparent):
    mask = cut_out(Image.new("RGB", (8, 8), color), transparent)
    opacity = read_inputs(CONFIG, PHOTO, [WAVE], mask=mask).opacity()[0, ..., 0]
    np.testing.assert_allclose(opacity[:, :32], 1, atol=1e-6)
    np.testing.assert_allclose(opacity[:, 32:], 0, atol=1e-6)


@pytest.mark.parametrize("levels", [(0, 255), (128, 128), (0, 0)])
def test_an_opaque_mask_with_an_alpha_channel_is_read_by_its_colours(tmp_path, levels):
    ramp = np.tile(np.linspace(*levels, 64).astype(np.uint8), (48, 1))
    Image.fromarray(ramp).convert("RGBA").save(tmp_path / "mask.png")
    with (tmp_path / "mask.png").open("rb") as file:
        assert np.array_equal(decode_mask(file)[..., 0], ramp)


def test_a_cut_out_is_a_mask_of_its_outline(cut_out):
    opacity = read_inputs(CONFIG, PHOTO, [WAVE], mask=cut_out(Image.open(WAVE))).opacity()[0, ..., 0]
    np.testing.assert_allclose(opacity[:, :32], 1, atol=1e-6)
    np.testing.assert_allclose(opacity[:, 32:], 0, atol=1e-6)


def test_what_is_transparent_in_a_mask_of_black_and_white_is_black(cut_out):
    halves = Image.new("L", (2, 4), "white")
    halves.paste("black", (0, 2, 2, 4))
    opacity = read_inputs(CONFIG, PHOTO, [WAVE], mask=cut_out(halves, "white")).opacity()[0, ..., 0]
    np.testing.assert_allclose(opacity[:16, :32], 1, atol=0.01)
    np.testing.assert_allclose(opacity[32:], 0, atol=0.01)
    np.testing.assert_allclose(opacity[:, 32:], 0, atol=1e-6)


def test_a_mask_of_another_shape_or_turn_is_refused(tmp_path):
    for mask in (
        draw(tmp_path / "mask.png", 255, size=(64, 64)),
        draw(tmp_path / "turned.png", 255, (48, 64)),
    ):
        with pytest.raises(ConfigError, match="The mask has another shape than the photo") as caught:
            read_inputs(CONFIG, PHOTO, [WAVE], mask=mask)
        one_sentence(caught.value)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.open(PHOTO).resize((48, 64)).save(tmp_path / "turned.jpg", exif=exif)  # upright, it is 64 × 48
    with pytest.raises(ConfigError, match="is turned another way"):
        read_inputs(CONFIG, tmp_path / "turned.jpg", [WAVE], mask=draw(tmp_path / "mask.png", 255, (48, 64)))
    for size in (640, 480), (1000, 749), (43, 32):  # rounded to whole pixels
        read_inputs(CONFIG, PHOTO, [WAVE], mask=draw(tmp_path / "near.png", 255, size))


def test_a_job_without_mask_and_start_has_none():
    pixels = np.zeros((48, 64, 3), np.uint8)
    job = Job(CONFIG, pixels, [pixels])
    assert job.opacity() is job.tensors()["mask"] is job.tensors()["start"] is None
    assert job.images == {}
