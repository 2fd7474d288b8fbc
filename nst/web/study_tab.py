"""The second tab: a whole dataset, its weights varied, and what comes of it side by side."""

import asyncio
import hashlib
import html
import math
import re
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator
from contextlib import ExitStack, aclosing, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import tensorflow as tf
from PIL import Image

from nst.config import ConfigError, TransferConfig
from nst.engine.images import ImageError, load_image, to_uint8
from nst.engine.stylize import coarse_to_fine, cost
from nst.engine.vgg import WeightsError
from nst.runs.runner import Job, Local
from nst.serving.middleware import Chores, address, stop_unread
from nst.serving.queue import BusyError, Line, Run
from nst.serving.storage import uploaded
from nst.study.charts import loss_chart, palette
from nst.study.datasets import Dataset, Example
from nst.study.folder import Edge, Plan, Planned, StudyError, StudyFolder, grid, judged, reason_of
from nst.study.report import CURVES, write_index
from nst.web.components import QUIETLY, duration, slider, status

OWN = "My own images"
SIZE = 256  # pixels; a study is for comparing, and so it starts small
LONG_SIDE = "Long side in pixels"
THUMBNAIL = 240  # pixels
MOST_WEIGHTS = 40
WAITING_SECONDS = 2  # for a place in a line that is full
MOST_RUNS_A_PICTURE = 25  # small ones, in the time of one picture

_OPEN = """
element.addEventListener('click', ({target}) => {
    const chosen = target.closest('[data-run]');
    if (chosen) trigger('click', {run: Number(chosen.dataset.run)});
});
"""


@dataclass
class Shown:
    """A visitor's study, as the page shows it."""

    plan: Plan
    folder: StudyFolder
    runs: list[Planned] = field(init=False)

    def __post_init__(self) -> None:
        self.runs = list(self.plan)

    def record(self, planned: Planned) -> dict[str, Any] | None:
        """The run record, where the run has been made."""
        return self.folder.record(self.folder.id_of(planned))

    def picture(self, planned: Planned) -> Path:
        """Where its picture is."""
        return self.folder.picture(self.folder.id_of(planned))


@dataclass
class Running:
    """A study that is being made."""

    visitor: str | None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    run: Run | None = None  # that is in the line

    def stop(self) -> None:
        """End it within one evaluation; what is made stays."""
        self.stopping.set()
        if self.run:
            self.run.stop()


