"""The files that visitors upload: found here, and checked when read_inputs() opens them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gradio.data_classes import FileData

from nst.config import MAX_STYLES, PRESETS, TransferConfig
from nst.errors import ConfigError, ImageError
from nst.runs.job import InputImage, Job, read_inputs


def uploaded_file(value: Any, role: str) -> Path:
    """Find an uploaded file.

    Args:
        value: what the browser sent of it, which may be anything; Gradio has checked that the file was
            uploaded, if it is marked as one.
        role: what the file is for, such as "photo".

    Raises:
        ImageError: there is no such file.
    """
    if value is None:
        raise ImageError(f"Please add a {role} first.")
    try:
        path = Path(FileData.model_validate(value, context={"validate_meta": True}).path)
    except ValueError as error:
        raise ImageError(f"Please send the {role} as a file (with gradio_client: handle_file).") from error
    if not path.exists():
        raise ImageError(f"The {role} is no longer kept: please add it again.")
    return path


@dataclass(frozen=True)
class RunRequest:
    """Hold what a visitor sent for a run, unchecked: any field may be anything.

    Args:
        content: the photo.
        styles: the paintings.
        settings: the settings that were given; all others are those of the preset.
        preset: the name of a preset.
        mask: a mask, if any.
        start: the picture to continue from, if any: an upload, or an image of this server's own.
    """

    content: Any
    styles: Any
    settings: Mapping[str, Any]
    preset: Any
    mask: Any = None
    start: Any = None

    def config(self) -> TransferConfig:
        """Put the settings together.

        Raises:
            ConfigError: one of them can't be used.
        """
        if self.preset not in tuple(PRESETS):  # a tuple, since the preset need not be hashable
            raise ConfigError(f"Please choose the preset from {', '.join(PRESETS)}.")
        return replace(PRESETS[self.preset], **self.settings)

    def read(self, config: TransferConfig) -> Job:
        """Read and check the images.

        Raises:
            ConfigError, ImageError: they can't be used.
        """
        if not isinstance(self.styles, Sequence) or isinstance(self.styles, str):
            raise ConfigError("Please give more styles as a list of files.")
        start = self.start
        if start is not None and not isinstance(start, InputImage):
            start = uploaded_file(start, "start")
        return read_inputs(
            config,
            uploaded_file(self.content, "photo"),
            # One too many is enough to be refused.
            [uploaded_file(style, "painting") for style in self.styles[: MAX_STYLES + 1]],
            mask=None if self.mask is None else uploaded_file(self.mask, "mask"),
            start=start,
        )
