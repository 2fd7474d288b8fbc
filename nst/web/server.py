"""The page: drop in a photo and a painting, watch the photo being painted, take the picture home.

`python app.py` starts it; `python app.py --share` gives it a public link as well.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

# Gradio and TensorFlow read these when they are imported: no calls home, no statistics of events, which take
# longer with each of them, and no log of what was optimised.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "SPACE_ID" in os.environ:  # visitors' addresses are in a header there; uvicorn reads this when it starts
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "*")

import gradio as gr
import tensorflow as tf
from fastapi.exceptions import RequestValidationError
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

from nst.config import MAX_STYLES, ConfigError, TransferConfig
from nst.engine.images import ImageError, load_image, resize, save_image, to_uint8
from nst.engine.parameterization import blended, luminance
from nst.engine.stylize import (
    Progress,
    TransferError,
    check_images,
    check_start,
    seconds_left,
)
from nst.engine.vgg import WeightsError
from nst.presets import PRESETS, on_preset
from nst.runs import runner as runners
from nst.runs.record import image_entry, levelled_off
from nst.runs.runner import Job, LostRunError, RunnerError
from nst.serving import limits
from nst.serving.middleware import Chores, FairShare, address, stop_unread
from nst.serving.queue import BusyError, Line, Run
from nst.serving.storage import Storage, uploaded
from nst.study.charts import loss_chart
from nst.study.datasets import CatalogError, Dataset, Example, load_datasets, made_beforehand
from nst.web.components import (
    BACKBONES,
    CSS,
    DEFAULTS,
    QUIETLY,
    SCREEN_READERS_JS,
    SETTINGS,
    duration,
    pair_thumbnail,
    pane,
    status,
)
from nst.web.gradio_patches import KnownPaths, SecurityHeaders, harden, refuse_unreadable
from nst.web.results_panel import Finished, Results, finish, keep, kept_in
from nst.web.settings_panel import Settings
from nst.web.study_tab import Shown, StudyTab

SESSIONS = 1000  # that Gradio remembers, with a fifth of a megabyte for each
PREVIEW_SECONDS = 0.9
CHART_SECONDS = 1.9  # the browser draws a chart anew at each update, which takes it a while

ENDED = {
    "finished": "Done",
    "stopped": "Stopped",
    "out of time": "Stopped, because the time for one run is up",
    "failed": "Stopped, because the losses went out of range",
}
SHOW_RESULTS = """() => {
    const behavior = matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth';
    if (window.innerWidth <= 768) document.querySelector('#results').scrollIntoView({behavior});
}"""
# A phone that goes to sleep would lose its run.
WATCH_RESULTS = """(...values) => {
    (SHOW)();
    navigator.wakeLock?.request('screen').then((lock) => { window.awake = lock; }, () => {});
    return values;
}""".replace("SHOW", SHOW_RESULTS)
LET_SCREEN_SLEEP = "() => { window.awake?.release(); }"

FONT = gr.themes.LocalFont("Source Sans Pro", weights=(400, 700))  # its 600 lacks most letters
THEME = gr.themes.Default(
    primary_hue="orange", neutral_hue="stone", font=[FONT, "system-ui", "sans-serif"]
).set(
    body_text_color_subdued="*neutral_600",
    block_info_text_color="*neutral_600",
    # White on the default orange and red is hard to read.
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_800",
    button_cancel_background_fill="#b91c1c",
    button_cancel_background_fill_hover="#991b1b",
    button_cancel_background_fill_dark="#b91c1c",
    button_cancel_background_fill_hover_dark="#991b1b",
)

Loaded = tuple[tf.Tensor, dict[str, str]]  # an image, and what the run's record says of it

logger = logging.getLogger("nst")


class Page:
    """The layout, and the short handlers behind it."""

    def __init__(self, line: Line, datasets: tuple[Dataset, ...]) -> None:
        self.line = line
        self.datasets = datasets
        self.storage = Storage(Path(get_upload_folder()), line.limits.kept, line.limits.storage)
        self.chores = Chores(2 * line.limits.per_visitor)
        self.runs: dict[str, set[Run]] = {}  # by the visitor's session
        self.guards: set[asyncio.Task[None]] = set()  # that end runs which nobody waits for any more

    def build(self) -> gr.Blocks:
        """The page, top to bottom as it looks."""
        # Served from where they are: copies would be deleted like visitors' files.
        gr.set_static_paths({file for pair in self._pairs() for file in _files_of(*pair)})
        with gr.Blocks(title="Neural style transfer") as page:
            gr.Markdown(
                "# Neural style transfer\n"
                "Choose a photo and a painting, and watch the photo being painted like the painting.",
                elem_id="title",
            )
            with gr.Tabs(selected="paint") as self.tabs:
                with gr.Tab("Paint", id="paint"), gr.Row():
                    with gr.Column(scale=5, min_width=320):
                        self._panes()
                        self._examples()
                        self.settings = Settings(self.line.limits, self.chores)
                    with gr.Column(scale=7, min_width=320, elem_id="results"):
                        self._results()
                with gr.Tab("Study", id="study"):
                    self.study = StudyTab(self.line, self.datasets, self.storage.new_folder, self.chores)
            self._events(page)
            gr.api(self.stylize, concurrency_limit=None)
        return page

    def _panes(self) -> None:
        content, style = self.datasets[0].pairs[0]
        with gr.Row(elem_id="panes"):
            self.content = pane(content.path, "Photo (content)", "content", height=220)
            self.style = pane(style.path, "Painting (style)", "style", height=220)
        with gr.Row(elem_id="actions"):
            self.start_button = gr.Button("Stylize", variant="primary", scale=3, min_width=80)
            self.stop_button = gr.Button("Stop", variant="stop", interactive=False, scale=1, min_width=80)
        self.time = gr.Markdown(elem_id="time")

    def _examples(self) -> None:
        first = _credits(*self.datasets[0].pairs[0])
        self.credits = gr.Markdown(first, elem_id="credits", render=False)
        self.galleries: list[gr.Gallery] = []
        for dataset in self.datasets:
            with gr.Tab(
                f"{dataset.name.capitalize()} dataset · {len(dataset.contents)} × {len(dataset.styles)}"
            ):
                thumbnails = [(pair_thumbnail(*pair), pair[1].title) for pair in dataset.pairs]
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
        self.credits.render()

    def _results(self) -> None:
        pair = self.datasets[0].pairs[0]
        beforehand = self._beforehand(*pair)
        said = _said_beforehand(*pair) if beforehand else "Press Stylize to start."
        self.results = Results(beforehand, said, self.chores)
        self.last = gr.BrowserState("", storage_key="last-picture")
        self.settings.controls["strength"] = self.results.strength
        self.backbone_note = gr.Markdown(elem_id="backbone")

    def _beforehand(self, content: Example, style: Example) -> Finished | None:
        """The example's picture, where it was made beforehand."""
        example = made_beforehand(content, style)
        if example is None:
            return None
        picture, record = example[0], json.loads(example[1].read_text(encoding="utf-8"))
        steps = (record["history"][-1]["step"],)
        return Finished(self.storage.new_folder(), picture.stem, content.path, (picture,), steps, record)

    def _events(self, page: gr.Blocks) -> None:
        results, settings = self.results, self.settings
        settings.connect(self.content)
        results.connect()
        self.study.connect(page)
        for dataset, gallery in zip(self.datasets, self.galleries, strict=True):
            chosen = [self.content, self.style, self.credits, *results.components]
            gallery.select(self._chooser(dataset), results.strength, chosen, **QUIETLY)
        gr.on(
            [self.content.upload, self.content.clear, self.style.upload, self.style.clear],
            lambda: "",  # whose pictures these are, nobody here knows
            outputs=self.credits,
            **QUIETLY,
        )
        gr.on(
            [page.load, settings.controls["size"].change, settings.controls["iterations"].change],
            self.tell_time,
            [settings.controls["size"], settings.controls["iterations"]],
            self.time,
            **{**QUIETLY, "trigger_mode": "always_last"},
        )
        self.study.sheet.click(
            self.open_run,
            self.study.shown,
            [self.tabs, self.content, self.style, self.credits, *settings.outputs, *results.components],
            concurrency_limit=None,
            show_progress="hidden",
            api_visibility="private",
        ).then(None, js=SHOW_RESULTS, api_visibility="private")
        given = [results.finished, self.content, self.style, *settings.inputs]
        outputs = [
            self.start_button,
            self.stop_button,
            *results.components,
            self.backbone_note,
            self.last,
        ]
        painting: dict[str, Any] = {
            "outputs": outputs,
            "preprocess": False,  # images and settings as they came: load_image and TransferConfig check them
            "js": WATCH_RESULTS,
            "concurrency_limit": None,
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        painted = [
            self.start_button.click(self.paint, given, **painting),
            results.go_on.click(self.go_on, [results.moment, *given], **painting),
        ]
        for ended in painted:
            ended.then(None, js=LET_SCREEN_SLEEP, api_visibility="private")
        self.stop_button.click(self.stop, outputs=self.stop_button, **QUIETLY)
        page.load(
            self.describe_backbone,
            outputs=self.backbone_note,
            concurrency_limit=None,
            show_progress="hidden",
            api_visibility="private",
        )
        page.load(
            self.restore,
            self.last,
            [self.content, self.style, self.credits, *settings.outputs, *results.components],
            **QUIETLY,
        )
        page.load(None, js=SCREEN_READERS_JS, api_visibility="private")
        page.unload(self.leave)

    async def paint(
        self, request: gr.Request, before: Finished | None, *values: Any
    ) -> AsyncIterator[dict[Any, Any]]:
        """Wait in the line, then show the picture and its losses as they grow."""
        async for update in self._paint(request, before, None, *values):
            yield update

    async def go_on(
        self, request: gr.Request, moment: int, finished: Finished, *values: Any
    ) -> AsyncIterator[dict[Any, Any]]:
        """Like paint(), from a moment of the last run."""
        picture = await self.chores.do(request, finished.picture, int(moment))
        entry = {"name": f"step {finished.steps[int(moment) - 1]} of the run before"}
        async for update in self._paint(request, finished, (picture, entry), *values):
            yield update

    async def _paint(
        self,
        request: gr.Request,
        before: Finished | None,
        start: Loaded | None,
        content: Any,
        style: Any,
        *values: Any,
    ) -> AsyncIterator[dict[Any, Any]]:
        try:
            mask, paintings, settings = self.settings.read(values)
        except ConfigError as error:
            raise gr.Error(str(error), print_exception=False) from error
        files = {"content": content, "styles": [style, *paintings], "mask": mask}
        run, photo = await self._join(request, files, settings, start)
        try:
            yield {
                self.start_button: gr.Button("Painting …", interactive=False),
                self.stop_button: gr.Button("Stop", interactive=True),
                self.results.go_on: gr.Button(interactive=False),
                self.results.status: status(self._before_painting(run)),
            }
            async for update in self._watch(run):
                yield update
            ready = {
                self.start_button: gr.Button("Stylize", interactive=True),
                self.stop_button: gr.Button("Stop", interactive=False),
            }
            name = "--".join(_short_stem(file["path"]) for file in (content, style))
            try:
                panes = [content["path"], style["path"]]
                outcome = await asyncio.to_thread(self._outcome, run, photo, name, panes)
                if run.progress is None:
                    outcome = {**await self._again(before), **outcome}
            except (gr.Error, ImageError, OSError) as error:
                message = error.message if isinstance(error, gr.Error) else "The picture could not be saved."
                yield {**ready, **await self._again(before), self.results.status: status(message)}
                raise
            yield {**ready, **outcome}
        finally:
            self._forget(request, run)

    async def _again(self, before: Finished | None) -> dict[Any, Any]:
        """The updates that show what was there before a run that came to nothing, where it is still kept."""
        if before is None:
            return {}
        try:
            strength = before.record["config"]["strength"]
            return await self.chores.do_admitted(self.results.done, before, strength, "", None)
        except gr.Error:
            return {}

    async def stylize(
        self,
        request: gr.Request,
        content: gr.FileData,
        style: gr.FileData,
        content_weight: float = DEFAULTS.content_weight,
        style_weight: float = DEFAULTS.style_weight,
        tv_weight: float = DEFAULTS.tv_weight,
        style_blend: list[float] = DEFAULTS.style_blend,
        style_scale: float = DEFAULTS.style_scale,
        colors: str = DEFAULTS.colors,
        mask_mode: str = DEFAULTS.mask_mode,
        strength: float = DEFAULTS.strength,
        size: int = DEFAULTS.size,
        iterations: int = DEFAULTS.iterations,
        backbone: str = DEFAULTS.backbone,
        precision: str = DEFAULTS.precision,
        pooling: str = DEFAULTS.pooling,
        content_layers: list[str] | dict[str, float] = DEFAULTS.content_layers,
        style_layers: list[str] | dict[str, float] = DEFAULTS.style_layers,
        optimizer: str = DEFAULTS.optimizer,
        init: str = DEFAULTS.init,
        seed: int = DEFAULTS.seed,
        more_styles: list[gr.FileData] = (),
        mask: gr.FileData | None = None,
        start: gr.FileData | None = None,
        preset: str = next(iter(PRESETS)),
    ) -> tuple[gr.FileData, dict]:
        """Paint the content image as the style image is painted; get the picture (PNG) and the run record.

        The settings mean what they mean on the page; those left at their defaults are the preset's. Layers
        are a list of names, for losses that are divided by the energy of their targets and averaged, or
        {name: weight}, for mean squared errors times weights. The picture's metadata is the record.
        """
        settings = {name: value for name, value in locals().items() if name in SETTINGS}
        if preset not in tuple(PRESETS):  # it may be anything
            raise gr.Error(f"Please choose the preset from {', '.join(PRESETS)}.", print_exception=False)
        if not isinstance(more_styles, list | tuple):
            raise gr.Error("Please give more styles as a list of files.", print_exception=False)
        files = {"content": content, "styles": [style, *more_styles], "mask": mask, "start": start}
        run, photo = await self._join(request, files, settings, preset=preset)
        try:
            while not run.future.done():
                await asyncio.sleep(0.1)
            _raise_failure(run)
            if run.progress is None:
                raise gr.Error("The run was stopped before its first step.", print_exception=False)
            picture, record = self.storage.new_folder() / "picture.png", run.record()
            result = blended(run.progress.image, photo, run.config.strength)
            await asyncio.to_thread(save_image, result, picture, metadata=json.dumps(record))
            return gr.FileData(path=str(picture)).model_dump(), record
        finally:
            self._forget(request, run)

    def stop(self, request: gr.Request) -> Any:
        """End the visitor's run; the picture so far stays."""
        self.leave(request)
        return gr.Button("Stopping …", interactive=False) if request.session_hash in self.runs else gr.skip()

    def leave(self, request: gr.Request) -> None:
        """End the runs of a visitor who has closed the page."""
        for run in tuple(self.runs.get(request.session_hash, ())):
            run.stop()

    def _chooser(
        self, dataset: Dataset
    ) -> Callable[[gr.SelectData, gr.Request, float], Awaitable[dict[Any, Any]]]:
        async def choose(event: gr.SelectData, request: gr.Request, strength: float) -> dict[Any, Any]:
            """Fill both panes, and show what was painted beforehand, unless a run is being shown."""
            pair = content, style = dataset.pairs[event.index]
            panes = {
                self.content: str(content.path),
                self.style: str(style.path),
                self.credits: _credits(*pair),
            }
            beforehand = None if request.session_hash in self.runs else self._beforehand(*pair)
            if beforehand is None:
                return panes
            said = _said_beforehand(*pair)
            return panes | await self.chores.do(request, self.results.done, beforehand, strength, said, None)

        return choose

    async def open_run(self, event: gr.EventData, request: gr.Request, shown: Shown | None) -> dict[Any, Any]:
        """Show a run of the visitor's study with its images and settings, ready to be varied."""
        if request.session_hash in self.runs:
            sentence = "Your picture is being painted: please stop it first, or wait for it."
            raise gr.Error(sentence, print_exception=False)
        planned = shown.runs[int(event.run)] if shown else None
        record = shown.record(planned) if shown and planned else None
        if not (shown and planned and record):
            raise gr.Error("This study's pictures are gone: please run it once more.", print_exception=False)
        pair = planned.content, planned.style
        folder, picture, config = self.storage.new_folder(), shown.picture(planned), planned.config
        await self.chores.do(request, _save_resized, pair[0].path, picture, folder / "photo.png")
        steps = (record["history"][-1]["step"],)
        finished = Finished(folder, planned.name, folder / "photo.png", (picture,), steps, record)
        text = f"From the study: {shown.plan.title(planned)}."
        done = await self.chores.do(request, self.results.done, finished, config.strength, text, 1)
        return {
            self.tabs: gr.Tabs(selected="paint"),
            self.content: str(pair[0].path),
            self.style: str(pair[1].path),
            self.credits: _credits(*pair),
            **self.settings.restored(config),
            **done,
        }

    async def restore(self, request: gr.Request, last: Any) -> Any:
        """After a reload, show the visitor's last picture again, with its images and settings."""
        folder = self.storage.folder(str(last))
        kept = kept_in(folder) if folder else None
        if kept is None:
            return gr.skip()
        finished, panes = kept
        config = TransferConfig(**finished.record["config"])
        said = "Here is your last picture again."
        shown = await self.chores.do(request, self.results.done, finished, config.strength, said, 1)
        there = {
            pane: file
            for pane, file in zip((self.content, self.style), panes, strict=True)
            if Path(file).exists()
        }
        examples = {str(one.path): one for pair in self._pairs() for one in pair}
        credits = _credits(*(examples[file] for file in panes if file in examples))
        return {**there, self.credits: credits, **self.settings.restored(config), **shown}

    def _pairs(self) -> Iterator[tuple[Example, Example]]:
        return (pair for dataset in self.datasets for pair in dataset.pairs)

    async def tell_time(self, size: float, iterations: float) -> str:
        """About how long a run will take on this server."""
        await self.line.warmed_up()
        try:
            config = TransferConfig(size=size, iterations=iterations)  # type: ignore[arg-type]  # it checks
        except ConfigError:
            return ""  # Stylize says what is wrong
        seconds, wait = self.line.seconds(config), self.line.wait()
        if seconds is None:
            return ""
        text = f"Takes about {duration(seconds)} here."
        if wait and wait >= 1:
            text += f" With {self.line.length} in the line now, it would begin in about {duration(wait)}."
        return text

    def _forget(self, request: gr.Request, run: Run) -> None:
        run.stop()
        runs = self.runs[request.session_hash]
        runs.discard(run)
        if not runs:
            del self.runs[request.session_hash]

    async def describe_backbone(self) -> str:
        """Say which network reads the images, and why it isn't VGG-19 where it isn't."""
        await self.line.warmed_up()
        return _backbone_note(self.line.warm_up)

    async def _join(
        self,
        request: gr.Request,
        files: dict[str, Any],
        settings: dict[str, Any],
        start: Loaded | None = None,
        preset: str = next(iter(PRESETS)),
    ) -> tuple[Run, tf.Tensor]:
        """Read the images and put their run into the line; every bad input ends here."""
        visitor = address(request)
        try:
            self.line.admit(visitor)
            config = on_preset(preset, TransferConfig(**settings))
            self.line.limits.check(config)
            content, content_entry = await self._read(files["content"], "photo", config.size)
            entries: dict[str, Any] = {"content": content_entry, "styles": []}
            styles = []
            for file in files["styles"][: MAX_STYLES + 1]:  # one too many is enough to be refused
                style, entry = await self._read(file, "painting", round(config.size * config.style_scale))
                styles.append(style)
                entries["styles"].append(entry)
            mask = None
            if files["mask"] is not None:
                mask, entries["mask"] = await self._read(files["mask"], "mask", config.size)
                mask = luminance(mask)
            if files.get("start") is not None:
                start = await self._read(files["start"], "start", config.size, enlarge=False)
            picture = None
            if start is not None:
                picture, entries["start"] = start
            check_images(len(styles), config, mask)
            if picture is not None:
                check_start(picture, content)
            run = Run(Job(content, styles, config, mask, picture), entries)
            self.line.join(run, visitor)
        except (ConfigError, BusyError) as error:
            raise gr.Error(str(error), print_exception=False) from error
        self.runs.setdefault(request.session_hash, set()).add(run)
        guard = asyncio.create_task(stop_unread(request, run.future.done, run.stop))
        self.guards.add(guard)  # or nothing keeps it
        guard.add_done_callback(self.guards.discard)
        return run, content

    async def _read(self, file: Any, role: str, long_side: int, *, enlarge: bool = True) -> Loaded:
        path = uploaded(file, role)
        try:
            image = await self.chores.do_admitted(load_image, path, long_side=long_side, enlarge=enlarge)
            return image, await self.chores.do_admitted(image_entry, path)
        except ImageError as error:
            raise gr.Error(f"{role.capitalize()}: {error}", print_exception=False) from error

    async def _watch(self, run: Run) -> AsyncIterator[dict[Any, Any]]:
        """What has changed on the page, about every second, until the run ends."""
        said, shown, flat, picture_due, chart_due = "", None, False, 0.0, 0.0
        while not run.future.done():
            await asyncio.sleep(0.1)
            progress, now = run.progress, time.monotonic()
            if progress is None:
                if said != (said := self._before_painting(run)):
                    yield {self.results.status: status(said)}
            elif progress is not shown and now >= picture_due:
                # Once said, it stays said: the odd steeper step later on is no reason to take it back.
                flat = flat or (progress.size == run.config.size and levelled_off(run.history))
                update = {
                    # A component, not a bare array, whose file Gradio would never delete.
                    self.results.preview: gr.Image(to_uint8(progress.image), visible=True),
                    self.results.status: _while_painting(progress, flat, run.attempts),
                }
                if shown is None:
                    update |= self.results.painting()
                shown, picture_due = progress, now + PREVIEW_SECONDS
                if now >= chart_due:
                    chart_due = now + CHART_SECONDS
                    update[self.results.chart] = loss_chart(
                        {"": list(run.history)}, steps=run.config.iterations
                    )
                yield update

    def _before_painting(self, run: Run) -> str:
        ahead, wait = self.line.ahead(run), self.line.wait(run)
        if ahead:
            when = f", and it begins in about {duration(wait)}" if wait and wait >= 1 else ""
            return f"Your picture is number {ahead + 1} of {self.line.length} in the line{when}."
        return "Preparing the images …" if run.backbone else "Loading the network …"

    def _outcome(self, run: Run, photo: tf.Tensor, name: str, panes: list[str]) -> dict[Any, Any]:
        """The picture beside the photo, and all that can be done with it."""
        _raise_failure(run)
        progress = run.progress
        if progress is None:
            return {self.results.status: status("Stopped before the first step.")}
        height, width = progress.image.shape[1:3]
        finished = finish(run, photo, name, self.storage.new_folder())
        keep(finished, panes)
        time_taken = duration(progress.seconds)
        text = f"{ENDED[run.ended]}: {len(run.history)} steps in {time_taken}, {width} × {height} pixels."
        share = 1 if run.ended == "finished" else _share(progress)
        done = self.results.done(finished, run.config.strength, text, share)
        return {**done, self.backbone_note: _backbone_note(run), self.last: finished.folder.name}


def _short_stem(path: str) -> str:
    """A file's name without its ending, short enough for two of them to make a file name."""
    return Path(path).stem.encode()[:100].decode(errors="ignore")


def _save_resized(photo: Path, picture: Path, file: Path) -> None:
    """Write the photo as large as the picture."""
    height, width = load_image(picture).shape[1:3]
    save_image(resize(load_image(photo), height, width), file)


def _backbone_note(run: Run) -> str:
    backbone = run.backbone
    return f"The images are read by {BACKBONES[backbone.name]}. {backbone.note}" if backbone else ""


def _raise_failure(run: Run) -> None:
    error = None if run.future.cancelled() else run.future.exception()
    if isinstance(error, WeightsError):
        sentence = f"{error.problem}: please choose another network."
        raise gr.Error(sentence, print_exception=False) from error
    if isinstance(error, ConfigError | TransferError | RunnerError | LostRunError):
        raise gr.Error(str(error), print_exception=False) from error
    if error is not None:
        logger.error("a run failed", exc_info=error)
        raise gr.Error(
            "Something went wrong: please try again, perhaps at a smaller size.", print_exception=False
        )


def _while_painting(progress: Progress, flat: bool, attempts: int) -> str:
    at = f"{progress.step} of {progress.steps}, about {duration(seconds_left(progress))} left"
    if flat:  # which only the last level gets to be: the line has no room for its number as well
        text = f"Step {at}. The losses have levelled off: Stop keeps this picture."
    else:
        levels = len(progress.schedule)
        text = f"Level {progress.level} of {levels} ({progress.size} px), step {at}"
        if attempts > 1:
            text = f"The machine was lost, so it was begun anew. {text}"
    return status(text, _share(progress))


def _share(progress: Progress) -> float:
    return progress.seconds / (progress.seconds + seconds_left(progress))


def _said_beforehand(content: Example, style: Example) -> str:
    return f"{content.title}, painted beforehand like {style.title}. Press Stylize to see it happen."


def _files_of(content: Example, style: Example) -> tuple[Path, ...]:
    return content.path, style.path, *(made_beforehand(content, style) or ())


def _credits(*examples: Example) -> str:
    return " · ".join(f"*{example.title}*: {example.credit}" for example in examples if example.credit)


def launch(line: Line, *, metrics: bool = False, **options: Any) -> gr.Blocks:
    """Serve the page with its runs in `line`, and its metrics; `options` are those of Gradio's launch()."""
    harden()
    datasets = load_datasets()
    rooms = Page(line, datasets)
    page = rooms.build()
    page.queue(max_size=100, api_open=False, default_concurrency_limit=None)  # the handlers have limits
    page.launch(
        theme=THEME,
        css_paths=CSS,
        max_file_size="50mb",
        footer_links=["api"],
        state_session_capacity=SESSIONS,
        enable_monitoring=False,  # it would keep who came when
        run_history=False,  # and this, what they did
        app_kwargs={
            "middleware": [
                Middleware(SecurityHeaders),
                Middleware(KnownPaths),
                Middleware(FairShare, limits=line.limits, storage=rooms.storage),
            ],
            "exception_handlers": {RequestValidationError: refuse_unreadable},
            "lifespan": rooms.storage.lifespan(page),
        },
        **options,
    )
    page.app.add_api_route("/health", line.state)
    if metrics:
        page.app.add_api_route("/metrics", lambda: PlainTextResponse(line.metrics.text()))
    return page


def _let_open(files: int = 65_536) -> None:
    """Let this process have so many files open, or as many as it may: every connection is one."""
    try:
        import resource
    except ImportError:  # Windows, which needs no leave
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = files if most == resource.RLIM_INFINITY else min(files, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))


