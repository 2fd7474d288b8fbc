"""Many runs: pairs of a dataset under every setting of a grid, each kept in a folder, to be resumed."""

import csv
import dataclasses
import hashlib
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import tensorflow as tf

from nst.config import TransferConfig
from nst.engine.images import ImageError, load_image, save_image
from nst.engine.parameterization import blended
from nst.engine.stylize import TransferError, check_images, check_layers, coarse_to_fine, cost
from nst.engine.vgg import load_backbone, resolve_precision
from nst.runs.record import history_row, image_entry, run_record, save_record
from nst.runs.runner import Job, LostRunError, Runner
from nst.study.datasets import Dataset, Example

# The settings that a study may vary. The style's weight goes with the styles, in the columns of the contact
# sheet; all others go with the contents, in its rows.
AXES = {  # and how a value is written
    "content_weight": "α {:g}",
    "style_weight": "β {:g}",
    "size": "{} px",
    "backbone": "{}",
    "init": "from {}",
    "optimizer": "{}",
    "seed": "seed {}",
}
_COLUMN_AXES = ("style_weight",)

Load = Callable[[Path, int], tf.Tensor]  # an image from a file, at a long side

PICTURE, RECORD = "result.png", "run.json"
_UNFINISHED = ".unfinished-"


class StudyError(ValueError):
    """A study that can't be made like this; one plain sentence that says what to do."""


@dataclass(frozen=True)
class Planned:
    """One run of a study."""

    content: Example
    style: Example
    config: TransferConfig  # with the backbone that "auto" stands for here

    @property
    def name(self) -> str:
        """What its picture is called where it is taken home."""
        return f"{self.content.path.stem}--{self.style.path.stem}"

    @property
    def cost(self) -> float:
        """About proportional to the seconds that it takes."""
        return cost(coarse_to_fine(self.config.size, self.config.iterations))


class Edge(NamedTuple):
    """What the runs in a row or in a column of the contact sheet have in common."""

    example: Example
    settings: tuple[tuple[str, Any], ...]  # names and values, of those that are varied

    @property
    def label(self) -> str:
        """Its settings in a few words, "" where none is varied."""
        return ", ".join(AXES[name].format(value) for name, value in self.settings)


@dataclass(frozen=True)
class Plan:
    """The runs of a study: a dataset's pairs, or some of them, with each config."""

    dataset: Dataset
    configs: tuple[TransferConfig, ...]
    pairs: frozenset[tuple[Path, Path]] | None = None  # of content and style; None: all

    def __iter__(self) -> Iterator[Planned]:
        """Style by style, so that what is known of a style serves all its runs."""
        for style, content in product(self.dataset.styles, self.dataset.contents):
            if self.pairs is None or (content.path, style.path) in self.pairs:
                for config in self.configs:
                    yield Planned(content, style, config)

    @cached_property
    def cost(self) -> float:
        """About proportional to the seconds that all its runs take."""
        each = (cost(coarse_to_fine(config.size, config.iterations)) for config in self.configs)
        return sum(each) * len(self) / len(self.configs)

    def __len__(self) -> int:
        all_pairs = len(self.dataset.contents) * len(self.dataset.styles)
        return len(self.configs) * (all_pairs if self.pairs is None else len(self.pairs))

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """The settings that are not the same in all configs."""
        return tuple(name for name in AXES if len({getattr(config, name) for config in self.configs}) > 1)

    @cached_property
    def rows(self) -> dict[Edge, int]:
        """The rows of the contact sheet, numbered."""
        return self._numbered(self._row, self.dataset.contents)

    @cached_property
    def columns(self) -> dict[Edge, int]:
        """The columns of the contact sheet, numbered."""
        return self._numbered(self._column, self.dataset.styles)

    def place(self, planned: Planned) -> tuple[int, int]:
        """Row and column of that run."""
        return (
            self.rows[self._row(planned.content, planned.config)],
            self.columns[self._column(planned.style, planned.config)],
        )

    def title(self, planned: Planned) -> str:
        """What tells that run from the others."""
        edges = self._row(planned.content, planned.config), self._column(planned.style, planned.config)
        pair = " × ".join(edge.example.title for edge in edges)
        return ", ".join([pair, *(edge.label for edge in edges if edge.label)])

    def _row(self, example: Example, config: TransferConfig) -> Edge:
        names = [name for name in self.varied if name not in _COLUMN_AXES]
        return Edge(example, tuple((name, getattr(config, name)) for name in names))

    def _column(self, example: Example, config: TransferConfig) -> Edge:
        names = [name for name in self.varied if name in _COLUMN_AXES]
        return Edge(example, tuple((name, getattr(config, name)) for name in names))

    def _numbered(
        self, edge: Callable[[Example, TransferConfig], Edge], examples: Sequence[Example]
    ) -> dict[Edge, int]:
        used = None if self.pairs is None else {path for pair in self.pairs for path in pair}
        edges = dict.fromkeys(
            edge(example, config)
            for example in examples
            if used is None or example.path in used
            for config in self.configs
        )
        return {edge: number for number, edge in enumerate(edges)}


