"""Limited-memory BFGS with a line search."""

from collections.abc import Callable

import numpy as np

from nst.engine.blas import one_blas_thread
from nst.engine.optimizers.base import E, NonFiniteError, Optimizer, Vector, dot, is_finite


class LBFGS(Optimizer[E]):
    """Minimise with limited-memory BFGS in its compact form (Byrd, Nocedal and Schnabel 1994, eq. 3.13).

    In the paper's symbols: s_k is an update, y_k the change of the gradient that it made; S and Y have them
    as columns. H g, the inverse Hessian times the gradient, is computed from products of S and Y with g and
    with each other, so that a step passes twice over S and Y; the two-loop recursion does so more than four
    times.

    The line search brackets a point of the weak Wolfe conditions by doubling and bisection (Lewis and Overton
    2013). It treats a non-finite loss as one that is too high. Where a decrease of the loss is lost in its
    rounding, the slope decides whether it is one (Hager and Zhang 2005, eq. 4.1), for up to 10 steps without
    a lower loss.

    Args:
        evaluate: computes the loss and its gradient (n,) at a point (n,).
        start: the first point, (n,).
        step_size: root mean square of the first update; later updates find their own length.
        memory: how many pairs s_k, y_k are kept; fewer where they take over a quarter of a gigabyte.
    """

    ROUNDING = 3e-4  # relative error of the loss where the network computes in bfloat16
    PATIENCE = 10  # steps without a lower loss

    def __init__(
        self, evaluate: Callable[[Vector], E], start: Vector, *, step_size: float = 0.1, memory: int = 8
    ) -> None:
        super().__init__(evaluate, start, step_size)
        memory = min(memory, max(1, 2**28 // (2 * start.nbytes)))
        # A ring buffer of the last pairs s_k, y_k; rows that are not written yet take up no memory.
        self._pairs = np.empty((memory, 2, start.size), np.float32)
        self._slopes = np.zeros((memory, 2))  # s_k.g and y_k.g with the present gradient g
        self._sy, self._yy = np.zeros((2, memory, memory))  # S^T Y and Y^T Y
        self._written = 0
        self._lowest, self._idle = self.evaluation.loss, 0  # steps without a lower loss

    @one_blas_thread
    def step(self) -> bool:
        """Make one accepted update: see `Optimizer.step`."""
        if self._idle == self.PATIENCE:
            return False
        here, direction = self.evaluation, self._direction()
        slope = dot(here.gradient, direction)
        if not slope < 0:  # rounding has spoilt the curvature
            self._written = 0
            direction = self._direction()
            slope = dot(here.gradient, direction)
        if not slope < 0:  # the gradient is zero
            return False
        low, high, length, best = 0.0, np.inf, 1.0, None
        for _ in range(20):
            point = self.point + (direction if length == 1 else np.float32(length) * direction)
            there = self._evaluate(point)
            slope_there = dot(there.gradient, direction)
            fallen = there.loss < here.loss + 1e-4 * length * slope
            near = there.loss <= here.loss + self.ROUNDING * abs(here.loss)
            if not is_finite(there) or not (fallen or (near and slope_there <= (2e-4 - 1) * slope)):
                high = length
            else:
                best = length, there, point
                if slope_there >= 0.9 * slope:
                    break
                low = length
            length = 2 * low if high == np.inf else (low + high) / 2
        if best is None and not is_finite(there):
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
        """Keep the pair s, y that leads to a new gradient, if it has curvature, and update all products."""
        before = self.evaluation.gradient
        change = gradient - before
        curvature = dot(update, change)
        row = self._written % len(self._pairs)
        if curvature > 0:
            self._pairs[row] = update, change
            self._slopes[row] = dot(update, before), dot(change, before)
            self._written += 1
        known = min(self._written, len(self._pairs))
        slopes = (self._pairs[:known].reshape(2 * known, gradient.size) @ gradient).reshape(known, 2)
        s_change, y_change = (slopes - self._slopes[:known]).T  # their products with `change`
        self._slopes[:known] = slopes
        if curvature > 0:
            self._sy[:known, row] = s_change
            self._yy[row, :known] = self._yy[:known, row] = y_change
            self._sy[row, row], self._yy[row, row] = curvature, dot(change, change)

    def _direction(self) -> Vector:
        """Compute -H g, (n,), by eq. 3.13: R is the upper triangle of S^T Y, and D is its diagonal."""
        gradient = self.evaluation.gradient
        if not self._written:
            rms = np.sqrt(dot(gradient, gradient) / gradient.size)
            return gradient * np.float32(-self._step_size / rms if rms else 0)
        known = min(self._written, len(self._pairs))
        order = np.arange(self._written - known, self._written) % len(self._pairs)  # oldest first
        sy, yy = (products[np.ix_(order, order)] for products in (self._sy, self._yy))
        s_slope, y_slope = self._slopes[order].T
        r = np.triu(sy)  # R
        scale = sy[-1, -1] / yy[-1, -1]  # gamma = s.y / y.y of the newest pair
        u = np.linalg.solve(r, s_slope)  # R^-1 S^T g
        for_s = np.linalg.solve(r.T, scale * (y_slope - yy @ u) - np.diag(sy) * u)
        shares = np.empty((known, 2), np.float32)
        shares[order] = np.stack([for_s, scale * u], axis=1)
        direction: Vector = shares.ravel() @ self._pairs[:known].reshape(2 * known, -1)
        direction -= np.float32(scale) * gradient
        return direction
