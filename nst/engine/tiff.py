"""TIFF files of more than 8 bits a channel, which Pillow cuts, garbles or refuses, as pictures of 8 bits."""

import logging
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import ExifTags, Image

from nst.errors import ImageError

_MODES = {  # by photometric interpretation; how many channels of colour each has
    "MINISBLACK": ("L", 1),
    "MINISWHITE": ("L", 1),
    "PALETTE": ("RGB", 1),
    "RGB": ("RGB", 3),
    "SEPARATED": ("CMYK", 4),
    "CIELAB": ("LAB", 3),
}
_PREMULTIPLIED, _ALPHA = 1, 2  # kinds of extra samples
_ICC_PROFILE = 34675
# Only those whose decoders are told how much may come out: others unfold whatever their data says.
_COMPRESSIONS = {"NONE", "LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "LZMA", "ZSTD"}

# The library logs what is odd about a file, and the command line would print that.
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)


def is_tiff(file: BinaryIO) -> bool:
    """Tell whether a file begins as TIFF and BigTIFF files do."""
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    return start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def decode_deep(file: BinaryIO, check: Callable[[int, int, int], None], software: str) -> Image.Image | None:
    """Decode the first page of a TIFF file that has more than 8 bits a channel, rounded to 8.

    Unsigned integers go from black to white over all their bits, signed ones from 0 to 32,767 at up to 16
    bits and to 65,535 beyond, and fractions from 0 to 1; what is less is black, and what is more is white.
    Profile and orientation stay with the picture.

    Args:
        file: a TIFF file.
        check: called before any pixel is decoded, with width, height and bytes of the pixels; it may raise.
        software: the picture's `info` has the description under this name where the file says that it was
            written by it, as it has a PNG's text under its keyword.

    Returns:
        The picture in mode L, RGB, CMYK or LAB, or LA or RGBA where it is transparent; None where 8 bits are
        enough.

    Raises:
        ImageError: it has no picture that can be shown.
        Exception: of any type, where the file is damaged.
    """
    with tifffile.TiffFile(file) as tiff:
        page: Any = tiff.pages[0]
        bits = int(np.max(page.bitspersample))
        if bits <= 8:
            return None
        of_tile = page.tilewidth * page.tilelength * page.tiledepth * page.samplesperpixel * -(-bits // 8)
        check(page.imagewidth, page.imagelength, max(page.nbytes, of_tile))
        mode, channels = _MODES.get(page.photometric.name, ("", 0))
        is_lab = mode == "LAB"
        if (
            not mode
            or page.imagedepth > 1
            or page.compression.name not in _COMPRESSIONS
            or page.dtype.kind not in "uif"
            or (is_lab and (page.dtype.kind, page.dtype.itemsize) != ("u", 2))
        ):
            raise ImageError("The image has pixels of a rare kind: please save it as a PNG or JPEG file.")
        samples = page.asarray(maxworkers=1)
        if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and samples.ndim == 3:
            samples = np.moveaxis(samples, 0, -1)
        samples = samples.reshape(page.imagelength, page.imagewidth, -1)
        if is_lab:
            levels = _lab_levels(samples[..., :3])
        elif page.photometric.name == "PALETTE":
            levels = _levels(np.moveaxis(page.colormap, 0, -1)[samples[..., 0]], 16)
        else:
            levels = _levels(samples[..., :channels], bits)
        if page.photometric.name == "MINISWHITE":
            levels = 255 - levels
        extra = page.extrasamples[0] if page.extrasamples else None
        if extra in (_PREMULTIPLIED, _ALPHA) and mode in ("L", "RGB"):
            alpha = _levels(samples[..., channels : channels + 1], bits)
            if extra == _PREMULTIPLIED:
                whole = levels * np.float32(255) / np.maximum(alpha, 1)
                levels = np.minimum(np.round(whole), 255).astype(np.uint8)
            levels, mode = np.concatenate([levels, alpha], axis=2), mode + "A"
        picture = Image.frombytes(mode, (page.imagewidth, page.imagelength), levels.tobytes())
        tags = page.tags
        if page.software == software and page.description:
            picture.info[software] = page.description
        if profile := tags.valueof(_ICC_PROFILE):
            picture.info["icc_profile"] = bytes(profile)
        if orientation := tags.valueof(ExifTags.Base.Orientation.value):
            picture.getexif()[ExifTags.Base.Orientation] = int(orientation)
        return picture


def _levels(samples: npt.NDArray[Any], bits: int) -> npt.NDArray[np.uint8]:
    """Round samples of any type to 8 bits."""
    levels: npt.NDArray[np.uint8]
    if samples.dtype.kind == "f":
        known = samples[np.isfinite(samples)]
        if np.count_nonzero(known > 1) > known.size / 2:
            raise ImageError(
                "The image holds numbers above 1, where 1 is white: please save it as a PNG or JPEG file."
            )
        full, samples = 1.0, np.nan_to_num(samples)
    elif samples.dtype.kind == "i":
        full = float(2 ** min(bits - (bits <= 16), 16) - 1)
    else:
        full = float(2**bits - 1)
    if samples.dtype.kind == "u" and bits <= 16:  # by a table, which takes no second array of that size
        levels = np.round(np.arange(2**bits) * (255 / full)).astype(np.uint8)[samples]
    else:
        levels = np.round(np.clip(samples, 0, full) * (255 / full)).astype(np.uint8)
    return levels


def _lab_levels(samples: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Round CIE L*a*b* of 16 bits to that of Pillow, in which a* and b* are 128 more and have no sign."""
    lightness, chroma = samples[..., :1], samples[..., 1:].view(np.int16)
    shifted = np.clip(np.round(chroma / 256) + 128, 0, 255)
    return np.concatenate([_levels(lightness, 16), shifted.astype(np.uint8)], axis=2)
