"""The record of a run: its config, what it ran on, and its history, one row a step."""

import csv
import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

from nst.config import ConfigError, TransferConfig
from nst.engine.images import read_metadata
from nst.engine.stylize import Progress
from nst.engine.vgg import Backbone, resolve_precision

FLAT_STEPS = 10
FLAT_FALL = 0.01


class RecordError(ValueError):
    """A picture's record cannot be used; one plain sentence tells the person at the screen why."""


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


def image_entry(path: Path | str) -> dict[str, str]:
    """What a record says of an image file: its name, and the SHA-256 of what is in it."""
    with Path(path).open("rb") as file:
        return {"name": Path(path).name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def run_record(
    config: TransferConfig,
    backbone: Backbone,
    history: Sequence[dict[str, float]],
    ended: str,
    images: Mapping[str, Any],
) -> dict[str, Any]:
    """A run in plain values for JSON.

    `ended` says how: "finished", "stopped" or why else it ended. `images` has an image_entry() for "content"
    and, where there is one, "mask" and "start", and a list of them for "styles".
    """
    return {
        "config": dataclasses.asdict(config),
        "images": images,
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
        head.replace('"history": []', f'"history": [\n{rows}\n  ]') + "\n",
        encoding="utf-8",
        errors="backslashreplace",  # the name of a file need not be UTF-8
    )


def save_losses(history: Sequence[dict[str, float]], path: Path | str) -> None:
    """Write the rows of history_row() as CSV under their names; of a run without a step, an empty file."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerows(row.keys() for row in history[:1])
        table.writerows(row.values() for row in history)


def restored_config(source: Path | str | BinaryIO) -> TransferConfig:
    """The config of the run whose record, as JSON, save_image() was given with its picture.

    Settings that it lacks, since an earlier version wrote it, have their defaults. Raises RecordError, and
    ImageError for a file that is no readable image.
    """
    text = read_metadata(source)
    if text is None:
        raise RecordError("This picture holds no record of a run: please use the file as it was first saved.")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(
            "The record in this picture is damaged: please use the file as it was first saved."
        ) from error
    settings = record.get("config") if isinstance(record, dict) else None
    if not isinstance(settings, dict):
        raise RecordError(
            "The record in this picture has no settings: please use the file as it was first saved."
        )
    unknown = settings.keys() - {setting.name for setting in dataclasses.fields(TransferConfig)}
    if unknown:
        name = min(unknown)
        plain = name.isascii() and name.isidentifier() and len(name) <= 40
        raise RecordError(
            "The settings in this picture can't be used: this version does not know "
            + (f"{name}." if plain else "all of them.")
        )
    try:
        return TransferConfig(**settings)
    except ConfigError as error:
        reason = str(error)
        raise RecordError(
            f"The settings in this picture can't be used: {reason[0].lower()}{reason[1:]}"
        ) from error