def grid(base: TransferConfig, axes: Mapping[str, Sequence[Any]]) -> tuple[TransferConfig, ...]:
    """`base` with every combination of the values of those AXES; the backbone "auto" is what it stands for.

    Raises ConfigError, and WeightsError for a backbone whose weights cannot be had.
    """
    configs = []
    for values in product(*axes.values()):
        config = replace(base, **dict(zip(axes, values, strict=True)))
        backbone = load_backbone(config.backbone)
        check_layers(config, backbone)
        check_images(1, config, None)
        configs.append(replace(config, backbone=backbone.name))
    return tuple(dict(zip(map(repr, configs), configs, strict=True)).values())  # each once


def read_pairs(path: Path, dataset: Dataset) -> frozenset[tuple[Path, Path]]:
    """The pairs in a CSV file of two columns, a content image and a style image, by their files' names.

    The endings of the names may be left out. Raises StudyError, and OSError.
    """
    contents, styles = _by_name(dataset.contents), _by_name(dataset.styles)
    pairs = set()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if not row or row == ["content", "style"]:
                    continue
                names = [name.strip() for name in row]
                if len(names) != 2 or names[0] not in contents or names[1] not in styles:
                    raise StudyError(
                        f"Please correct line {number} of {path}: it should name a content image and a style "
                        "image of the dataset, with a comma between them."
                    )
                pairs.add((contents[names[0]], styles[names[1]]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise StudyError(f"Please save {path} as a CSV file in UTF-8.") from error
    if not pairs:
        raise StudyError(f"Please name at least one pair in {path}.")
    return frozenset(pairs)


def _by_name(examples: Sequence[Example]) -> dict[str, Path]:
    stems = {example.path.stem: example.path for example in examples}
    return stems | {example.path.name: example.path for example in examples}


@dataclass(frozen=True)
class Painted:
    """A finished run: its picture (1, H, W, 3), its history, and the measures of the picture."""

    picture: tf.Tensor
    history: Sequence[dict[str, float]]
    measures: Mapping[str, float | None]
    attempts: int = 1  # more where its worker was lost


class StudyFolder:
    """The folder of a study: `runs/<id>` for each finished run, `failed/<id>.json` for each that failed.

    A run lands whole or not at all, whenever the process may be killed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entry = cache(_entry)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one to write into it. Raises StudyError where another process does, and OSError."""
        for name in ("runs", "failed"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(self.path / ".lock", blocking=False):
                self._clear()
                yield
        except filelock.Timeout as error:
            raise StudyError(
                f"Another study is writing into {self.path}: please wait for it, or use another folder."
            ) from error

    def _clear(self) -> None:
        """Remove what a process that was killed had begun to write."""
        for folder in (self.path, self.path / "runs", self.path / "failed"):
            for unfinished in folder.glob(f"{_UNFINISHED}*"):
                shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink()

    def id_of(self, planned: Planned) -> str:
        """A hash of all that determines the picture."""
        config = replace(planned.config, precision=resolve_precision(planned.config.precision))
        determines = {
            "config": dataclasses.asdict(config),
            "images": [self._entry(example.path)["sha256"] for example in (planned.content, planned.style)],
            "weights": load_backbone(planned.config.backbone).digest,
        }
        return hashlib.sha256(json.dumps(determines, sort_keys=True).encode()).hexdigest()[:16]

    def picture(self, identity: str) -> Path:
        """Where the picture of that run is, if it has been made."""
        return self.path / "runs" / identity / PICTURE

    def record(self, identity: str) -> dict[str, Any] | None:
        """The run record, with the "measures" besides; None where the run has not been made."""
        return _read_json(self.path / "runs" / identity / RECORD)

    def failure(self, identity: str) -> str | None:
        """Why the run failed when it was last tried; None where it did not, or was not."""
        failure = _read_json(self._failure(identity))
        return failure["reason"] if failure else None

    def has(self, identity: str) -> bool:
        """Whether the run has been made."""
        return (self.path / "runs" / identity / RECORD).is_file()

    def keep(self, planned: Planned, painted: Painted) -> None:
        """Take in a finished run. Raises ImageError and OSError, and leaves nothing then."""
        identity, backbone = self.id_of(planned), load_backbone(planned.config.backbone)
        images = {
            "content": self._entry(planned.content.path),
            "styles": [self._entry(planned.style.path)],
        }
        record = run_record(planned.config, backbone, painted.history, "finished", images)
        record = {"id": identity, "measures": painted.measures, **record}
        if painted.attempts > 1:
            record["attempts"] = painted.attempts
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.path / "runs"))
        try:
            save_image(painted.picture, unfinished / PICTURE, metadata=json.dumps(record))
            save_record(record, unfinished / RECORD)
            unfinished.chmod(0o755)  # as other folders; mkdtemp hides it from other users
            unfinished.rename(self.path / "runs" / identity)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        self._failure(identity).unlink(missing_ok=True)

    def fail(self, planned: Planned, reason: str) -> None:
        """Take in why a run failed. Raises OSError."""
        failure = {
            "content": planned.content.path.name,
            "style": planned.style.path.name,
            "config": dataclasses.asdict(planned.config),
            "reason": reason,
        }
        with whole_file(self._failure(self.id_of(planned))) as file:
            file.write(json.dumps(failure, indent=2) + "\n")

    def _failure(self, identity: str) -> Path:
        return self.path / "failed" / f"{identity}.json"


@contextmanager
def whole_file(path: Path) -> Iterator[Any]:
    """A text file to write, which takes its place under that name once it is written."""
    with tempfile.NamedTemporaryFile(
        "w",
        encoding="utf-8",
        errors="backslashreplace",  # the name of a file need not be UTF-8
        newline="",
        dir=path.parent,
        prefix=_UNFINISHED,
        delete=False,
    ) as file:
        unfinished = Path(file.name)
        try:
            yield file
            file.close()
            unfinished.chmod(0o644)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def _entry(path: Path) -> dict[str, str]:
    """What a record says of an image file, even of one that can't be read: load_image says why then."""
    try:
        return image_entry(path)
    except OSError:
        return {"name": path.name, "sha256": f"not read: {path}"}


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


@dataclass(frozen=True)
class Outcome:
    """A run that has come to its end, just now or (not `new`) before."""

    planned: Planned
    reason: str | None = None  # why it failed, if it did
    new: bool = True


def carry_out(
    plan: Plan, folder: StudyFolder, runner: Runner, stop: Callable[[], bool] = lambda: False
) -> Iterator[Outcome]:
    """Make the runs that a folder which is locked lacks, as many at once as the runner has workers.

    A run that fails is taken in with its reason, and the others are made. `stop` is asked before each
    evaluation; the runs that it ends are lost. Raises RunnerError where runs can't go on at all, and
    ImageError and OSError where the folder can't be written.
    """
    leaving = threading.Event()
    load = lru_cache(maxsize=4 * runner.workers)(_loaded)
    making: set[Future[Outcome | None]] = set()

    def make(planned: Planned) -> Outcome | None:
        try:
            painted = _paint(planned, load, runner, lambda: leaving.is_set() or stop())
        except (ImageError, TransferError, LostRunError, MemoryError, tf.errors.OpError) as error:
            reason = reason_of(error)
            folder.fail(planned, reason)
            return Outcome(planned, reason=reason)
        if painted is None:
            return None
        folder.keep(planned, painted)
        return Outcome(planned)

    def ended(most: int) -> Iterator[Outcome]:
        """Wait until at most so many are being made."""
        nonlocal making
        while len(making) > most:
            done, making = wait(making, return_when=FIRST_COMPLETED)
            yield from filter(None, (future.result() for future in done))

    with ThreadPoolExecutor(runner.workers) as threads:
        try:
            for planned in plan:
                yield from ended(runner.workers - 1)
                if stop():
                    break
                if folder.has(folder.id_of(planned)):
                    yield Outcome(planned, new=False)
                    continue
                making.add(threads.submit(make, planned))
            yield from ended(0)
        finally:
            leaving.set()


def reason_of(error: BaseException) -> str:
    """Why a run failed, in words for whoever reads the study."""
    if isinstance(error, MemoryError | tf.errors.ResourceExhaustedError):
        return "There was not enough memory: please use a smaller size."
    if isinstance(error, tf.errors.OpError):
        return f"TensorFlow could not compute it: {error.message.splitlines()[0]}"
    return str(error)


def _paint(planned: Planned, load: Load, runner: Runner, stop: Callable[[], bool]) -> Painted | None:
    """That run; None where it was stopped."""
    config = planned.config
    content = load(planned.content.path, config.size)
    style = load(planned.style.path, round(config.size * config.style_scale))
    job = Job(content, [style], config)
    history: list[dict[str, float]] = []
    image, attempts = content, 0
    for progress in runner.paint(job, stop):
        if progress.step == 1:
            history, attempts = [], attempts + 1
        history.append(history_row(progress))
        image = progress.image
    if stop():
        return None
    return replace(judged(job, image, history, runner), attempts=attempts)


def judged(job: Job, image: tf.Tensor, history: Sequence[dict[str, float]], runner: Runner) -> Painted:
    """A run with its measures, from its job and the last image (1, H, W, 3) that it made."""
    picture = blended(image, job.content, job.config.strength)
    return Painted(picture, history, runner.measure(picture, job))


def _loaded(path: Path, long_side: int) -> tf.Tensor:
    """The image in that file. Raises ImageError, which names the file."""
    try:
        return load_image(path, long_side=long_side)
    except ImageError as error:
        raise ImageError(f"{path.name}: {error}") from error


def write_gallery(plan: Plan, folder: StudyFolder, gallery: Path) -> None:
    """Write the pictures made, of one config, as JPEG with their records, where made_beforehand() finds them.

    Raises ImageError and OSError.
    """
    gallery.mkdir(parents=True, exist_ok=True)
    for planned in plan:
        identity = folder.id_of(planned)
        record = folder.record(identity)
        if record is not None:
            save_image(load_image(folder.picture(identity)), gallery / f"{planned.name}.jpg", quality=90)
            save_record(record, gallery / f"{planned.name}.json")
