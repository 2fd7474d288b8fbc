"""The page: drop in a photo and a painting, watch the photo being painted, take the picture home.

`python app.py` starts it; `python app.py --share` gives it a public link as well.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

# Gradio and TensorFlow read these when they are imported: no calls home, and no log of what was optimised.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import gradio as gr
import tensorflow as tf
from gradio.data_classes import FileData

from nst.backbones import WeightsError
from nst.catalog import CatalogError, Dataset, Example, load_datasets, made_beforehand
from nst.figures import loss_chart
from nst.images import ImageError, load_image, save_image, to_uint8
from nst.page import CSS, duration, log_slider, pair_thumbnail, status
from nst.records import levelled_off, save_record
from nst.runners import BusyError, Line, Run
from nst.transfer import ConfigError, Progress, TransferConfig, TransferError, coarse_to_fine, seconds_left

DEFAULTS = TransferConfig()
SETTINGS = {setting.name: setting.metadata for setting in fields(TransferConfig)}
PREVIEW_SECONDS = 0.9
CHART_SECONDS = 1.9  # the browser draws a chart anew at each update, which takes it a while

BACKBONES = {"vgg19": "VGG-19", "vgg16": "VGG-16", "vgg16-hed": "the bundled VGG-16"}
LABELS = {
    "auto": "automatic",
    **BACKBONES,
    "lbfgs": "L-BFGS",
    "adam": "Adam",
    "content": "the photo",
    "max": "maximum",
    "avg": "average",
}
ENDED = {
    "finished": "Done",
    "stopped": "Stopped",
    "out of time": "Stopped, because the time for one run is up",
    "failed": "Stopped, because the losses went out of range",
}
SCROLL_TO_RESULTS = """(...values) => {
    if (window.innerWidth <= 768) document.querySelector('#results').scrollIntoView({behavior: 'smooth'});
    return values;
}"""

FONT = gr.themes.LocalFont("Source Sans Pro", weights=(400, 700))  # its 600 lacks most letters
THEME = gr.themes.Default(
    primary_hue="orange", neutral_hue="stone", font=[FONT, "system-ui", "sans-serif"]
).set(body_text_color_subdued="*neutral_600", block_info_text_color="*neutral_600")

logger = logging.getLogger("nst")


class Page:
    """The layout, and the short handlers behind it."""

    def __init__(self, line: Line, datasets: tuple[Dataset, ...]) -> None:
        self.line = line
        self.datasets = datasets
        self.runs: dict[str, set[Run]] = {}  # by the visitor's session
        self.reading = asyncio.Semaphore(2)  # a picture of 50 megapixels takes half a gigabyte to read

    def build(self) -> gr.Blocks:
        """The page, top to bottom as it looks."""
        with gr.Blocks(title="Neural style transfer", delete_cache=(3600, 86400)) as page:
            gr.Markdown(
                "# Neural style transfer\n"
                "Choose a photo and a painting, and watch the photo being painted like the painting.",
                elem_id="title",
            )
            with gr.Row():
                with gr.Column(scale=5, min_width=320):
                    self._panes()
                    self._examples()
                    self._sliders()
                with gr.Column(scale=7, min_width=320, elem_id="results"):
                    self._results()
            self._events(page)
            gr.api(self.stylize, concurrency_limit=None)
        return page

    def _panes(self) -> None:
        content, style = self.datasets[0].pairs[0]
        with gr.Row(elem_id="panes"):
            self.content = _pane(content, "Photo (content)", "content")
            self.style = _pane(style, "Painting (style)", "style")
        with gr.Row(elem_id="actions"):
            self.start_button = gr.Button("Stylize", variant="primary", scale=3, min_width=80)
            self.stop_button = gr.Button("Stop", variant="stop", interactive=False, scale=1, min_width=80)

    def _examples(self) -> None:
        credits_line = gr.Markdown(_credits(*self.datasets[0].pairs[0]), elem_id="credits", render=False)
        for dataset in self.datasets:
            with gr.Tab(
                f"{dataset.name.capitalize()} dataset · {len(dataset.contents)} × {len(dataset.styles)}"
            ):
                thumbnails = [(pair_thumbnail(*pair), pair[1].title) for pair in dataset.pairs]
                gallery = gr.Gallery(
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
                gallery.select(
                    _chooser(dataset),
                    outputs=[self.content, self.style, credits_line],
                    queue=False,
                    show_progress="hidden",
                    api_visibility="private",
                )

        credits_line.render()
        gr.on(
            [self.content.upload, self.content.clear, self.style.upload, self.style.clear],
            lambda: "",  # whose pictures these are, nobody here knows
            outputs=credits_line,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )

    def _sliders(self) -> None:
        with gr.Group():
            content_weight = _slider("content_weight", "Content weight α", 0.1)
            low, high = SETTINGS["style_weight"]["range"]
            style_weight = log_slider(
                low,
                high,
                value=DEFAULTS.style_weight,
                label="Style weight β",
                info=_sentence("style_weight"),
            )
            iterations = _slider("iterations", "Iterations", 1)
            size = _slider("size", "Size", 32)
        with gr.Accordion("Advanced", open=False):
            backbone = _choice("backbone", "Network")
            precision = _choice("precision", "Precision")
            optimizer = _choice("optimizer", "Optimiser")
            init = _choice("init", "Start")
            pooling = _choice("pooling", "Pooling")
            tv_weight = _slider("tv_weight", "Smoothing (TV)", 0.1)
            seed = gr.Number(DEFAULTS.seed, label="Seed", info=_sentence("seed"), precision=0)
        self.settings = {
            "content_weight": content_weight,
            "style_weight": style_weight,
            "iterations": iterations,
            "size": size,
            "backbone": backbone,
            "precision": precision,
            "optimizer": optimizer,
            "init": init,
            "pooling": pooling,
            "tv_weight": tv_weight,
            "seed": seed,
        }

    def _results(self) -> None:
        pair = self.datasets[0].pairs[0]
        example = made_beforehand(*pair)
        history = json.loads(example[1].read_text(encoding="utf-8"))["history"] if example else []
        self.preview = gr.Image(
            label="Picture",
            format="jpeg",
            visible=example is None,
            interactive=False,
            buttons=["fullscreen"],
            elem_id="picture",
        )
        self.comparison = gr.ImageSlider(
            (pair[0].path, example[0]) if example else None,
            label="Before and after",
            format="png",
            visible=example is not None,
            interactive=False,
            buttons=["fullscreen"],
            elem_id="comparison",
        )
        self.status = gr.HTML(
            status(
                f"{pair[0].title}, painted beforehand like {pair[1].title}. Press Stylize to see it happen."
                if example
                else "Press Stylize to start."
            )
        )
        with gr.Row():
            self.download_picture = gr.DownloadButton("Save picture", interactive=False, min_width=100)
            self.download_record = gr.DownloadButton("Save run record", interactive=False, min_width=100)
        self.chart = gr.Plot(loss_chart({"": history}), label="Losses", show_label=False, elem_id="chart")
        self.backbone_note = gr.Markdown(elem_id="backbone")

    def _events(self, page: gr.Blocks) -> None:
        outputs = [
            self.start_button,
            self.stop_button,
            self.preview,
            self.comparison,
            self.status,
            self.chart,
            self.download_picture,
            self.download_record,
            self.backbone_note,
        ]
        self.start_button.click(
            self.paint,
            [self.content, self.style, *self.settings.values()],
            outputs,
            preprocess=False,  # images and settings as they came: load_image and TransferConfig check them
            js=SCROLL_TO_RESULTS,
            concurrency_limit=None,
            show_progress="hidden",
            api_visibility="private",
        )
        self.stop_button.click(
            self.stop, outputs=self.stop_button, queue=False, show_progress="hidden", api_visibility="private"
        )
        page.load(
            self.describe_backbone,
            outputs=self.backbone_note,
            concurrency_limit=None,
            show_progress="hidden",
            api_visibility="private",
        )
        page.unload(self.leave)

    async def paint(
        self, request: gr.Request, content: Any, style: Any, *settings: Any
    ) -> AsyncIterator[dict[Any, Any]]:
        """Wait in the line, then show the picture and its losses as they grow."""
        run, photo = await self._join(content, style, dict(zip(self.settings, settings, strict=True)))
        self.runs.setdefault(request.session_hash, set()).add(run)
        try:
            yield {
                self.start_button: gr.Button("Painting …", interactive=False),
                self.stop_button: gr.Button("Stop", interactive=True),
                self.status: status(self._before_painting(run)),
            }
            async for update in self._watch(run):
                yield update
            ready = {
                self.start_button: gr.Button("Stylize", interactive=True),
                self.stop_button: gr.Button("Stop", interactive=False),
            }
            name = "--".join(_short_stem(file["path"]) for file in (content, style))
            try:
                outcome = await asyncio.to_thread(self._outcome, run, photo, name)
            except gr.Error as error:
                yield {**ready, self.status: status(error.message)}
                raise
            yield {**ready, **outcome}
        finally:
            self._forget(request, run)

    async def stylize(
        self,
        request: gr.Request,
        content: gr.FileData,
        style: gr.FileData,
        content_weight: float = DEFAULTS.content_weight,
        style_weight: float = DEFAULTS.style_weight,
        tv_weight: float = DEFAULTS.tv_weight,
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
    ) -> tuple[gr.FileData, dict]:
        """Paint the content image as the style image is painted; get the picture (PNG) and the run record.

        The settings mean what they mean on the page. Layers are a list of names, for losses that are divided
        by the energy of their targets and averaged, or {name: weight}, for mean squared errors times weights.
        """
        settings = {name: value for name, value in locals().items() if name in SETTINGS}
        run, _ = await self._join(content, style, settings)
        self.runs.setdefault(request.session_hash, set()).add(run)
        try:
            while not run.future.done():
                await asyncio.sleep(0.1)
            _raise_failure(run)
            if run.progress is None:
                raise gr.Error("The run was stopped before its first step.", print_exception=False)
            picture = self._folder() / "picture.png"
            await asyncio.to_thread(save_image, run.progress.image, picture)
            return gr.FileData(path=str(picture)).model_dump(), run.record()
        finally:
            self._forget(request, run)

    def stop(self, request: gr.Request) -> Any:
        """End the visitor's run; the picture so far stays."""
        self.leave(request)
        return gr.Button("Stopping …", interactive=False) if request.session_hash in self.runs else gr.skip()

    def leave(self, request: gr.Request) -> None:
        """End the runs of a visitor who has closed the page."""
        for run in self.runs.get(request.session_hash, ()):
            run.stop()

    def _forget(self, request: gr.Request, run: Run) -> None:
        run.stop()
        runs = self.runs[request.session_hash]
        runs.discard(run)
        if not runs:
            del self.runs[request.session_hash]

    async def describe_backbone(self) -> str:
        """Say which network reads the images, and why it isn't VGG-19 where it isn't."""
        while not self.line.warm_up.future.done():
            await asyncio.sleep(0.2)
        return _backbone_note(self.line.warm_up)

    async def _join(self, content: Any, style: Any, settings: dict[str, Any]) -> tuple[Run, tf.Tensor]:
        """Read the two images and put their run into the line; every bad input ends here."""
        images = []
        try:
            config = TransferConfig(**settings)
            for role, file in (("photo", content), ("painting", style)):
                path = _path_of(file, role)
                async with self.reading:
                    images.append(await asyncio.to_thread(load_image, path, long_side=config.size))
            return self.line.join(*images, config), images[0]
        except ImageError as error:
            raise gr.Error(f"{role.capitalize()}: {error}", print_exception=False) from error
        except (ConfigError, BusyError) as error:
            raise gr.Error(str(error), print_exception=False) from error

    async def _watch(self, run: Run) -> AsyncIterator[dict[Any, Any]]:
        """What has changed on the page, about every second, until the run ends."""
        said, shown, flat, picture_due, chart_due = "", None, False, 0.0, 0.0
        while not run.future.done():
            await asyncio.sleep(0.1)
            progress, now = run.progress, time.monotonic()
            if progress is None:
                if said != (said := self._before_painting(run)):
                    yield {self.status: status(said)}
            elif progress is not shown and now >= picture_due:
                # Once said, it stays said: the odd steeper step later on is no reason to take it back.
                flat = flat or (progress.size == run.config.size and levelled_off(run.history))
                update = {
                    # A component, not a bare array, whose file Gradio would never delete.
                    self.preview: gr.Image(to_uint8(progress.image), visible=True),
                    self.status: _while_painting(progress, run.config, flat),
                }
                if shown is None:  # until now, the last result was there to look at and to save
                    update[self.comparison] = gr.ImageSlider(visible=False)
                    update[self.download_picture] = gr.DownloadButton(interactive=False)
                    update[self.download_record] = gr.DownloadButton(interactive=False)
                shown, picture_due = progress, now + PREVIEW_SECONDS
                if now >= chart_due:
                    chart_due = now + CHART_SECONDS
                    update[self.chart] = _chart(run)
                yield update

    def _before_painting(self, run: Run) -> str:
        ahead = self.line.ahead(run)
        if ahead:
            return f"You are number {ahead + 1} in the line: {ahead} before you."
        return "Reading the two images …" if run.backbone else "Loading the network …"

    def _outcome(self, run: Run, photo: tf.Tensor, name: str) -> dict[Any, Any]:
        """The picture beside the photo, with the files to take home."""
        _raise_failure(run)
        progress = run.progress
        if progress is None:
            return {self.status: status("Stopped before the first step.")}
        folder = self._folder()
        before, after, record = folder / "photo.png", folder / f"{name}.png", folder / f"{name}.json"
        save_image(photo, before)
        save_image(progress.image, after)
        save_record(run.record(), record)
        height, width = progress.image.shape[1:3]
        time_taken = duration(progress.seconds)
        text = f"{ENDED[run.ended]}: {len(run.history)} steps in {time_taken}, {width} × {height} pixels."
        return {
            self.preview: gr.Image(visible=False),
            self.comparison: gr.ImageSlider((str(before), str(after)), visible=True),
            self.status: status(text, 1 if run.ended == "finished" else _share(progress, run.config)),
            self.chart: _chart(run),
            self.download_picture: gr.DownloadButton(value=str(after), interactive=True),
            self.download_record: gr.DownloadButton(value=str(record), interactive=True),
            self.backbone_note: _backbone_note(run),
        }

    def _folder(self) -> Path:
        """A new folder for one run's files, where Gradio serves them, and deletes them after a day."""
        return Path(tempfile.mkdtemp(dir=self.preview.GRADIO_CACHE))


