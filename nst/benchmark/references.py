"""The procedures of the benchmark: common ones as references, and ours, on the same task.

The reference that needs PyTorch is in neural_style_pt.py.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.optimize
import tensorflow as tf

from nst.config import TransferConfig
from nst.engine.images import Pixels, from_uint8, resize, to_uint8
from nst.engine.objective import Objective, Region, Targets, build_objective
from nst.engine.pyramid import coarse_to_fine
from nst.engine.quality import HELD_OUT_CONTENT, HELD_OUT_STYLE
from nst.engine.stylize import stylize
from nst.engine.vgg import Backbone

EVALUATIONS = 200  # of references 1, 2 and 4
CONTENT_TOLERANCE = 1.03

# The layers of Gatys' notebook and of neural-style-pt, whatever the product's defaults are.
GATYS_CONTENT = "block4_conv2"
GATYS_STYLE = tuple(f"block{block}_conv1" for block in range(1, 6))

SCIPY = "1 L-BFGS-B (SciPy)"
UNIT_STEP = "2 L-BFGS, unit steps"
ADAM = "3 Adam (TensorFlow tutorial)"
NEURAL_STYLE_PT = "4 neural-style-pt (PyTorch, own objective)"
REFERENCES = (SCIPY, UNIT_STEP, ADAM, NEURAL_STYLE_PT)
OURS = "ours"


class Measurement(NamedTuple):
    """Hold the losses of a picture at full size, as it would be saved, and what it took to get there.

    Args:
        seconds: since the procedure began, without measuring.
        evaluations: of loss and gradient.
        total: weighted sum of the losses.
        content: content loss.
        style: style loss.
        held_out_content: content loss at layers that the objective does not use.
        held_out_style: style loss at layers that the objective does not use.
    """

    seconds: float
    evaluations: int
    total: float
    content: float
    style: float
    held_out_content: float
    held_out_style: float

    def reaches_loss_of(self, other: "Measurement") -> bool:
        """Return whether the total loss is as low."""
        return self.total <= other.total

    def reaches_quality_of(self, other: "Measurement") -> bool:
        """Return whether the losses at the held-out layers are as low, with 3 % allowed for content."""
        content = self.held_out_content <= CONTENT_TOLERANCE * other.held_out_content
        return content and self.held_out_style <= other.held_out_style


@dataclass(frozen=True)
class Task:
    """Hold one pair of images at one size, and the objective that every procedure lowers.

    Args:
        content: float32 (1, H, W, 3).
        style: float32 (1, h, w, 3).
        config: the settings of the objective.
        backbone: the network.
    """

    content: tf.Tensor
    style: tf.Tensor
    config: TransferConfig
    backbone: Backbone

    def objective(self) -> Objective:
        """Build the objective, with no evaluations so far."""
        return build_objective(self.config, self.backbone)

    def targets(self, objective: Objective) -> Targets:
        """Compute the targets of an objective at full size."""
        return objective.targets(self.content, Region([self.style]))

    @cached_property
    def measured_objectives(self) -> tuple[tuple[Objective, Targets], ...]:
        """Build the objective itself and the one of the held-out layers, with their targets."""
        held_out = replace(self.config, content_layers=HELD_OUT_CONTENT, style_layers=HELD_OUT_STYLE)
        objectives = self.objective(), build_objective(held_out, self.backbone)
        return tuple((objective, self.targets(objective)) for objective in objectives)


class Stopwatch:
    """Measure the pictures of one procedure, on a clock that stands still meanwhile.

    Attributes:
        rows: the measurements so far.
        delivered: how many of them led to the result, where the procedure continued after it; None elsewhere.
        picture: the result as it would be saved, uint8 (H, W, 3); until there is one, the latest picture.
    """

    def __init__(self, task: Task) -> None:
        self.rows: list[Measurement] = []
        self.delivered: int | None = None
        self.picture: Pixels = to_uint8(task.content)
        self._task = task
        self._due = 1.0  # evaluations
        self._excluded = 0.0  # seconds
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Read the clock."""
        return time.perf_counter() - self._began - self._excluded

    def measure(self, image: tf.Tensor, evaluations: int, *, final: bool = False) -> None:
        """Measure a picture, if it is the final one or 10 % more evaluations have passed since the last.

        Args:
            image: float32 (1, h, w, 3), of any size.
            evaluations: how many it took so far.
            final: whether it is the result.
        """
        if evaluations < self._due and not final:
            return
        seconds, now = self.seconds, time.perf_counter()
        self._due = max(evaluations + 1, evaluations * 1.1)
        pixels = to_uint8(resize(image, *self._task.content.shape[1:3]))
        if self.delivered is None:
            self.picture = pixels
        picture = from_uint8(pixels)
        own, held_out = (
            objective.losses(picture, targets) for objective, targets in self._task.measured_objectives
        )
        self.rows.append(
            Measurement(
                seconds, evaluations, own.total, own.content, own.style, held_out.content, held_out.style
            )
        )
        self._excluded += time.perf_counter() - now


Point = npt.NDArray[np.floating[Any]]
Evaluate = Callable[[Point], tuple[float, npt.NDArray[np.float32]]]


