"""The interface of the optimisers, which minimise a function of one float32 vector, step by step."""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]


class Evaluation(Protocol):
    """Hold the result of one loss-and-gradient call."""

    @property
    def loss(self) -> float:
        """Return the loss."""
        ...

    @property
    def gradient(self) -> Vector:
        """Return the gradient, (n,)."""
        ...


E = TypeVar("E", bound=Evaluation)


class NonFiniteError(ArithmeticError):
    """Report that the loss or its gradient is not finite anywhere the optimiser could go."""


class Optimizer(Generic[E]):
    """Minimise a function; `evaluation` is always that of `point` (n,).

    Args:
        evaluate: computes the loss and its gradient (n,) at a point (n,).
        start: the first point, (n,).
        step_size: the length scale of the first step.

    Raises:
        NonFiniteError: the loss is not finite at the start.
    """

    def __init__(self, evaluate: Callable[[Vector], E], start: Vector, step_size: float) -> None:
        self._evaluate = evaluate
        self._step_size = step_size
        self.point = start
        self.evaluation = evaluate(start)
        if not is_finite(self.evaluation):
            raise NonFiniteError("the loss is not finite at the start")

    def step(self) -> bool:
        """Make one accepted update.

        Returns:
            Whether the loss could still be lowered.

        Raises:
            NonFiniteError: there is no finite loss where the step leads; `point` and `evaluation` stay.
        """
        raise NotImplementedError


def dot(a: Vector, b: Vector) -> float:
    """Compute the inner product of two vectors (n,)."""
    return float(np.dot(a, b))


def is_finite(evaluation: Evaluation) -> bool:
    """Check that a loss and the squared length of its gradient are finite numbers."""
    with np.errstate(over="ignore", invalid="ignore"):  # a gradient too long for float32 is of no use either
        return bool(
            np.isfinite(evaluation.loss) and np.isfinite(dot(evaluation.gradient, evaluation.gradient))
        )
