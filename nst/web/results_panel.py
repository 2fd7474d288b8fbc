"""The results as components: the picture and its losses, every moment of the run, and what to take home."""

import json
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import tensorflow as tf
from PIL import Image

from nst.engine.images import from_uint8, resize, save_image, to_uint8
from nst.engine.parameterization import blended
from nst.runs.animation import save_animation
from nst.runs.record import save_losses, save_record
from nst.serving.middleware import Chores
from nst.serving.queue import Run
from nst.study.charts import loss_chart
from nst.web.components import QUIETLY, slider, status

PICTURES = {"PNG with settings": ".png", "JPEG": ".jpg", "WebP": ".webp"}
ANIMATIONS = {"The run as a film (MP4)": ".mp4", "The run as an animation (WebP)": ".webp"}
TABLES = {"The losses (CSV)": ".csv", "The run record (JSON)": ".json"}
FORMATS = [*PICTURES, *ANIMATIONS, *TABLES]
LOSSY = [name for name in FORMATS if name not in TABLES and not name.startswith("PNG")]
QUALITY = 90
_KEPT = "finished.json"


@dataclass(frozen=True)
class Finished:
    """A run that has ended, as files in a folder of its own."""

    folder: Path
    name: str
    photo: Path
    moments: tuple[Path, ...]  # pictures in 8 bits; the last one is the result
    steps: tuple[int, ...]  # of each moment
    record: Mapping[str, Any]

    def picture(self, number: int, strength: float = 1.0) -> tf.Tensor:
        """Moment `number`, counted from 1, laid over the photo: (1, H, W, 3)."""
        return blended(_read(self.moments[number - 1]), _read(self.photo), strength)

    def file(self, name: str) -> Path:
        """Where a new file of that name can be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.folder), name)

    def shown(self, number: int, strength: float) -> Path:
        """A picture as large as the result, to be looked at."""
        if (number, strength) == (len(self.moments), 1):
            return self.moments[-1]
        height, width = _read(self.moments[-1]).shape[1:3]
        file = self.file("picture.png")
        save_image(resize(self.picture(number, strength), height, width), file)
        return file

    def saved(self, number: int, strength: float, form: str, quality: int) -> Path:
        """What one of FORMATS takes home."""
        ending = {**PICTURES, **ANIMATIONS, **TABLES}[form]
        step = self.steps[number - 1]
        name = self.name if form not in PICTURES or step == self.steps[-1] else f"{self.name}--step-{step}"
        file = self.file(f"{name}{ending}")
        record = {**self.record, "config": {**self.record["config"], "strength": strength}, "shown": step}
        if form in PICTURES:
            save_image(self.picture(number, strength), file, quality=quality, metadata=json.dumps(record))
        elif form in ANIMATIONS:
            photo = _read(self.photo)
            frames = (blended(_read(moment), photo, strength) for moment in self.moments)
            save_animation([to_uint8(frame) for frame in (photo, *frames)], file, quality=quality)
        elif ending == ".csv":
            save_losses(self.record["history"], file)
        else:
            save_record(record, file)
        return file


def keep(finished: Finished, panes: Sequence[str]) -> None:
    """Write down what kept_in() reads, with the files in the panes it was made from."""
    values = {
        "name": finished.name,
        "moments": [moment.name for moment in finished.moments],
        "steps": finished.steps,
        "record": finished.record,
        "panes": panes,
    }
    (finished.folder / _KEPT).write_text(json.dumps(values), encoding="utf-8")


def kept_in(folder: Path) -> tuple[Finished, list[str]] | None:
    """A finished run that keep() has written into `folder`, and its panes' files, where it is still there."""
    try:
        values = json.loads((folder / _KEPT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    moments = tuple(folder / name for name in values["moments"])
    photo, steps = folder / "photo.png", tuple(values["steps"])
    return Finished(folder, values["name"], photo, moments, steps, values["record"]), values["panes"]


def finish(run: Run, photo: tf.Tensor, name: str, folder: Path) -> Finished:
    """Write the pictures of a run that has ended into `folder`."""
    height, width = run.snapshots.moments[-1].pixels.shape[:2]
    save_image(resize(photo, height, width), folder / "photo.png")
    moments = []
    for moment in run.snapshots.moments:
        moments.append(folder / f"step-{moment.row['step']}.png")
        Image.fromarray(moment.pixels).save(moments[-1], compress_level=1)
    steps = tuple(int(moment.row["step"]) for moment in run.snapshots.moments)
    return Finished(folder, name, folder / "photo.png", tuple(moments), steps, run.record())


def _read(path: Path) -> tf.Tensor:
    try:
        with Image.open(path) as picture:
            return from_uint8(np.asarray(picture.convert("RGB")))
    except FileNotFoundError as error:
        sentence = "This run's pictures are no longer kept: please run it once more."
        raise gr.Error(sentence, print_exception=False) from error


class Results:
    """The right half of the page."""

    def __init__(self, beforehand: Finished | None, said: str, chores: Chores) -> None:
        """At first it shows what was painted `beforehand`, if anything was, and says so."""
        self._chores = chores
        self.finished = gr.State(beforehand)
        self.preview = gr.Image(
            label="Picture",
            format="jpeg",
            visible=beforehand is None,
            interactive=False,
            buttons=["fullscreen"],
            elem_id="picture",
        )
        self.comparison = gr.ImageSlider(
            _pair(beforehand, 1, 1) if beforehand else None,
            label="Before and after",
            format="png",
            visible=beforehand is not None,
            interactive=False,
            buttons=["fullscreen"],
            elem_id="comparison",
        )
        self.status = gr.HTML(status(said))
        with gr.Row(elem_id="afterwards"):
            self.moment = gr.Slider(
                1, 2, 1, step=1, label="Moment", interactive=False, min_width=150, buttons=[]
            )
            self.strength = slider("strength", "Strength", 0.05, info=None, min_width=150, buttons=[])
            self.go_on = gr.Button("Go on from here", interactive=beforehand is not None, min_width=140)
        with gr.Row(elem_id="saving"):
            self.form = gr.Dropdown(FORMATS, label="Save as", min_width=150)
            self.quality = gr.Slider(
                1, 100, QUALITY, step=1, label="Quality", interactive=False, min_width=150, buttons=[]
            )
            self.save = gr.DownloadButton(
                "Save",
                value=beforehand.saved(1, 1, FORMATS[0], QUALITY) if beforehand else None,
                interactive=beforehand is not None,
                min_width=140,
            )
        history = beforehand.record["history"] if beforehand else []
        self.chart = gr.Plot(loss_chart({"": history}), label="Losses", show_label=False, elem_id="chart")

    @property
    def components(self) -> list[Any]:
        """What a run changes."""
        return [
            self.finished,
            self.preview,
            self.comparison,
            self.status,
            self.moment,
            self.strength,
            self.go_on,
            self.form,
            self.quality,
            self.save,
            self.chart,
        ]

    def connect(self) -> None:
        """Let the sliders and the formats act on what has been painted."""
        here = [self.finished, self.moment, self.strength]
        latest: dict[str, Any] = {**QUIETLY, "trigger_mode": "always_last"}
        self.moment.input(self._show_moment, here, [self.comparison, self.status, self.chart], **latest)
        self.strength.change(self._show, here, self.comparison, **latest)
        saving: dict[str, Any] = {**latest, "queue": True, "concurrency_limit": None}  # it says "Preparing"
        what = [*here, self.form, self.quality]
        self.form.input(lambda form: gr.Slider(interactive=form in LOSSY), self.form, self.quality, **QUIETLY)
        gr.on(
            [self.strength.change, self.form.change, self.quality.change],
            self._save,
            what,
            self.save,
            **saving,
        )
        self.moment.change(self._save_picture, what, self.save, **saving)

    async def _show(
        self, request: gr.Request, finished: Finished | None, number: int, strength: float
    ) -> Any:
        return await self._chores.do(request, _pair, finished, number, strength) if finished else gr.skip()

    async def _show_moment(
        self, request: gr.Request, finished: Finished, number: int, strength: float
    ) -> tuple[Any, str, Any]:
        row = next(row for row in finished.record["history"] if row["step"] == finished.steps[number - 1])
        text = (
            f"Step {row['step']} of {finished.steps[-1]}, {row['size']} px: "
            f"content {row['content']:.3g}, style {row['style']:.3g}, total {row['total']:.3g}."
        )
        pair = await self._chores.do(request, _pair, finished, number, strength)
        return pair, status(text, 1), _chart(finished, marked=row["step"])

    async def _save(
        self,
        request: gr.Request,
        finished: Finished | None,
        number: int,
        strength: float,
        form: str,
        quality: int,
    ) -> AsyncIterator[Any]:
        if finished is None:
            return
        yield gr.DownloadButton("Preparing …", interactive=False)
        try:
            file = await self._chores.do(request, finished.saved, number, strength, form, quality)
        except Exception:
            yield gr.DownloadButton("Save", interactive=True)  # what was there before
            raise
        yield gr.DownloadButton("Save", value=str(file), interactive=True)

    async def _save_picture(self, request: gr.Request, *what: Any) -> AsyncIterator[Any]:
        *_, form, _ = what
        if form in PICTURES:  # all else is the same at every moment
            async for update in self._save(request, *what):
                yield update

    def done(self, finished: Finished, strength: float, text: str, share: float | None) -> dict[Any, Any]:
        """The updates that show a run that has ended; the bar is filled to `share`."""
        last = len(finished.moments)
        form = FORMATS[0]
        return {
            self.finished: finished,
            self.preview: gr.Image(visible=False),
            self.comparison: gr.ImageSlider(_pair(finished, last, strength), visible=True),
            self.status: status(text, share),
            self.moment: gr.Slider(maximum=max(last, 2), value=last, interactive=last > 1),
            self.strength: strength,
            self.go_on: gr.Button(interactive=True),
            self.form: form,
            self.quality: gr.Slider(interactive=False),
            self.save: gr.DownloadButton(
                value=finished.saved(last, strength, form, QUALITY), interactive=True
            ),
            self.chart: _chart(finished),
        }

    def painting(self) -> dict[Any, Any]:
        """The updates at a run's first picture: until then, the last result could be looked at and saved."""
        return {
            self.comparison: gr.ImageSlider(visible=False),
            self.moment: gr.Slider(interactive=False),
            self.go_on: gr.Button(interactive=False),
            self.save: gr.DownloadButton(interactive=False),
        }


def _pair(finished: Finished, number: int, strength: float) -> tuple[str, str]:
    return str(finished.photo), str(finished.shown(number, strength))


def _chart(finished: Finished, marked: int | None = None) -> Any:
    return loss_chart({"": finished.record["history"]}, marked=marked)
