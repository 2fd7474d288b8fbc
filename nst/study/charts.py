"""Runs become Plotly figures."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

# Okabe and Ito 2008: told apart by colour-blind readers, and seen on white and on black.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7A7A7A")
_GREY = "#808080"  # text and lines that a light and a dark page both show
_GRID = "rgba(128, 128, 128, 0.25)"
_LOOK = {  # of a chart on a page of any colour
    "template": "none",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": _GREY, "size": 13},
}

History = Sequence[Mapping[str, float]]


def loss_chart(
    runs: Mapping[str, History], *, steps: int | None = None, marked: int | None = None, height: int = 320
) -> go.Figure:
    """Losses over steps, after the paper's figure 1: content solid, style dotted, one colour a run.

    `runs` maps names to histories, rows with step, size, content and style as in a run record. The axis ends
    at `steps`, or where the longest history does; `height` is in pixels. Changes of level are marked with the
    new size, and so is the step `marked`. The names of several runs are left to the page around it, which has
    more room; their colours are those of palette().
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
        high = 15 * (number % 2)  # a narrow screen has no room for all side by side
        figure.add_annotation(text=label, showarrow=False, yshift=high, **place)
    if marked is not None:
        figure.add_vline(x=marked, line={"color": COLORS[1], "width": 2})
    axis = {"gridcolor": _GRID, "zeroline": False, "linecolor": _GRID, "automargin": True}
    figure.update_layout(
        **_LOOK,
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


def trade_off_chart(curves: Mapping[str, Sequence[Mapping[str, Any]]], *, height: int = 420) -> go.Figure:
    """Content loss against style loss of finished runs: a curve for each pair, a point for each weighting.

    `curves` maps names to points with content, style and, as "label", their weights. Towards the lower left
    both images are followed better. The names are left to the page around it; `height` is in
    pixels.
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
        **_LOOK,
        height=height,
        margin={"l": 8, "r": 40, "t": 12, "b": 8},
        showlegend=False,
        xaxis={**axis, "title": {"text": "content loss"}, "dtick": "D2"},
        yaxis={**axis, "title": {"text": "style loss"}, "dtick": "D2"},
    )
    return figure


def palette(number: int) -> list[str]:
    """That many colours; up to eight can be told apart by colour-blind readers."""
    if number <= len(COLORS):
        return list(COLORS[:number])
    places = [0.04 + 0.92 * place / (number - 1) for place in range(number)]
    return list(sample_colorscale("Turbo", places))


def _level_changes(runs: Mapping[str, History]) -> list[tuple[float, str]]:
    return sorted(
        {
            (after["step"] - 0.5, f" {after['size']} px")
            for history in runs.values()
            for before, after in pairwise(history)
            if after["size"] != before["size"]
        }
    )


def speed_chart(runs: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Loss, and style loss at held-out layers, over seconds: one colour a procedure, one line a run.

    Each run has a procedure, an objective, a pair, and rows with seconds, total and held_out_style. A column
    for each objective.
    """
    procedures = list(dict.fromkeys(run["procedure"] for run in runs))
    objectives = list(dict.fromkeys(run["objective"] for run in runs))
    measures = {"total": "loss", "held_out_style": "style loss at held-out layers"}
    titles = [
        f"{measure}, {objective} objective" for measure in measures.values() for objective in objectives
    ]
    figure = make_subplots(2, len(objectives), subplot_titles=titles, vertical_spacing=0.12)
    for number, run in enumerate(runs):
        for row, measure in enumerate(measures, start=1):
            figure.add_scatter(
                x=[judged["seconds"] for judged in run["rows"]],
                y=[judged[measure] for judged in run["rows"]],
                name=run["procedure"],
                legendgroup=run["procedure"],
                showlegend=row == 1 and run["procedure"] not in {one["procedure"] for one in runs[:number]},
                mode="lines",
                line={"color": COLORS[procedures.index(run["procedure"])], "width": 2},
                hovertemplate=f"%{{x:.1f}} s: %{{y:.3g}}<extra>{run['procedure']}<br>{run['pair']}</extra>",
                row=row,
                col=1 + objectives.index(run["objective"]),
            )
    axis = {"type": "log", "gridcolor": _GRID, "linecolor": _GRID, "tickformat": "~g", "automargin": True}
    figure.update_xaxes(**axis, title="seconds")
    figure.update_yaxes(**axis)
    figure.update_layout(
        template="none",
        height=900,
        font={"size": 13},
        legend={"orientation": "h", "x": 0, "y": 1.05, "yanchor": "bottom"},
    )
    return figure
