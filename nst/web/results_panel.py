"""The results as components: the picture and its losses, its moments, and the files to download."""

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from nst.engine.images import to_uint8
from nst.engine.stylize import Progress
from nst.serving.background import BackgroundPool
from nst.study.charts import loss_chart
from nst.web.components import UNQUEUED, UNQUEUED_LATEST, Updates, Values, slider, status
from nst.web.finished_run import FORMATS, LOSSY, PICTURES, QUALITY, FinishedRun
from nst.web.visitor_runs import visitor


class ResultsPanel:
    """Lay out the right half of the paint tab, and handle what happens in it.

    Args:
        finished: a run that is shown at first, if any.
        text: the status line at first.
        background: where pictures are blended and encoded.
    """

    def __init__(self, finished: FinishedRun | None, text: str, background: BackgroundPool) -> None:
        self._background = background
        self.finished = gr.State(finished)
        self.preview = gr.Image(
            label="Picture",
            format="jpeg",
            visible=finished is None,
            interactive=False,
            buttons=["fullscreen"],
            elem_id="picture",
        )
        self.comparison = gr.ImageSlider(
            _pair(finished, 1, 1) if finished else None,
            label="Before and after",
            format="png",
            visible=finished is not None,
            interactive=False,
            buttons=["fullscreen"],
            elem_id="comparison",
        )
        self.status = gr.HTML(status(text))
        with gr.Row(elem_id="afterwards"):
            self.moment = gr.Slider(
                1, 2, 1, step=1, label="Moment", interactive=False, min_width=150, buttons=[]
            )
            self.strength = slider("strength", "Strength", 0.05, info=None, min_width=150, buttons=[])
            self.go_on = gr.Button("Go on from here", interactive=finished is not None, min_width=140)
        with gr.Row(elem_id="saving"):
            self.form = gr.Dropdown(FORMATS, label="Save as", min_width=150)
            self.quality = gr.Slider(
                1, 100, QUALITY, step=1, label="Quality", interactive=False, min_width=150, buttons=[]
            )
            self.save = gr.DownloadButton(
                "Save",
                value=finished.saved(1, 1, FORMATS[0], QUALITY) if finished else None,
                interactive=finished is not None,
                min_width=140,
            )
        history = finished.record["history"] if finished else []
        self.chart = gr.Plot(loss_chart({"": history}), label="Losses", show_label=False, elem_id="chart")

    @property
    def outputs(self) -> list[Any]:
        """List the components that a run changes."""
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
        """Connect the sliders and the formats to their handlers."""
        shown: set[Any] = {self.finished, self.moment, self.strength}
        self.moment.input(
            self._show_moment, shown, [self.comparison, self.status, self.chart], **UNQUEUED_LATEST
        )
        self.strength.change(self._show_strength, shown, self.comparison, **UNQUEUED_LATEST)
        self.form.input(
            lambda form: gr.Slider(interactive=form in LOSSY), self.form, self.quality, **UNQUEUED
        )
        # In Gradio's queue, where the button can say "Preparing …" first.
        saving: dict[str, Any] = {**UNQUEUED_LATEST, "queue": True, "concurrency_limit": None}
        saved: set[Any] = {*shown, self.form, self.quality}
        gr.on(
            [self.strength.change, self.form.change, self.quality.change],
            self._save,
            saved,
            self.save,
            **saving,
        )
        self.moment.change(self._save_picture, saved, self.save, **saving)

    async def _show_strength(self, request: gr.Request, values: Values) -> Any:
        finished = values[self.finished]
        if finished is None:
            return gr.skip()
        number, strength = values[self.moment], values[self.strength]
        return await self._background.run_for(visitor(request), _pair, finished, number, strength)

    async def _show_moment(self, request: gr.Request, values: Values) -> Updates:
        finished, number = values[self.finished], values[self.moment]
        row = next(row for row in finished.record["history"] if row["step"] == finished.steps[number - 1])
        text = (
            f"Step {row['step']} of {finished.steps[-1]}, {row['size']} px: "
            f"content {row['content']:.3g}, style {row['style']:.3g}, total {row['total']:.3g}."
        )
        strength = values[self.strength]
        pair = await self._background.run_for(visitor(request), _pair, finished, number, strength)
        return {
            self.comparison: pair,
            self.status: status(text, 1),
            self.chart: _chart(finished, marked=row["step"]),
        }

    async def _save(self, request: gr.Request, values: Values) -> AsyncIterator[Any]:
        finished = values[self.finished]
        if finished is None:
            return
        yield gr.DownloadButton("Preparing …", interactive=False)
        what = (values[part] for part in (self.moment, self.strength, self.form, self.quality))
        try:
            file = await self._background.run_for(visitor(request), finished.saved, *what)
        except Exception:
            yield gr.DownloadButton("Save", interactive=True)  # what was there before
            raise
        yield gr.DownloadButton("Save", value=str(file), interactive=True)

    async def _save_picture(self, request: gr.Request, values: Values) -> AsyncIterator[Any]:
        if values[self.form] in PICTURES:  # all else is the same at every moment
            async for update in self._save(request, values):
                yield update

    def show(self, finished: FinishedRun, strength: float, text: str, share: float | None) -> Updates:
        """Make the updates that show a run that has ended.

        Args:
            finished: the run.
            strength: opacity of its picture over the photo.
            text: the status line.
            share: how far the bar is filled.
        """
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

    def clear(self, text: str) -> Updates:
        """Make the updates that show no run.

        Args:
            text: the status line.
        """
        return {
            self.finished: None,
            self.preview: gr.Image(None, visible=True),
            self.comparison: gr.ImageSlider(visible=False),
            self.status: status(text),
            self.moment: gr.Slider(interactive=False),
            self.go_on: gr.Button(interactive=False),
            self.save: gr.DownloadButton(interactive=False),
            self.chart: loss_chart({"": []}),
        }

    def show_preview(self, progress: Progress, text: str, share: float) -> Updates:
        """Make the updates that show a run in progress.

        Args:
            progress: its last step.
            text: the status line.
            share: how far the bar is filled.
        """
        return {
            # A component, not a bare array, whose file Gradio would never delete.
            self.preview: gr.Image(to_uint8(progress.image), visible=True),
            self.status: status(text, share),
        }

    def hide_finished(self) -> Updates:
        """Make the updates at a run's first picture: until then the last result stays in reach."""
        return {
            self.comparison: gr.ImageSlider(visible=False),
            self.moment: gr.Slider(interactive=False),
            self.go_on: gr.Button(interactive=False),
            self.save: gr.DownloadButton(interactive=False),
        }


def _pair(finished: FinishedRun, number: int, strength: float) -> tuple[str, str]:
    return str(finished.photo), str(finished.shown(number, strength))


def _chart(finished: FinishedRun, marked: int | None = None) -> Any:
    return loss_chart({"": finished.record["history"]}, marked=marked)
