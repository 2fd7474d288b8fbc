"""The second tab: a whole dataset with several weights, and all pictures side by side."""

import asyncio
import math
import re
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from nst.config import TransferConfig
from nst.engine.pyramid import config_cost
from nst.errors import BusyError, ConfigError, StudyError, UserError
from nst.serving.background import BackgroundPool
from nst.serving.queue import POLL_SECONDS, Run, RunQueue
from nst.serving.rate_limit import Share
from nst.study.charts import loss_chart, palette
from nst.study.datasets import Dataset, Example
from nst.study.execute import execute
from nst.study.folder import StudyFolder
from nst.study.plan import Plan, StudyRun, grid
from nst.study.report import MAX_CURVES, write_report
from nst.web.components import UNQUEUED, Updates, Values, format_duration, render, script, slider, status
from nst.web.contact_sheet import ShownStudy, render_sheet
from nst.web.guarded_blocks import sentence_for_visitors
from nst.web.uploads import uploaded_file
from nst.web.visitor_runs import stop_unfollowed, visitor

OWN = "My own images"
SIZE = 256  # pixels; a study is for comparing, and so it starts small
MOST_WEIGHTS = 40
MOST_RUNS_A_PICTURE = 25  # small ones, in the time of one picture
STATUS_SECONDS = 1.0  # between two updates of the status line


class CurrentRun(NamedTuple):
    """Hold the run that a study is making.

    Args:
        planned: the run of the plan.
        queued: the same, once it is in the queue.
    """

    planned: StudyRun
    queued: Run | None = None


