"""Measure our procedure against the references, and how a run grows with its size and steps."""

import multiprocessing
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from threadpoolctl import threadpool_limits

from nst.benchmark.references import (
    ADAM,
    GATYS_CONTENT,
    GATYS_STYLE,
    NEURAL_STYLE_PT,
    OURS,
    SCIPY,
    UNIT_STEP,
    Measurement,
    Stopwatch,
    Task,
    clipped_adam,
    ours,
    scipy_lbfgsb,
    unit_step_lbfgs,
)
from nst.config import TransferConfig
from nst.engine.images import Pixels, fitted_size, load_image, resize
from nst.engine.optimizers import LBFGS
from nst.engine.stylize import stylize
from nst.engine.vgg import Backbone, resolve_precision
from nst.engine.weights import load_backbone
from nst.study.datasets import Example, load_datasets

MAX_SIZE = 1024  # pixels; a longer run of a larger picture has other levels (see references.ours)

# Pairs, by the names of their files; the product's defaults were tuned on others.
PAIRS = (
    ("berlin-cathedral", "renoir-moulin-de-la-galette"),
    ("chenonceau", "hokusai-great-wave"),
    ("mountain-sunset", "kandinsky-composition-viii"),
    ("berlin-cathedral", "van-gogh-village-street-in-auvers"),
    ("mountain-sunset", "hokusai-poppies"),
    ("berlin-cathedral", "hiroshige-inokashira-in-snow"),
)

Pair = tuple[Example, Example]
Procedure = Callable[[Task, Stopwatch], None]


class Result(NamedTuple):
    """Hold what one procedure reached on one pair and objective.

    Args:
        procedure: its name.
        objective: "gatys" or "scaled".
        pair: the names of the images.
        repeat: counts from 1.
        memory: peak of the process while it ran, in bytes; None where the system does not tell.
        final: the measurement of the result.
        rows: all measurements.
        picture: the result as it would be saved, uint8 (H, W, 3).
    """

    procedure: str
    objective: str
    pair: str
    repeat: int
    memory: float | None
    final: Measurement
    rows: list[Measurement]
    picture: Pixels

    @property
    def name(self) -> str:
        """Name the picture's file, without the ending; in a folder, those of a pair follow each other."""
        procedure = re.sub(r"\W+", "-", self.procedure).strip("-").lower()
        return f"{self.pair.replace(' × ', '--')}--{self.objective}--{procedure}"

    def seconds_to(self, reaches: Callable[[Measurement, Measurement], bool], goal: Measurement) -> float:
        """Find when the first picture reached a goal; infinity where none did."""
        return next((row.seconds for row in self.rows if reaches(row, goal)), float("inf"))

    def to_json(self) -> dict[str, Any]:
        """Convert everything but the picture to plain values for JSON."""
        rows = [row._asdict() for row in self.rows]
        plain = {**self._asdict(), "final": self.final._asdict(), "rows": rows}
        del plain["picture"]
        return plain


def default_pairs() -> tuple[Pair, ...]:
    """Find the images of PAIRS among the examples.

    Raises:
        DatasetError: where there are no examples.
    """
    examples = {
        example.path.stem: example for data in load_datasets() for example in data.contents + data.styles
    }
    return tuple((examples[content], examples[style]) for content, style in PAIRS)