def main() -> None:
    """Serve the page until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve the style-transfer page.")
    parser.add_argument("--share", action="store_true", default=None, help="give it a public link as well")
    parser.add_argument("--auth", metavar="NAME:PASSWORD", help="let nobody in without them (or: NST_AUTH)")
    parser.add_argument(
        "--metrics", action="store_true", help="serve /metrics for Prometheus (or: NST_METRICS=1)"
    )
    limits.add_options(parser)
    runners.add_options(parser)
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    name, _, password = (arguments.auth or os.environ.get("NST_AUTH", "")).partition(":")
    if bool(name) != bool(password):
        sys.exit("Please give --auth a name and a password, with a colon between them.")
    try:
        allowed = limits.limits_of(arguments)
        line = Line(runners.runner_of(arguments, allowed.at_once), allowed)
    except (ConfigError, RunnerError) as error:
        sys.exit(str(error))
    _let_open()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing is left behind
    where = os.environ.get("GRADIO_TEMP_DIR", tempfile.gettempdir())
    Path(where).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nst-", dir=where, ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = folder  # with what Gradio leaves elsewhere
        try:
            options = {
                "share": arguments.share,
                "auth": (name, password) if name else None,
                "metrics": arguments.metrics or os.environ.get("NST_METRICS", "") not in ("", "0"),
            }
            page = launch(line, **options, quiet=True, prevent_thread_lock=True)
            print(f"Open {page.share_url or page.local_url} in a browser. Ctrl-C stops it.", flush=True)
            page.block_thread()
        except (CatalogError, ImageError) as error:
            sys.exit(str(error))
        finally:
            line.close()


if __name__ == "__main__":
    main()