def _measured_objective(task: Task, watch: Stopwatch) -> Evaluate:
    """Make a function that gives loss and gradient (n,) of pixels (n,), which `watch` measures."""
    objective = task.objective()
    targets = task.targets(objective)

    def evaluate(point: Point) -> tuple[float, npt.NDArray[np.float32]]:
        image = tf.reshape(tf.constant(point, tf.float32), task.content.shape)
        losses, gradient = objective(image, targets)
        watch.measure(image, objective.evaluations)
        return losses.total, gradient.ravel()

    return evaluate


def scipy_lbfgsb(task: Task, watch: Stopwatch) -> None:
    """Run reference 1: SciPy's L-BFGS-B with 10 corrections, at one size, from the content image.

    The pixels are bounded, unlike in published scripts: clipping at the end would cost it much of what it has
    reached.
    """
    evaluate = _measured_objective(task, watch)
    result = scipy.optimize.minimize(
        evaluate,
        task.content.numpy().ravel().astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        bounds=scipy.optimize.Bounds(0, 1),
        options={"maxcor": 10, "maxfun": EVALUATIONS, "maxiter": EVALUATIONS, "ftol": 0, "gtol": 0},
    )
    image = tf.reshape(tf.constant(result.x, tf.float32), task.content.shape)
    watch.measure(image, result.nfev, final=True)


def unit_step_lbfgs(task: Task, watch: Stopwatch) -> None:
    """Run reference 2: L-BFGS with 100 corrections and unit steps, at one size, from the content image.

    As in the common PyTorch ports there is no line search and no bound, and the first step's 1-norm is 1. The
    direction is the two-loop recursion of Nocedal and Wright, "Numerical Optimization", algorithm 7.4.
    """
    evaluate = _measured_objective(task, watch)
    point = task.content.numpy().ravel()
    _, gradient = evaluate(point)
    corrections: list[tuple[Point, Point, float]] = []  # s, y, rho = 1 / s.y
    for _ in range(EVALUATIONS - 1):
        direction = -gradient
        alphas = []
        for s, y, rho in reversed(corrections):
            alphas.append(rho * float(s @ direction))
            direction -= np.float32(alphas[-1]) * y
        if corrections:
            _, y, rho = corrections[-1]
            direction *= np.float32(1 / (rho * float(y @ y)))
        else:
            direction *= np.float32(min(1, 1 / np.abs(gradient).sum()))
        for (s, y, rho), alpha in zip(corrections, reversed(alphas), strict=True):
            direction += np.float32(alpha - rho * float(y @ direction)) * s
        point = point + direction
        _, next_gradient = evaluate(point)
        change = next_gradient - gradient
        gradient = next_gradient
        if (curvature := float(direction @ change)) > 1e-10:
            corrections = [*corrections[-99:], (direction, change, 1 / curvature)]
    watch.measure(tf.reshape(point, task.content.shape), EVALUATIONS, final=True)


# Adam's epsilon of 0.1 is meant for the scale of the tutorial's own loss; at smaller scales it holds Adam
# back. So the gradient is scaled to this root mean square at the start: the best of 0.1, 1, 10 and 10,000.
_ADAM_GRADIENT = 1e4


def clipped_adam(task: Task, watch: Stopwatch, *, until: Measurement, patience: float) -> None:
    """Run reference 3: Adam as in the TensorFlow tutorial, clipping after each step, from the content image.

    Args:
        task: the images and the objective.
        watch: measures the pictures.
        until: ends the run once its loss is reached.
        patience: ends the run after that many times the seconds of `until`.
    """
    evaluate = _measured_objective(task, watch)
    pixels = tf.Variable(task.content)
    adam = tf.keras.optimizers.Adam(learning_rate=0.02, beta_1=0.99, epsilon=0.1)
    scale, evaluations = 0.0, 0
    while not evaluations or not (
        watch.rows[-1].reaches_loss_of(until) or watch.seconds > patience * until.seconds
    ):
        _, gradient = evaluate(pixels.numpy().ravel())
        evaluations += 1
        scale = scale or _ADAM_GRADIENT / float(np.sqrt(np.mean(np.square(gradient))) or 1)
        adam.apply_gradients([(tf.reshape(gradient * np.float32(scale), pixels.shape), pixels)])
        pixels.assign(tf.clip_by_value(pixels, 0, 1))
    watch.measure(pixels.value(), evaluations, final=True)


def ours(task: Task, watch: Stopwatch, *, precision: str, goals: Sequence[Measurement]) -> None:
    """Run stylize() with the product's defaults, and then on at full size until it has reached every goal.

    It continues for no longer than half of the time that the slowest goal took.

    Args:
        task: the images and the objective.
        watch: measures the pictures; `delivered` marks the result of the product's defaults.
        precision: of the network.
        goals: the results of the references.
    """
    default = coarse_to_fine(task.config.size, task.config.iterations)
    config = replace(task.config, precision=precision, iterations=1000)
    assert coarse_to_fine(config.size, config.iterations)[:-1] == default[:-1]
    for progress in stylize(task.content, task.style, config, task.backbone):
        delivered = progress.step == task.config.iterations
        watch.measure(progress.image, progress.evaluations, final=delivered)
        if delivered:
            watch.delivered = len(watch.rows)
        if progress.step >= task.config.iterations and (
            watch.seconds > max(goal.seconds for goal in goals) / 2
            or all(
                any(row.reaches_loss_of(goal) for row in watch.rows)
                and any(row.reaches_quality_of(goal) for row in watch.rows)
                for goal in goals
            )
        ):
            return
