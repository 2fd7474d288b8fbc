"""The benchmark's page: loss against seconds."""

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nst.benchmark.measure import Result
from nst.study.charts import COLORS

_LOSSES = {"total": "loss", "held_out_style": "style loss at held-out layers"}


def speed_chart(results: Sequence[Result]) -> go.Figure:
    """Draw the loss, and the style loss at held-out layers, over seconds.

    Returns:
        A Plotly figure with a column for each objective, a colour for each procedure, a line for each run.
    """
    procedures = list(dict.fromkeys(result.procedure for result in results))
    objectives = list(dict.fromkeys(result.objective for result in results))
    titles = [f"{loss}, {objective} objective" for loss in _LOSSES.values() for objective in objectives]
    figure = make_subplots(2, len(objectives), subplot_titles=titles, vertical_spacing=0.12)
    for number, result in enumerate(results):
        named = result.procedure in {earlier.procedure for earlier in results[:number]}
        for row, loss in enumerate(_LOSSES, start=1):
            figure.add_scatter(
                x=[measurement.seconds for measurement in result.rows],
                y=[getattr(measurement, loss) for measurement in result.rows],
                name=result.procedure,
                legendgroup=result.procedure,
                showlegend=row == 1 and not named,
                mode="lines",
                line={"color": COLORS[procedures.index(result.procedure)], "width": 2},
                hovertemplate=f"%{{x:.1f}} s: %{{y:.3g}}<extra>{result.procedure}<br>{result.pair}</extra>",
                row=row,
                col=1 + objectives.index(result.objective),
            )
    grid = "rgba(128, 128, 128, 0.25)"
    axis = {"type": "log", "gridcolor": grid, "linecolor": grid, "tickformat": "~g", "automargin": True}
    figure.update_xaxes(**axis, title="seconds")
    figure.update_yaxes(**axis)
    figure.update_layout(
        template="none",
        height=900,
        font={"size": 13},
        legend={"orientation": "h", "x": 0, "y": 1.05, "yanchor": "bottom"},
    )
    return figure


def write_page(results: Sequence[Result], path: Path) -> None:
    """Write the chart as a page that needs no network.

    Raises:
        OSError: where it cannot be written.
    """
    speed_chart(results).write_html(path, config={"displaylogo": False, "showSendToCloud": False})
