"""Image files: formats, orientation, transparency, profiles, refusals, saving and metadata."""

import io
import random
import runpy
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image, ImageCms, PngImagePlugin
from sentences import one_sentence

from nst.engine import images
from nst.engine.images import (
    MAX_METADATA,
    METADATA_KEYWORD,
    decode_image,
    fitted_size,
    from_uint8,
    load_image,
    read_metadata,
    resize,
    save_image,
    thumbnail,
    to_uint8,
)
from nst.errors import ImageError

pytestmark = [
    pytest.mark.quick,
    pytest.mark.filterwarnings(r"ignore:::PIL\."),  # pytest undoes the filter that the module sets
]

EXAMPLES = Path(__file__).parents[2] / "examples"
PHOTO = EXAMPLES / "content" / "chenonceau.jpg"


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.open(PHOTO).resize((96, 72))


def encoded(picture: Image.Image, form: str, **options) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file


def pixels(source, **options) -> np.ndarray:
    return to_uint8(load_image(source, **options)).astype(int)


def refusal(source, by=load_image) -> str:
    """Return the sentence that a visitor reads."""
    with pytest.raises(ImageError) as caught:
        by(source)
    sentence = one_sentence(caught.value)
    assert not {*sentence} & {*"&/\\"}
    return sentence


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    """Make a PNG file that ends before its pixels."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", size) + png_chunk(b"IDAT", b"")


# Reading: formats, frames, sources


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/*.jpg")), ids=lambda path: path.stem)
def test_every_example_image_loads_as_pillow_decodes_it(path):
    image = load_image(path)
    assert image.dtype == tf.float32
    assert image.shape[0] == 1
    expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert np.abs(to_uint8(image) - expected).max() <= 2  # an embedded sRGB profile may move a level


@pytest.mark.parametrize(
    ("form", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 5),
        ("JPEG", {"quality": 95}, 5),
        ("JPEG", {"quality": 95, "progressive": True}, 5),
        ("MPO", {"quality": 95}, 5),
        ("AVIF", {"quality": 95}, 5),
        ("GIF", {}, 20),
    ],
)
def test_every_format_is_read(photo, form, options, tolerance):
    error = np.abs(pixels(encoded(photo, form, **options)) - np.asarray(photo))
    assert error.mean() <= tolerance


@pytest.mark.parametrize("form", ["MPO", "PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_the_first_frame_is_read(photo, form):
    other = photo.transpose(Image.Transpose.ROTATE_180)
    file = encoded(photo, form, save_all=True, append_images=[other])
    assert Image.open(file).n_frames == 2
    loaded = pixels(file)
    assert np.abs(loaded - np.asarray(photo)).mean() < np.abs(loaded - np.asarray(other)).mean() / 2


def test_a_path_its_text_and_an_open_file_give_the_same_image():
    image = load_image(PHOTO, long_side=64)
    with PHOTO.open("rb") as file:
        file.seek(100)
        assert np.array_equal(load_image(file, long_side=64), image)
        assert not file.closed
    assert np.array_equal(load_image(str(PHOTO), long_side=64), image)


def test_the_content_decides_the_format_not_the_ending(photo, tmp_path):
    photo.save(tmp_path / "photo.jpg", "PNG")
    assert np.array_equal(pixels(tmp_path / "photo.jpg"), photo)


def test_threads_do_not_disturb_each_other():
    paths = sorted(EXAMPLES.glob("*/*.jpg"))
    alone = [pixels(path, long_side=48) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda path: pixels(path, long_side=48), paths)
        assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


# Orientation


STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_comes_out_upright(photo, form, orientation):
    upright = np.asarray(photo)
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    loaded = pixels(encoded(stored, form, exif=exif, quality=95))
    assert loaded.shape == upright.shape
    assert np.abs(loaded - upright).mean() < 5


def test_odd_exif_entries_do_not_hide_the_orientation(photo):
    orientation = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    resolution_as_text = struct.pack("<HHI4s", 0x011A, 2, 3, b"72")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + orientation + resolution_as_text + bytes(4)
    assert pixels(encoded(photo, "JPEG", exif=exif)).shape == (96, 72, 3)


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08", b"Exif\0\0II*\0\x08\0\0\0\x05"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_damaged_exif_block_does_not_prevent_reading(photo, form, exif):
    assert pixels(encoded(photo, form, exif=exif)).shape == (72, 96, 3)


@pytest.mark.parametrize("name", ["icc_profile", "transparency", "exif", "xmp", "Raw profile type exif"])
def test_texts_under_odd_names_do_not_prevent_reading(photo, name):
    text = PngImagePlugin.PngInfo()
    text.add_text(name, "what\never\nthis\nis")
    assert np.array_equal(pixels(encoded(photo, "PNG", pnginfo=text)), photo)


# Transparency, on white


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_blended_with_white(photo, form):
    alpha = np.tile(np.linspace(0, 255, 96).round().astype(np.uint8), (72, 1))
    picture = photo.copy()
    picture.putalpha(Image.fromarray(alpha))
    cover = alpha[..., np.newaxis] / 255
    expected = cover * np.asarray(photo) + (1 - cover) * 255
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    assert np.abs(pixels(encoded(picture, form, **options)) - expected).max() <= 1


def test_grey_alpha_is_blended_with_white():
    assert np.all(
        pixels(encoded(Image.new("LA", (40, 40), (100, 51)), "PNG")) == 224
    )  # 0.2 * 100 + 0.8 * 255


def coloured_squares(mode: str) -> Image.Image:
    """Draw a left half in red or dark grey, and a right half in blue or light grey."""
    left, right = {"P": (0, 1), "L": (40, 200), "RGB": ((200, 0, 0), (0, 0, 200))}[mode]
    picture = Image.new(mode, (64, 32), left)
    if mode == "P":
        picture.putpalette([200, 0, 0, 0, 0, 200])
    picture.paste(right, (32, 0, 64, 32))
    return picture


@pytest.mark.parametrize(
    ("form", "mode", "transparency", "left", "right"),
    [
        ("PNG", "P", 0, (255, 255, 255), (0, 0, 200)),
        ("PNG", "P", bytes([255, 51]), (200, 0, 0), (204, 204, 244)),
        ("GIF", "P", 1, (200, 0, 0), (255, 255, 255)),
        ("PNG", "L", 40, (255, 255, 255), (200, 200, 200)),
        ("PNG", "RGB", (0, 0, 200), (200, 0, 0), (255, 255, 255)),
    ],
)
def test_a_transparent_colour_turns_white(form, mode, transparency, left, right):
    loaded = pixels(encoded(coloured_squares(mode), form, transparency=transparency))
    assert np.all(loaded[:, :32] == left)
    assert np.all(loaded[:, 32:] == right)


def test_exactly_one_level_of_16_bit_grey_can_be_transparent():
    grey = np.full((32, 64), 1000, np.uint16)
    grey[:, 32:] = 1001
    loaded = pixels(encoded(Image.fromarray(grey), "PNG", transparency=1000))
    assert np.all(loaded[:, :32] == 255)
    assert np.all(loaded[:, 32:] == 4)


# Modes


def test_grey_and_black_and_white_fill_three_channels(photo):
    grey = photo.convert("L")
    assert np.array_equal(pixels(encoded(grey, "PNG")), np.asarray(grey.convert("RGB")))
    dots = photo.convert("1")
    for form in "PNG", "TIFF", "BMP":
        assert np.array_equal(pixels(encoded(dots, form)), np.asarray(dots.convert("RGB")))


def test_a_palette_is_looked_up(photo):
    palette = photo.quantize(64)
    for form in "PNG", "TIFF", "BMP", "GIF":
        assert np.array_equal(pixels(encoded(palette, form)), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize(
    ("form", "dtype"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("TIFF", "<i4")]
)
def test_16_bit_grey_is_scaled_to_the_nearest_8_bit_level(form, dtype):
    grey = np.arange(0, 65536, 16).reshape(64, 64)
    loaded = pixels(encoded(Image.fromarray(grey.astype(dtype)), form))
    assert np.array_equal(loaded[..., 0], np.round(grey / 257))


def test_grey_beyond_16_bits_is_clipped():
    grey = np.full((32, 64), -1000, np.int32)
    grey[:, 32:] = 70_000
    loaded = pixels(encoded(Image.fromarray(grey), "TIFF"))
    assert np.all(loaded[:, :32] == 0)
    assert np.all(loaded[:, 32:] == 255)


def test_16_bit_colour_is_scaled(photo):
    rows = np.asarray(photo).astype(">u2") * 257
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", 96, 72, 16, 2, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(body))
    assert np.array_equal(pixels(io.BytesIO(file + png_chunk(b"IEND", b""))), photo)


@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("TIFF", "CMYK", {}),
        ("JPEG", "CMYK", {"quality": 95}),
        ("TIFF", "LAB", {}),
        ("TIFF", "YCbCr", {"compression": "jpeg", "quality": 95}),
    ],
)
def test_other_colour_spaces_become_rgb(photo, form, mode, options):
    file = encoded(photo.convert(mode), form, **options)
    assert Image.open(file).mode in (mode, "RGB")
    assert np.abs(pixels(file) - np.asarray(photo)).mean() < 5


# Colour profiles


def numbers(*values: float) -> bytes:
    """Encode numbers in ICC's fixed-point format."""
    return struct.pack(f">{len(values)}i", *(round(65536 * value) for value in values))


