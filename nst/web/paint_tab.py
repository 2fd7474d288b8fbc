"""The first tab: choose a photo and a painting, watch the photo being painted, download the picture."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image, ImageOps

from nst.config import DEFAULT_PRESET, TransferConfig
from nst.engine.images import Pixels, decode_image, thumbnail
from nst.engine.stylize import Progress
from nst.errors import BusyError, ConfigError, ImageError, UserError
from nst.runs.job import InputImage
from nst.runs.record import has_plateaued, restore
from nst.serving.background import BackgroundPool
from nst.serving.queue import POLL_SECONDS, Run, RunQueue
from nst.serving.storage import Storage
from nst.study.charts import loss_chart
from nst.study.datasets import Dataset, Example, premade
from nst.web.components import (
    LABELS,
    UNQUEUED,
    UNQUEUED_LATEST,
    Updates,
    Values,
    chain_scripts,
    format_duration,
    format_durations,
    image_input,
    script,
    status,
)
from nst.web.contact_sheet import ShownStudy
from nst.web.finished_run import FinishedRun, read_files, write_files
from nst.web.guarded_blocks import sentence_for_visitors
from nst.web.results_panel import ResultsPanel
from nst.web.settings_panel import SettingsPanel
from nst.web.uploads import RunRequest, uploaded_file
from nst.web.visitor_runs import VisitorRuns, raise_failure, visitor

PREVIEW_SECONDS = 0.9
CHART_SECONDS = 1.9  # the browser draws a chart from scratch at each update, which takes it a while

ENDED = {
    "finished": "Done",
    "stopped": "Stopped",
    "out of time": "Stopped, because the time for one run is up",
    "failed": "Stopped, because the losses went out of range",
}


class PaintTab:
    """Lay out the tab, and handle what happens in it.

    Args:
        queue: where runs wait.
        runs: the runs of visitors.
        datasets: the examples.
        storage: where the files of runs lie.
        background: where pictures are read, blended and encoded.
    """

    def __init__(
        self,
        queue: RunQueue,
        runs: VisitorRuns,
        datasets: tuple[Dataset, ...],
        storage: Storage,
        background: BackgroundPool,
    ) -> None:
        self._queue, self._runs, self._datasets = queue, runs, datasets
        self._storage, self._background = storage, background
        self._examples = {
            str(one.path): one for dataset in datasets for one in (*dataset.contents, *dataset.styles)
        }
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                self._lay_out_panes()
                self._lay_out_examples()
                self.settings = SettingsPanel(queue.limits, background)
            with gr.Column(scale=7, min_width=320, elem_id="results"):
                self._lay_out_results()

    def _lay_out_panes(self) -> None:
        content, style = self._datasets[0].pairs[0]
        with gr.Row(elem_id="panes"):
            self.content = image_input(content.path, "Photo (content)", "content", height=220)
            self.style = image_input(style.path, "Painting (style)", "style", height=220)
        with gr.Row(elem_id="actions"):
            self.start_button = gr.Button("Stylize", variant="primary", scale=3, min_width=80)
            self.stop_button = gr.Button("Stop", variant="stop", interactive=False, scale=1, min_width=80)
        self.time = gr.Markdown(elem_id="time")

    def _lay_out_examples(self) -> None:
        first = _credits(*self._datasets[0].pairs[0])
        self.credits = gr.Markdown(first, elem_id="credits", render=False)
        self.galleries: list[gr.Gallery] = []
        middle = cache(_middle)  # an image is part of many pairs
        for dataset in self._datasets:
            size = f"{len(dataset.contents)} × {len(dataset.styles)}"
            with gr.Tab(f"{dataset.name.capitalize()} dataset · {size}"):
                thumbnails = [
                    (_side_by_side(middle(content.path), middle(style.path)), style.title)
                    for content, style in dataset.pairs
                ]
                self.galleries.append(
                    gr.Gallery(
                        thumbnails,
                        columns=4,
                        height="auto",
                        object_fit="cover",
                        allow_preview=False,
                        show_label=False,
                        container=False,
                        buttons=[],
                        elem_classes="pairs",
                    )
                )
        self.credits.render()  # type: ignore[no-untyped-call]

    def _lay_out_results(self) -> None:
        pair = self._datasets[0].pairs[0]
        finished = self._find_premade(*pair)
        text = _describe_premade(*pair) if finished else "Press Stylize to start."
        self.results = ResultsPanel(finished, text, self._background)
        self.last = gr.BrowserState("", storage_key="last-picture")
        self.settings.controls["strength"] = self.results.strength
        self.backbone_note = gr.Markdown(elem_id="backbone")

    @property
    def _run_outputs(self) -> list[Any]:
        """List the components that show another run, with its images and settings."""
        return [
            self.content,
            self.style,
            self.credits,
            *self.settings.outputs,
            *self.results.outputs,
        ]

    def connect(self, page: gr.Blocks) -> None:
        """Connect the controls to their handlers.

        Args:
            page: the page, whose loading and closing count as well.
        """
        results, settings = self.results, self.settings
        settings.connect(self.content, self.style)
        results.connect()
        for dataset, gallery in zip(self._datasets, self.galleries, strict=True):
            # Two handlers, because nobody who presses Stylize next should have to wait for the second.
            panes = [self.content, self.style, self.credits]
            gallery.select(self._filler(dataset), outputs=panes, **UNQUEUED_LATEST)
            gallery.select(self._chooser(dataset), results.strength, results.outputs, **UNQUEUED_LATEST)
        for pane in (self.content, self.style):
            gr.on(
                [pane.upload, pane.clear],
                self.leave_photo if pane is self.content else self.leave_painting,
                {results.finished, pane},
                [self.credits, *results.outputs],
                preprocess=False,
                **UNQUEUED,
            )
        size, iterations = settings.controls["size"], settings.controls["iterations"]
        gr.on(
            [page.load, size.change, iterations.change],
            self.tell_time,
            {size, iterations},
            self.time,
            **UNQUEUED_LATEST,
        )
        given = {results.finished, self.content, self.style, *settings.inputs}
        event: dict[str, Any] = {
            "outputs": [
                self.start_button,
                self.stop_button,
                *results.outputs,
                self.backbone_note,
                self.last,
            ],
            "preprocess": False,  # all as it came: read_inputs and TransferConfig check it
            "js": chain_scripts("show_results.js", "keep_screen_awake.js"),
            "concurrency_limit": None,
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        started = [
            self.start_button.click(self.run, given, **event),
            results.go_on.click(self.go_on, {results.moment, *given}, **event),
        ]
        for ended in started:
            ended.then(None, js=script("let_screen_sleep.js"), api_visibility="private")
        self.stop_button.click(self.stop, outputs=self.stop_button, **UNQUEUED)
        page.load(
            self.describe_backbone,
            outputs=self.backbone_note,
            concurrency_limit=None,
            show_progress="hidden",
            api_visibility="private",
        )
        page.load(self.restore, self.last, self._run_outputs, **UNQUEUED)
        page.unload(self._runs.stop)

    def connect_study(self, sheet: gr.HTML, study: gr.State, tabs: gr.Tabs) -> None:
        """Open a run in this tab when it is clicked on a contact sheet.

        Args:
            sheet: the contact sheet.
            study: what it shows, a `ShownStudy`.
            tabs: the tabs of the page.
        """

        async def open_run(event: gr.EventData, request: gr.Request, shown: ShownStudy | None) -> Updates:
            return {tabs: gr.Tabs(selected="paint"), **await self.open_run(request, shown, event.run)}

        sheet.click(
            open_run,
            study,
            [tabs, *self._run_outputs],
            concurrency_limit=None,
            show_progress="hidden",
            api_visibility="private",
        ).then(None, js=script("show_results.js"), api_visibility="private")

    async def run(self, request: gr.Request, values: Values) -> AsyncIterator[Updates]:
        """Run what the page shows: wait in the queue, then show the picture and its losses as they grow.

        Args:
            request: the visitor's.
            values: of the settings' inputs, both panes, and the last finished run.
        """
        async for update in self._run(request, values, None):
            yield update

    async def go_on(self, request: gr.Request, values: Values) -> AsyncIterator[Updates]:
        """Do as `run`, from a moment of the last run.

        Args:
            request: the visitor's.
            values: those of `run`, and the moment.
        """
        finished, moment = values[self.results.finished], int(values[self.results.moment])
        if str(uploaded_file(values[self.content], "photo")) != finished.panes[0]:
            raise ImageError("This picture is of another photo: please put that back, or press Stylize.")
        start = await self._background.run_for(visitor(request), finished.start, moment)
        async for update in self._run(request, values, start):
            yield update

    async def _run(
        self, request: gr.Request, values: Values, start: InputImage | None
    ) -> AsyncIterator[Updates]:
        settings, before = self.settings, values[self.results.finished]
        content, style = values[self.content], values[self.style]
        given = RunRequest(
            content=content,
            styles=[style, *settings.read_paintings(values)],
            settings=settings.read(values),
            preset=DEFAULT_PRESET,
            mask=values[settings.mask],
            start=start,
        )
        run = await self._runs.join(request, given)
        try:
            yield {
                self.start_button: gr.Button("Painting …", interactive=False),
                self.stop_button: gr.Button("Stop", interactive=True),
                self.results.go_on: gr.Button(interactive=False),
                self.results.status: status(self._describe_wait(run)),
            }
            async for update in self._follow(run):
                yield update
            ready = {
                self.start_button: gr.Button("Stylize", interactive=True),
                self.stop_button: gr.Button("Stop", interactive=False),
            }
            files = [str(uploaded_file(file, "picture")) for file in (content, style)]
            try:
                outcome = await asyncio.to_thread(self._show_outcome, run, files)
                if run.recorder.progress is None:
                    outcome = {**await self._show_again(before), **outcome}
            except (UserError, OSError) as error:
                text = "The picture could not be saved."
                if isinstance(error, UserError):
                    text = sentence_for_visitors(error)
                yield {**ready, **await self._show_again(before), self.results.status: status(text)}
                raise
            yield {**ready, **outcome}
        finally:
            self._runs.leave(request, run)

    async def _follow(self, run: Run) -> AsyncIterator[Updates]:
        """Yield the changes of the page, about every second, until the run ends."""
        text, shown, plateaued, picture_due, chart_due = "", None, False, 0.0, 0.0
        recorder, results = run.recorder, self.results
        while not run.future.done():
            await asyncio.sleep(POLL_SECONDS)
            progress, now = recorder.progress, time.monotonic()
            if progress is None:
                if text != (text := self._describe_wait(run)):
                    yield {results.status: status(text)}
            elif progress is not shown and now >= picture_due:
                # Once said, it stays said: the odd steeper step later on is no reason to take it back.
                plateaued = plateaued or (
                    progress.size == run.config.size and has_plateaued(recorder.history)
                )
                text = _describe_progress(progress, plateaued, recorder.attempts)
                update = results.show_preview(progress, text, _share(progress))
                if shown is None:
                    update |= results.hide_finished()
                shown, picture_due = progress, now + PREVIEW_SECONDS
                if now >= chart_due:
                    chart_due = now + CHART_SECONDS
                    history = list(recorder.history)
                    update[results.chart] = loss_chart({"": history}, steps=run.config.iterations)
                yield update

    def _show_outcome(self, run: Run, files: list[str]) -> Updates:
        """Write the run's files, and show its picture beside the photo; `files` are those of the panes."""
        raise_failure(run)
        recorder, progress = run.recorder, run.recorder.progress
        if progress is None:
            return {self.results.status: status("Stopped before the first step.")}
        name = "--".join(map(_short_stem, files))
        finished = write_files(run, name, self._storage.new_folder(), files)
        height, width = progress.image.shape[1:3]
        text = (
            f"{ENDED[recorder.ended]}: {len(recorder.history)} steps in "
            f"{format_duration(progress.seconds)}, {width} × {height} pixels."
        )
        share = 1 if recorder.ended == "finished" else _share(progress)
        shown = self.results.show(finished, run.config.strength, text, share)
        return {**shown, self.backbone_note: _describe_backbone(run), self.last: finished.folder.name}

    async def _show_again(self, before: FinishedRun | None) -> Updates:
        """Show the earlier result again after a run without a picture, if it is still kept."""
        if before is None:
            return {}
        try:
            strength = before.record["config"]["strength"]
            return await self._background.run(self.results.show, before, strength, "", None)
        except ImageError:
            return {}

    async def leave_photo(self, request: gr.Request, values: Values) -> Updates:
        """Leave the result behind that is not of the new photo: only an own one stays to be saved."""
        updates, finished = await self.leave_painting(request, values), values[self.results.finished]
        if finished and not finished.is_example and not self._runs.has_run(request):
            photo = values[self.content]
            own = photo is not None and str(uploaded_file(photo, "photo")) == finished.panes[0]
            text = "Press Stylize to paint the new photo." if photo else "Please add a photo."
            text = (
                "This is the picture of this photo." if own else f"{text} The picture is of the one before."
            )
            updates[self.results.go_on] = gr.Button(interactive=own)
            updates[self.results.status] = status(text)
        return updates

    async def leave_painting(self, request: gr.Request, values: Values) -> Updates:
        """Leave the result of an example behind, which is not in the style of the new painting."""
        finished = values[self.results.finished]
        updates: Updates = {self.credits: ""}  # nobody here knows whose pictures the new ones are
        if finished and finished.is_example and not self._runs.has_run(request):
            updates |= self.results.clear("Press Stylize to start.")
        return updates

    def stop(self, request: gr.Request) -> Any:
        """Stop the visitor's run; the picture so far stays.

        Args:
            request: the visitor's.
        """
        self._runs.stop(request)
        return gr.Button("Stopping …", interactive=False) if self._runs.has_run(request) else gr.skip()

    def _filler(self, dataset: Dataset) -> Callable[[gr.SelectData], Awaitable[Updates]]:
        async def fill(event: gr.SelectData) -> Updates:
            """Fill both panes."""
            pair = content, style = dataset.pairs[event.index]
            return {
                self.content: str(content.path),
                self.style: str(style.path),
                self.credits: _credits(*pair),
            }

        return fill

    def _chooser(self, dataset: Dataset) -> Callable[[gr.SelectData, gr.Request, float], Awaitable[Any]]:
        async def choose(event: gr.SelectData, request: gr.Request, strength: float) -> Any:
            """Show the pair's premade picture, unless a run is being shown."""
            pair = dataset.pairs[event.index]
            finished = None if self._runs.has_run(request) else self._find_premade(*pair)
            if finished is None:
                return gr.skip()
            text, show = _describe_premade(*pair), self.results.show
            shown = await self._background.run_for(visitor(request), show, finished, strength, text, None)
            return gr.skip() if self._runs.has_run(request) else shown  # one may have begun meanwhile

        return choose

    async def open_run(self, request: gr.Request, shown: ShownStudy | None, number: Any) -> Updates:
        """Show a run of the visitor's study with its images and settings, ready to be varied.

        Args:
            request: the visitor's.
            shown: the study, if there is one.
            number: of the run.
        """
        if self._runs.has_run(request):
            raise BusyError("Your picture is being painted: please stop it first, or wait for it.")
        run = shown.runs[int(number)] if shown else None
        record = shown.record(run) if shown and run else None
        if not (shown and run and record):
            raise ImageError("This study's pictures are gone: please run it once more.")
        config, folder = run.config, self._storage.new_folder()
        photo, picture = folder / "photo.png", shown.picture(run)
        await self._background.run_for(visitor(request), _save_as_large, run.content.path, picture, photo)
        steps = (record["history"][-1]["step"],)
        panes = str(run.content.path), str(run.style.path)
        finished = FinishedRun(folder, run.name, panes, photo, (picture,), steps, record)
        text = f"From the study: {shown.plan.title(run)}."
        show = self.results.show
        return {
            self.content: str(run.content.path),
            self.style: str(run.style.path),
            self.credits: _credits(run.content, run.style),
            **self.settings.show(config),
            **await self._background.run_for(visitor(request), show, finished, config.strength, text, 1),
        }

    async def restore(self, request: gr.Request, last: Any) -> Any:
        """Show the visitor's last picture again after a reload, with its images and settings.

        Args:
            request: the visitor's.
            last: the name of the run's folder, as the browser kept it; it may be anything.
        """
        folder = self._storage.find_folder(str(last))
        finished = read_files(folder) if folder else None
        if finished is None:
            return gr.skip()
        files = finished.panes
        config, note = restore(finished.record)
        text, show = f"Here is your last picture again. {note}".rstrip(), self.results.show
        panes = zip((self.content, self.style), files, strict=True)
        return {
            **{pane: file for pane, file in panes if Path(file).exists()},
            self.credits: _credits(*(self._examples[file] for file in files if file in self._examples)),
            **self.settings.show(config),
            **await self._background.run_for(visitor(request), show, finished, config.strength, text, 1),
        }

    async def tell_time(self, values: Values) -> str:
        """Say about how long a run takes on this server.

        Args:
            values: of the controls for size and iterations.
        """
        await self._queue.warmed_up()
        size, iterations = (values[self.settings.controls[name]] for name in ("size", "iterations"))
        try:
            config = TransferConfig(size=size, iterations=iterations)
        except ConfigError:
            return ""  # Stylize says what is wrong
        seconds, wait = self._queue.estimate_seconds(config), self._queue.estimate_wait()
        if seconds is None:
            return ""
        text = f"Takes {format_durations(*seconds)} here."
        if wait and wait >= 1:
            number = len(self._queue.runs)
            text += f" With {number} in the queue now, it would begin in about {format_duration(wait)}."
        return text

    async def describe_backbone(self) -> str:
        """Say which network reads the images; the log says why, where it isn't VGG-19."""
        await self._queue.warmed_up()
        return _describe_backbone(self._queue.warm_up)

    def _describe_wait(self, run: Run) -> str:
        ahead, wait = self._queue.ahead(run), self._queue.estimate_wait(run)
        if ahead:
            when = f", and it begins in about {format_duration(wait)}" if wait and wait >= 1 else ""
            return f"Your picture is number {ahead + 1} of {len(self._queue.runs)} in the queue{when}."
        return "Preparing the images …" if run.has_begun else "Loading the network …"

    def _find_premade(self, content: Example, style: Example) -> FinishedRun | None:
        """Find the picture of a pair, where its dataset has one."""
        files = premade(content, style)
        if files is None:
            return None
        picture, record = files[0], json.loads(files[1].read_text(encoding="utf-8"))
        steps = (record["history"][-1]["step"],)
        return FinishedRun(
            self._storage.new_folder(),
            picture.stem,
            (str(content.path), str(style.path)),
            content.path,
            (picture,),
            steps,
            record,
            is_example=True,
        )