def _short_stem(path: str) -> str:
    """A file's name without its ending, short enough for two of them to make a file name."""
    return Path(path).stem.encode()[:100].decode(errors="ignore")


def _backbone_note(run: Run) -> str:
    backbone = run.backbone
    return f"The images are read by {BACKBONES[backbone.name]}. {backbone.note}" if backbone else ""


def _raise_failure(run: Run) -> None:
    error = None if run.future.cancelled() else run.future.exception()
    if isinstance(error, WeightsError):
        sentence = f"{error.problem}: please choose another network."
        raise gr.Error(sentence, print_exception=False) from error
    if isinstance(error, ConfigError | TransferError):
        raise gr.Error(str(error), print_exception=False) from error
    if error is not None:
        logger.error("a run failed", exc_info=error)
        raise gr.Error(
            "Something went wrong: please try again, perhaps at a smaller size.", print_exception=False
        )


def _while_painting(progress: Progress, config: TransferConfig, flat: bool) -> str:
    at = f"{progress.step} of {progress.steps}, about {duration(seconds_left(progress, config))} left"
    if flat:  # which only the last level gets to be: the line has no room for its number as well
        text = f"Step {at}. The losses have levelled off: Stop keeps this picture."
    else:
        levels = len(coarse_to_fine(config.size, config.iterations))
        text = f"Level {progress.level} of {levels} ({progress.size} px), step {at}"
    return status(text, _share(progress, config))


