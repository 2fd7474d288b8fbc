"""The tables of the benchmark: when ours reached what a reference ended with, and how figures are written."""

import math

import numpy as np
import pytest

from nst.benchmark.charts import speed_chart
from nst.benchmark.measure import Growth, Result
from nst.benchmark.references import ADAM, SCIPY, UNIT_STEP, Measurement
from nst.benchmark.tables import format_report, format_spread

pytestmark = pytest.mark.quick

PICTURE = np.zeros([2, 3, 3], np.uint8)
GOAL = Measurement(100.0, 200, total=1.0, content=0.5, style=0.01, held_out_content=0.8, held_out_style=0.02)


def test_seconds_to_a_goal_are_those_of_the_first_picture_there():
    rows = [GOAL._replace(seconds=float(n), total=2.0 - 0.4 * n) for n in range(5)]
    result = Result("ours", "scaled", "a × b", 1, None, rows[-1], rows, PICTURE)
    assert result.seconds_to(Measurement.reaches_loss_of, GOAL) == 3
    assert result.seconds_to(Measurement.reaches_loss_of, GOAL._replace(total=0.1)) == math.inf


def test_a_spread_is_the_median_with_the_least_and_the_greatest():
    assert format_spread([1.0, 2.0, math.inf], "{:.1f}") == "2.0 (1.0 to not reached)"
    assert format_spread([2.0, 2.0], "{:.1f}") == "2.0"
    assert format_spread([math.nan], "{:.1f}") == "–"


@pytest.fixture
def results():
    """A reference that took 100 s to each loss, and ours, which was there after 3 s."""
    rows = [GOAL._replace(seconds=float(n), total=2.0 - 0.4 * n) for n in range(5)]
    ours = Result("ours, float32", "scaled", "a × b", 1, 2e9, rows[-1], rows, PICTURE)
    references = [
        Result(name, "scaled", "a × b", 1, None, GOAL, [GOAL], PICTURE) for name in (SCIPY, UNIT_STEP, ADAM)
    ]
    return [*references, ours]


def test_the_report_says_when_ours_reached_each_reference(results):
    machine = {"size": 64, "backbone": "vgg16", "precision": "float32", "cpu": "a processor", "cores": 2}
    growth = [Growth(64, 20, "float32", 4.0, 1.0, 2.0, 0.1, 0.05, 1e9)]
    lines = format_report(machine, results, growth).splitlines()
    assert lines[0] == "64 px, vgg16, float32, a processor, 2 cores"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    for reference in (SCIPY, UNIT_STEP, ADAM):
        assert [reference, "ours, float32", "3.0", "0.030", "0.0", "0.000"] in cells
    assert ["64", "20", "float32", "4.0", "1.00", "2.0", "0.100", "5.0%", "1.00"] in cells


def test_the_chart_has_a_line_for_each_run_and_a_colour_for_each_procedure(results):
    figure = speed_chart(results)
    assert len(figure.data) == 2 * len(results)
    assert [trace.name for trace in figure.data if trace.showlegend] == [one.procedure for one in results]
    assert list(figure.data[-2].y) == [row.total for row in results[-1].rows]
