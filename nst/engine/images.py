"""Image files become clean sRGB images, and images become files again.

An image inside the engine is a float32 tensor (1, H, W, 3), sRGB in [0, 1]. Outside it, and while a run
waits, it is an array of 8-bit pixels (H, W, 3), as it was decoded.
"""

import io
import struct
import warnings
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tifffile
from PIL import (
    ExifTags,
    Image,
    ImageChops,
    ImageCms,
    ImageOps,
    PngImagePlugin,
    UnidentifiedImageError,
)

from nst.engine.tiff import decode_deep, is_tiff
from nst.errors import ImageError
from nst.formats import READ_FORMATS, SAVED_ENDINGS

Array = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 50_000_000
_MOST_BYTES = 8  # a pixel: four channels of 16 bits
MIN_SIDE = 32  # pixels
MAX_ASPECT = 8
METADATA_KEYWORD = "neural-style-transfer"  # the key of a PNG's metadata, and the "software" of a TIFF
MAX_METADATA = 1_000_000  # characters; Pillow refuses a PNG file whose compressed text has over 2**20 bytes
_CREATED = struct.pack(">6H", 2024, 1, 1, 0, 0, 0)  # not the time of this process: equal pixels, equal files
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SRGB_PROFILE = _SRGB[:24] + _CREATED + _SRGB[36:]

_TOO_LARGE = f"The image has over {MAX_PIXELS // 1_000_000} megapixels: please use a smaller copy."
_TO_UPRIGHT = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow warns about odd metadata, and the command line would print that. The filter is set once, because a
# filter around each call is not thread-safe.
warnings.filterwarnings("ignore", module=r"PIL\.")


def load_image(
    source: Path | str | BinaryIO, *, long_side: int | None = None, enlarge: bool = True
) -> tf.Tensor:
    """Read an image file, or the first frame of an animation: upright, in sRGB, on white.

    Args:
        source: the file, or its path.
        long_side: the longer side of the result in pixels, None to keep the size of the file.
        enlarge: whether a smaller image is enlarged to `long_side`.

    Returns:
        float32 (1, H, W, 3) in [0, 1].

    Raises:
        ImageError: the file cannot be used. Its header is checked before any pixel is decoded.
    """
    return from_uint8(decode_image(source, long_side=long_side, enlarge=enlarge))


def decode_image(
    source: Path | str | BinaryIO, *, long_side: int | None = None, enlarge: bool = True
) -> Pixels:
    """Read an image file as `load_image` does, into 8-bit sRGB pixels.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ImageError: as `load_image`.
    """
    if isinstance(source, str | Path):
        with open_image(source) as file:
            return decode_image(file, long_side=long_side, enlarge=enlarge)
    colors, alpha = _to_srgb(_to_upright(_decode(source)))
    if alpha is not None:
        colors = Image.composite(colors, Image.new("RGB", colors.size, "white"), alpha)
    return np.asarray(_fitted(colors, long_side, enlarge))


def decode_mask(source: BinaryIO, *, long_side: int | None = None, enlarge: bool = True) -> Pixels:
    """Read the file of a mask as `decode_image` reads an image, unless it is transparent in places.

    What is transparent counts as black. What is opaque counts as white, unless it is a mask itself: mostly
    black and white, with some of both.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ImageError: as `load_image`.
    """
    colors, alpha = _to_srgb(_to_upright(_decode(source)))
    smooth = Image.Resampling.BILINEAR  # Lanczos would ring, and paint a little where the mask is black
    colors = _fitted(colors, long_side, enlarge, smooth)
    if alpha is not None and alpha.getextrema() != (255, 255):
        alpha = _fitted(alpha, long_side, enlarge, smooth)
        visible = np.asarray(colors)[np.asarray(alpha) > 127]
        black = np.count_nonzero(np.all(visible < 64, axis=1))
        white = np.count_nonzero(np.all(visible > 191, axis=1))
        is_mask = min(black, white) > 0.01 * len(visible) and black + white > 0.9 * len(visible)
        grey = ImageOps.grayscale(colors) if is_mask else Image.new("L", colors.size, "white")
        colors = ImageChops.multiply(grey, alpha).convert("RGB")
    return np.asarray(colors)


def thumbnail(path: Path | str, long_side: int) -> Pixels:
    """Read an image file as a small copy with a longer side of at most `long_side` pixels.

    Returns:
        uint8 (h, w, 3).

    Raises:
        ImageError: as `load_image`.
    """
    return decode_image(path, long_side=long_side, enlarge=False)