def compare(
    size: int,
    pairs: Sequence[Pair],
    repeats: int,
    patience: float,
    objectives: Sequence[str],
    say: Callable[[str], None],
) -> Iterator[Result]:
    """Run every procedure on each pair and objective, one after the other in this process.

    The references compute in float32; ours in its default precision and, where that differs, in
    float32 as well.

    Args:
        size: long side of the pictures in pixels, at most MAX_SIZE.
        pairs: the content image and the style image of each.
        repeats: how often each procedure is run.
        patience: see references.clipped_adam.
        objectives: "gatys" or "scaled".
        say: told a line about each procedure that has ended.

    Yields:
        A result for each procedure as it ends.

    Raises:
        ImageError: for an image that cannot be used.
    """
    backbone = load_backbone(TransferConfig().backbone)
    neural_style_pt = _find_neural_style_pt(say)
    images = {example.path: load_image(example.path, long_side=size) for pair in pairs for example in pair}
    with threadpool_limits(1, user_api="blas"):  # idle BLAS threads spin, and slow down what runs next
        for objective in objectives:
            config = objective_config(size, objective, backbone)
            _warm_up(config, backbone)
            for content, style in pairs:
                task = _make_task(images[content.path], images[style.path], config, backbone)
                pair = f"{content.path.stem} × {style.path.stem}"
                for repeat in range(1, repeats + 1):
                    run = partial(_run, task, objective, pair, repeat, say)
                    yield (first := run(SCIPY, scipy_lbfgsb))
                    yield (second := run(UNIT_STEP, unit_step_lbfgs))
                    yield (third := run(ADAM, partial(clipped_adam, until=first.final, patience=patience)))
                    goals = [reference.final for reference in (first, second, third)]
                    if neural_style_pt:
                        yield (fourth := run(NEURAL_STYLE_PT, neural_style_pt))
                        goals.append(fourth.final)
                    for precision in dict.fromkeys([resolve_precision("auto"), "float32"]):
                        yield run(f"{OURS}, {precision}", partial(ours, precision=precision, goals=goals))


def _find_neural_style_pt(say: Callable[[str], None]) -> Procedure | None:
    """Import the reference that needs PyTorch; where that is not installed, say so and return None."""
    if find_spec("torch") is None:
        say(f'{NEURAL_STYLE_PT} is left out: it needs PyTorch, which pip install "torch<3" installs.')
        return None
    from nst.benchmark.neural_style_pt import neural_style_pt

    return neural_style_pt


def _run(
    task: Task,
    objective: str,
    pair: str,
    repeat: int,
    say: Callable[[str], None],
    name: str,
    procedure: Procedure,
) -> Result:
    _ = task.measured_objectives  # computed before the clock starts
    with _PeakMemory() as memory:
        watch = Stopwatch(task)
        procedure(task, watch)
    final = watch.rows[watch.delivered - 1 if watch.delivered else -1]
    say(
        f"{objective}, {pair}: {name}, {final.evaluations} evaluations in {final.seconds:.1f} s, "
        f"loss {final.total:.4g}"
    )
    return Result(name, objective, pair, repeat, memory.bytes, final, watch.rows, watch.picture)


def objective_config(size: int, objective: str, backbone: Backbone) -> TransferConfig:
    """Choose the settings of an objective.

    Args:
        size: long side of the pictures in pixels.
        objective: "scaled" for the product's own, "gatys" for the layers and explicit weights of Gatys'
            notebook: 1 for content, 1000 / c^2 for a style layer of c channels, no total variation.
        backbone: the network.
    """
    config = TransferConfig(size=size, precision="float32")
    if objective == "scaled":
        return config
    channels = {layer: backbone.weights[layer][0].shape[-1] for layer in GATYS_STYLE}
    return replace(
        config,
        content_weight=1,
        style_weight=1,
        tv_weight=0,
        content_layers={GATYS_CONTENT: 1.0},
        style_layers={layer: 1000 / count**2 for layer, count in channels.items()},
    )


def _make_task(content: tf.Tensor, style: tf.Tensor, config: TransferConfig, backbone: Backbone) -> Task:
    """Resize both images to the long side of the config, so that every procedure is given the same ones."""
    content, style = (
        resize(image, *fitted_size(image.shape[1], image.shape[2], config.size)) for image in (content, style)
    )
    return Task(content, style, config, backbone)


def _warm_up(config: TransferConfig, backbone: Backbone) -> None:
    flat = tf.fill([1, 64, 64, 3], 0.5)
    for precision in {"float32", resolve_precision("auto")}:
        once = replace(config, size=64, iterations=1, precision=precision)
        list(stylize(flat, flat, once, backbone))


