"""Adam, for comparison."""

from collections.abc import Callable

import numpy as np

from nst.engine.optimizers.base import E, NonFiniteError, Optimizer, Vector, is_finite


class Adam(Optimizer[E]):
    """Minimise with Adam (Kingma and Ba 2015, algorithm 1).

    Args:
        evaluate: computes the loss and its gradient (n,) at a point (n,).
        start: the first point, (n,).
        step_size: alpha, the learning rate.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, evaluate: Callable[[Vector], E], start: Vector, *, step_size: float = 0.05) -> None:
        super().__init__(evaluate, start, step_size)
        self._steps = 0  # t
        self._mean = np.zeros_like(start)  # m
        self._square = np.zeros_like(start)  # v

    def step(self) -> bool:
        """Make one accepted update: see `Optimizer.step`."""
        gradient = self.evaluation.gradient
        if not gradient.any():
            return False
        self._steps += 1
        self._mean += np.float32(1 - self.BETA1) * (gradient - self._mean)
        self._square += np.float32(1 - self.BETA2) * (gradient**2 - self._square)
        mean = self._mean / np.float32(1 - self.BETA1**self._steps)
        square = self._square / np.float32(1 - self.BETA2**self._steps)
        point = self.point - np.float32(self._step_size) * mean / (np.sqrt(square) + np.float32(self.EPSILON))
        evaluation = self._evaluate(point)
        if not is_finite(evaluation):
            raise NonFiniteError("the loss is not finite after the update")
        self.point, self.evaluation = point, evaluation
        return True