def _describe_progress(progress: Progress, plateaued: bool, attempts: int) -> str:
    left = format_duration(progress.seconds_left)
    at = f"{progress.step} of {progress.steps}, about {left} left"
    if plateaued:  # which only the last level can be; there is no room for its number as well
        return f"Step {at}. The losses have levelled off: Stop keeps this picture."
    levels = len(progress.schedule)
    text = f"Level {progress.level} of {levels} ({progress.size} px), step {at}"
    return f"The worker was lost, so the run started again. {text}" if attempts > 1 else text


def _share(progress: Progress) -> float:
    return progress.seconds / (progress.seconds + progress.seconds_left)


def _describe_backbone(run: Run) -> str:
    if not run.has_begun:
        return ""
    return f"Read by {LABELS[run.backbone.name]}."


def _describe_premade(content: Example, style: Example) -> str:
    return f"{content.title}, already painted like {style.title}. Press Stylize to see it happen."


def _credits(*examples: Example) -> str:
    return " · ".join(f"*{example.title}*: {example.credit}" for example in examples if example.credit)


def _short_stem(path: str) -> str:
    """Shorten the stem of a file's name, so that two of them make a file name."""
    return Path(path).stem.encode()[:100].decode(errors="ignore")


def _save_as_large(photo: Path, picture: Path, file: Path) -> None:
    """Write the photo as large as the picture."""
    with Image.open(picture) as opened:
        long_side = max(opened.size)
    Image.fromarray(decode_image(photo, long_side=long_side)).save(file, compress_level=1)


def _side_by_side(content: Pixels, style: Pixels) -> Pixels:
    return np.concatenate([content, np.full((150, 2, 3), 255, np.uint8), style], axis=1)


def _middle(path: Path) -> Pixels:
    """Crop the middle of an image, (150, 99, 3)."""
    try:
        pixels = thumbnail(path, 300)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    return np.asarray(ImageOps.fit(Image.fromarray(pixels), (99, 150)))