class _PeakMemory:
    """Measure the peak memory of the process within a block; only Linux can reset its peak (proc(5))."""

    bytes: float | None = None

    def __enter__(self) -> Self:
        if Path("/proc/self/clear_refs").exists():
            Path("/proc/self/clear_refs").write_text("5")
        return self

    def __exit__(self, *_: object) -> None:
        if Path("/proc/self/clear_refs").exists():
            status = Path("/proc/self/status").read_text()
            self.bytes = 1024 * float(status.partition("VmHWM:")[2].split()[0])


class Growth(NamedTuple):
    """Hold the times in seconds and the memory of a run in a process of its own.

    Args:
        size: long side in pixels.
        iterations: steps.
        precision: what the network computed in.
        ready: from the start of the process until the network is loaded and traced.
        first_preview: from the request, two image files, until the first step is made.
        seconds: of the whole run.
        evaluation: median of one evaluation at full size.
        arithmetic: the optimiser's own share of the time of a step at full size.
        memory: peak in bytes.
    """

    size: int
    iterations: int
    precision: str
    ready: float
    first_preview: float
    seconds: float
    evaluation: float
    arithmetic: float
    memory: float


def growing_configs(size: int) -> list[TransferConfig]:
    """List what growth is measured on: default runs at growing sizes, and growing steps at one size."""
    default = TransferConfig(backbone=load_backbone(TransferConfig().backbone).name)
    sizes = [replace(default, size=number) for number in (128, 256, 512, 1024) if number <= 2 * size]
    steps = [replace(default, size=size, iterations=iterations) for iterations in (20, 40, 80, 160)]
    return [*sizes, *(config for config in steps if config not in sizes)]


def measure_growth(config: TransferConfig) -> Growth:
    """Measure a run with that config in a new process, whose start-up and memory are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_measure_here, config, time.time()).result()


def _measure_here(config: TransferConfig, began: float) -> Growth:
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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = float(peak if sys.platform == "darwin" else 1024 * peak)  # Linux counts in kilobytes
    evaluation, arithmetic = _measure_step(_make_task(content, style, config, backbone))
    return Growth(
        size=config.size,
        iterations=config.iterations,
        precision=resolve_precision(config.precision),
        ready=ready,
        first_preview=first_preview,
        seconds=seconds,
        evaluation=evaluation,
        arithmetic=arithmetic,
        memory=memory,
    )


class _TimedEvaluation(NamedTuple):
    loss: float
    gradient: npt.NDArray[np.float32]


def _measure_step(task: Task) -> tuple[float, float]:
    """Measure the seconds of an evaluation at full size, and the share of L-BFGS in the time of a step."""
    objective = task.objective()
    targets = task.targets(objective)
    seconds: list[float] = []

    def evaluate(point: npt.NDArray[np.float32]) -> _TimedEvaluation:
        began = time.perf_counter()
        losses, gradient = objective(tf.reshape(point, task.content.shape), targets)
        timed = _TimedEvaluation(losses.total, gradient.ravel())
        seconds.append(time.perf_counter() - began)
        return timed

    optimizer = LBFGS(evaluate, task.content.numpy().ravel())
    for _ in range(12):  # until its memory is full
        optimizer.step()
    shares = []
    for _ in range(8):
        before, began = len(seconds), time.perf_counter()
        optimizer.step()
        whole = time.perf_counter() - began
        shares.append(1 - sum(seconds[before:]) / whole)
    return median(seconds), median(shares)


def describe_machine() -> dict[str, Any]:
    """Describe what the figures depend on apart from the code, in plain values for JSON."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in _read_lines("/proc/cpuinfo")
            if line.startswith("model name")
        ),
        platform.processor() or platform.machine(),
    )
    packages = ["tensorflow", "numpy", "scipy", *(["torch"] if find_spec("torch") else [])]
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "backbone": load_backbone(TransferConfig().backbone).name,
        "precision": resolve_precision("auto"),
        "versions": {package: version(package) for package in packages},
    }


def _read_lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