def _chart(run: Run) -> Any:
    return loss_chart({"": list(run.history)}, steps=run.config.iterations)


def _share(progress: Progress, config: TransferConfig) -> float:
    return progress.seconds / (progress.seconds + seconds_left(progress, config))


def _chooser(dataset: Dataset) -> Callable[[gr.SelectData], tuple[str, str, str]]:
    def choose(event: gr.SelectData) -> tuple[str, str, str]:
        content, style = dataset.pairs[event.index]
        return str(content.path), str(style.path), _credits(content, style)

    return choose


def _credits(*examples: Example) -> str:
    return " · ".join(f"*{example.title}*: {example.credit}" for example in examples if example.credit)


def _path_of(file: Any, role: str) -> str:
    """Where an uploaded file lies. Gradio has checked that it was uploaded, if it is marked as a file."""
    if file is None:
        raise gr.Error(f"Please add a {role} first.", print_exception=False)
    try:
        return FileData.model_validate(file, context={"validate_meta": True}).path
    except ValueError as error:
        sentence = f"Please send the {role} as a file (with gradio_client: handle_file)."
        raise gr.Error(sentence, print_exception=False) from error


def _pane(example: Example, label: str, name: str) -> gr.Image:
    return gr.Image(
        str(example.path),
        type="filepath",
        label=label,
        height=220,
        sources=["upload", "clipboard", "webcam"],
        buttons=[],
        webcam_options=gr.WebcamOptions(mirror=False),
        elem_id=name,
    )


