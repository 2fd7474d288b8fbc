"""The contact sheet of a study on the page: its pictures, with photos and paintings on the edges."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from nst.engine.images import thumbnail
from nst.errors import ImageError
from nst.study.folder import StudyFolder
from nst.study.plan import Edge, Plan, StudyRun
from nst.web.components import render

THUMBNAIL = 240  # pixels


@dataclass
class ShownStudy:
    """Hold a visitor's study, as the page shows it.

    Args:
        plan: its runs.
        folder: where they are kept.
    """

    plan: Plan
    folder: StudyFolder
    runs: list[StudyRun] = field(init=False)

    def __post_init__(self) -> None:
        self.runs = list(self.plan)

    def has(self, run: StudyRun) -> bool:
        """Return whether a run has been made."""
        return self.folder.has(self.folder.run_id(run))

    def record(self, run: StudyRun) -> dict[str, Any] | None:
        """Read the record of a run; None where it has not been made."""
        return self.folder.record(self.folder.run_id(run))

    def picture(self, run: StudyRun) -> Path:
        """Name the picture file of a run."""
        return self.folder.picture(self.folder.run_id(run))


def render_sheet(shown: ShownStudy, running: StudyRun | None) -> str:
    """Render the contact sheet: photos on the left, paintings above, and a cell for each run.

    Args:
        shown: the study.
        running: the run in progress, if any.
    """
    plan, folder = shown.plan, shown.folder
    at = {plan.place(run): number for number, run in enumerate(shown.runs)}

    def edge(edge: Edge) -> dict[str, Any]:
        small = _make_thumbnail(edge.example.path, folder)
        return {"title": edge.example.title, "label": edge.label, "thumbnail": small}

    def cell(number: int) -> dict[str, Any]:
        run = shown.runs[number]
        run_id = folder.run_id(run)
        made = folder.has(run_id)
        return {
            "number": number,
            "title": plan.title(run),
            "thumbnail": _make_thumbnail(folder.picture(run_id), folder) if made else None,
            "failure": None if made else folder.failure(run_id),
            "running": run == running,
        }

    rows = [
        {"edge": edge(row), "cells": [cell(at[row_number, number]) for number in plan.columns.values()]}
        for row, row_number in plan.rows.items()
    ]
    return render("contact_sheet.html", rows=rows, columns=[edge(column) for column in plan.columns])


def _make_thumbnail(path: Path, folder: StudyFolder) -> Path | None:
    """Make a small copy of a picture once; of one that can't be read, leave an empty file and return None."""
    name = f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.jpg"
    copy = folder.path / "thumbnails" / name
    if not copy.is_file():
        copy.parent.mkdir(exist_ok=True)
        try:
            Image.fromarray(thumbnail(path, THUMBNAIL)).save(copy, quality=85)
        except ImageError:
            copy.touch()
    return copy if copy.stat().st_size else None
