"""The clock of the benchmark, and when a procedure has reached what another did."""

import time

import numpy as np
import pytest
import tensorflow as tf

from nst.benchmark.references import Measurement, Stopwatch, Task
from nst.config import TransferConfig
from nst.engine.images import resize

pytestmark = pytest.mark.quick

GOAL = Measurement(100.0, 200, total=1.0, content=0.5, style=0.01, held_out_content=0.8, held_out_style=0.02)


def test_quality_allows_three_percent_of_content_and_nothing_of_style():
    assert GOAL.reaches_loss_of(GOAL)
    assert GOAL.reaches_quality_of(GOAL)
    assert GOAL._replace(held_out_content=0.82, total=9).reaches_quality_of(GOAL)
    assert not GOAL._replace(held_out_content=0.83).reaches_quality_of(GOAL)
    assert not GOAL._replace(held_out_style=0.0201).reaches_quality_of(GOAL)
    assert not GOAL._replace(total=1.001).reaches_loss_of(GOAL)


def test_the_clock_stands_still_while_a_picture_is_measured(backbone, photo, painting):
    content, style = resize(photo, 48, 64), resize(painting, 64, 64)
    watch = Stopwatch(Task(content, style, TransferConfig(size=64, precision="float32"), backbone))
    began = time.perf_counter()
    for evaluations in range(1, 11):
        watch.measure(content, evaluations)
    assert len(watch.rows) == 10
    assert watch.seconds < 0.2 * (time.perf_counter() - began)
    assert watch.rows[0].content == pytest.approx(0, abs=1e-3)  # as saved, with 8 bits
    watch.measure(tf.zeros([1, 20, 30, 3]), 10, final=True)  # of another size
    assert np.isfinite(watch.rows[-1].total)
