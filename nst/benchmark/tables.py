"""Reports of the benchmark: Markdown tables, and everything measured as JSON."""

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from nst.benchmark.measure import Growth, Result
from nst.benchmark.references import OURS, REFERENCES, Measurement


def format_report(machine: dict[str, Any], results: Sequence[Result], growth: Sequence[Growth]) -> str:
    """Format everything measured as Markdown tables.

    Figures are medians over pairs and repeats, with the least and the greatest.

    Args:
        machine: as `measure.describe_machine`, with the "size" of the pictures.
        results: grouped by objective.
        growth: one row each.
    """
    about = [f"{machine['size']} px", machine["backbone"], machine["precision"], machine["cpu"]]
    parts = [", ".join([*about, f"{machine['cores']} cores"])]
    for objective, group in groupby(results, lambda result: result.objective):
        runs = list(group)
        parts += [f"Objective: {objective}", _format_results(runs), _format_comparison(runs)]
    parts.append(_format_growth(growth))
    return "\n\n".join(parts)


def save_measurements(
    machine: dict[str, Any], results: Sequence[Result], growth: Sequence[Growth], path: Path
) -> None:
    """Write everything measured as JSON.

    Raises:
        OSError: where it cannot be written.
    """
    runs = [result.to_json() for result in results]
    everything = {**machine, "runs": runs, "growth": [row._asdict() for row in growth]}
    path.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")


def _group_by_procedure(results: Sequence[Result]) -> dict[str, list[Result]]:
    names = dict.fromkeys(result.procedure for result in results)
    return {name: [result for result in results if result.procedure == name] for name in names}


def _format_results(results: Sequence[Result]) -> str:
    """Format what each procedure reached."""
    rows = []
    for name, runs in _group_by_procedure(results).items():
        finals = [result.final for result in runs]
        rows.append(
            [
                name,
                format_spread([final.evaluations for final in finals], "{:.0f}"),
                format_spread([final.seconds for final in finals], "{:.1f}"),
                format_spread([final.seconds / final.evaluations for final in finals], "{:.2f}"),
                format_spread([final.total for final in finals], "{:.3g}"),
                format_spread([final.held_out_content for final in finals], "{:.3f}"),
                format_spread([1000 * final.held_out_style for final in finals], "{:.2f}"),
                format_spread([(result.memory or np.nan) / 1e9 for result in runs], "{:.2f}"),
            ]
        )
    head = ["", "evaluations", "seconds", "s per evaluation", "loss", "held-out content"]
    return _format_table([*head, "held-out style, ×1000", "peak memory, GB"], rows)


def _format_comparison(results: Sequence[Result]) -> str:
    """Format when ours reached what each reference ended with."""
    runs = _group_by_procedure(results)
    rows = []
    for reference in (name for name in REFERENCES if name in runs):
        for name in (name for name in runs if name.startswith(OURS)):
            row = [reference, name]
            for reaches in (Measurement.reaches_loss_of, Measurement.reaches_quality_of):
                seconds, shares = [], []
                for own, other in zip(runs[name], runs[reference], strict=True):
                    seconds.append(own.seconds_to(reaches, other.final))
                    shares.append(seconds[-1] / other.final.seconds)
                row += [format_spread(seconds, "{:.1f}"), format_spread(shares, "{:.3f}")]
            rows.append(row)
    head = ["reference", "by", "its loss after s", "of its time", "its held-out quality after s"]
    return _format_table([*head, "of its time"], rows)


def _format_growth(growth: Sequence[Growth]) -> str:
    rows = [
        [
            str(row.size),
            str(row.iterations),
            row.precision,
            f"{row.ready:.1f}",
            f"{row.first_preview:.2f}",
            f"{row.seconds:.1f}",
            f"{row.evaluation:.3f}",
            f"{row.arithmetic:.1%}",
            f"{row.memory / 1e9:.2f}",
        ]
        for row in growth
    ]
    head = ["size, px", "steps", "precision", "ready, s", "first preview, s", "run, s"]
    return _format_table([*head, "s per evaluation", "optimiser's share", "peak memory, GB"], rows)


def format_spread(values: Sequence[float], form: str) -> str:
    """Format a median with the least and the greatest value, where they differ.

    Args:
        values: infinity for what was not reached, NaN for what is not known.
        form: the format of a number, as "{:.1f}".
    """

    def text(value: float) -> str:
        return "not reached" if value == np.inf else "–" if np.isnan(value) else form.format(value)

    middle, least, greatest = text(median(values)), text(min(values)), text(max(values))
    return middle if least == greatest else f"{middle} ({least} to {greatest})"


def _format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