def icc_profile(space: bytes, **tags: bytes) -> bytes:
    """Make a version 2 ICC profile with the given tags."""
    white = numbers(0.9642, 1.0, 0.8249)
    tags["wtpt"] = b"XYZ ".ljust(8, b"\0") + white
    table, values = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name.encode() + struct.pack(">II", 132 + 12 * len(tags) + len(values), len(value))
        values += value
    connection, device = (b"Lab ", b"prtr") if space == b"CMYK" else (b"XYZ ", b"mntr")
    header = struct.pack(">8xI4s4s4s12x4s28x", 0x02100000, device, space, connection, b"acsp") + white
    profile = header.ljust(128, b"\0") + table + values
    return struct.pack(">I", len(profile)) + profile[4:]


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma))


def rgb_profile(gamma: float, red: tuple, green: tuple, blue: tuple) -> bytes:
    tags = {"rTRC": curve(gamma), "gTRC": curve(gamma), "bTRC": curve(gamma)}
    for name, primary in ("rXYZ", red), ("gXYZ", green), ("bXYZ", blue):
        tags[name] = b"XYZ ".ljust(8, b"\0") + numbers(*primary)
    return icc_profile(b"RGB ", **tags)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SRGB_PRIMARIES = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139)
ADOBE_PRIMARIES = (0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)
LINEAR_GREY = icc_profile(b"GRAY", kTRC=curve(1.0))
LINEAR_RGB = rgb_profile(1.0, *SRGB_PRIMARIES)
RED_AND_BLUE_SWAPPED = rgb_profile(2.2, *reversed(SRGB_PRIMARIES))


def test_an_srgb_profile_changes_nothing(photo):
    assert np.abs(pixels(encoded(photo, "PNG", icc_profile=SRGB)) - np.asarray(photo)).max() <= 1


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_a_profile_is_applied(form):
    picture = Image.new("RGB", (40, 40), (240, 80, 80))
    loaded = pixels(encoded(picture, form, icc_profile=RED_AND_BLUE_SWAPPED))
    assert np.abs(loaded - (80, 80, 240)).max() < 6