class StudyTab:
    """The tab's components, and the handlers behind them."""

    def __init__(
        self, line: Line, datasets: tuple[Dataset, ...], new_folder: Callable[[], Path], chores: Chores
    ) -> None:
        self._line = line
        self._chores = chores
        self._datasets = {dataset.name: dataset for dataset in datasets}
        self._new_folder = new_folder
        self._running: dict[str | None, Running] = {}  # by the visitor's session
        self.shown = gr.State(None)
        gr.Markdown(
            "Paint every photo of a dataset like every painting, vary the weights, and compare the pictures "
            "and their loss curves. A click opens a picture with its settings."
        )
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                self._controls()
            with gr.Column(scale=8, min_width=320):
                self.status = gr.HTML(status("Press Start to begin."))
                self.sheet = gr.HTML(_empty_sheet(), js_on_load=_OPEN, elem_id="sheet", label="Contact sheet")
                self.chart = gr.Plot(
                    loss_chart({"": []}), label="Losses", show_label=False, elem_id="study-chart"
                )
                self.legend = gr.HTML()

    def _controls(self) -> None:
        limits = self._line.limits
        with gr.Group():
            self.dataset = gr.Radio([*self._datasets, OWN], value=next(iter(self._datasets)), label="Dataset")
            with gr.Row(visible=False) as self.own:
                self.contents, self.styles = (
                    gr.File(
                        label=label, file_count="multiple", file_types=["image"], height=150, elem_id=name
                    )
                    for label, name in (("Photos", "study-contents"), ("Paintings", "study-styles"))
                )
            self.content_weights = gr.Textbox(
                "1", label="Content weights α", info="One, or several with commas between them"
            )
            self.style_weights = gr.Textbox(
                "10, 100, 1000", label="Style weights β", info="Every α is combined with every β"
            )
            self.size = slider("size", "Size", 32, maximum=min(1024, limits.size), value=SIZE, info=LONG_SIDE)
            self.iterations = slider("iterations", "Iterations", 1, maximum=limits.iterations)
        self.extent = gr.Markdown(elem_id="extent")
        with gr.Row(elem_id="study-actions"):
            self.start = gr.Button("Start", variant="primary", scale=3, min_width=80)
            self.stop = gr.Button("Stop", variant="stop", interactive=False, scale=1, min_width=80)
        self.save = gr.DownloadButton("Save the study (ZIP)", interactive=False)

    @property
    def inputs(self) -> list[Any]:
        """What a plan is made from: see _plan()."""
        return [
            self.dataset,
            self.contents,
            self.styles,
            self.content_weights,
            self.style_weights,
            self.size,
            self.iterations,
        ]

    def connect(self, page: gr.Blocks) -> None:
        """Let the controls act."""
        self.dataset.change(lambda name: gr.Row(visible=name == OWN), self.dataset, self.own, **QUIETLY)
        gr.on(
            [page.load, *(control.change for control in self.inputs)],
            self._extent,
            self.inputs,
            self.extent,
            trigger_mode="always_last",
            preprocess=False,  # Gradio would leave an empty file for each one that is chosen
            **QUIETLY,
        )
        self.start.click(
            self._run,
            [self.shown, *self.inputs],
            [
                self.shown,
                self.start,
                self.stop,
                self.status,
                self.sheet,
                self.chart,
                self.legend,
                self.save,
                self.extent,
            ],
            preprocess=False,
            concurrency_limit=None,
            show_progress="hidden",
            api_visibility="private",
        )
        self.stop.click(self._stop, outputs=self.stop, **QUIETLY)
        page.unload(self.leave)

    def _plan(
        self,
        name: Any,
        contents: Any,
        styles: Any,
        content_weights: Any,
        style_weights: Any,
        size: Any,
        iterations: Any,
    ) -> Plan:
        """Of what the components sent. Raises ConfigError, gr.Error, and WeightsError without a network."""
        if name == OWN:
            if not contents or not styles:
                raise ConfigError("Please add at least one photo and one painting.")
            own = (
                [_example(uploaded(file, role)) for file in files]
                for files, role in ((contents, "photo"), (styles, "painting"))
            )
            dataset = Dataset("own images", *map(tuple, own))
        else:
            datasets = [one for one in self._datasets.values() if one.name == name]  # it may be anything
            if not datasets:
                raise ConfigError("Please choose a dataset, or your own images.")
            dataset = datasets[0]
        axes = {
            "content_weight": _numbers("content weights", content_weights),
            "style_weight": _numbers("style weights", style_weights),
        }
        base = TransferConfig(size=size, iterations=iterations)
        self._line.limits.check(base)
        most = self._line.limits.study
        runs = math.prod(map(len, (dataset.contents, dataset.styles, *axes.values())))
        if runs > most * MOST_RUNS_A_PICTURE:
            raise ConfigError(
                f"Please make the study smaller: {most * MOST_RUNS_A_PICTURE} runs are the most."
            )
        plan = Plan(dataset, grid(base, axes), None)
        usual = cost(coarse_to_fine(TransferConfig().size, TransferConfig().iterations))
        if (worth := plan.cost / usual) > most:
            raise ConfigError(
                f"Please make the study smaller: it may take as long as {most} pictures with the "
                f"default settings, and this one would take as long as {worth:.0f}."
            )
        return plan

    async def _extent(self, *values: Any) -> str:
        await self._line.warmed_up()
        try:
            return self._told(await asyncio.to_thread(self._plan, *values))
        except (ConfigError, WeightsError) as error:
            return str(error)

    def _told(self, plan: Plan) -> str:
        runs = f"{len(plan)} runs" if len(plan) > 1 else "1 run"
        return f"{runs}, about {duration(plan.cost * self._line.pace)}." if self._line.pace else f"{runs}."

    async def _run(
        self, request: gr.Request, before: Shown | None, *values: Any
    ) -> AsyncIterator[dict[Any, Any]]:
        """Make the runs that are missing, one after the other in the line, and show them as they come."""
        with ExitStack() as stack:
            running = self._begin(request)
            stack.callback(self._running.pop, request.session_hash)
            try:
                plan = await asyncio.to_thread(self._plan, *values)
            except (ConfigError, WeightsError) as error:
                raise gr.Error(str(error), print_exception=False) from error
            here = before and before.folder.path.is_dir()
            folder = before.folder if before and here else StudyFolder(self._new_folder())
            shown = Shown(plan, folder)
            stack.enter_context(folder.locked())
            guard = asyncio.create_task(stop_unread(request, running.stopping.is_set, running.stop))
            stack.callback(guard.cancel)
            yield {
                self.shown: shown,
                self.start: gr.Button("Running …", interactive=False),
                self.stop: gr.Button("Stop", interactive=True),
                self.save: gr.DownloadButton(interactive=False),
                **await self._view(shown),
            }
            failed = 0
            for planned in shown.runs:
                if folder.has(folder.id_of(planned)):
                    continue
                yield {self.status: self._progress(shown, planned, None), **await self._sheet(shown, planned)}
                try:
                    async with aclosing(self._painted(running, planned, folder)) as ticks:
                        async for run in ticks:
                            yield {self.status: self._progress(shown, planned, run)}
                except (ImageError, StudyError, MemoryError, tf.errors.OpError) as error:
                    failed += 1
                    folder.fail(planned, reason_of(error))
                except OSError as error:
                    yield {
                        self.start: gr.Button("Start", interactive=True),
                        self.stop: gr.Button("Stop", interactive=False),
                    }
                    sentence = "This study's files are no longer kept: please start it once more."
                    raise gr.Error(sentence, print_exception=False) from error
                if running.stopping.is_set():
                    break
                yield await self._view(shown)
            made = sum(folder.has(folder.id_of(planned)) for planned in shown.runs)
            text = (
                f"{'Stopped' if running.stopping.is_set() else 'Done'}: {made} of {len(plan)} runs are made."
            )
            text += f" {failed} failed." if failed else " Start goes on." if made < len(plan) else ""
            archive = await self._chores.do_admitted(_archive, shown) if made else None
            yield {
                **await self._view(shown),
                self.status: status(text, made / len(plan)),
                self.start: gr.Button("Start", interactive=True),
                self.stop: gr.Button("Stop", interactive=False),
                self.save: gr.DownloadButton(value=archive, interactive=archive is not None),
                self.extent: self._told(plan),
            }

    def _begin(self, request: gr.Request) -> Running:
        """A new study of this visitor's. Raises gr.Error where it, theirs, or everybody's are too many."""
        visitor, limits = address(request), self._line.limits
        theirs = sum(one.visitor == visitor is not None for one in self._running.values())
        for refused, sentence in (
            (request.session_hash in self._running, "Your study is running: please stop it, or wait for it."),
            (theirs >= limits.per_visitor, "Your other studies are running: please wait for one of them."),
            (len(self._running) >= limits.places, "Too many studies are running: please come back later."),
        ):
            if refused:
                raise gr.Error(sentence, print_exception=False)
        running = self._running[request.session_hash] = Running(visitor)
        return running

    async def _painted(self, running: Running, planned: Planned, folder: StudyFolder) -> AsyncGenerator[Run]:
        """Follow one run about every second, and keep it if it gets to its end."""
        config = planned.config
        content, style = [
            await self._chores.do_admitted(load_image, example.path, long_side=config.size)
            for example in (planned.content, planned.style)
        ]
        job = Job(content, [style], config)
        while not running.stopping.is_set():
            try:
                run = running.run = self._line.join(Run(job), running.visitor)
                break
            except BusyError:
                await asyncio.sleep(WAITING_SECONDS)
        else:
            return
        try:
            ticks = 0
            while not run.future.done():
                await asyncio.sleep(0.1)
                ticks += 1
                if ticks % 10 == 0:
                    yield run
        finally:
            run.stop()
            running.run = None
        if running.stopping.is_set() or run.future.cancelled():
            return
        error = run.future.exception()
        if error is not None or run.ended != "finished":
            raise StudyError(reason_of(error) if error else f"The run ended early ({run.ended}).")
        assert run.progress is not None
        with closing(Local()) as here:  # the line's own runner is painting for others
            painted = await self._chores.do_admitted(judged, job, run.progress.image, run.history, here)
        await asyncio.to_thread(folder.keep, planned, painted)

    def _stop(self, request: gr.Request) -> Any:
        self.leave(request)
        running = request.session_hash in self._running
        return gr.Button("Stopping …", interactive=False) if running else gr.skip()

    def leave(self, request: gr.Request) -> None:
        """End the study of a visitor who has closed the page."""
        if request.session_hash in self._running:
            self._running[request.session_hash].stop()

    def _progress(self, shown: Shown, planned: Planned, run: Run | None) -> str:
        number = shown.runs.index(planned)
        text = f"Run {number + 1} of {len(shown.runs)}: {shown.plan.title(planned)}"
        share, ahead = 0.0, self._line.ahead(run) if run else 0
        if ahead:
            text += f", waiting for {ahead} before it"
        elif run and run.progress:
            share = run.progress.step / run.progress.steps
            text += f", step {run.progress.step} of {run.progress.steps}"
        left = (
            sum(one.cost for one in shown.runs[number:] if not shown.folder.has(shown.folder.id_of(one)))
            - share * planned.cost
        )
        if self._line.pace and not ahead:
            text += f", about {duration(left * self._line.pace)} left in all"
        return status(text, (number + share) / len(shown.runs))

    async def _view(self, shown: Shown) -> dict[Any, Any]:
        """The contact sheet and figure 1 of what there is."""
        there = await self._chores.do_admitted(_curves, shown)
        return {
            self.chart: loss_chart(there or {"": []}),
            self.legend: _legend(there),
            **await self._sheet(shown, None),
        }

    async def _sheet(self, shown: Shown, painting: Planned | None) -> dict[Any, Any]:
        return {self.sheet: await self._chores.do_admitted(_table, shown, painting)}