def open_image(path: Path | str) -> BufferedReader:
    """Open an image file for reading.

    Raises:
        ImageError: there is no such file, or it may not be read.
    """
    try:
        return Path(path).open("rb")
    except (OSError, ValueError) as error:
        raise ImageError("The image file cannot be opened: check that it exists and may be read.") from error


def _decode(file: BinaryIO, *, any_shape: bool = False) -> Image.Image:
    check = partial(_check_header, any_shape=any_shape)
    try:
        if not file.seekable():
            file = io.BytesIO(file.read())
        picture = decode_deep(file, check, METADATA_KEYWORD) if is_tiff(file) else None
        if picture is None:
            picture = Image.open(file, formats=READ_FORMATS)
            check(*picture.size)
            picture.load()
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(_TOO_LARGE) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            "This file is not a readable image: please use a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file."
        ) from error
    except Exception as error:  # there is no end to the types that Pillow's decoders raise on damaged files
        raise ImageError("The image is damaged or incomplete: please export or download it again.") from error
    for name in ("icc_profile", "transparency", "xmp"):  # which a PNG's text chunk of that name replaces
        if isinstance(picture.info.get(name), str):
            del picture.info[name]
    return picture


def _check_header(width: int, height: int, size: int = 0, *, any_shape: bool) -> None:
    """Check the sides of a picture, and the bytes of its pixels where they may be many."""
    short_side, long_side = sorted((width, height))
    if short_side * long_side > MAX_PIXELS or size > MAX_PIXELS * _MOST_BYTES:
        raise ImageError(_TOO_LARGE)
    if any_shape:
        return
    if short_side < MIN_SIDE:
        raise ImageError(f"The image is too small: please use one of at least {MIN_SIDE} pixels a side.")
    if long_side > MAX_ASPECT * short_side:
        raise ImageError(f"The image is too long and narrow: please crop it to {MAX_ASPECT}:1 or less.")


def _to_upright(picture: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose would rewrite the whole EXIF block, and fail where a camera wrote it oddly.
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, struct.error):  # the picture may be fine where its EXIF block is damaged
        return picture
    return picture.transpose(_TO_UPRIGHT[orientation]) if orientation in _TO_UPRIGHT else picture