def test_a_wide_gamut_profile_makes_colours_more_vivid_and_greys_no_different():
    picture = Image.new("RGB", (64, 32), (180, 100, 100))
    picture.paste((128, 128, 128), (32, 0, 64, 32))
    loaded = pixels(encoded(picture, "PNG", icc_profile=rgb_profile(2.2, *ADOBE_PRIMARIES)))
    # Adobe RGB's red primary in linear sRGB is (1.3983, 0, 0), its green (-0.3983, 1, 0).
    linear_red, linear_green = (180 / 255) ** 2.2, (100 / 255) ** 2.2
    red = 255 * (1.055 * (1.3983 * linear_red - 0.3983 * linear_green) ** (1 / 2.4) - 0.055)
    assert red > 200
    assert abs(loaded[0, 0, 0] - red) <= 2
    assert np.abs(loaded[0, 0, 1:] - 100).max() <= 2
    assert np.abs(loaded[:, 32:] - 128).max() <= 1


@pytest.mark.parametrize("profile", [LINEAR_GREY, LINEAR_RGB], ids=["grey profile", "RGB profile"])
@pytest.mark.parametrize(
    "picture",
    [
        Image.new("L", (40, 40), 51),
        Image.new("LA", (40, 40), (51, 255)),
        Image.fromarray(np.full((40, 40), 51 * 257, np.uint16)),
    ],
    ids=["grey", "grey with alpha", "16-bit grey"],
)
def test_a_profile_is_applied_to_grey(picture, profile):
    loaded = pixels(encoded(picture, "PNG", icc_profile=profile))
    assert np.abs(loaded - 0.4845 * 255).max() <= 1.5  # linear light 0.2 in sRGB


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_a_profile_is_applied_to_cmyk(form):
    white, grey, black = ((level, 128, 128) for level in (255, 128, 0))  # Lab
    press_whose_coloured_inks_are_grey = bytes((*white, *black, *(7 * (*grey, *black))))
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0\4\3\2\0" + numbers(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += 4 * ramp + press_whose_coloured_inks_are_grey + 3 * ramp
    picture = Image.new("CMYK", (40, 40), (0, 255, 255, 0))
    loaded = pixels(encoded(picture, form, icc_profile=icc_profile(b"CMYK", A2B0=table)))
    assert np.abs(loaded - 119).max() <= 2  # L* = 50


def test_a_profile_leaves_what_is_transparent_white():
    picture = Image.new("RGBA", (64, 32), (255, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (32, 0, 64, 32))
    loaded = pixels(encoded(picture, "PNG", icc_profile=RED_AND_BLUE_SWAPPED))
    assert np.all(loaded[:, :32] == 255)
    assert np.abs(loaded[:, 32:] - (0, 0, 255)).max() <= 1


def test_an_unusable_profile_is_ignored(photo):
    of_no_known_space = SRGB[:16] + b"\xff\xfe\xfd\xfc" + SRGB[20:]
    for profile in b"no profile", SRGB[:200], of_no_known_space, LINEAR_GREY:
        assert np.array_equal(pixels(encoded(photo, "PNG", icc_profile=profile)), photo)


# Size


# TIFF of more than 8 bits


def deep_tiff(samples: np.ndarray, **options) -> io.BytesIO:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, metadata=None, **options)
    return file


RAMP = np.linspace(0, 1, 64 * 48).reshape(48, 64)  # from black to white
COLORS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=2)
FULL = {"u2": 65535, "u4": 2**32 - 1, "u8": 2.0**64 - 2048, "i2": 32767, "f2": 1, "f4": 1, "f8": 1}


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", FULL)
def test_colours_of_any_depth_plane_and_byte_order_are_rounded_to_8_bits(
    dtype, planar, byteorder, compression
):
    samples = (np.moveaxis(COLORS, 2, 0) if planar == "separate" else COLORS) * FULL[dtype]
    samples = samples.astype(dtype).astype(byteorder + dtype)
    options = {"photometric": "rgb", "planarconfig": planar, "compression": compression}
    found = pixels(deep_tiff(samples, byteorder=byteorder, **options))
    assert np.abs(found - 255 * COLORS).max() <= 0.63  # half a level, and 11 bits of a short fraction


@pytest.mark.parametrize("dtype", FULL)
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_grey_of_any_depth_is_rounded_whichever_end_is_white(dtype, photometric, byteorder):
    samples = (RAMP * FULL[dtype]).astype(dtype).astype(byteorder + dtype)
    found = pixels(deep_tiff(samples, photometric=photometric, byteorder=byteorder))[..., 1]
    expected = 255 * (RAMP if photometric == "minisblack" else 1 - RAMP)
    assert np.abs(found - expected).max() <= 0.63


@pytest.mark.parametrize("bits", [9, 10, 12, 14])
def test_bits_between_bytes_are_unpacked(bits):
    """In rows of whole bytes, first bits first, as TIFF 6.0 has it."""
    grey = np.round(RAMP * (2**bits - 1)).astype(np.uint16)
    rows = ("".join(f"{value:0{bits}b}" for value in row) for row in grey)
    packed = b"".join(int(row, 2).to_bytes(8 * bits) for row in rows)  # 64 values of a row
    file = deep_tiff(grey, photometric="minisblack").getvalue()
    file = bytearray(file.replace(grey.tobytes(), packed))
    struct.pack_into("<H", file, tiff_entry(bytes(file), 258) + 8, bits)
    struct.pack_into("<I", file, tiff_entry(bytes(file), 279) + 8, len(packed))
    assert np.array_equal(pixels(io.BytesIO(bytes(file)))[..., 0], np.round(grey * (255 / (2**bits - 1))))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_deep_cmyk_is_read_as_8_bit_cmyk(planar):
    ink = np.concatenate([COLORS, RAMP[..., np.newaxis] / 2], axis=2)
    shallow = Image.fromarray(np.round(255 * ink).astype(np.uint8), "CMYK")
    samples = np.round(65535 * ink).astype(np.uint16)
    samples = np.moveaxis(samples, 2, 0) if planar == "separate" else samples
    deep = deep_tiff(samples, photometric="separated", planarconfig=planar)
    assert np.abs(pixels(deep) - pixels(encoded(shallow, "TIFF"))).max() <= 1