def _curves(shown: Shown) -> dict[str, Any]:
    """The histories of the first runs that there are, by their titles."""
    records = ((shown.plan.title(one), shown.record(one)) for one in shown.runs)
    return dict([(title, record["history"]) for title, record in records if record][:CURVES])


def _legend(names: Collection[str]) -> str:
    entries = (
        f'<span style="--color: {color}">{html.escape(name)}</span>'
        for name, color in zip(names, palette(len(names)), strict=True)
    )
    return f'<div class="legend">{"".join(entries)}</div>'


def _example(path: Path) -> Example:
    return Example(path, path.stem)


def _numbers(name: str, text: Any) -> list[float]:
    try:
        numbers = [float(part) for part in re.split(r"[,;\s]+", str(text).strip()) if part]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= MOST_WEIGHTS:
        raise ConfigError(f"Please give one to {MOST_WEIGHTS} {name}, numbers with commas between them.")
    return numbers


def _empty_sheet() -> str:
    return '<p class="nothing">The pictures appear here, photo by photo and painting by painting.</p>'


def _table(shown: Shown, painting: Planned | None) -> str:
    """The contact sheet, with the inputs on its edges."""
    return "".join(_parts(shown, painting))


def _parts(shown: Shown, painting: Planned | None) -> Iterator[str]:
    plan, folder = shown.plan, shown.folder
    at = {plan.place(planned): number for number, planned in enumerate(shown.runs)}
    yield '<div class="scroll"><table><thead><tr><td></td>'
    for column in plan.columns:
        yield f'<th scope="col">{_edge(column, folder)}</th>'
    yield "</tr></thead><tbody>"
    for row, row_number in plan.rows.items():
        yield f'<tr><th scope="row">{_edge(row, folder)}</th>'
        for column_number in plan.columns.values():
            number = at[row_number, column_number]
            yield f"<td>{_cell(shown, number, painting)}</td>"
        yield "</tr>"
    yield "</tbody></table></div>"