def _to_srgb(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Convert a picture to RGB, and its transparency, if it has any, to a channel of its own."""
    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to 8 bits instead of scaling it
        grey = np.clip(np.asarray(picture), 0, 65535).astype(np.int32)
        grey[grey == picture.info.get("transparency")] = 65535
        picture = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    alpha = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else None
    if picture.mode != "CMYK":
        picture = picture.convert("L" if picture.mode in ("L", "LA") else "RGB")
    if profile and _undated(profile) != _undated(SRGB_PROFILE):  # the conversion would change nothing
        picture = _apply_profile(picture, profile)
    return picture.convert("RGB"), alpha


def _fitted(
    picture: Image.Image,
    long_side: int | None,
    enlarge: bool,
    resample: Image.Resampling = Image.Resampling.LANCZOS,
) -> Image.Image:
    """Resize a picture as `load_image` does."""
    if long_side is None or not (enlarge or max(picture.size) > long_side):
        return picture
    height, width = fitted_size(picture.height, picture.width, long_side)
    return picture.resize((width, height), resample, reducing_gap=3.0)


def _undated(profile: bytes) -> bytes:
    """Leave the creation time out of an ICC profile (ICC.1:2022, 7.2.8)."""
    return profile[:24] + profile[36:]


def _apply_profile(picture: Image.Image, profile: bytes) -> Image.Image:
    if profile[16:20] == b"RGB ":  # the profile's colour space: grey pictures often carry an RGB profile
        picture = picture.convert("RGB")
    try:
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(io.BytesIO(profile), srgb, picture.mode, "RGB").apply(picture)
    except ImageCms.PyCMSError:  # damaged, or for another colour space: ignore it
        return picture


def from_uint8(pixels: Pixels) -> tf.Tensor:
    """Turn 8-bit sRGB pixels into an image.

    Args:
        pixels: uint8 (H, W, 3).

    Returns:
        float32 (1, H, W, 3) in [0, 1].

    Raises:
        ValueError: the pixels have another type or shape.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels must be uint8 (H, W, 3), not {pixels.dtype} {pixels.shape}")
    return tf.constant(pixels[np.newaxis] / np.float32(255))


def to_uint8(image: tf.Tensor) -> Pixels:
    """Turn an image into 8-bit sRGB pixels, clipped and rounded.

    Args:
        image: float32 (1, H, W, 3).

    Returns:
        uint8 (H, W, 3).
    """
    levels = tf.round(255.0 * tf.clip_by_value(tf.squeeze(image, axis=0), 0.0, 1.0))
    pixels: Pixels = tf.cast(levels, tf.uint8).numpy()
    return pixels


def fitted_size(height: int, width: int, long_side: int) -> tuple[int, int]:
    """Compute the height and the width in pixels that keep the aspect and have the given longer side.

    No side falls below 16 pixels, because VGG's deepest block works at 1/16 of the size: a narrow image stays
    larger.
    """
    scale = max(long_side / max(height, width), 16 / min(height, width))
    return round(height * scale), round(width * scale)


def resize(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Resample an image with an antialiased Lanczos filter.

    Args:
        image: float32 (1, H, W, c).
        height: in pixels.
        width: in pixels.

    Returns:
        float32 (1, height, width, c). Nothing is clipped: signed detail passes through, and sharp edges
        overshoot a little.
    """
    if image.shape[1:3] == (height, width):  # TensorFlow would make a copy
        return image
    return tf.image.resize(image, (height, width), method="lanczos3", antialias=True)


def save_image(image: tf.Tensor, path: Path | str, *, quality: int = 95, metadata: str | None = None) -> None:
    """Write an image in the format that the ending of the path names, with the profile of sRGB.

    Args:
        image: float32 (1, H, W, 3).
        path: ends with one of SAVED_ENDINGS. TIFF gets 16 bits a channel, the others 8.
        quality: of JPEG and WebP, from 1 to 100; WebP of 100 is without loss.
        metadata: text for `read_metadata`, kept by PNG, and by TIFF where it is ASCII.

    Raises:
        ImageError: the ending, the quality or the text cannot be used, or the file cannot be written.
    """
    ending = Path(path).suffix.lower()
    if ending not in SAVED_ENDINGS:
        raise ImageError(
            f"Pictures are saved as {', '.join(SAVED_ENDINGS)}: please use one of these endings."
        )
    check_quality(quality)
    if metadata is not None and len(metadata.encode()) > MAX_METADATA:
        raise ImageError("The picture cannot be saved: there is too much text to go with it.")
    try:
        if ending in (".tif", ".tiff"):
            _save_tiff(image, path, metadata)
        else:
            text = PngImagePlugin.PngInfo()
            if metadata is not None:
                text.add_itxt(METADATA_KEYWORD, metadata, zip=True)
            Image.fromarray(to_uint8(image)).save(
                path,
                quality=quality,
                lossless=quality == 100,  # of WebP, which otherwise halves the resolution of colours
                subsampling=0,
                icc_profile=SRGB_PROFILE,
                pnginfo=text,
            )
    except OSError as error:
        raise ImageError(
            "The picture cannot be saved: check that the folder exists and is writable."
        ) from error


def check_quality(quality: int) -> None:
    """Check the quality of a saved picture.

    Raises:
        ImageError: it is no whole number from 1 to 100.
    """
    if not isinstance(quality, int) or not 1 <= quality <= 100:
        raise ImageError("Please set the quality to a whole number from 1 to 100.")


def _save_tiff(image: tf.Tensor, path: Path | str, metadata: str | None) -> None:
    fits = metadata is not None and metadata.isascii() and "\0" not in metadata  # all that TIFF allows
    tifffile.imwrite(
        path,
        np.round(65535 * np.clip(np.asarray(image)[0], 0, 1)).astype(np.uint16),
        photometric="rgb",
        compression="zlib",
        predictor=True,
        iccprofile=SRGB_PROFILE,
        description=metadata if fits else None,
        software=METADATA_KEYWORD,
        resolution=(300, 300),
        resolutionunit="INCH",
        metadata=None,  # tifffile would add the shape of the array
        ome=False,  # even where the file name has .ome. in it
    )


def read_metadata(source: Path | str | BinaryIO) -> str | None:
    """Read the text that `save_image` was given as metadata.

    Returns:
        The text, or None where the file has none.

    Raises:
        ImageError: the file is no readable image, or its text is too long.
    """
    if isinstance(source, str | Path):
        with open_image(source) as file:
            return read_metadata(file)
    picture = _decode(source, any_shape=True)  # pixels included, because a PNG's text may follow them
    text = picture.info.get(METADATA_KEYWORD)
    if not isinstance(text, str):
        return None
    if len(text) > MAX_METADATA:
        raise ImageError("The image has too much text with it: please use the file as it was first saved.")
    return str(text)