def test_deep_lab_is_read_as_8_bit_lab(photo):
    shallow = photo.convert("LAB")
    levels = np.asarray(shallow).astype(int)
    samples = np.stack([levels[..., 0] * 257, *(np.moveaxis(levels[..., 1:] - 128, 2, 0) * 256)], axis=2)
    deep = deep_tiff(samples.astype(np.uint16), photometric="cielab")
    assert np.abs(pixels(deep) - pixels(encoded(shallow, "TIFF"))).max() <= 1


def test_a_palette_of_16_bit_indices_is_looked_up():
    indices = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
    palette = np.zeros((3, 65536), np.uint16)
    palette[:, : indices.size] = np.moveaxis(COLORS, 2, 0).reshape(3, -1) * 65535
    found = pixels(deep_tiff(indices, photometric="palette", colormap=palette))
    assert np.abs(found - 255 * COLORS).max() <= 0.51


@pytest.mark.parametrize("dtype", ["u2", "f4"])
@pytest.mark.parametrize(("kind", "seen"), [("unassalpha", 0.4), ("assocalpha", 0.4), ("unspecified", 1.0)])
@pytest.mark.parametrize("grey", [False, True])
def test_deep_alpha_is_blended_with_white(dtype, kind, seen, grey):
    colors = RAMP[..., np.newaxis] if grey else COLORS
    stored = 0.4 * colors if kind == "assocalpha" else colors
    samples = np.concatenate([stored, np.full((48, 64, 1), 0.4)], axis=2) * FULL[dtype]
    file = deep_tiff(
        samples.astype(dtype), photometric="minisblack" if grey else "rgb", extrasamples=[kind],
        planarconfig="contig",
    )  # fmt: skip
    assert np.abs(pixels(file) - 255 * (1 - seen + seen * colors)).max() <= 1.6


def test_the_profile_and_the_orientation_of_a_deep_tiff_are_heeded(photo):
    samples = np.asarray(photo).astype(np.uint16) * 257
    deep = deep_tiff(
        samples, photometric="rgb", iccprofile=RED_AND_BLUE_SWAPPED, extratags=[(274, 3, 1, 6, True)]
    )
    exif = Image.Exif()
    exif[274] = 6
    shallow = encoded(photo, "TIFF", icc_profile=RED_AND_BLUE_SWAPPED, exif=exif)
    assert pixels(deep).shape == (96, 72, 3)
    assert np.array_equal(pixels(deep), pixels(shallow))


def test_fractions_beyond_white_are_clipped_and_missing_ones_are_black_unless_most_are_beyond():
    grey = RAMP.astype(np.float32)
    grey[0], grey[1], grey[2] = 7, np.nan, -np.inf
    found = pixels(deep_tiff(grey, photometric="minisblack"))[..., 0]
    assert np.all(found[0] == 255)
    assert np.all(found[1:3] == 0)
    sentence = "The image holds numbers above 1, where 1 is white: please save it as a PNG or JPEG file."
    assert refusal(deep_tiff(255 * grey, photometric="minisblack")) == sentence


def test_deep_colours_that_make_no_picture_are_refused():
    samples = np.zeros((48, 64), np.uint16)
    sentence = "The image has pixels of a rare kind: please save it as a PNG or JPEG file."
    for photometric in "cfa", "logl":
        assert refusal(deep_tiff(samples, photometric=photometric)) == sentence
    assert refusal(deep_tiff(samples.astype(np.complex64), photometric="minisblack")) == sentence
    assert refusal(deep_tiff(np.zeros((48, 64, 3), np.float32), photometric="cielab")) == sentence


@pytest.mark.parametrize("compression", ["jpeg2000", "lerc", "png"])
def test_only_compressions_whose_decoders_know_their_limit_are_read(compression):
    file = deep_tiff(np.zeros((48, 64), np.uint16), photometric="minisblack", compression=compression)
    assert "rare kind" in refusal(file)


def test_a_tile_far_larger_than_its_picture_is_refused():
    file = deep_tiff(np.zeros((48, 64), np.uint16), photometric="minisblack", tile=(32, 32)).getvalue()
    file = bytearray(file)
    for tag in 322, 323:  # width and length of a tile
        struct.pack_into("<I", file, tiff_entry(bytes(file), tag) + 8, 16 * 1024)
    assert refusal(io.BytesIO(bytes(file))) == TOO_LARGE


@pytest.mark.parametrize("software", ["exif", "icc_profile", "transparency", "dpi"])
def test_the_name_of_a_tiffs_software_means_nothing_else(software):
    file = deep_tiff(
        np.zeros((48, 64), np.uint16), photometric="minisblack", software=software, description="a"
    )
    assert np.all(pixels(file) == 0)


def test_a_deep_tiff_is_measured_before_its_pixels_are_decoded():
    assert "too small" in refusal(deep_tiff(np.zeros((31, 64), np.uint16), photometric="minisblack"))
    assert "too long" in refusal(deep_tiff(np.zeros((32, 257), np.uint16), photometric="minisblack"))
    wide = deep_tiff(np.zeros((2000, 2000, 120), np.uint16), photometric="minisblack", planarconfig="contig",
                     compression="zlib")  # fmt: skip
    assert refusal(wide) == TOO_LARGE


