"""L-BFGS on the objective of real pictures, compared with SciPy's."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf
from comparison import EXAMPLES

from nst.engine.color import match_colors
from nst.engine.images import load_image
from nst.engine.objective import Objective, Region
from nst.engine.optimizers import LBFGS, Vector


class Evaluated(NamedTuple):
    loss: float
    gradient: Vector


Function = Callable[[Vector], Evaluated]


class _SpentError(Exception):
    pass


def lowest(minimise: Callable[[Function], None], function: Function, evaluations: int) -> float:
    """Return the lowest loss that `minimise` finds with so many evaluations."""
    seen: list[float] = []

    def counted(point: Vector) -> Evaluated:
        if len(seen) == evaluations:
            raise _SpentError
        evaluation = function(point)
        seen.append(evaluation.loss)
        return evaluation

    with pytest.raises(_SpentError):
        minimise(counted)
    return min(seen)


STYLES = (
    "munch-the-scream",
    "van-gogh-village-street-in-auvers",
    "hokusai-great-wave",
    "kandinsky-composition-viii",
)


def test_lbfgs_is_no_worse_than_scipys(backbone, graphs):
    """Over several pairs, because where two good searches go within one is a matter of chance (about 5 %)."""
    ratios = []
    content = load_image(EXAMPLES / "content" / "chenonceau.jpg", long_side=48)
    for name in STYLES:
        style = load_image(EXAMPLES / "style" / f"{name}.jpg", long_side=48)
        objective = Objective(
            backbone,
            graphs=graphs,
            content_layers=("block3_conv2",),
            style_layers=("block1_conv1", "block2_conv1", "block3_conv1"),
            content_weight=1,
            style_weight=30,
            tv_weight=1,
            pooling="max",
        )
        targets = objective.targets(content, Region([style]))
        start = match_colors(content, style).numpy().ravel()

        def on_pixels(point, objective=objective, targets=targets, shape=content.shape):
            losses, gradient = objective(tf.reshape(tf.constant(point, tf.float32), shape), targets)
            return Evaluated(losses.total, gradient.ravel())

        def ours(function, start=start):
            optimizer = LBFGS(function, start, memory=20)
            while optimizer.step():
                pass

        def scipys(function, start=start):
            def in_double(point: np.ndarray) -> tuple[float, np.ndarray]:
                loss, gradient = function(point.astype(np.float32))
                return loss, gradient.astype(np.float64)

            options = {"maxcor": 20, "ftol": 0, "gtol": 0}
            scipy.optimize.minimize(in_double, start, jac=True, method="L-BFGS-B", options=options)

        ratios.append(lowest(ours, on_pixels, 40) / lowest(scipys, on_pixels, 40))
    assert np.exp(np.mean(np.log(ratios))) < 1.05
