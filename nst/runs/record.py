"""The record of a run: its config, what it ran on, and its history, one row for each step."""

import csv
import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from nst import __version__
from nst.config import SETTINGS, TransferConfig
from nst.engine.images import open_image, read_metadata
from nst.engine.stylize import Progress
from nst.engine.vgg import Backbone, resolve_precision
from nst.errors import ConfigError, RecordError

PLATEAU_STEPS = 10
PLATEAU_DECREASE = 0.01


def history_row(progress: Progress) -> dict[str, float]:
    """Return what the history keeps of one step: all but its picture."""
    return {
        "step": progress.step,
        "level": progress.level,
        "size": progress.size,
        "evaluations": progress.evaluations,
        **progress.losses._asdict(),
        "seconds": round(progress.seconds, 3),
    }


def has_plateaued(history: Sequence[dict[str, float]]) -> bool:
    """Check whether the total loss fell by less than 1 % over the last 10 steps of the present level.

    Args:
        history: the rows of `history_row` so far. With fewer than 11 of the present level, it is too early to
            tell, and the answer is no.
    """
    recent = history[-1 - PLATEAU_STEPS :]
    if len(recent) <= PLATEAU_STEPS or recent[0]["level"] != recent[-1]["level"]:
        return False
    return recent[-1]["total"] > (1 - PLATEAU_DECREASE) * recent[0]["total"]


def describe_image(path: Path | str) -> dict[str, str]:
    """Describe an image file for a record, without decoding it.

    Returns:
        Its "name", and the "sha256" of its bytes.

    Raises:
        ImageError: the file cannot be opened.
    """
    with open_image(path) as file:
        return describe_file(file)


def describe_file(file: BufferedReader) -> dict[str, str]:
    """Describe an open image file from its beginning: see `describe_image`."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": printable(Path(file.name).name), "sha256": digest}


def printable(text: str) -> str:
    """Escape what is not UTF-8 in the name of a file, which may be any bytes."""
    return text.encode(errors="backslashreplace").decode()


def run_record(
    config: TransferConfig,
    backbone: Backbone,
    history: Sequence[dict[str, float]],
    ended: str,
    images: Mapping[str, Any],
    attempts: int = 1,
) -> dict[str, Any]:
    """Describe a run in plain values for JSON.

    Args:
        config: of the run.
        backbone: the network that was used.
        history: a row of `history_row` for each step.
        ended: "finished", "stopped", "out of time" or "failed".
        images: as in `Job`.
        attempts: more than one where its worker was lost; only then the record says so.
    """
    record = {
        "config": dataclasses.asdict(config),
        "images": images,
        "backbone": {"name": backbone.name, "note": backbone.note},
        "precision": resolve_precision(config.precision),
        "versions": {
            "nst": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in ("tensorflow", "numpy", "pillow")},
        },
        "ended": ended,
        "evaluations": history[-1]["evaluations"] if history else 0,
        "seconds": history[-1]["seconds"] if history else 0.0,
        "history": list(history),
    }
    return record | {"attempts": attempts} if attempts > 1 else record


def save_record(record: dict[str, Any], path: Path | str) -> None:
    """Write a run record as JSON, with one line for each step.

    Raises:
        OSError: the file cannot be written.
    """
    head = json.dumps({**record, "history": []}, indent=2, ensure_ascii=False)
    rows = ",\n".join("    " + json.dumps(row) for row in record["history"])
    Path(path).write_text(
        head.replace('"history": []', f'"history": [\n{rows}\n  ]') + "\n",
        encoding="utf-8",
        errors="backslashreplace",  # the name of a file may be any bytes
    )


def save_losses(history: Sequence[dict[str, float]], path: Path | str) -> None:
    """Write the rows of a history as CSV, under their names. A run without a step makes an empty file.

    Raises:
        OSError: the file cannot be written.
    """
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerows(row.keys() for row in history[:1])
        table.writerows(row.values() for row in history)


def restored_config(source: Path | str | BinaryIO) -> TransferConfig:
    """Read the config of the run that made a picture, from the record in the file.

    Settings that the record lacks, because an earlier version wrote it, get their defaults.

    Args:
        source: a PNG or TIFF file that was saved with its record, or its path.

    Raises:
        RecordError: there is no record, or it cannot be used.
        ImageError: the file is no readable image.
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
    unknown = settings.keys() - SETTINGS.keys()
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