@pytest.mark.parametrize("long_side", [40, 768, 1024, 1500])
def test_the_longer_side_is_exactly_as_requested(long_side):
    size = Image.open(PHOTO).size
    _, height, width, _ = load_image(PHOTO, long_side=long_side).shape
    assert max(height, width) == long_side
    assert (height, width) == fitted_size(size[1], size[0], long_side)


def test_the_longer_side_is_that_of_the_upright_picture(photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert pixels(encoded(photo, "JPEG", exif=exif), long_side=48).shape == (48, 36, 3)


def test_loading_at_a_size_is_loading_and_resizing():
    whole = load_image(PHOTO)
    small = load_image(PHOTO, long_side=200)
    error = np.abs(to_uint8(resize(whole, *small.shape[1:3])).astype(int) - to_uint8(small))
    assert error.mean() < 0.5
    assert error.max() < 16


def test_a_smaller_image_is_enlarged_only_where_that_is_wanted(photo):
    assert pixels(encoded(photo, "PNG"), long_side=192).shape == (144, 192, 3)
    assert np.array_equal(pixels(encoded(photo, "PNG"), long_side=192, enlarge=False), photo)
    assert pixels(encoded(photo, "PNG"), long_side=48, enlarge=False).shape == (36, 48, 3)


def test_a_thumbnail_is_a_small_copy_and_never_enlarged(photo, tmp_path):
    photo.save(tmp_path / "photo.png")
    for path in tmp_path / "photo.png", str(tmp_path / "photo.png"):
        small = thumbnail(path, 48)
        assert small.dtype == np.uint8
        assert np.array_equal(small, decode_image(path, long_side=48))
        assert np.array_equal(thumbnail(path, 1000), photo)


@pytest.mark.parametrize(
    ("height", "width", "long_side", "expected"),
    [
        (300, 400, 200, (150, 200)),
        (400, 300, 200, (200, 150)),
        (300, 400, 800, (600, 800)),
        (100, 100, 64, (64, 64)),
        (1000, 333, 100, (100, 33)),
        (32, 256, 64, (16, 128)),
        (256, 32, 64, (128, 16)),
        (32, 256, 128, (16, 128)),
    ],
)
def test_fitted_sizes(height, width, long_side, expected):
    assert fitted_size(height, width, long_side) == expected


def test_the_limits_hold_at_their_edges(photo):
    for size in (32, 32), (32, 256), (256, 32):
        assert pixels(encoded(photo.resize(size), "PNG")).shape == (size[1], size[0], 3)
    for size in (31, 32), (32, 31), (1, 1):
        assert refusal(encoded(photo.resize(size), "PNG")) == (
            "The image is too small: please use one of at least 32 pixels a side."
        )
    for size in (32, 257), (257, 32):
        assert refusal(encoded(photo.resize(size), "PNG")) == (
            "The image is too long and narrow: please crop it to 8:1 or less."
        )


TOO_LARGE = "The image has over 50 megapixels: please use a smaller copy."


def test_50_megapixels_are_allowed_and_not_one_row_more():
    # The file has a header only: who tries to decode it finds it damaged.
    assert "damaged" in refusal(io.BytesIO(png_header(10_000, 5_000)))
    assert refusal(io.BytesIO(png_header(10_000, 5_001))) == TOO_LARGE


def tiff_entry(file: bytes, tag: int) -> int:
    """Find where a little-endian TIFF file keeps a tag: its number, type, count and value."""
    start = struct.unpack_from("<I", file, 4)[0] + 2
    while struct.unpack_from("<H", file, start)[0] != tag:
        start += 12
    return start


def claiming(photo: Image.Image, form: str, side: int) -> bytes:
    """Make a small file whose header claims side x side pixels."""
    if form == "PNG":
        return png_header(side, side)
    options = {"save_all": True, "append_images": [photo.rotate(90)]} if form == "WEBP" else {}
    file = bytearray(encoded(photo, form, **options).getvalue())
    if form == "JPEG":
        start = file.index(b"\xff\xc0") + 5
        file[start : start + 4] = struct.pack(">HH", side, side)
    elif form == "GIF":
        file[6:10] = struct.pack("<HH", side, side)
    elif form == "BMP":
        file[18:26] = struct.pack("<II", side, side)
    elif form == "WEBP":
        file[24:30] = 2 * (side - 1).to_bytes(3, "little")
    elif form == "TIFF":
        for tag in 256, 257:
            struct.pack_into("<I", file, tiff_entry(file, tag) + 8, side)
    elif form == "AVIF":
        start = file.index(b"ispe") + 8
        file[start : start + 8] = struct.pack(">II", side, side)
    return bytes(file)


@pytest.mark.parametrize(
    ("form", "side"),
    [
        (form, side)
        for form in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
        for side in (7_500, 10_000, 60_000)
    ]
    + [("AVIF", 7_500), ("AVIF", 15_000)],  # its decoder knows nothing larger
)
def test_the_size_is_refused_before_any_pixel_is_decoded(photo, form, side):
    file = claiming(photo, form, side)
    assert len(file) < 30_000
    start = time.perf_counter()
    assert refusal(io.BytesIO(file)) == TOO_LARGE
    assert time.perf_counter() - start < 1


def test_warnings_of_pillow_stay_silent(recwarn):
    fresh_load = runpy.run_path(images.__file__)["load_image"]
    with pytest.raises(ValueError, match="megapixels"):
        fresh_load(io.BytesIO(png_header(10_000, 10_000)))
    assert [str(warning.message) for warning in recwarn] == []


# Refusals


UNREADABLE = "This file is not a readable image: please use a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file."
DAMAGED = "The image is damaged or incomplete: please export or download it again."


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0" * 500,
        b"just some words\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"GIF89a",
        b"RIFF\x10\0\0\0WEBPVP8 ",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(300),
        b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(300),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_files_that_are_no_images_are_refused(tmp_path, body):
    path = tmp_path / "<b>visitor<i>.png"
    path.write_bytes(body)
    assert refusal(path) in (UNREADABLE, DAMAGED)


@pytest.mark.parametrize("form", ["PPM", "ICO", "TGA", "PCX", "JPEG2000", "EPS", "PDF"])
def test_formats_off_the_list_are_refused(photo, form):
    assert refusal(encoded(photo, form)) == UNREADABLE


def test_a_file_that_cannot_be_opened_is_refused(tmp_path):
    for path in (tmp_path / "missing.png", str(tmp_path), tmp_path / ("x" * 300), "", "nul\0byte"):
        assert refusal(path) == "The image file cannot be opened: check that it exists and may be read."


@pytest.mark.parametrize("form", ["JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_an_incomplete_file_is_refused(photo, form, part):
    file = encoded(photo, form).getvalue()
    assert refusal(io.BytesIO(file[: int(part * len(file))])) in (DAMAGED, UNREADABLE)


def test_a_text_bomb_is_refused(photo):
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "a" * 50_000_000, zip=True)
    file = encoded(photo, "PNG", pnginfo=text)
    assert len(file.getvalue()) < 200_000
    assert refusal(file) == DAMAGED


@pytest.mark.parametrize("tag", [256, 257, 258, 259, 262, 273, 277])
def test_absurd_tiff_tags_are_refused(photo, tag):
    file = bytearray(encoded(photo, "TIFF").getvalue())
    struct.pack_into("<II", file, tiff_entry(file, tag) + 4, 1, 0xFFFFFFF0)
    assert refusal(io.BytesIO(bytes(file))) in (UNREADABLE, DAMAGED, TOO_LARGE)


def test_running_out_of_memory_is_not_blamed_on_the_image():
    class Exhausting(io.BytesIO):
        def read(self, size=-1):
            raise MemoryError

    with pytest.raises(MemoryError):
        load_image(Exhausting())


def test_damaged_files_end_in_a_picture_or_in_a_sentence(photo):
    chance = random.Random(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [
        encoded(photo, form, exif=exif, icc_profile=SRGB).getvalue()
        for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
    ]
    pictures = sentences = 0
    for _ in range(400):
        file = bytearray(chance.choice(files))
        for _ in range(chance.choice((1, 3, 10))):
            file[chance.randrange(len(file))] = chance.randrange(256)
        try:
            assert load_image(io.BytesIO(bytes(file))).shape[3] == 3
            pictures += 1
        except ImageError:
            sentences += 1
    assert pictures > 20
    assert sentences > 20


# Arrays


def test_every_8_bit_level_survives_the_round_trip():
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    image = from_uint8(levels)
    assert image.shape == (1, 16, 16, 3)
    assert image.dtype == tf.float32
    assert float(tf.reduce_min(image)) == 0.0
    assert float(tf.reduce_max(image)) == 1.0
    assert to_uint8(image).dtype == np.uint8
    assert np.array_equal(to_uint8(image), levels)


def test_to_uint8_clips_and_rounds_to_the_nearest_level():
    values = tf.constant([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 100.4 / 255, 100.6 / 255, 254.6 / 255, 1.0, 7.0])
    image = tf.tile(values[tf.newaxis, tf.newaxis, :, tf.newaxis], (1, 1, 1, 3))
    assert to_uint8(image)[0, :, 0].tolist() == [0, 0, 0, 1, 100, 101, 255, 255, 255]


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8, 3)),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
    ],
)
def test_from_uint8_refuses_other_arrays(wrong):
    with pytest.raises(ValueError, match="uint8"):
        from_uint8(wrong)