class StudyInProgress:
    """Follow a study that is running: its thread tells the page about its runs, and the page may end it."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.current: CurrentRun | None = None
        self.made, self.failed = 0, 0

    def stop(self) -> None:
        """End the study within one evaluation; the finished runs stay."""
        self.stopping.set()

    def make(self, shown: ShownStudy, queue: RunQueue, owner: str | None) -> None:
        """Make the missing runs, one after the other. Call it in a thread.

        Args:
            shown: the study.
            queue: where its runs wait.
            owner: the visitor.

        Raises:
            RunnerError: no run can go on.
            OSError: the folder can't be written any more.
        """

        def watch(planned: StudyRun) -> None:
            self.current = CurrentRun(planned)

        def watch_queued(run: Run) -> None:
            if self.current:
                self.current = self.current._replace(queued=run)

        outcomes = execute(
            shown.plan,
            shown.folder,
            queue.runner,
            run=lambda job, stop: queue.run(job, owner, stop, watch_queued),
            stop=self.stopping.is_set,
            watch=watch,
            at_once=1,
        )
        for outcome in outcomes:
            self.made += outcome.new and not outcome.reason
            self.failed += outcome.reason is not None


class StudyTab:
    """Lay out the tab, and handle what happens in it.

    Args:
        queue: where runs wait.
        datasets: the bundled datasets.
        new_folder: makes a folder for a study.
        background: where thumbnails and archives are made.
    """

    def __init__(
        self,
        queue: RunQueue,
        datasets: tuple[Dataset, ...],
        new_folder: Callable[[], Path],
        background: BackgroundPool,
    ) -> None:
        self._queue, self._background, self._new_folder = queue, background, new_folder
        self._datasets = {dataset.name: dataset for dataset in datasets}
        self._in_progress: dict[str | None, StudyInProgress] = {}  # by session
        # Not asyncio's own threads, which everything else on the page needs: a study takes one for minutes.
        self._threads = ThreadPoolExecutor(queue.limits.places, thread_name_prefix="study")
        self.shown = gr.State(None)
        gr.Markdown(
            "Paint every photo of a dataset like every painting, vary the weights, and compare the pictures "
            "and their loss curves. Click a picture to open it with its settings."
        )
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                self._lay_out_controls()
            with gr.Column(scale=8, min_width=320):
                self.status = gr.HTML(status("Press Start to begin."))
                self.sheet = gr.HTML(
                    render("contact_sheet.html"),
                    js_on_load=script("contact_sheet.js"),
                    elem_id="sheet",
                    label="Contact sheet",
                )
                self.chart = gr.Plot(
                    loss_chart({"": []}), label="Losses", show_label=False, elem_id="study-chart"
                )
                self.legend = gr.HTML()

    def _lay_out_controls(self) -> None:
        limits = self._queue.limits
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
            most, info = min(1024, limits.size), "Long side in pixels"
            self.size = slider("size", "Size", 32, maximum=most, value=SIZE, info=info)
            self.iterations = slider("iterations", "Iterations", 1, maximum=limits.iterations)
        self.extent = gr.Markdown(elem_id="extent")
        with gr.Row(elem_id="study-actions"):
            self.start = gr.Button("Start", variant="primary", scale=3, min_width=80)
            self.stop_button = gr.Button("Stop", variant="stop", interactive=False, scale=1, min_width=80)
        self.save = gr.DownloadButton("Save the study (ZIP)", interactive=False)

    @property
    def inputs(self) -> set[Any]:
        """List the components that a plan is made from."""
        return {
            self.dataset,
            self.contents,
            self.styles,
            self.content_weights,
            self.style_weights,
            self.size,
            self.iterations,
        }

    def connect(self, page: gr.Blocks) -> None:
        """Connect the controls to their handlers."""
        self.dataset.change(lambda name: gr.Row(visible=name == OWN), self.dataset, self.own, **UNQUEUED)
        gr.on(
            [page.load, *(control.change for control in self.inputs)],
            self.tell_extent,
            self.inputs,
            self.extent,
            trigger_mode="always_last",
            preprocess=False,  # Gradio would leave an empty file for each one that is chosen
            **UNQUEUED,
        )
        self.start.click(
            self.run,
            {self.shown, *self.inputs},
            [
                self.shown,
                self.start,
                self.stop_button,
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
        self.stop_button.click(self.stop, outputs=self.stop_button, **UNQUEUED)
        page.unload(self.leave)

    def _plan(self, values: Values) -> Plan:
        """Make a plan of what the components sent, which may be anything.

        Raises:
            ConfigError, ImageError: it can't be made.
            WeightsError: there is no network.
        """
        dataset = self._choose_dataset(values)
        axes = {
            "content_weight": _read_numbers("content weights", values[self.content_weights]),
            "style_weight": _read_numbers("style weights", values[self.style_weights]),
        }
        base = TransferConfig(size=values[self.size], iterations=values[self.iterations])
        self._queue.limits.check(base)
        most = self._queue.limits.study
        runs = math.prod(map(len, (dataset.contents, dataset.styles, *axes.values())))
        if runs > most * MOST_RUNS_A_PICTURE:
            raise ConfigError(
                f"Please make the study smaller: {most * MOST_RUNS_A_PICTURE} runs are the most."
            )
        plan = Plan(dataset, grid(base, axes))
        if (worth := plan.cost / config_cost(TransferConfig())) > most:
            raise ConfigError(
                f"Please make the study smaller: it may take as long as {most} pictures with the "
                f"default settings, and this one would take as long as {worth:.0f}."
            )
        return plan

    def _choose_dataset(self, values: Values) -> Dataset:
        name = values[self.dataset]
        if name == OWN:
            files = [(values[self.contents], "photo"), (values[self.styles], "painting")]
            if not all(isinstance(sent, list) and sent for sent, _ in files):
                raise ConfigError("Please add at least one photo and one painting.")
            own = (tuple(_example(uploaded_file(file, role)) for file in sent) for sent, role in files)
            return Dataset("own images", *own)
        datasets = [one for one in self._datasets.values() if one.name == name]
        if not datasets:
            raise ConfigError("Please choose a dataset, or your own images.")
        return datasets[0]

    async def tell_extent(self, values: Values) -> str:
        """Say how many runs the study has, and about how long it takes."""
        await self._queue.warmed_up()
        try:
            return self._describe_extent(await asyncio.to_thread(self._plan, values))
        except UserError as error:
            return sentence_for_visitors(error)

    def _describe_extent(self, plan: Plan) -> str:
        runs = f"{len(plan)} runs" if len(plan) > 1 else "1 run"
        seconds = self._queue.pace.seconds(plan.cost)
        return f"{runs}, about {format_duration(seconds)}." if seconds else f"{runs}."

    async def run(self, request: gr.Request, values: Values) -> AsyncIterator[Updates]:
        """Make the runs that are missing, one after the other in the queue, and show them as they come."""
        with ExitStack() as stack:
            study = self._begin(request, stack)
            plan = await asyncio.to_thread(self._plan, values)
            before = values[self.shown]
            here = before and before.folder.path.is_dir()
            folder = before.folder if before and here else StudyFolder(self._new_folder())
            shown = ShownStudy(plan, folder)
            stack.enter_context(folder.locked())
            guard = asyncio.create_task(stop_unfollowed(request, study.stopping.is_set, study.stop))
            stack.callback(guard.cancel)
            yield {
                self.shown: shown,
                self.start: gr.Button("Running …", interactive=False),
                self.stop_button: gr.Button("Stop", interactive=True),
                self.save: gr.DownloadButton(interactive=False),
                **await self._show_runs(shown, None),
            }
            making = asyncio.get_running_loop().run_in_executor(
                self._threads, study.make, shown, self._queue, visitor(request)
            )
            # The folder, and the visitor's share, are taken until the thread has ended.
            making.add_done_callback(partial(_end, stack.pop_all()))
            stack.callback(study.stop)
            ready = {
                self.start: gr.Button("Start", interactive=True),
                self.stop_button: gr.Button("Stop", interactive=False),
            }
            try:
                async for update in self._follow(shown, study, making):
                    yield update
                await making
            except Exception as error:
                yield ready  # first, so that Start works again, whatever else fails
                if isinstance(error, OSError):
                    sentence = "This study's files are no longer kept: please start it once more."
                    raise StudyError(sentence) from error
                if isinstance(error, UserError):  # such as a cluster that is gone
                    text = sentence_for_visitors(error)
                    yield {**await self._show_runs(shown, None), self.status: status(text)}
                raise
            yield {**ready, **await self._show_end(shown, study)}

    def _begin(self, request: gr.Request, stack: ExitStack) -> StudyInProgress:
        """Begin a study, which is the visitor's until the stack is closed.

        Raises:
            BusyError: it is running already, or too many studies of the visitor or of everybody are running.
        """
        if request.session_hash in self._in_progress:
            raise BusyError("Your study is running: please stop it, or wait for it.")
        if len(self._in_progress) >= self._queue.limits.places:
            raise BusyError("Too many studies are running: please come back later.")
        if not stack.enter_context(self._queue.rate_limiter.holding(Share.STUDIES, visitor(request))):
            raise BusyError("Your other studies are running: please wait for one of them.")
        study = self._in_progress[request.session_hash] = StudyInProgress()
        stack.callback(self._in_progress.pop, request.session_hash)
        return study

    async def _follow(
        self, shown: ShownStudy, study: StudyInProgress, making: asyncio.Future[None]
    ) -> AsyncIterator[Updates]:
        """Yield the changes of the page while a study is being made."""
        seen: tuple[Any, ...] = ()
        while not making.done():
            await asyncio.wait([making], timeout=STATUS_SECONDS if seen else POLL_SECONDS)
            current, ended = study.current, (study.made, study.failed)
            if current is None or making.done():
                continue
            update: Updates = {self.status: self._describe(shown, current)}
            if seen[:1] != (ended,):
                update |= await self._show_runs(shown, current.planned)
            elif seen != (ended, current.planned):
                update |= await self._show_sheet(shown, current.planned)
            yield update
            seen = (ended, current.planned)

    async def _show_end(self, shown: ShownStudy, study: StudyInProgress) -> Updates:
        """Show a study that has ended, and offer it as a ZIP file."""
        made = sum(map(shown.has, shown.runs))
        text = f"{'Stopped' if study.stopping.is_set() else 'Done'}: "
        text += f"{made} of {len(shown.runs)} runs finished."
        if study.failed:
            text += f" {study.failed} failed."
        elif made < len(shown.runs):
            text += " Press Start to continue."
        archive = await self._background.run(_archive, shown) if made else None
        return {
            **await self._show_runs(shown, None),
            self.status: status(text, made / len(shown.runs)),
            self.save: gr.DownloadButton(value=archive, interactive=archive is not None),
            self.extent: self._describe_extent(shown.plan),
        }

    def stop(self, request: gr.Request) -> Any:
        """End the visitor's study; what is made stays."""
        self.leave(request)
        running = request.session_hash in self._in_progress
        return gr.Button("Stopping …", interactive=False) if running else gr.skip()

    def leave(self, request: gr.Request) -> None:
        """End the study of a visitor who has closed the page."""
        if request.session_hash in self._in_progress:
            self._in_progress[request.session_hash].stop()

    def _describe(self, shown: ShownStudy, current: CurrentRun) -> str:
        """Describe the current run, for the status line."""
        planned, run = current
        number = shown.runs.index(planned)
        text = f"Run {number + 1} of {len(shown.runs)}: {shown.plan.title(planned)}"
        share, ahead = 0.0, self._queue.ahead(run) if run else 0
        progress = run.recorder.progress if run else None
        if ahead:
            text += f", {ahead} {'run' if ahead == 1 else 'runs'} ahead of it in the queue"
        elif progress:
            share = progress.step / progress.steps
            text += f", step {progress.step} of {progress.steps}"
        left = sum(one.cost for one in shown.runs[number:] if not shown.has(one))
        left -= share * planned.cost
        seconds = self._queue.pace.seconds(left)
        if seconds is not None and not ahead:
            text += f", about {format_duration(seconds)} left in total"
        return status(text, (number + share) / len(shown.runs))

    async def _show_runs(self, shown: ShownStudy, running: StudyRun | None) -> Updates:
        """Show the contact sheet and the loss curves of the finished runs."""
        curves = await self._background.run(_curves, shown)
        legend = render("legend.html", entries=zip(curves, palette(len(curves)), strict=True))
        alone: dict[str, Any] = {"": next(iter(curves.values()), [])}  # the legend names the run
        return {
            self.chart: loss_chart(curves if len(curves) > 1 else alone),
            self.legend: legend,
            **await self._show_sheet(shown, running),
        }

    async def _show_sheet(self, shown: ShownStudy, running: StudyRun | None) -> Updates:
        return {self.sheet: await self._background.run(render_sheet, shown, running)}


def _end(stack: ExitStack, making: asyncio.Future[None]) -> None:
    """Give back what a study has taken, once its thread has ended."""
    stack.close()
    if not making.cancelled():
        making.exception()  # asyncio would log one that nobody looks at, with the visitor's words


def _curves(shown: ShownStudy) -> dict[str, Any]:
    """Read the histories of the first finished runs, by their titles."""
    records = ((shown.plan.title(run), shown.record(run)) for run in shown.runs)
    return dict([(title, record["history"]) for title, record in records if record][:MAX_CURVES])


def _example(path: Path) -> Example:
    return Example(path, path.stem)


def _read_numbers(name: str, text: Any) -> list[float]:
    try:
        numbers = [float(part) for part in re.split(r"[,;\s]+", str(text).strip()) if part]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= MOST_WEIGHTS:
        raise ConfigError(f"Please give one to {MOST_WEIGHTS} {name}, numbers with commas between them.")
    return numbers


def _archive(shown: ShownStudy) -> str:
    """Pack the study into a ZIP file, with its report."""
    write_report(shown.plan, shown.folder)
    folder = shown.folder.path
    return shutil.make_archive(str(folder.with_name(f"{folder.name}-study")), "zip", folder)
