"""The benchmark: our procedure against the common ones, on the same images, network and objective."""

import json
import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.optimize
import tensorflow as tf
from threadpoolctl import threadpool_limits

from nst.config import TransferConfig
from nst.engine.images import fitted_size, from_uint8, load_image, resize, to_uint8
from nst.engine.objective import Objective, Region, Targets
from nst.engine.optimizers import LBFGS
from nst.engine.quality import HELD_OUT_CONTENT, HELD_OUT_STYLE
from nst.engine.stylize import coarse_to_fine, objective_of, stylize
from nst.engine.vgg import Backbone, load_backbone, resolve_precision
from nst.study.charts import speed_chart
from nst.study.datasets import load_datasets

EVALUATIONS = 200  # of references 1 and 2
MAX_SIZE = 1024  # pixels; of larger pictures a longer run has other levels below the last (see ours)
OBJECTIVES = ("scaled", "gatys")

CONTENT_TOLERANCE = 1.03

# Pairs, by the names of their files; the product's defaults were tuned on others.
PAIRS = (
    ("berlin-cathedral", "renoir-moulin-de-la-galette"),
    ("chenonceau", "hokusai-great-wave"),
    ("mountain-sunset", "kandinsky-composition-viii"),
    ("berlin-cathedral", "van-gogh-village-street-in-auvers"),
    ("mountain-sunset", "hokusai-poppies"),
    ("berlin-cathedral", "hiroshige-inokashira-in-snow"),
)


class Judged(NamedTuple):
    """What a picture is worth at full size, as it would be saved, and what it took to get there."""

    seconds: float
    evaluations: int
    total: float
    content: float
    style: float
    held_out_content: float
    held_out_style: float

    def has_loss_of(self, other: "Judged") -> bool:
        return self.total <= other.total

    def has_quality_of(self, other: "Judged") -> bool:
        content = self.held_out_content <= CONTENT_TOLERANCE * other.held_out_content
        return content and self.held_out_style <= other.held_out_style


@dataclass(frozen=True)
class Task:
    """One pair of images at one size, and the objective that every procedure is given for them."""

    content: tf.Tensor  # (1, H, W, 3)
    style: tf.Tensor  # (1, H, W, 3)
    config: TransferConfig
    backbone: Backbone

    def objective(self) -> Objective:
        return objective_of(self.config, self.backbone)

    @cached_property
    def judges(self) -> tuple[tuple[Objective, Targets], ...]:
        """The objective itself, and the held-out layers, scaled: with their targets at full size."""
        held_out = replace(self.config, content_layers=HELD_OUT_CONTENT, style_layers=HELD_OUT_STYLE)
        objectives = self.objective(), objective_of(held_out, self.backbone)
        return tuple(
            (objective, objective.targets(self.content, Region([self.style]))) for objective in objectives
        )


class Watch:
    """A clock for one procedure, which stands still while its pictures are judged."""

    def __init__(self, task: Task) -> None:
        self.rows: list[Judged] = []
        self.delivered: int | None = None  # how many rows led to the result, where the run went on after it
        self._task = task
        self._due = 1.0  # evaluations
        self._lost = 0.0
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began - self._lost

    def see(self, image: tf.Tensor, evaluations: int, *, final: bool = False) -> None:
        """Judge `image` (1, h, w, 3), if it is the last one, or enough evaluations after the one before."""
        if evaluations < self._due and not final:
            return
        seconds, now = self.seconds, time.perf_counter()
        self._due = max(evaluations + 1, evaluations * 1.1)
        picture = from_uint8(to_uint8(resize(image, *self._task.content.shape[1:3])))
        own, held_out = (judge.losses(picture, targets) for judge, targets in self._task.judges)
        self.rows.append(
            Judged(seconds, evaluations, own.total, own.content, own.style, held_out.content, held_out.style)
        )
        self._lost += time.perf_counter() - now


Point = npt.NDArray[np.floating[Any]]
Evaluate = Callable[[Point], tuple[float, npt.NDArray[np.float32]]]