# Resizing


def test_resizing_keeps_a_flat_image_flat():
    flat = tf.fill((1, 40, 60, 3), 0.3)
    for height, width in (20, 30), (17, 61), (80, 120):
        resized = resize(flat, height, width)
        assert resized.shape == (1, height, width, 3)
        np.testing.assert_allclose(resized, 0.3, atol=1e-5)


def test_resizing_is_linear_and_does_not_clip():
    detail = tf.random.stateless_normal((1, 40, 60, 3), (1, 2))
    assert float(tf.reduce_min(resize(detail, 60, 90))) < -1
    np.testing.assert_allclose(resize(-2 * detail, 23, 31), -2 * resize(detail, 23, 31), atol=1e-5)


def test_shrinking_does_not_alias():
    board = np.indices((64, 64)).sum(0) % 2
    image = tf.constant(np.repeat(board[np.newaxis, ..., np.newaxis], 3, 3), tf.float32)
    np.testing.assert_allclose(resize(image, 22, 22)[:, 2:-2, 2:-2], 0.5, atol=0.01)


def test_detail_lost_on_the_way_down_is_small_for_a_photo():
    image = load_image(PHOTO, long_side=256)
    there_and_back = resize(resize(image, 96, 128), *image.shape[1:3])
    assert float(tf.reduce_mean(tf.square(there_and_back - image))) < 0.01


# Saving


@pytest.mark.parametrize(
    ("ending", "form", "tolerance"),
    [
        (".png", "PNG", 0),
        (".jpg", "JPEG", 4),
        (".jpeg", "JPEG", 4),
        (".webp", "WEBP", 4),
        (".tif", "TIFF", 1),
        (".tiff", "TIFF", 1),
        (".PNG", "PNG", 0),
        (".ome.tif", "TIFF", 1),
    ],
)
def test_the_ending_names_the_format(tmp_path, ending, form, tolerance):
    image = load_image(PHOTO, long_side=128)
    path = tmp_path / f"picture{ending}"
    for target in path, str(path):
        save_image(image, target)
        assert Image.open(path).format == form
        assert np.abs(pixels(path) - to_uint8(image)).mean() <= tolerance


