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

    A step passes twice over what is remembered, where the two-loop recursion does so more than four times.
    The line search brackets a point of the weak Wolfe conditions by doubling and bisection (Lewis and Overton
    2013); it treats a non-finite loss as one that is too high. Where a fall of the loss is lost in its
    rounding, the slope says instead whether it is one (Hager and Zhang 2005, eq. 4.1), for up to 10 steps
    without a lower loss. `step_size` is the root mean square of the first update's coordinates; later updates
    find their own length. `memory` is how many are remembered, or fewer where they take over a quarter of a
    gigabyte.
    """

    ROUNDING = 3e-4  # of the loss, relative, where the network computes in bfloat16
    PATIENCE = 10  # steps

    def __init__(
        self, evaluate: Callable[[Vector], E], start: Vector, *, step_size: float = 0.1, memory: int = 8
    ) -> None:
        super().__init__(evaluate, start, step_size)
        memory = min(memory, max(1, 2**28 // (2 * start.nbytes)))
        # The last `memory` updates s and changes of the gradient y, written round and round (rows not written
        # yet take up no memory); their products with the present gradient, and with each other.
        self._pairs = np.empty((memory, 2, start.size), np.float32)
        self._slopes = np.zeros((memory, 2))
        self._sy, self._yy = np.zeros((2, memory, memory))
        self._written = 0
        self._lowest, self._idle = self.evaluation.loss, 0  # steps without a lower loss

    @_BLAS.wrap(limits=1)  # type: ignore[untyped-decorator]
    def step(self) -> bool:
        if self._idle == self.PATIENCE:
            return False
        here, direction = self.evaluation, self._direction()
        slope = _dot(here.gradient, direction)
        if not slope < 0:  # rounding has spoilt the curvature
            self._written = 0
            direction = self._direction()
            slope = _dot(here.gradient, direction)
        if not slope < 0:  # the gradient is zero
            return False
        low, high, length, best = 0.0, np.inf, 1.0, None
        for _ in range(20):
            point = self.point + (direction if length == 1 else np.float32(length) * direction)
            there = self._evaluate(point)
            slope_there = _dot(there.gradient, direction)
            fallen = there.loss < here.loss + 1e-4 * length * slope
            near = there.loss <= here.loss + self.ROUNDING * abs(here.loss)
            if not _finite(there) or not (fallen or (near and slope_there <= (2e-4 - 1) * slope)):
                high = length
            else:
                best = length, there, point
                if slope_there >= 0.9 * slope:
                    break
                low = length
            length = 2 * low if high == np.inf else (low + high) / 2
        if best is None and not _finite(there):
            raise NonFiniteError("no finite loss near by along the search direction")
        if best is None:
            return False
        length, there, point = best
        direction *= np.float32(length)
        self._remember(direction, there.gradient)
        self.point, self.evaluation = point, there
        self._idle = 0 if there.loss < self._lowest else self._idle + 1
        self._lowest = min(self._lowest, there.loss)
        return True

    def _remember(self, update: Vector, gradient: Vector) -> None:
        """Take in the pair that leads to `gradient`, if it has curvature."""
        before = self.evaluation.gradient
        change = gradient - before
        curvature = _dot(update, change)
        row = self._written % len(self._pairs)
        if curvature > 0:
            self._pairs[row] = update, change
            self._slopes[row] = _dot(update, before), _dot(change, before)
            self._written += 1
        known = min(self._written, len(self._pairs))
        slopes = (self._pairs[:known].reshape(2 * known, gradient.size) @ gradient).reshape(known, 2)
        s_change, y_change = (slopes - self._slopes[:known]).T  # their products with `change`
        self._slopes[:known] = slopes
        if curvature > 0:
            self._sy[:known, row] = s_change
            self._yy[row, :known] = self._yy[:known, row] = y_change
            self._sy[row, row], self._yy[row, row] = curvature, _dot(change, change)

    def _direction(self) -> Vector:
        """Minus the inverse Hessian's estimate times the gradient, (n,)."""
        gradient = self.evaluation.gradient
        if not self._written:
            rms = np.sqrt(_dot(gradient, gradient) / gradient.size)
            return gradient * np.float32(-self._step_size / rms if rms else 0)
        known = min(self._written, len(self._pairs))
        order = np.arange(self._written - known, self._written) % len(self._pairs)  # the oldest first
        sy, yy = (products[np.ix_(order, order)] for products in (self._sy, self._yy))
        s_slope, y_slope = self._slopes[order].T
        r = np.triu(sy)
        scale = sy[-1, -1] / yy[-1, -1]
        u = np.linalg.solve(r, s_slope)
        for_s = np.linalg.solve(r.T, scale * (y_slope - yy @ u) - np.diag(sy) * u)
        shares = np.empty((known, 2), np.float32)
        shares[order] = np.stack([for_s, scale * u], axis=1)
        direction: Vector = shares.ravel() @ self._pairs[:known].reshape(2 * known, -1)
        direction -= np.float32(scale) * gradient
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


OPTIMIZERS = {"lbfgs": LBFGS, "adam": Adam}