def _watched(task: Task, watch: Watch) -> Evaluate:
    """Loss and gradient (n,) of the pixels (n,), seen by `watch`."""
    objective = task.objective()
    targets = objective.targets(task.content, Region([task.style]))

    def evaluate(point: Point) -> tuple[float, npt.NDArray[np.float32]]:
        image = tf.reshape(tf.constant(point, tf.float32), task.content.shape)
        losses, gradient = objective(image, targets)
        watch.see(image, objective.evaluations)
        return losses.total, gradient.ravel()

    return evaluate


def scipy_lbfgsb(task: Task, watch: Watch) -> None:
    """Reference 1: SciPy's L-BFGS-B with 10 corrections, at one size, from the content image.

    The pixels are bounded, which published scripts leave out: clipping at the end would cost it much of what
    it has reached.
    """
    evaluate = _watched(task, watch)
    result = scipy.optimize.minimize(
        evaluate,
        task.content.numpy().ravel().astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        bounds=scipy.optimize.Bounds(0, 1),
        options={"maxcor": 10, "maxfun": EVALUATIONS, "maxiter": EVALUATIONS, "ftol": 0, "gtol": 0},
    )
    watch.see(tf.reshape(tf.constant(result.x, tf.float32), task.content.shape), result.nfev, final=True)


def unit_step_lbfgs(task: Task, watch: Watch) -> None:
    """Reference 2: L-BFGS with 100 corrections and steps of length 1, at one size, from the content image.

    As in the common PyTorch ports there is no line search and no bound, and the first step's 1-norm is 1.
    """
    evaluate = _watched(task, watch)
    point = task.content.numpy().ravel()
    _, gradient = evaluate(point)
    pairs: list[tuple[Point, Point, float]] = []  # s, y, 1 / s.y
    for _ in range(EVALUATIONS - 1):
        direction = -gradient
        alphas = []
        for s, y, rho in reversed(pairs):
            alphas.append(rho * float(s @ direction))
            direction -= np.float32(alphas[-1]) * y
        if pairs:
            _, y, rho = pairs[-1]
            direction *= np.float32(1 / (rho * float(y @ y)))
        else:
            direction *= np.float32(min(1, 1 / np.abs(gradient).sum()))
        for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
            direction += np.float32(alpha - rho * float(y @ direction)) * s
        point = point + direction
        _, after = evaluate(point)
        change = after - gradient
        gradient = after
        if (curvature := float(direction @ change)) > 1e-10:
            pairs = [*pairs[-99:], (direction, change, 1 / curvature)]
    watch.see(tf.reshape(point, task.content.shape), EVALUATIONS, final=True)


# Adam's epsilon of 0.1 is meant for the scale of the tutorial's own loss; at smaller ones it holds it back.
# So the gradient is scaled to this root mean square at the start: the best of 0.1, 1, 10 and 10,000.
_ADAM_GRADIENT = 1e4


def clipped_adam(task: Task, watch: Watch, *, until: Judged, patience: float) -> None:
    """Reference 3: Adam as in the TensorFlow tutorial, clipping after each step, from the content image.

    It ends with the loss of `until`, or after `patience` times its seconds.
    """
    evaluate = _watched(task, watch)
    pixels = tf.Variable(task.content)
    adam = tf.keras.optimizers.Adam(learning_rate=0.02, beta_1=0.99, epsilon=0.1)
    scale, evaluations = 0.0, 0
    while not evaluations or not (
        watch.rows[-1].has_loss_of(until) or watch.seconds > patience * until.seconds
    ):
        _, gradient = evaluate(pixels.numpy().ravel())
        evaluations += 1
        scale = scale or _ADAM_GRADIENT / float(np.sqrt(np.mean(np.square(gradient))) or 1)
        adam.apply_gradients([(tf.reshape(gradient * np.float32(scale), pixels.shape), pixels)])
        pixels.assign(tf.clip_by_value(pixels, 0, 1))
    watch.see(pixels.value(), evaluations, final=True)


