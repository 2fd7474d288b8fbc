"""The loss chart as the browser gets it; how it looks there is for tests/browser."""

import json
import re
import subprocess
import sys

import pytest

from nst.study.charts import COLORS, log_ticks, loss_chart, palette, trade_off_chart

pytestmark = pytest.mark.quick


def history(*levels: tuple[int, int], first_step: int = 1) -> list[dict[str, float]]:
    """Rows of a made-up run: levels of (size, steps), content rising, style falling."""
    sizes = [size for size, steps in levels for _ in range(steps)]
    return [
        {"step": step, "size": size, "content": 0.1 + 0.01 * step, "style": 1 / step}
        for step, size in enumerate(sizes, first_step)
    ]


def sent(figure) -> dict:
    """Read a figure as the browser gets it."""
    return json.loads(figure.to_json())


def test_content_is_solid_and_style_dotted_and_both_are_complete():
    rows = history((64, 10))
    content, style = sent(loss_chart({"": rows}))["data"]
    assert (content["name"], style["name"]) == ("content", "style")
    assert (content["line"]["dash"], style["line"]["dash"]) == ("solid", "dot")
    for trace in (content, style):
        assert trace["mode"] == "lines"
        assert trace["x"] == [row["step"] for row in rows]
        assert trace["y"] == [row[trace["name"]] for row in rows]


def test_each_run_has_one_colour_of_its_own():
    for number in (2, len(COLORS), 16):
        runs = {f"run {place}": history((64, 3)) for place in range(number)}
        colors = {}
        for trace in sent(loss_chart(runs))["data"]:
            colors.setdefault(trace["name"], set()).add(trace["line"]["color"])
        assert list(colors) == list(runs)
        assert all(len(color) == 1 for color in colors.values())
        assert len({color for (color,) in colors.values()}) == number


def test_the_names_of_several_runs_are_left_to_the_page():
    runs = {name: history((64, 3)) for name in ("one", "other", "third")}
    figure = sent(loss_chart(runs, height=300))
    assert figure["layout"]["showlegend"] is False
    assert figure["layout"]["height"] == 300
    assert figure["layout"]["title"]["text"] == "content solid, style dotted"
    colors = [trace["line"]["color"] for trace in figure["data"][::2]]
    assert colors == palette(3)


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.5, 1), (0.61, 0.69), (0.0012, 0.0013), (0.002, 3), (1e-6, 10), (0.0451, 0.0452), (2, 2)],
)
def test_an_axis_has_some_round_numbers_whatever_it_shows(low, high):
    ticks = log_ticks([high, low, 0])
    assert ticks == sorted(set(ticks))
    assert 1 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
    if high > 1.05 * low:
        assert len(ticks) >= 3
        assert ticks == pytest.approx([float(f"{tick:.3g}") for tick in ticks], rel=1e-9)  # no long numbers


def test_the_trade_off_has_a_curve_a_pair_and_a_point_a_weighting():
    points = [
        {"content": 0.4, "style": 0.02, "label": "β 100"},
        {"content": 0.1, "style": 0.3, "label": "β 10"},
    ]
    (one,) = sent(trade_off_chart({"a × b": points}))["data"]
    assert (one["x"], one["y"], one["text"]) == ([0.1, 0.4], [0.3, 0.02], ["β 10", "β 100"])
    assert "text" in one["mode"]
    figure = sent(trade_off_chart({"a × b": points, "a × c": points}))
    assert [trace["name"] for trace in figure["data"]] == ["a × b", "a × c"]
    assert len({trace["line"]["color"] for trace in figure["data"]}) == 2
    assert {figure["layout"][axis]["type"] for axis in ("xaxis", "yaxis")} == {"log"}


def test_losses_are_on_a_logarithmic_axis_and_steps_from_zero():
    layout = sent(loss_chart({"": history((64, 3))}))["layout"]
    assert layout["yaxis"]["type"] == "log"
    assert layout["yaxis"]["title"]["text"] == "loss"
    assert layout["xaxis"].get("type", "linear") == "linear"
    assert layout["xaxis"]["rangemode"] == "tozero"
    assert layout["xaxis"]["title"]["text"] == "step"


def marks(runs) -> list[tuple[float, str]]:
    layout = sent(loss_chart(runs))["layout"]
    lines, labels = layout.get("shapes", []), layout.get("annotations", [])
    assert [line["x0"] for line in lines] == [label["x"] for label in labels]
    assert all(line["x0"] == line["x1"] for line in lines)
    return [(label["x"], label["text"].strip()) for label in labels]


def test_changes_of_level_are_marked_between_their_steps():
    assert marks({"": history((128, 4))}) == []
    assert marks({"": history((128, 4), (256, 3), (512, 2))}) == [(4.5, "256 px"), (7.5, "512 px")]


def test_a_level_that_ended_early_moves_no_mark():
    early = history((128, 2)) + history((256, 3), first_step=5)
    assert marks({"early": early, "whole": history((128, 4), (256, 3))}) == [(4.5, "256 px")]


def test_the_page_shows_through_and_the_height_holds():
    layout = sent(loss_chart({"": history((64, 3))}, height=200))["layout"]
    for background in ("paper_bgcolor", "plot_bgcolor"):
        assert re.fullmatch(r"rgba\(.*, ?0\)", layout[background])
    assert layout["height"] == 200


@pytest.mark.parametrize("runs", [{}, {"": []}, {"one": [], "other": []}], ids=["none", "empty", "two empty"])
def test_without_a_step_the_chart_is_empty(runs):
    figure = sent(loss_chart(runs))
    assert not any(trace.get("x") for trace in figure["data"])
    assert not figure["layout"].get("annotations")
    low, high = figure["layout"]["yaxis"]["range"]
    assert low < high <= 1  # powers of ten


def test_the_axis_shows_how_far_the_run_will_go():
    assert sent(loss_chart({"": history((64, 10))}, steps=40))["layout"]["xaxis"]["range"] == [0, 40]


def test_a_single_step_is_seen():
    for trace in sent(loss_chart({"": history((64, 1))}))["data"]:
        assert "markers" in trace["mode"]


def test_a_chart_is_small():
    assert len(loss_chart({}).to_json()) < 2_000
    assert len(loss_chart({"": history((128, 60), (256, 40), (512, 20))}).to_json()) < 12_000


def test_figures_need_neither_gradio_nor_tensorflow():
    command = "import sys, nst.study.charts; print(*{'tensorflow', 'keras', 'gradio'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