def test_saved_jpegs_keep_the_sharpness_of_colours(tmp_path):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 255
    save_image(from_uint8(stripes), tmp_path / "stripes.jpg")
    assert np.abs(pixels(tmp_path / "stripes.jpg") - stripes).mean() < 8


@pytest.mark.parametrize("name", ["picture.gif", "picture", "picture.png.txt", ".png"])
def test_other_endings_are_refused_and_nothing_is_written(tmp_path, name):
    with pytest.raises(ImageError) as caught:
        save_image(tf.zeros((1, 32, 32, 3)), tmp_path / name)
    assert (
        str(caught.value)
        == "Pictures are saved as .png, .jpg, .jpeg, .webp, .tif, .tiff: please use one of these endings."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.tif").mkdir()
    for name in "missing/picture.png", "folder.png", "missing/picture.tif", "folder.tif":
        with pytest.raises(ImageError) as caught:
            save_image(tf.zeros((1, 32, 32, 3)), tmp_path / name)
        assert (
            str(caught.value) == "The picture cannot be saved: check that the folder exists and is writable."
        )


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_files_saved_without_loss_have_the_same_pixels_when_they_are_read(tmp_path, ending):
    levels = np.random.default_rng(1).permuted(np.arange(256).repeat(64).reshape(1, -1).repeat(3, 0), axis=1)
    saved = levels.T.reshape(128, 128, 3).astype(np.uint8)  # every level, in every channel, among all others
    save_image(from_uint8(saved), tmp_path / f"picture{ending}")
    assert np.array_equal(pixels(tmp_path / f"picture{ending}"), saved)


def test_a_tiff_has_16_bits_a_channel(tmp_path):
    image = tf.linspace(tf.fill((64, 3), -0.1), tf.fill((64, 3), 1.1), 5000, axis=0)[tf.newaxis]
    save_image(image, tmp_path / "picture.tif", metadata="about")
    assert Image.open(tmp_path / "picture.tif").info["dpi"] == (300, 300)
    found = tifffile.imread(tmp_path / "picture.tif")
    assert found.dtype == np.uint16
    np.testing.assert_allclose(found, 65535 * np.clip(image[0], 0, 1), atol=0.51)
    assert len(np.unique(found)) > 4000
    assert (tmp_path / "picture.tif").stat().st_size < found.nbytes / 10


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tif"])
def test_saved_files_have_the_profile_of_srgb(tmp_path, ending):
    save_image(load_image(PHOTO, long_side=64), tmp_path / f"picture{ending}")
    profile = io.BytesIO(Image.open(tmp_path / f"picture{ending}").info["icc_profile"])
    assert ImageCms.getProfileDescription(ImageCms.getOpenProfile(profile)).startswith("sRGB")


@pytest.mark.parametrize("ending", [".jpg", ".webp"])
def test_a_higher_quality_is_nearer_to_the_picture_in_a_larger_file(tmp_path, ending):
    image, path = load_image(PHOTO, long_side=128), tmp_path / f"picture{ending}"
    sizes, errors = [], []
    for options in {"quality": 1}, {"quality": 60}, {}, {"quality": 100}:  # the default is 95
        save_image(image, path, **options)
        sizes.append(path.stat().st_size)
        errors.append(np.abs(pixels(path) - to_uint8(image)).mean())
    assert sizes == sorted({*sizes})
    assert errors == sorted({*errors}, reverse=True)


def test_webp_of_the_highest_quality_is_exact(tmp_path):
    image = load_image(PHOTO, long_side=64)
    save_image(image, tmp_path / "picture.webp", quality=100)
    assert np.array_equal(pixels(tmp_path / "picture.webp"), to_uint8(image))


def test_two_processes_save_the_same_bytes(tmp_path):
    program = (
        "import sys\nfrom nst.engine.images import load_image, save_image\n"
        f"for path in sys.argv[1:]: save_image(load_image({str(PHOTO)!r}, long_side=40), path)"
    )
    for number in (1, 2):
        paths = [str(tmp_path / f"{number}{ending}") for ending in (".png", ".jpg", ".webp", ".tif")]
        subprocess.run([sys.executable, "-c", program, *paths], check=True, capture_output=True)
        time.sleep(1.1)  # a profile's time is in whole seconds
    for ending in ".png", ".jpg", ".webp", ".tif":
        assert (tmp_path / f"1{ending}").read_bytes() == (tmp_path / f"2{ending}").read_bytes()


@pytest.mark.parametrize("quality", [0, 101, -5, 80.5, float("nan"), "90", None])
def test_any_other_quality_is_refused_and_nothing_is_written(tmp_path, quality):
    for ending in ".png", ".jpg", ".tif":
        with pytest.raises(ImageError) as caught:
            save_image(tf.zeros((1, 32, 32, 3)), tmp_path / f"picture{ending}", quality=quality)
        assert str(caught.value) == "Please set the quality to a whole number from 1 to 100."
    assert list(tmp_path.iterdir()) == []


# Metadata


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("text", ['{"a": [1, 2.5e-7, "\\u03b1"]}', "two\nlines", "x" * MAX_METADATA])
def test_metadata_is_read_as_it_was_saved(tmp_path, ending, text):
    image, path = load_image(PHOTO, long_side=64), tmp_path / f"picture{ending}"
    save_image(image, path, metadata=text)
    assert read_metadata(path) == read_metadata(str(path)) == text
    with path.open("rb") as file:
        file.seek(100)
        assert read_metadata(file) == text
        assert not file.closed
    assert np.array_equal(pixels(path), to_uint8(image))


def test_a_png_keeps_any_text_compressed_and_a_tiff_only_ascii(tmp_path):
    image, text = load_image(PHOTO, long_side=64), "α and β\0" * 10_000
    for name, metadata in ("with.png", text), ("without.png", None), ("picture.tif", text):
        save_image(image, tmp_path / name, metadata=metadata)
    assert read_metadata(tmp_path / "with.png") == text
    assert read_metadata(tmp_path / "picture.tif") is None
    sizes = [(tmp_path / name).stat().st_size for name in ("with.png", "without.png")]
    assert sizes[0] < sizes[1] + 2_000


@pytest.mark.parametrize("ending", [".png", ".tif", ".jpg", ".webp"])
def test_a_picture_saved_without_metadata_has_none(tmp_path, ending):
    path = tmp_path / f"picture{ending}"
    save_image(load_image(PHOTO, long_side=64), path)
    assert read_metadata(path) is None
    if ending in (".jpg", ".webp"):
        save_image(load_image(PHOTO, long_side=64), path, metadata="not kept by this format")
        assert read_metadata(path) is None


def test_text_of_other_programs_is_not_taken_for_metadata(photo, tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("parameters", "a castle")
    assert read_metadata(encoded(photo, "PNG", pnginfo=text)) is None
    assert read_metadata(encoded(photo, "TIFF", description="a castle", software="camera")) is None
    assert read_metadata(encoded(photo, "GIF", comment="a castle")) is None
    assert read_metadata(PHOTO) is None


@pytest.mark.parametrize("shape", [fitted_size(32, 128, 64), fitted_size(100, 800, 500)])
def test_metadata_is_read_from_results_that_are_too_small_or_narrow_as_inputs(tmp_path, shape):
    save_image(tf.zeros((1, *shape, 3)), tmp_path / "picture.png", metadata="about")
    assert read_metadata(tmp_path / "picture.png") == "about"
    assert "too small" in refusal(tmp_path / "picture.png") or "too long" in refusal(tmp_path / "picture.png")


def test_too_much_metadata_is_refused_and_nothing_is_written(tmp_path):
    for ending in ".png", ".tif":
        with pytest.raises(ImageError, match=r"^The picture cannot be saved: there is too much text"):
            save_image(tf.zeros((1, 32, 32, 3)), tmp_path / f"p{ending}", metadata="x" * (MAX_METADATA + 1))
    assert list(tmp_path.iterdir()) == []


def with_chunk(photo: Image.Image, kind: bytes, body: bytes, place: str) -> bytes:
    """Make a PNG file with one more chunk before or after its pixels."""
    file = encoded(photo, "PNG").getvalue()
    at = file.index(b"IDAT") - 4 if place == "before" else file.rindex(b"IEND") - 4
    return file[:at] + png_chunk(kind, METADATA_KEYWORD.encode() + b"\0" + body) + file[at:]


PLAIN, COMPRESSED = b"\0\0\0\0", b"\1\0\0\0"  # how the body of an iTXt chunk goes on after its keyword
TOO_MUCH = "The image has too much text with it: please use the file as it was first saved."


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"iTXt", PLAIN + b"about"),
        (b"iTXt", COMPRESSED + zlib.compress(b"about")),
        (b"zTXt", b"\0" + zlib.compress(b"about")),
        (b"tEXt", b"about"),
    ],
)
def test_metadata_may_stand_before_or_after_the_pixels(photo, kind, body, place):
    assert read_metadata(io.BytesIO(with_chunk(photo, kind, body, place))) == "about"


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(
    ("kind", "body", "sentence"),
    [
        (b"iTXt", PLAIN + b"a" * (MAX_METADATA + 1), TOO_MUCH),
        (b"tEXt", b"a" * (MAX_METADATA + 1), TOO_MUCH),
        (b"tEXt", b"a" * 70_000_000, DAMAGED),
        (b"iTXt", COMPRESSED + zlib.compress(b"a" * 50_000_000), DAMAGED),
        (b"zTXt", b"\0" + zlib.compress(b"a" * 50_000_000), DAMAGED),
    ],
    ids=["iTXt", "tEXt", "longest", "iTXt bomb", "zTXt bomb"],
)
def test_metadata_of_hostile_size_is_refused(photo, kind, body, sentence, place):
    assert refusal(io.BytesIO(with_chunk(photo, kind, body, place)), read_metadata) == sentence


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("body", [COMPRESSED + b"no zlib", PLAIN + b"\xff", b"", b"\1"])
def test_damaged_metadata_is_none(photo, body, place):
    assert read_metadata(io.BytesIO(with_chunk(photo, b"iTXt", body, place))) is None


