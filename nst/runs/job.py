"""A run before it begins: its config and its images, read from files in one way for everybody."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from nst.config import TransferConfig
from nst.engine.color import luminance
from nst.engine.images import Pixels, decode_image, decode_mask, from_uint8, open_image
from nst.engine.inputs import check_mask, check_start, check_styles
from nst.errors import ImageError
from nst.runs.record import describe_file


class InputImage(NamedTuple):
    """Hold a decoded image and what the record of its run says of it.

    Args:
        pixels: uint8 (H, W, 3).
        entry: its "name" and, for a file, the "sha256" of its bytes.
    """

    pixels: Pixels
    entry: Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """Hold what a run is made from.

    Images are kept in 8 bits, as they were decoded, because many jobs may wait at once.

    Args:
        config: all settings.
        content: uint8 (H, W, 3).
        styles: uint8 (H, W, 3) each.
        mask: uint8 (H, W, 3), white where the picture is to be painted; or None.
        start: uint8 (H, W, 3), a picture to continue from; or None.
        images: what the record says of the images: an entry for "content" and, where there is one, "mask" and
            "start", and a list of entries for "styles".
    """

    config: TransferConfig
    content: Pixels
    styles: Sequence[Pixels]
    mask: Pixels | None = None
    start: Pixels | None = None
    images: Mapping[str, Any] = field(default_factory=dict)

    def photo(self) -> tf.Tensor:
        """Return the content image as float32 (1, H, W, 3)."""
        return from_uint8(self.content)

    def opacity(self) -> tf.Tensor | None:
        """Return the mask as float32 (1, H, W, 1), or None where there is none."""
        return None if self.mask is None else luminance(from_uint8(self.mask))

    def tensors(self) -> dict[str, Any]:
        """Return the images as `stylize` takes them: "content", "style", "mask" and "start"."""
        return {
            "content": self.photo(),
            "style": [from_uint8(style) for style in self.styles],
            "mask": self.opacity(),
            "start": None if self.start is None else from_uint8(self.start),
        }


def read_image(
    path: Path,
    long_side: int | None = None,
    enlarge: bool = True,
    decode: Callable[..., Pixels] = decode_image,
) -> InputImage:
    """Read an image file: open it once, to decode, describe and hash it.

    Args:
        path: of the file.
        long_side: the longer side of the result in pixels, None to keep the size of the file.
        enlarge: whether a smaller image is enlarged to `long_side`.
        decode: `decode_image` or, for a mask, `decode_mask`.

    Raises:
        ImageError: the file cannot be used.
    """
    with open_image(path) as file:
        pixels = decode(file, long_side=long_side, enlarge=enlarge)
        return InputImage(pixels, describe_file(file))


def read_inputs(
    config: TransferConfig,
    content: Path,
    styles: Sequence[Path],
    *,
    mask: Path | None = None,
    start: Path | InputImage | None = None,
    label: Callable[[str, Path], str] = lambda role, path: role.capitalize(),
    read: Callable[[Path, int, bool], InputImage] = read_image,
) -> Job:
    """Read, resize and check the images of a run: the only way from files to a job.

    Args:
        config: of the run.
        content: file of the content image.
        styles: files of the style images.
        mask: file of the mask, or None.
        start: a picture to continue from, or its file, which is reduced to the result if larger; or None.
        label: names a file in an error, from its role ("photo", "painting", "mask" or "start") and its path.
        read: reads the file of an image, as `read_image` does.

    Raises:
        ImageError: "LABEL: why that file cannot be used".
        ConfigError: the images and the config do not go together.
    """

    def read_as(
        role: str, path: Path, long_side: int, enlarge: bool = True, by: Callable[..., InputImage] = read
    ) -> InputImage:
        try:
            return by(path, long_side, enlarge)
        except ImageError as error:
            raise ImageError(f"{label(role, path)}: {error}") from error

    photo = read_as("photo", content, config.size)
    style_size = round(config.size * config.style_scale)
    paintings = [read_as("painting", style, style_size) for style in styles]
    images: dict[str, Any] = {"content": photo.entry, "styles": [painting.entry for painting in paintings]}
    masks = partial(read_image, decode=decode_mask)
    masking = read_as("mask", mask, config.size, by=masks) if mask is not None else None
    if masking is not None:
        images["mask"] = masking.entry
    if isinstance(start, Path):
        start = read_as("start", start, config.size, enlarge=False)
    if start is not None:
        images["start"] = start.entry
    job = Job(
        config,
        photo.pixels,
        [painting.pixels for painting in paintings],
        masking.pixels if masking else None,
        start.pixels if start else None,
        images,
    )
    check_styles(len(styles), config, job.opacity())
    if job.mask is not None:
        check_mask(job.mask.shape[:2], job.content.shape[:2])
    if job.start is not None:
        check_start(job.start.shape[:2], job.content.shape[:2])
    return job
