"""Hostile, broken and odd files."""

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

PHOTO = Path(__file__).parents[1] / "examples" / "content" / "chenonceau.jpg"


def saved(size=(64, 48), mode="RGB", color=0, **options) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, color).save(file, **options)
    return file.getvalue()


def photo(format: str) -> bytes:
    file = io.BytesIO()
    Image.open(PHOTO).resize((320, 240)).save(file, format)
    return file.getvalue()


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_head(width: int, height: int, depth: int = 8, color: int = 2) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)


def patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header says another size than its data has."""
    whole = photo("JPEG")
    at = whole.index(b"\xff\xc0") + 5
    return patched(whole, at, struct.pack(">HH", height, width))


END = (b"IEND", b"")
PIXELS = (b"IDAT", zlib.compress(bytes(100)))
LARGE = (12_000, 12_000)

FILES: dict[str, bytes] = {
    "nothing": b"",
    "one byte": b"\0",
    "zeros": bytes(100_000),
    "noise": np.random.default_rng(0).bytes(100_000),
    "text": b"not an image\n" * 1000,
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>',
    "svg that asks for a file": b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
    "html": b"<!doctype html><script>alert(1)</script>",
    "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(x) run\n",
    "python": b"import os\nos.system('id')\n",
    "shell": b"#!/bin/sh\nid\n",
    "program": b"\x7fELF\x02\x01\x01" + bytes(200),
    "zip": b"PK\x03\x04" + bytes(200),
    "gzip of a picture": gzip.compress(photo("PNG")),
    "xpm": b'/* XPM */\nstatic char *x[] = {"64 64 1 1", "a c #000000",',
    "ppm": b"P6 64 64 255\n" + bytes(64 * 64 * 3),
    "psd": b"8BPS\0\1" + bytes(200),
    "icns": b"icns" + bytes(200),
    "video": b"\0\0\0\x18ftypmp42" + bytes(200),
    "bomb, png": saved(LARGE, "1", format="PNG"),
    "bomb, tiff": saved(LARGE, "1", format="TIFF", compression="group4"),
    "bomb, gif": saved((9_000, 9_000), "P", format="GIF"),
    "bomb, webp": saved((16_000, 4_000), format="WEBP", lossless=True),
    "bomb, jpeg": saved((9_000, 9_000), "L", format="JPEG", quality=1),
    "bomb, bmp header": patched(saved(format="BMP"), 18, struct.pack("<ii", 20_000, 20_000)),
    "png that says 4 gigapixels": png(png_head(2**16, 2**16), PIXELS, END),
    "png of the largest size": png(png_head(2**31 - 1, 2**31 - 1), PIXELS, END),
    "png of no width": png(png_head(0, 64), PIXELS, END),
    "png of no height": png(png_head(64, 0), PIXELS, END),
    "png of another depth": png(png_head(64, 64, depth=7), PIXELS, END),
    "png of no colour type": png(png_head(64, 64, color=9), PIXELS, END),
    "png with too few pixels": png(png_head(640, 640), PIXELS, END),
    "png without pixels": png(png_head(640, 640), END),
    "png without a header": png(PIXELS, END),
    "png whose pixels are noise": png(
        png_head(640, 640), (b"IDAT", np.random.default_rng(1).bytes(9999)), END
    ),
    "png whose text unfolds": png(
        png_head(640, 640), (b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000))), PIXELS, END
    ),
    "png whose profile unfolds": png(
        png_head(640, 640), (b"iCCP", b"a\0\0" + zlib.compress(bytes(200_000_000))), PIXELS, END
    ),
    "png of a chunk longer than the file": patched(photo("PNG"), 33, b"\x7f\xff\xff\xff"),
    "jpeg that says more than it has": jpeg_of(60_000, 60_000),
    "jpeg of no height": jpeg_of(320, 0),
    "jpeg of no width": jpeg_of(0, 240),
    "jpeg of a marker alone": b"\xff\xd8\xff\xe1\xff\xff",
    "gif of a comment without an end": photo("GIF")[:13] + b"\x21\xfe" + b"\xffx" * 50_000,
    "tiff whose directory is itself": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "tiff whose directory is beyond it": b"II*\0\xff\xff\xff\x7f",
    "tiff of a million tags": b"II*\0\x08\0\0\0\xff\xff" + bytes(12 * 65_535),
    "webp that says more than it has": patched(photo("WEBP"), 4, b"\xff\xff\xff\x7f")[:900],
    "avif of a box without an end": b"\0\0\0\x1cftypavif" + bytes(16) + b"\xff\xff\xff\xffmeta",
    "too small": saved((31, 31), format="PNG"),
    "one pixel": saved((1, 1), format="GIF"),
    "a line": saved((40_000, 1), format="PNG"),
    "a strip": saved((900, 100), format="PNG"),
    "floating-point numbers beyond white": saved(mode="F", color=255.0, format="TIFF"),
    "page of a picture": b"<html>" + photo("PNG"),
    "script before a picture": b"GIF89a/*" + photo("GIF") + b"*/=1;alert(1)",
    **{
        f"{format}, its first {percent} %": photo(format)[: len(photo(format)) * percent // 100]
        for format in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF")
        for percent in (1, 10, 50, 90)
    },
}


def with_text(size: int) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * size)
    file = io.BytesIO()
    Image.open(io.BytesIO(photo("PNG"))).save(file, "PNG", pnginfo=text)
    return file.getvalue()


def animated(frames: int) -> bytes:
    file = io.BytesIO()
    first, *others = (Image.new("L", (64, 48), frame % 256) for frame in range(frames))
    first.save(file, "GIF", save_all=True, append_images=others)
    return file.getvalue()


ODD: dict[str, bytes] = {
    "a screen of no size": patched(photo("GIF"), 6, bytes(4)),
    "much text": with_text(500_000),
    "thousands of frames": animated(3000),
    "a long EXIF block": saved(format="JPEG", exif=b"Exif\0\0" + bytes(60_000)),
    "a broken EXIF block": saved(format="JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "a broken profile": saved(format="JPEG", icc_profile=b"x" * 300_000),
    "a profile cut off": saved(
        format="PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()[:200]
    ),
    "a page behind it": photo("JPEG") + b"<script>alert(1)</script>" * 1000,
    "an archive behind it": photo("PNG") + b"PK\x03\x04" + bytes(100_000),
}