def _slider(name: str, label: str, step: float) -> gr.Slider:
    low, high = SETTINGS[name]["range"]
    return gr.Slider(low, high, getattr(DEFAULTS, name), step=step, label=label, info=_sentence(name))


def _choice(name: str, label: str) -> gr.Radio:
    choices = [(LABELS.get(choice, choice), choice) for choice in SETTINGS[name]["choices"]]
    return gr.Radio(choices, value=getattr(DEFAULTS, name), label=label, info=_sentence(name))


def _sentence(name: str) -> str:
    text = SETTINGS[name]["help"]
    return text[0].upper() + text[1:]


def launch(line: Line, **options: Any) -> gr.Blocks:
    """Serve the page with its runs in `line`; `options` are those of Gradio's launch()."""
    datasets = load_datasets()
    page = Page(line, datasets).build()
    page.queue(max_size=100, api_open=False)
    page.launch(
        theme=THEME,
        css_paths=CSS,
        allowed_paths=[str(example.path) for data in datasets for example in data.contents + data.styles],
        max_file_size="50mb",
        footer_links=["api"],
        **options,
    )
    return page


def main() -> None:
    """Serve the page until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve the style-transfer page.")
    parser.add_argument("--share", action="store_true", default=None, help="give it a public link as well")
    share = parser.parse_args().share
    logging.basicConfig(format="%(message)s")
    line = Line()
    try:
        page = launch(line, share=share, quiet=True, prevent_thread_lock=True)
        print(f"Open {page.share_url or page.local_url} in a browser. Ctrl-C stops it.", flush=True)
        page.block_thread()
    except (CatalogError, ImageError) as error:
        sys.exit(str(error))
    finally:
        line.close()


if __name__ == "__main__":
    main()