def _edge(edge: Edge, folder: StudyFolder) -> str:
    picture = _thumbnail(edge.example.path, folder)
    image = f'<img src="{_served(picture)}" alt="">' if picture else ""
    label = f"<br>{html.escape(edge.label)}" if edge.label else ""
    return f"{image}<span>{html.escape(edge.example.title)}{label}</span>"


def _cell(shown: Shown, number: int, painting: Planned | None) -> str:
    planned, folder = shown.runs[number], shown.folder
    identity = folder.id_of(planned)
    if folder.has(identity):
        title = html.escape(shown.plan.title(planned))
        picture = _served(_thumbnail(folder.picture(identity), folder))
        return (
            f'<button type="button" data-run="{number}" title="Open it: {title}">'
            f'<img src="{picture}" alt="{title}"></button>'
        )
    reason = folder.failure(identity)
    if reason:
        return f'<div class="failed" title="{html.escape(reason)}">failed</div>'
    return f'<div class="{"painting" if planned == painting else "pending"}"></div>'


def _thumbnail(path: Path, folder: StudyFolder) -> Path | None:
    """A small copy of a picture, made once; None of one that can't be read, which an empty file remembers."""
    name = f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.jpg"
    copy = folder.path / "thumbnails" / name
    if not copy.is_file():
        copy.parent.mkdir(exist_ok=True)
        try:
            pixels = to_uint8(load_image(path, long_side=THUMBNAIL, enlarge=False))
            Image.fromarray(pixels).save(copy, quality=85)
        except ImageError:
            copy.touch()
    return copy if copy.stat().st_size else None


def _served(path: Path | None) -> str:
    return html.escape(f"gradio_api/file={path}")


def _archive(shown: Shown) -> str:
    """The study as a ZIP file, with its index."""
    write_index(shown.plan, shown.folder)
    folder = shown.folder.path
    return shutil.make_archive(str(folder.with_name(f"{folder.name}-study")), "zip", folder)