def test_metadata_of_unreadable_files_is_refused(photo, tmp_path):
    assert "cannot be opened" in refusal(tmp_path / "missing.png", read_metadata)
    assert refusal(io.BytesIO(b"just some words"), read_metadata) == UNREADABLE
    assert refusal(io.BytesIO(png_header(10_000, 5_001)), read_metadata) == TOO_LARGE
    file = with_chunk(photo, b"iTXt", PLAIN + b"about", "before")
    for part in 0.2, 0.5, 0.9:
        assert refusal(io.BytesIO(file[: int(part * len(file))]), read_metadata) in (DAMAGED, UNREADABLE)


def test_damaged_files_end_in_text_or_none_or_in_a_sentence(tmp_path):
    chance = random.Random(2)
    for ending in ".png", ".tif":
        save_image(load_image(PHOTO, long_side=64), tmp_path / f"picture{ending}", metadata="about" * 50)
    files = [(tmp_path / f"picture{ending}").read_bytes() for ending in (".png", ".tif")]
    outcomes = set()
    for _ in range(300):
        file = bytearray(chance.choice(files))
        for _ in range(chance.choice((1, 3, 10))):
            file[chance.randrange(min(len(file), 1500))] = chance.randrange(256)  # where the headers are
        try:
            outcomes.add(type(read_metadata(io.BytesIO(bytes(file)))))
        except ImageError:
            outcomes.add(ImageError)
    assert outcomes == {str, type(None), ImageError}
