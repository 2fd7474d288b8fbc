"""The record of a run: its config, what it ran on, and its history, one row a step."""

import dataclasses
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nst.backbones import Backbone, resolve_precision
from nst.transfer import Progress, TransferConfig

FLAT_STEPS = 10
FLAT_FALL = 0.01


def history_row(progress: Progress) -> dict[str, float]:
    """What is kept of one step: all but its picture."""
    return {
        "step": progress.step,
        "level": progress.level,
        "size": progress.size,
        "evaluations": progress.evaluations,
        **progress.losses._asdict(),
        "seconds": round(progress.seconds, 3),
    }


def levelled_off(history: Sequence[dict[str, float]]) -> bool:
    """Whether, over the last 10 steps of the present level, the total loss fell by less than 1 %.

    `history` has the rows of history_row(); with fewer than 11 of the present level, it is too early to tell.
    """
    recent = history[-1 - FLAT_STEPS :]
    if len(recent) <= FLAT_STEPS or recent[0]["level"] != recent[-1]["level"]:
        return False
    return recent[-1]["total"] > (1 - FLAT_FALL) * recent[0]["total"]


def run_record(
    config: TransferConfig, backbone: Backbone, history: Sequence[dict[str, float]], ended: str
) -> dict[str, Any]:
    """A run in plain values for JSON; `ended` says how: "finished", "stopped" or why else it ended."""
    return {
        "config": dataclasses.asdict(config),
        "backbone": {"name": backbone.name, "note": backbone.note},
        "precision": resolve_precision(config.precision),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("tensorflow", "numpy", "pillow")},
        },
        "ended": ended,
        "evaluations": history[-1]["evaluations"] if history else 0,
        "seconds": history[-1]["seconds"] if history else 0.0,
        "history": list(history),
    }


def save_record(record: dict[str, Any], path: Path | str) -> None:
    """Write a run record as JSON with one line a step."""
    head = json.dumps({**record, "history": []}, indent=2, ensure_ascii=False)
    rows = ",\n".join("    " + json.dumps(row) for row in record["history"])
    Path(path).write_text(
        head.replace('"history": []', f'"history": [\n{rows}\n  ]') + "\n", encoding="utf-8"
    )