def ours(task: Task, watch: Watch, *, precision: str, goals: Sequence[Judged]) -> None:
    """stylize() with the product's defaults, and then on at full size until it has reached every goal.

    It goes on for no longer than half of what the slowest goal took.
    """
    default = coarse_to_fine(task.config.size, task.config.iterations)
    config = replace(task.config, precision=precision, iterations=1000)
    assert coarse_to_fine(config.size, config.iterations)[:-1] == default[:-1]
    for progress in stylize(task.content, task.style, config, task.backbone):
        delivered = progress.step == task.config.iterations
        watch.see(progress.image, progress.evaluations, final=delivered)
        if delivered:
            watch.delivered = len(watch.rows)
        if progress.step >= task.config.iterations and (
            watch.seconds > max(goal.seconds for goal in goals) / 2
            or all(
                any(row.has_loss_of(goal) for row in watch.rows)
                and any(row.has_quality_of(goal) for row in watch.rows)
                for goal in goals
            )
        ):
            return


class Result(NamedTuple):
    """One procedure on one pair and objective."""

    procedure: str
    objective: str
    pair: str
    repeat: int
    memory: float | None  # the process's peak while it ran, bytes; None where the system doesn't tell
    final: Judged
    rows: list[Judged]

    def seconds_to(self, reached: Callable[[Judged, Judged], bool], goal: Judged) -> float:
        """When it first got there, or infinity."""
        return next((row.seconds for row in self.rows if reached(row, goal)), float("inf"))


SCIPY = "1 L-BFGS-B (SciPy)"
UNIT_STEP = "2 L-BFGS, unit steps"
ADAM = "3 Adam (TensorFlow tutorial)"
OURS = "ours"


def compare(
    size: int,
    pairs: int,
    repeats: int,
    patience: float,
    objectives: Sequence[str],
    say: Callable[[str], None],
) -> Iterator[Result]:
    """Run every procedure on each pair and objective, one after the other in this process.

    The references compute in float32; ours in what it takes by default and, where that differs, in float32.
    """
    backbone = load_backbone(TransferConfig().backbone)
    images = {
        example.path.stem: load_image(example.path, long_side=size)
        for data in load_datasets()
        for example in data.contents + data.styles
    }
    with threadpool_limits(1, user_api="blas"):  # its idle threads spin, at the cost of who comes next
        for objective in objectives:
            config = _config(size, objective, backbone)
            _warm_up(config, backbone)
            for content, style in PAIRS[:pairs]:
                task = Task(*_resized(images[content], images[style], size), config, backbone)
                for repeat in range(1, repeats + 1):
                    run = partial(_run, task, objective, f"{content} × {style}", repeat, say)
                    yield (first := run(SCIPY, scipy_lbfgsb))
                    yield (second := run(UNIT_STEP, unit_step_lbfgs))
                    yield (third := run(ADAM, partial(clipped_adam, until=first.final, patience=patience)))
                    goals = [reference.final for reference in (first, second, third)]
                    for precision in dict.fromkeys([resolve_precision("auto"), "float32"]):
                        yield run(f"{OURS}, {precision}", partial(ours, precision=precision, goals=goals))


def _run(
    task: Task,
    objective: str,
    pair: str,
    repeat: int,
    say: Callable[[str], None],
    name: str,
    procedure: Callable[[Task, Watch], None],
) -> Result:
    _ = task.judges  # computed before the clock starts
    with _PeakMemory() as memory:
        watch = Watch(task)
        procedure(task, watch)
    final = watch.rows[watch.delivered - 1 if watch.delivered else -1]
    say(
        f"{objective}, {pair}: {name}, {final.evaluations} evaluations in {final.seconds:.1f} s, "
        f"loss {final.total:.4g}"
    )
    return Result(name, objective, pair, repeat, memory.bytes, final, watch.rows)


def _config(size: int, objective: str, backbone: Backbone) -> TransferConfig:
    config = TransferConfig(size=size, precision="float32")
    if objective == "scaled":
        return config
    channels = {layer: backbone.weights[layer][0].shape[-1] for layer in config.style_layers}
    return replace(
        config,
        content_weight=1,
        style_weight=1,
        tv_weight=0,
        content_layers=dict.fromkeys(config.content_layers, 1.0),
        style_layers={layer: 1000 / count**2 for layer, count in channels.items()},
    )


