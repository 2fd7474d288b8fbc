"""Plotly figures of runs: losses over steps, and content against style."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

# Okabe and Ito 2008: colour-blind readers can tell them apart, and they show on white and on black.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7A7A7A")
_GREY = "#808080"  # readable on a light and on a dark page
_GRID = "rgba(128, 128, 128, 0.25)"
_LAYOUT = {  # for a page of any colour; Plotly's default template would make figures 10 times larger
    "template": "none",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": _GREY, "size": 13},
}

History = Sequence[Mapping[str, float]]


def loss_chart(
    runs: Mapping[str, History], *, steps: int | None = None, marked: int | None = None, height: int = 320
) -> go.Figure:
    """Draw losses over steps, as content and style: content solid, style dotted, one colour a run.

    Changes of level are marked with the new size. The chart of several runs has no legend: the page around
    it has more room for their names, whose colours are those of `palette`.

    Args:
        runs: a history for each name: rows with step, size, content and style, as in a run record.
        steps: where the axis ends; by default where the longest history does.
        marked: a step to mark with a line.
        height: in pixels.

    Returns:
        A Plotly figure.
    """
    figure = go.Figure()
    several = len(runs) > 1
    for (name, history), color in zip(runs.items(), palette(len(runs)), strict=True):
        for part, dash in (("content", "solid"), ("style", "dot")):
            figure.add_scatter(
                x=[row["step"] for row in history],
                y=[row[part] for row in history],
                name=name or part,
                mode="lines" if len(history) > 1 else "lines+markers",
                line={"color": color, "dash": dash, "width": 2 if several else 2.5},
                hovertemplate=f"step %{{x}}: {part} %{{y:.3g}}<extra>{name}</extra>",
            )
    for number, (step, label) in enumerate(_level_changes(runs)):
        figure.add_vline(x=step, line={"color": _GREY, "dash": "dash", "width": 1}, opacity=0.6)
        place = {"x": step, "y": 0, "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
        shift = 15 * (number % 2)  # a narrow screen has no room for all of them in one line
        figure.add_annotation(text=label, showarrow=False, yshift=shift, **place)
    if marked is not None:
        figure.add_vline(x=marked, line={"color": COLORS[1], "width": 2})
    axis = {"gridcolor": _GRID, "zeroline": False, "linecolor": _GRID, "automargin": True}
    figure.update_layout(
        **_LAYOUT,
        height=height,
        margin={"l": 8, "r": 12, "t": 36, "b": 8},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        xaxis={**axis, "title": {"text": "step"}, "rangemode": "tozero"},
        yaxis={**axis, "title": {"text": "loss"}, "type": "log", "tickformat": "~g", "dtick": "D2"},
    )
    if several:
        figure.update_layout(
            title={"text": "content solid, style dotted", "font": {"size": 13}, "x": 0, "xref": "paper"},
            showlegend=False,
        )
    if steps is not None:
        figure.update_layout(xaxis_range=[0, steps])
    if not any(runs.values()):
        figure.update_layout(xaxis_range=[0, 100], yaxis_range=[-3, 0])
    return figure


def trade_off_chart(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> go.Figure:
    """Draw content loss against style loss: a curve for each pair, a point for each weighting.

    The lower left is best for both. The chart has no legend: see `loss_chart`.

    Args:
        curves: for each name, points with content, style and, as "label", their weights.

    Returns:
        A Plotly figure.
    """
    figure = go.Figure()
    for (name, points), color in zip(curves.items(), palette(len(curves)), strict=True):
        points = sorted(points, key=lambda point: float(point["content"]))
        figure.add_scatter(
            x=[point["content"] for point in points],
            y=[point["style"] for point in points],
            text=[point["label"] for point in points],
            name=name,
            mode="lines+markers+text" if len(curves) == 1 else "lines+markers",
            textposition="top right",
            line={"color": color, "width": 1.5},
            marker={"size": 9},
            hovertemplate="%{text}<br>content %{x:.3g}, style %{y:.3g}<extra>" + name + "</extra>",
        )
    axis = {"type": "log", "gridcolor": _GRID, "linecolor": _GRID, "tickformat": "~g", "automargin": True}
    figure.update_layout(
        **_LAYOUT,
        height=420,
        margin={"l": 8, "r": 40, "t": 12, "b": 8},
        showlegend=False,
        **{
            f"{letter}axis": {
                **axis,
                "title": {"text": f"{part} loss"},
                "tickvals": log_ticks(point[part] for points in curves.values() for point in points),
            }
            for letter, part in (("x", "content"), ("y", "style"))
        },
    )
    return figure


def log_ticks(values: Iterable[float]) -> list[float]:
    """Choose the numbers on a logarithmic axis: 1, 2 and 5 of each decade, or closer ones where few fit.

    Args:
        values: what the axis shows; none but positive ones count.
    """
    shown = [float(value) for value in values if float(value) > 0] or [0.1, 1]
    low, high = min(shown), max(shown)
    ticks: list[float] = []
    for digits in ((1,), (1, 2, 5), range(1, 10), range(10, 100), range(100, 1000)):
        decades = range(math.floor(math.log10(low)) - 2, math.ceil(math.log10(high)) + 1)
        ticks = [
            number
            for decade in decades
            for digit in digits
            if low <= (number := digit * 10.0**decade) <= high
        ]
        if len(ticks) >= 3:
            break
    every = -(-len(ticks) // 8)
    return ticks[::every] if ticks else [low]


def palette(number: int) -> list[str]:
    """List that many colours; colour-blind readers can tell up to eight apart."""
    if number <= len(COLORS):
        return list(COLORS[:number])
    places = [0.04 + 0.92 * place / (number - 1) for place in range(number)]
    return list(sample_colorscale("Turbo", places))


def _level_changes(runs: Mapping[str, History]) -> list[tuple[float, str]]:
    """List where each level begins, half a step before its first, with the label of its size."""
    return sorted(
        {
            (after["step"] - 0.5, f" {after['size']} px")
            for history in runs.values()
            for before, after in pairwise(history)
            if after["size"] != before["size"]
        }
    )
