"""Reports of a study: a page that works offline, a table, and a gallery of pictures."""

import base64
import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any, TextIO

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from PIL import Image
from plotly.offline import get_plotlyjs

from nst import __version__
from nst.config import AXES
from nst.engine.images import load_image, save_image, thumbnail
from nst.engine.quality import QUALITY
from nst.errors import ImageError
from nst.runs.record import save_record
from nst.study.charts import loss_chart, palette, trade_off_chart
from nst.study.folder import StudyFolder, open_atomically
from nst.study.plan import Edge, Plan, StudyRun

MAX_CURVES = 16  # in one chart
_LOSSES = {
    "content": "content loss",
    "style": "style loss",
    "total": "weighted sum of the losses, which the run lowers",
}
_NUMBERS = {**_LOSSES, **QUALITY, "seconds": "how long the run took"}
_BOUNDS = {"photo": "the photo unchanged", "painting": "the painting itself"}
_Bounds = tuple[tuple[float | None, ...], ...]  # for each of _BOUNDS, in the order of QUALITY

_templates = Environment(
    loader=PackageLoader("nst.study"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
_templates.policies["json.dumps_kwargs"] = {"separators": (",", ":")}  # in order, and without spaces


def write_report(plan: Plan, folder: StudyFolder) -> None:
    """Write index.html and runs.csv about the runs of a plan that its folder has.

    Runs are read one after the other, and the more there are, the smaller their pictures: ten thousand make
    a page of about 40 MB.

    Raises:
        OSError: where the folder cannot be written.
        StudyError: where a record in it is damaged.
    """
    with (
        open_atomically(folder.path / "runs.csv") as table,
        open_atomically(folder.path / "index.html") as page,
    ):
        report = _Report(plan, folder, table)
        page.writelines(
            _templates.get_template("report.html").generate(
                title=plan.dataset.name,
                version=__version__,
                plotly=Markup(get_plotlyjs()),
                runs=report.read_runs(),
                describe_study=report.describe_study,
            )
        )


def write_gallery(plan: Plan, folder: StudyFolder, gallery: Path) -> None:
    """Write the pictures of a plan with one config as JPEG, with their records, for datasets.premade().

    Raises:
        ImageError, OSError: where the gallery cannot be written.
        StudyError: where a record in the folder is damaged.
    """
    gallery.mkdir(parents=True, exist_ok=True)
    for run in plan:
        run_id = folder.run_id(run)
        record = folder.record(run_id)
        if record is not None:
            save_image(load_image(folder.picture(run_id)), gallery / f"{run.name}.jpg", quality=90)
            save_record(record, gallery / f"{run.name}.json")


@dataclass
class _Report:
    """Read the runs of a study once, for table and page, and keep only what describes the whole study."""

    plan: Plan
    folder: StudyFolder
    table: TextIO
    failures: list[dict[str, str]] = field(default_factory=list)
    first_history: list[dict[str, float]] = field(default_factory=list)
    trade_off: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    bounds: dict[_Bounds, int] = field(default_factory=dict)  # each once, numbered: runs of a pair share them

    def __post_init__(self) -> None:
        """Choose the pictures' long side in pixels, and the points of a curve, by the number of runs."""
        number = len(self.plan)
        self.side, self.points = (256, 100) if number <= 200 else (128, 40) if number <= 2000 else (96, 20)

    def read_runs(self) -> Iterator[dict[str, Any]]:
        """Yield what the page shows of each run that was made, and write a table row of all that ended."""
        table = csv.writer(self.table)
        settings = list(asdict(self.plan.configs[0]))
        head = ["id", "content_image", "style_image", *settings, *_NUMBERS, "evaluations"]
        head += [f"{name}_of_{picture}" for picture in _BOUNDS for name in QUALITY]
        table.writerow([*head, "failed"])
        for run in self.plan:
            run_id = self.folder.run_id(run)
            row = [run_id, run.content.path.name, run.style.path.name]
            row += [_format_cell(value) for value in asdict(run.config).values()]
            record = self.folder.record(run_id)
            if record is not None:
                numbers, bounds = _select_numbers(record), _select_bounds(record)
                table.writerow([*row, *numbers.values(), record["evaluations"], *chain(*bounds), ""])
                self.first_history = self.first_history or record["history"]
                self._add_to_trade_off(run, numbers)
                place = self.bounds.setdefault(bounds, len(self.bounds))
                yield self._describe_run(run, run_id, numbers, place, record["history"])
            elif (reason := self.folder.failure(run_id)) is not None:
                table.writerow([*row, *[""] * (len(head) - len(row)), reason])
                self.failures.append({"run": self.plan.title(run), "reason": reason})

    def describe_study(self) -> dict[str, Any]:
        """Describe the study as a whole, once all its runs have been read."""
        paths = {edge.example.path for edge in (*self.plan.rows, *self.plan.columns)}
        pictures = {path: _thumbnail_url(path, self.side) for path in paths}

        def describe_edges(edges: Iterable[Edge]) -> list[dict[str, str]]:
            return [
                {"title": edge.example.title, "label": edge.label, "picture": pictures[edge.example.path]}
                for edge in edges
            ]

        return {
            "planned": len(self.plan),
            "rows": describe_edges(self.plan.rows),
            "columns": describe_edges(self.plan.columns),
            "configs": [asdict(config) for config in self.plan.configs],
            "numbers": [{"name": name, "help": text} for name, text in _NUMBERS.items()],
            "measures": {name: place for place, name in enumerate(QUALITY)},
            "bounded": list(_BOUNDS.values()),
            "bounds": [[[_shorten(value) for value in part] for part in both] for both in self.bounds],
            "medianBounds": [
                [_shorten(_median(values)) for values in zip(*part, strict=True)]
                for part in zip(*self.bounds, strict=True)
            ],
            "failures": self.failures,
            "palettes": [palette(number) for number in range(MAX_CURVES + 1)],
            "losses": json.loads(loss_chart({"run": self.first_history}, height=420).to_json()),
            "tradeOff": json.loads(trade_off_chart(self.trade_off).to_json()) if self.trade_off else None,
            "side": self.side,
        }

    def _describe_run(
        self,
        run: StudyRun,
        run_id: str,
        numbers: Mapping[str, float | None],
        bounds: int,
        history: list[dict[str, float]],
    ) -> dict[str, Any]:
        row, column = self.plan.place(run)
        every = max(1, -(-len(history) // self.points))
        curve = [*history[:-1:every], history[-1]]
        return {
            "id": run_id,
            "row": row,
            "column": column,
            "config": self.plan.configs.index(run.config),
            "numbers": [_shorten(value) for value in numbers.values()],
            "bounds": bounds,
            "curve": [
                [step["step"] for step in curve],
                *([float(f"{step[part]:.3g}") for step in curve] for part in ("content", "style")),
            ],
            "picture": _thumbnail_url(self.folder.picture(run_id), self.side),
        }

    def _add_to_trade_off(self, run: StudyRun, numbers: Mapping[str, float | None]) -> None:
        """Add the run to the first curves of content against style, if weights are varied."""
        weights = [name for name in self.plan.varied if name.endswith("_weight")]
        if not weights:
            return
        others = [name for name in self.plan.varied if name not in weights]
        name = " × ".join(example.title for example in (run.content, run.style))
        name = ", ".join([name, *(str(getattr(run.config, other)) for other in others)])
        if name in self.trade_off or len(self.trade_off) < MAX_CURVES:
            label = ", ".join(AXES[weight].format(getattr(run.config, weight)) for weight in weights)
            self.trade_off.setdefault(name, []).append({**numbers, "label": label})


def _select_numbers(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Collect a run's numbers: the losses of its last step, the quality of its picture, its seconds."""
    found = {**record["history"][-1], **record["measures"], "seconds": record["seconds"]}
    return {name: found.get(name) for name in _NUMBERS}  # earlier records lack some measures


def _select_bounds(record: Mapping[str, Any]) -> _Bounds:
    """Collect the bounds of a run's measures, which earlier records lack."""
    bounds = record.get("bounds", {})
    return tuple(zip(*(bounds.get(name, [None] * len(_BOUNDS)) for name in QUALITY), strict=True))


def _median(values: Iterable[float | None]) -> float | None:
    """Return the median of the values that there are; None where there are none."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _shorten(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _format_cell(value: Any) -> Any:
    if isinstance(value, Mapping):
        return " ".join(f"{name}:{weight:g}" for name, weight in value.items())
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _thumbnail_url(path: Path, side: int) -> str:
    """Encode a small copy of an image file as a data URL; "" for a file that cannot be read."""
    try:
        pixels = thumbnail(path, side)
    except ImageError:
        return ""  # the runs that need it have failed with the reason
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=75, method=2)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