def _resized(content: tf.Tensor, style: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Both images with a long side of `size` pixels, the one thing that every procedure is given."""
    content, style = (
        resize(image, *fitted_size(image.shape[1], image.shape[2], size)) for image in (content, style)
    )
    return content, style


def _warm_up(config: TransferConfig, backbone: Backbone) -> None:
    flat = tf.fill([1, 64, 64, 3], 0.5)
    for precision in {"float32", resolve_precision("auto")}:
        once = replace(config, size=64, iterations=1, precision=precision)
        list(stylize(flat, flat, once, backbone))


class _PeakMemory:
    """The most memory that the process holds meanwhile; Linux tells and forgets it on request (proc(5))."""

    bytes: float | None = None

    def __enter__(self) -> "_PeakMemory":
        if Path("/proc/self/clear_refs").exists():
            Path("/proc/self/clear_refs").write_text("5")
        return self

    def __exit__(self, *_: object) -> None:
        if Path("/proc/self/clear_refs").exists():
            status = Path("/proc/self/status").read_text()
            self.bytes = 1024 * float(status.partition("VmHWM:")[2].split()[0])


class Growth(NamedTuple):
    """A default run, or one with other steps, in a process of its own; times in seconds, memory in bytes."""

    size: int
    iterations: int
    precision: str
    ready: float  # from the start of the process until the network is loaded and traced
    first_preview: float  # from the request, two image files, until the first step is made
    seconds: float  # of the whole run
    evaluation: float  # one at full size, median
    arithmetic: float  # the optimiser's own share of a step's time at full size
    memory: float  # peak


def sizes_and_steps(size: int) -> list[TransferConfig]:
    """What `growth` is measured on: the default run at growing sizes, and growing steps at `size`."""
    default = TransferConfig(backbone=load_backbone(TransferConfig().backbone).name)
    sizes = [replace(default, size=number) for number in (128, 256, 512, 1024) if number <= 2 * size]
    steps = [replace(default, size=size, iterations=iterations) for iterations in (20, 40, 80, 160)]
    return [*sizes, *(config for config in steps if config not in sizes)]


def growth(config: TransferConfig) -> Growth:
    """Measure a run with that config, in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_grown, config, time.time()).result()


def _grown(config: TransferConfig, began: float) -> Growth:
    backbone = load_backbone(config.backbone)
    _warm_up(config, backbone)
    ready = time.time() - began
    files = load_datasets()[0].pairs[0]
    began = time.time()
    content, style = (load_image(example.path, long_side=config.size) for example in files)
    steps = stylize(content, style, config, backbone)
    next(steps)
    first_preview = time.time() - began
    seconds = [progress.seconds for progress in steps][-1]
    memory = (
        1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )  # bytes on macOS, kilobytes elsewhere
    if sys.platform == "darwin":
        memory /= 1024
    precision = resolve_precision(config.precision)
    task = Task(*_resized(content, style, config.size), config, backbone)
    evaluation, arithmetic = _one_step(task)
    return Growth(
        config.size,
        config.iterations,
        precision,
        ready,
        first_preview,
        seconds,
        evaluation,
        arithmetic,
        memory,
    )


class _Timed(NamedTuple):
    loss: float
    gradient: npt.NDArray[np.float32]


def _one_step(task: Task) -> tuple[float, float]:
    """Seconds of an evaluation at full size, and the optimiser's share of a step's, its memory full."""
    objective = task.objective()
    targets = objective.targets(task.content, Region([task.style]))
    seconds: list[float] = []

    def evaluate(point: npt.NDArray[np.float32]) -> _Timed:
        began = time.perf_counter()
        losses, gradient = objective(tf.reshape(point, task.content.shape), targets)
        timed = _Timed(losses.total, gradient.ravel())
        seconds.append(time.perf_counter() - began)
        return timed

    optimizer = LBFGS(evaluate, task.content.numpy().ravel())
    for _ in range(12):
        optimizer.step()
    shares = []
    for _ in range(8):
        before, began = len(seconds), time.perf_counter()
        optimizer.step()
        whole = time.perf_counter() - began
        shares.append(1 - sum(seconds[before:]) / whole)
    return median(seconds), median(shares)


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "backbone": load_backbone(TransferConfig().backbone).name,
        "precision": resolve_precision("auto"),
        "versions": {package: version(package) for package in ("tensorflow", "numpy", "scipy")},
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def report(about: dict[str, Any], results: Sequence[Result], grown: Sequence[Growth]) -> str:
    """The tables, in Markdown; medians over pairs and repeats, with the least and the greatest."""
    cores, size = about["cores"], about["size"]
    parts = [f"{size} px, {about['backbone']}, {about['precision']}, {about['cpu']}, {cores} cores"]
    for objective, runs in groupby(results, lambda result: result.objective):
        parts += [f"Objective: {objective}", *_comparison(list(runs))]
    parts.append(_growth_table(grown))
    return "\n\n".join(parts)


