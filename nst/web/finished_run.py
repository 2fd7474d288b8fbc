"""A run that has ended, as files: its pictures, and everything that a visitor can download."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from nst.engine.color import blend
from nst.engine.images import Pixels, from_uint8, resize, save_image, to_uint8
from nst.errors import ImageError
from nst.runs.animation import frames_over_photo, save_animation
from nst.runs.job import InputImage
from nst.runs.record import save_losses, save_record
from nst.serving.queue import Run

PICTURES = {"PNG with settings": ".png", "JPEG": ".jpg", "WebP": ".webp"}
ANIMATIONS = {"The run as a film (MP4)": ".mp4", "The run as an animation (WebP)": ".webp"}
TABLES = {"The losses (CSV)": ".csv", "The run record (JSON)": ".json"}
FORMATS = [*PICTURES, *ANIMATIONS, *TABLES]
LOSSY = [name for name in FORMATS if name not in TABLES and not name.startswith("PNG")]
QUALITY = 90  # of a lossy picture, where the visitor says nothing

_KEPT = "finished.json"


@dataclass(frozen=True)
class FinishedRun:
    """Hold the files of a run that has ended.

    Args:
        folder: where its files lie.
        name: the name of its picture's file when it is downloaded.
        panes: the files of its photo and its painting, as they were given.
        photo: the photo, as large as the result.
        moments: pictures of the run in 8 bits; the last one is the result.
        steps: the step of each moment.
        record: the run record.
        is_example: whether it came with the examples, and is nobody's own.
    """

    folder: Path
    name: str
    panes: tuple[str, ...]
    photo: Path
    moments: tuple[Path, ...]
    steps: tuple[int, ...]
    record: Mapping[str, Any]
    is_example: bool = False

    def picture(self, number: int, strength: float = 1.0) -> tf.Tensor:
        """Lay a moment over the photo.

        Args:
            number: of the moment, counted from 1.
            strength: how far it covers the photo.

        Returns:
            float32 (1, H, W, 3), as large as the moment.
        """
        moment = from_uint8(_read(self.moments[number - 1]))
        return moment if strength == 1 else blend(moment, from_uint8(_read(self.photo)), strength)

    def start(self, number: int) -> InputImage:
        """Make a moment the picture that another run continues from."""
        entry = {"name": f"step {self.steps[number - 1]} of the run before"}
        return InputImage(_read(self.moments[number - 1]), entry)

    def shown(self, number: int, strength: float) -> Path:
        """Find, or make, a picture that is as large as the result, to be looked at beside the photo."""
        if (number, strength) == (len(self.moments), 1):
            return self.moments[-1]
        height, width = _read(self.moments[-1]).shape[:2]
        file = self._new_file("picture.png")
        save_image(resize(self.picture(number, strength), height, width), file)
        return file

    def saved(self, number: int, strength: float, form: str, quality: int) -> Path:
        """Find, or make, the file that is downloaded.

        Args:
            number: of the moment, counted from 1.
            strength: how far it covers the photo.
            form: one of FORMATS.
            quality: of a lossy picture, from 1 to 100.
        """
        ending = {**PICTURES, **ANIMATIONS, **TABLES}[form]
        step = self.steps[number - 1]
        own = self.folder / f"{self.name}.png"  # as write_files() has written the result
        if ending == ".png" and (number, strength) == (len(self.moments), 1) and own == self.moments[-1]:
            return own
        name = self.name if form not in PICTURES or step == self.steps[-1] else f"{self.name}--step-{step}"
        file = self._new_file(f"{name}{ending}")
        record = _record_of(self.record, step, strength)
        if form in PICTURES:
            save_image(self.picture(number, strength), file, quality=quality, metadata=json.dumps(record))
        elif form in ANIMATIONS:
            frames = frames_over_photo(_read(self.photo), map(_read, self.moments), strength)
            save_animation(frames, file, quality=quality)
        elif ending == ".csv":
            save_losses(self.record["history"], file)
        else:
            save_record(record, file)
        return file

    def _new_file(self, name: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.folder), name)


def write_files(run: Run, name: str, folder: Path, panes: Sequence[str]) -> FinishedRun:
    """Write the files of a run that has ended with a picture.

    The result is encoded once, with the run record in it: it is what the page shows and what Save hands out.

    Args:
        run: the run.
        name: what its picture is called.
        folder: an empty folder.
        panes: the files of photo and painting.
    """
    recorder = run.recorder
    record = recorder.record(run.job, run.backbone)
    *earlier, last = recorder.moments
    height, width = last.pixels.shape[:2]
    moments = [folder / f"step-{moment.row['step']}.png" for moment in earlier]
    for moment, file in zip(earlier, moments, strict=True):
        _write(moment.pixels, file)
    moments.append(folder / f"{name}.png")
    text = json.dumps(_record_of(record, last.row["step"], strength=1))
    save_image(recorder.picture, moments[-1], metadata=text)
    photo = run.job.content
    if photo.shape[:2] != (height, width):  # stopped at a smaller level
        photo = to_uint8(resize(run.job.photo(), height, width))
    _write(photo, folder / "photo.png")
    steps = tuple(int(moment.row["step"]) for moment in recorder.moments)
    finished = FinishedRun(folder, name, tuple(panes), folder / "photo.png", tuple(moments), steps, record)
    values = {
        "name": name,
        "moments": [moment.name for moment in moments],
        "steps": steps,
        "record": record,
        "panes": panes,
    }
    (folder / _KEPT).write_text(json.dumps(values), encoding="utf-8")
    return finished


def read_files(folder: Path) -> FinishedRun | None:
    """Read what `write_files` has written; None where it is gone."""
    try:
        values = json.loads((folder / _KEPT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    moments, steps = (folder / name for name in values["moments"]), tuple(values["steps"])
    panes, photo = tuple(values["panes"]), folder / "photo.png"
    return FinishedRun(folder, values["name"], panes, photo, tuple(moments), steps, values["record"])


def _record_of(record: Mapping[str, Any], step: float, strength: float) -> dict[str, Any]:
    """Make the record of one moment, as it is saved with its picture."""
    return {**record, "config": {**record["config"], "strength": strength}, "shown": step}


def _write(pixels: Pixels, file: Path) -> None:
    Image.fromarray(pixels).save(file, compress_level=1)


def _read(path: Path) -> Pixels:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except FileNotFoundError as error:
        raise ImageError("This run's pictures are no longer kept: please run it once more.") from error
