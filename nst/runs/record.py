"""The record of a run: its config, what it ran on, and its history, one row for each step."""

import csv
import dataclasses
import hashlib
import json
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from nst import __version__
from nst.config import MAX_STYLES, SETTINGS, TransferConfig
from nst.engine.images import open_image, read_metadata
from nst.engine.stylize import Progress
from nst.engine.vgg import Backbone, resolve_precision
from nst.errors import ConfigError, RecordError

PLATEAU_STEPS = 10
PLATEAU_DECREASE = 0.01

# The network that came with this project before version 1.1, and the one that has taken its place.
_FORMER_BACKBONE, _BACKBONE = "vgg16-hed", "vgg16"
_SCALES_SINCE = 1, 1  # the version since which weights have the scales of engine.scales


class Restored(NamedTuple):
    """Hold the settings of a recorded run, ready for another run.

    Args:
        config: the settings.
        note: how another run will differ, in one sentence; "" where this version's record is restored.
    """

    config: TransferConfig
    note: str = ""


class RecordedImage(NamedTuple):
    """Hold what a record says of an image.

    Args:
        role: "photo", "painting", "painting 2" or the like, or "mask".
        name: of its file.
        sha256: of the bytes of its file.
    """

    role: str
    name: str
    sha256: str


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


def restored_config(picture: Path | str | BinaryIO) -> TransferConfig:
    """Read the settings of the run that made a picture: see `restore_from`."""
    return restore_from(picture).config


def restore_from(picture: Path | str | BinaryIO) -> Restored:
    """Take the settings of the run that made a picture from the record in its file: see `restore`.

    Args:
        picture: a PNG or TIFF file that was saved with its record, or its path.

    Raises:
        RecordError: there is no record, or it cannot be used.
        ImageError: the file is no readable image.
    """
    return restore(read_record(picture))


def read_record(picture: Path | str | BinaryIO) -> Any:
    """Read the record in the file of a picture, as it was read from JSON: it may be anything.

    Raises:
        RecordError: there is no record, or it is no JSON.
        ImageError: the file is no readable image.
    """
    text = read_metadata(picture)
    if text is None:
        raise RecordError("This picture holds no record of a run: please use the file as it was first saved.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(
            "The record in this picture is damaged: please use the file as it was first saved."
        ) from error


def recorded_images(record: Any) -> list[RecordedImage]:
    """List the images that a run was made of, by its record, but for a picture that it went on from.

    Entries without a name and a hash are left out.

    Args:
        record: the record, as it was read from JSON.
    """
    styles = _look_up(record, "images", "styles")
    entries = [("photo", _look_up(record, "images", "content"))]
    for number, entry in enumerate(styles[:MAX_STYLES] if isinstance(styles, list) else [], start=1):
        entries.append(("painting" if number == 1 else f"painting {number}", entry))
    entries.append(("mask", _look_up(record, "images", "mask")))
    found = [(role, _look_up(entry, "name"), _look_up(entry, "sha256")) for role, entry in entries]
    return [RecordedImage(*one) for one in found if isinstance(one[1], str) and isinstance(one[2], str)]


def restore(record: Any) -> Restored:
    """Take the settings of a run from its record, which an earlier version may have written.

    Settings that the record lacks get their defaults. A network that is gone is replaced by its successor.

    Args:
        record: the record, as it was read from JSON.

    Raises:
        RecordError: it is no record, or its settings cannot be used.
    """
    settings = _look_up(record, "config")
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
    if settings.get("backbone") == _FORMER_BACKBONE:
        settings = {**settings, "backbone": _BACKBONE}
    try:
        config = TransferConfig(**settings)
    except ConfigError as error:
        reason = str(error)
        raise RecordError(
            f"The settings in this picture can't be used: {reason[0].lower()}{reason[1:]}"
        ) from error
    return Restored(config, _describe_changes(record, config))


def _describe_changes(record: Any, config: TransferConfig) -> str:
    """Say what an earlier version did differently with these settings; "" where it did nothing."""
    changes = []
    if _FORMER_BACKBONE in (_look_up(record, "config", "backbone"), _look_up(record, "backbone", "name")):
        changes.append("another network")
    # Explicit weights have no scale (see engine.objective.Objective).
    scaled = not all(isinstance(layers, Mapping) for layers in (config.content_layers, config.style_layers))
    if scaled and _parse_version(_look_up(record, "versions", "nst")) < _SCALES_SINCE:
        changes.append("other scales of the weights")
    difference = " and ".join(changes)
    made = f"An earlier version made this picture with {difference}"
    return f"{made}: a new run will look different." if changes else ""


def _parse_version(version: Any) -> tuple[int, ...]:
    """Parse "1.0.2" to (1, 0); return () for anything else, such as the None of the first records."""
    numbers = re.match(r"([0-9]{1,9})\.([0-9]{1,9})", version) if isinstance(version, str) else None
    return tuple(map(int, numbers.groups())) if numbers else ()


def _look_up(record: Any, *names: str) -> Any:
    """Look up a value in JSON, object by object; None where there is none."""
    for name in names:
        record = record.get(name) if isinstance(record, dict) else None
    return record