def _comparison(results: Sequence[Result]) -> tuple[str, str]:
    names = list(dict.fromkeys(result.procedure for result in results))
    runs = {name: [result for result in results if result.procedure == name] for name in names}
    rows = []
    for name in names:
        finals = [result.final for result in runs[name]]
        rows.append(
            [
                name,
                _spread([final.evaluations for final in finals], "{:.0f}"),
                _spread([final.seconds for final in finals], "{:.1f}"),
                _spread([final.seconds / final.evaluations for final in finals], "{:.2f}"),
                _spread([final.total for final in finals], "{:.3g}"),
                _spread([final.held_out_content for final in finals], "{:.3f}"),
                _spread([1000 * final.held_out_style for final in finals], "{:.2f}"),
                _spread([(result.memory or np.nan) / 1e9 for result in runs[name]], "{:.2f}"),
            ]
        )
    head = ["", "evaluations", "seconds", "s per evaluation", "loss", "held-out content"]
    reached = _table([*head, "held-out style, ×1000", "peak memory, GB"], rows)

    rows = []
    for reference in (SCIPY, UNIT_STEP, ADAM):
        for name in (name for name in names if name.startswith(OURS)):
            row = [reference, name]
            for same in (Judged.has_loss_of, Judged.has_quality_of):
                seconds, shares = [], []
                for mine, theirs in zip(runs[name], runs[reference], strict=True):
                    seconds.append(mine.seconds_to(same, theirs.final))
                    shares.append(seconds[-1] / theirs.final.seconds)
                row += [_spread(seconds, "{:.1f}"), _spread(shares, "{:.3f}")]
            rows.append(row)
    head = [
        "reference",
        "by",
        "its loss after s",
        "of its time",
        "its held-out quality after s",
        "of its time",
    ]
    return reached, _table(head, rows)


def _growth_table(grown: Sequence[Growth]) -> str:
    head = ["size, px", "steps", "precision", "ready, s", "first preview, s", "run, s"]
    rows = [
        [
            str(row.size),
            str(row.iterations),
            row.precision,
            f"{row.ready:.1f}",
            f"{row.first_preview:.2f}",
            f"{row.seconds:.1f}",
            f"{row.evaluation:.3f}",
            f"{row.arithmetic:.1%}",
            f"{row.memory / 1e9:.2f}",
        ]
        for row in grown
    ]
    return _table([*head, "s per evaluation", "optimiser's share", "peak memory, GB"], rows)


def _spread(values: Sequence[float], form: str) -> str:
    def text(value: float) -> str:
        return "not reached" if value == np.inf else "–" if np.isnan(value) else form.format(value)

    middle, least, greatest = text(median(values)), text(min(values)), text(max(values))
    return middle if least == greatest else f"{middle} ({least} to {greatest})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def save(about: dict[str, Any], results: Sequence[Result], grown: Sequence[Growth], path: Path) -> None:
    """Everything measured, as JSON."""
    everything = {**about, "runs": _plain(results), "growth": [row._asdict() for row in grown]}
    path.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")


def draw(results: Sequence[Result], path: Path) -> None:
    """The page of loss against seconds; it needs no network."""
    speed_chart(_plain(results)).write_html(path)


def _plain(results: Sequence[Result]) -> list[dict[str, Any]]:
    return [
        {
            **result._asdict(),
            "final": result.final._asdict(),
            "rows": [judged._asdict() for judged in result.rows],
        }
        for result in results
    ]
