"""What a study has found, to be read: index.html, one page that works offline, and runs.csv."""

import base64
import csv
import html
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image
from plotly.offline import get_plotlyjs

from nst.engine.images import ImageError, load_image, to_uint8
from nst.engine.quality import MEASURES
from nst.study.charts import loss_chart, palette, trade_off_chart
from nst.study.folder import AXES, Edge, Plan, Planned, StudyFolder, whole_file

CURVES = 16  # runs in one chart
_LOSSES = {
    "content": "content loss",
    "style": "style loss",
    "total": "weighted sum of the losses, which was lowered",
}
_NUMBERS = {**_LOSSES, **MEASURES, "seconds": "what the run took"}


def write_index(plan: Plan, folder: StudyFolder) -> None:
    """Write index.html and runs.csv of the runs of `plan` that the folder has. Raises OSError.

    Runs are read one after the other, and their pictures are the smaller the more there are: ten thousand
    make a page of some 40 MB.
    """
    page = (Path(__file__).with_name("templates") / "report.html").read_text(encoding="utf-8")
    page = page.replace("<!--TITLE-->", html.escape(plan.dataset.name))
    side, points = _detail(len(plan))
    trade_off: dict[str, list[dict[str, Any]]] = {}
    first: list[dict[str, float]] = []
    failures: list[dict[str, str]] = []
    with (
        whole_file(folder.path / "runs.csv") as table_file,
        whole_file(folder.path / "index.html") as page_file,
    ):
        table = csv.writer(table_file)
        settings = list(asdict(plan.configs[0]))
        table.writerow(["id", "content_image", "style_image", *settings, *_NUMBERS, "evaluations", "failed"])
        head, runs_to_head, tail = _parts(page, "/*PLOTLY*/", "/*RUNS*/")
        page_file.write(head)
        page_file.write(get_plotlyjs())
        page_file.write(runs_to_head)
        count = 0
        for planned in plan:
            identity = folder.id_of(planned)
            entries = [identity, planned.content.path.name, planned.style.path.name]
            entries += [_cell(value) for value in asdict(planned.config).values()]
            record = folder.record(identity)
            if record is None:
                reason = folder.failure(identity)
                if reason is not None:
                    failures.append({"run": plan.title(planned), "reason": reason})
                    table.writerow([*entries, *[""] * len(_NUMBERS), "", reason])
                continue
            numbers = _numbers(record)
            table.writerow([*entries, *numbers.values(), record["evaluations"], ""])
            first = first or record["history"]
            _add_point(trade_off, plan, planned, numbers)
            run = _run(
                plan, planned, identity, numbers, record["history"][:: _every(record["history"], points)]
            )
            run["picture"] = _thumbnail(folder.picture(identity), side)
            page_file.write((",\n" if count else "") + _json(run))
            count += 1
        page_file.write(tail.replace("/*ABOUT*/", _json(_about(plan, side, failures, first, trade_off))))


def _parts(text: str, *marks: str) -> list[str]:
    parts = []
    for mark in marks:
        part, text = text.split(mark)
        parts.append(part)
    return [*parts, text]


def _detail(number: int) -> tuple[int, int]:
    """Long side of the pictures in pixels, and points of the curves, that so many runs leave room for."""
    return (256, 100) if number <= 200 else (128, 40) if number <= 2000 else (96, 20)


def _every(history: Sequence[Any], points: int) -> int:
    return max(1, -(-len(history) // points))


def _numbers(record: Mapping[str, Any]) -> dict[str, float | None]:
    last = record["history"][-1]
    found = {**last, **record["measures"], "seconds": record["seconds"]}
    return {name: found[name] for name in _NUMBERS}


def _run(
    plan: Plan,
    planned: Planned,
    identity: str,
    numbers: Mapping[str, float | None],
    history: Iterable[Mapping[str, float]],
) -> dict[str, Any]:
    row, column = plan.place(planned)
    history = list(history)
    return {
        "id": identity,
        "row": row,
        "column": column,
        "config": plan.configs.index(planned.config),
        "numbers": [None if value is None else float(f"{value:.4g}") for value in numbers.values()],
        "curve": [
            [row["step"] for row in history],
            *([float(f"{row[part]:.3g}") for row in history] for part in ("content", "style")),
        ],
    }


def _add_point(
    trade_off: dict[str, list[dict[str, Any]]], plan: Plan, planned: Planned, numbers: Mapping[str, Any]
) -> None:
    """Take the run into the first curves of content against style, if weights are varied."""
    if not {"content_weight", "style_weight"} & {*plan.varied}:
        return
    others = [name for name in plan.varied if not name.endswith("_weight")]
    name = " × ".join(example.title for example in (planned.content, planned.style))
    name = ", ".join([name, *(str(getattr(planned.config, other)) for other in others)])
    if name in trade_off or len(trade_off) < CURVES:
        weights = [name for name in plan.varied if name.endswith("_weight")]
        label = ", ".join(AXES[name].format(getattr(planned.config, name)) for name in weights)
        trade_off.setdefault(name, []).append({**numbers, "label": label})


def _about(
    plan: Plan,
    side: int,
    failures: Sequence[Mapping[str, str]],
    first: Sequence[Mapping[str, float]],
    trade_off: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    """All that the page says of the study as a whole."""
    thumbnails = {
        path: _example(path, side) for path in {edge.example.path for edge in (*plan.rows, *plan.columns)}
    }

    def edges(there: Iterable[Edge]) -> list[dict[str, str]]:
        return [
            {"title": edge.example.title, "label": edge.label, "picture": thumbnails[edge.example.path]}
            for edge in there
        ]

    return {
        "planned": len(plan),
        "rows": edges(plan.rows),
        "columns": edges(plan.columns),
        "configs": [asdict(config) for config in plan.configs],
        "numbers": [{"name": name, "help": text} for name, text in _NUMBERS.items()],
        "failures": failures,
        "palettes": [palette(number) for number in range(CURVES + 1)],
        "losses": json.loads(loss_chart({"run": first}, height=420).to_json()),
        "tradeOff": json.loads(trade_off_chart(trade_off).to_json()) if trade_off else None,
        "side": side,
    }


def _cell(value: Any) -> Any:
    if isinstance(value, Mapping):
        return " ".join(f"{name}:{weight:g}" for name, weight in value.items())
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _example(path: Path, side: int) -> str:
    try:
        return _data_url(Image.fromarray(to_uint8(load_image(path, long_side=side, enlarge=False))))
    except ImageError:
        return ""  # the runs that need it have failed, with the reason


def _thumbnail(path: Path, side: int) -> str:
    with Image.open(path) as picture:
        picture.thumbnail((side, side))
        return _data_url(picture)


def _data_url(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=75, method=2)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def _json(value: Any) -> str:
    """JSON that may stand inside a script element, whatever the names of files are."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
