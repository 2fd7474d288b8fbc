"""L-BFGS and Adam behind one `step()`: minimise a function of one float32 vector."""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

Vector = npt.NDArray[np.float32]

# NumPy's BLAS threads go on spinning for a while after each product, on cores that the evaluation needs.
_BLAS = ThreadpoolController().select(user_api="blas")


class Evaluation(Protocol):
    """One loss-and-gradient call: the loss, and its gradient (n,)."""

    @property
    def loss(self) -> float: ...
    @property
    def gradient(self) -> Vector: ...


E = TypeVar("E", bound=Evaluation)


class NonFiniteError(ArithmeticError):
    """The loss or its gradient is not finite anywhere the optimiser could go."""


class _Optimizer(Generic[E]):
    """Where the minimisation stands: `evaluation` is always that of `point` (n,)."""

    def __init__(self, evaluate: Callable[[Vector], E], start: Vector, step_size: float) -> None:
        self._evaluate = evaluate
        self._step_size = step_size
        self.point = start
        self.evaluation = evaluate(start)
        if not _finite(self.evaluation):
            raise NonFiniteError("the loss is not finite at the start")

    def step(self) -> bool:
        """Make one accepted update; False where the loss can't be lowered any further.

        Raises NonFiniteError and leaves `point` and `evaluation` as they were.
        """
        raise NotImplementedError


class LBFGS(_Optimizer[E]):
    """Limited-memory BFGS in its compact form (Byrd, Nocedal and Schnabel 1994, eq. 3.13).

    Two passes over the remembered pairs give the direction, where the two-loop recursion takes four and more.
    The line search brackets a point of the weak Wolfe conditions by doubling and bisection (Lewis and Overton
    2013); it treats a non-finite loss as one that is too high. `step_size` is the root mean square of the
    first update's coordinates; later updates find their own length. `memory` is how many are remembered.
    """

    def __init__(
        self, evaluate: Callable[[Vector], E], start: Vector, *, step_size: float = 0.1, memory: int = 10
    ) -> None:
        super().__init__(evaluate, start, step_size)
        # The last `memory` updates s and changes of the gradient y, in rows that are written round and round,
        # and what is needed of their inner products. Rows not written yet take up no memory.
        self._s, self._y = (np.empty((memory, start.size), np.float32) for _ in range(2))
        self._sy, self._yy = np.zeros((2, memory, memory))
        self._pairs = 0  # written so far

    @_BLAS.wrap(limits=1)  # type: ignore[untyped-decorator]
    def step(self) -> bool:
        here, direction = self.evaluation, self._direction()
        slope = _dot(here.gradient, direction)
        if not slope < 0:  # rounding has spoilt the curvature
            self._pairs = 0
            direction = self._direction()
            slope = _dot(here.gradient, direction)
        if not slope < 0:  # the gradient is zero
            return False
        low, high, length, best = 0.0, np.inf, 1.0, None
        for _ in range(20):
            there = self._evaluate(self.point + np.float32(length) * direction)
            if not _finite(there) or there.loss >= here.loss + 1e-4 * length * slope:
                high = length
            else:
                best = length, there
                if _dot(there.gradient, direction) >= 0.9 * slope:
                    break
                low = length
            length = 2 * low if high == np.inf else (low + high) / 2
        if best is None and not _finite(there):
            raise NonFiniteError("no finite loss near by along the search direction")
        if best is None:
            return False
        length, there = best
        direction *= np.float32(length)
        self._remember(direction, there.gradient - here.gradient)
        self.point, self.evaluation = self.point + direction, there
        return True

    def _remember(self, update: Vector, change: Vector) -> None:
        curvature = _dot(update, change)
        if not curvature > 0:
            return
        row = self._pairs % len(self._s)
        self._s[row], self._y[row] = update, change
        self._pairs += 1
        known = min(self._pairs, len(self._s))
        self._sy[:known, row] = self._s[:known] @ change
        self._sy[row, row] = curvature  # added up in another order it may be zero
        self._yy[row, :known] = self._yy[:known, row] = self._y[:known] @ change

    def _direction(self) -> Vector:
        """Minus the inverse Hessian's estimate times the gradient, (n,)."""
        gradient = self.evaluation.gradient
        if not self._pairs:
            rms = np.sqrt(_dot(gradient, gradient) / gradient.size)
            return gradient * np.float32(-self._step_size / rms if rms else 0)
        known = min(self._pairs, len(self._s))
        order = np.arange(self._pairs - known, self._pairs) % len(self._s)  # the oldest first
        s, y = self._s[:known], self._y[:known]
        sy, yy = (products[np.ix_(order, order)] for products in (self._sy, self._yy))
        r = np.triu(sy)
        scale = sy[-1, -1] / yy[-1, -1]
        u = np.linalg.solve(r, (s @ gradient)[order])
        for_s, for_y = np.empty((2, known), np.float32)
        for_y[order] = scale * u
        for_s[order] = np.linalg.solve(
            r.T, scale * (y @ gradient)[order] - np.diag(sy) * u - scale * (yy @ u)
        )
        direction: Vector = for_s @ s + for_y @ y - np.float32(scale) * gradient
        return direction


class Adam(_Optimizer[E]):
    """Adam (Kingma and Ba 2015, algorithm 1); `step_size` is its learning rate."""

    def __init__(self, evaluate: Callable[[Vector], E], start: Vector, *, step_size: float = 0.05) -> None:
        super().__init__(evaluate, start, step_size)
        self._steps = 0
        self._mean = np.zeros_like(start)
        self._square = np.zeros_like(start)

    def step(self) -> bool:
        gradient = self.evaluation.gradient
        if not gradient.any():
            return False
        self._steps += 1
        self._mean += np.float32(1 - 0.9) * (gradient - self._mean)
        self._square += np.float32(1 - 0.999) * (gradient**2 - self._square)
        mean = self._mean / np.float32(1 - 0.9**self._steps)
        square = self._square / np.float32(1 - 0.999**self._steps)
        point = self.point - np.float32(self._step_size) * mean / (np.sqrt(square) + np.float32(1e-8))
        evaluation = self._evaluate(point)
        if not _finite(evaluation):
            raise NonFiniteError("the loss is not finite after the update")
        self.point, self.evaluation = point, evaluation
        return True


def _dot(a: Vector, b: Vector) -> float:
    return float(np.dot(a, b))


def _finite(evaluation: Evaluation) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):  # a gradient too long for float32 is of no use either
        return bool(
            np.isfinite(evaluation.loss) and np.isfinite(_dot(evaluation.gradient, evaluation.gradient))
        )
