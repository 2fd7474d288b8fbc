"""The folder of a study, which keeps its runs and lets it be resumed."""

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import filelock
import tensorflow as tf

from nst import __version__
from nst.engine.images import save_image
from nst.engine.quality import Measure
from nst.engine.vgg import resolve_precision
from nst.engine.weights import load_backbone
from nst.errors import ImageError, StudyError
from nst.runs.record import describe_image, save_record
from nst.study.plan import Plan, StudyRun

_PICTURE, _RECORD = "result.png", "run.json"
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True)
class RunResult:
    """Hold a finished run.

    Args:
        picture: float32 (1, H, W, 3) in [0, 1], as it is to be saved.
        record: the run record (see runs.record.run_record).
        quality: the measures of the picture, by the names of engine.quality.QUALITY.
    """

    picture: tf.Tensor
    record: Mapping[str, Any]
    quality: Mapping[str, Measure]


class StudyFolder:
    """Keep the runs of a study: `runs/<id>` for each that was made, `failed/<id>.json` for each that failed.

    A run lands whole or not at all, whenever the process may be killed. Its id contains the version of nst,
    so that pictures of different versions lie side by side and are never taken for each other.

    Args:
        path: the folder; `locked()` creates it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._describe_image = cache(_describe_image)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only process that writes into the folder, and create it if necessary.

        Raises:
            StudyError: where another process holds it.
            OSError: where it cannot be written.
        """
        for name in ("runs", "failed"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(self.path / ".lock", blocking=False):
                self._remove_unfinished()
                yield
        except filelock.Timeout as error:
            raise StudyError(
                "Another study is writing into this folder: please wait for it, or use another folder."
            ) from error

    def _remove_unfinished(self) -> None:
        """Remove the files that a killed process left half written."""
        for folder in (self.path, self.path / "runs", self.path / "failed"):
            for unfinished in folder.glob(f"{_UNFINISHED}*"):
                shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink()

    def run_id(self, run: StudyRun) -> str:
        """Hash everything that determines the picture of a run: settings, images, weights and version.

        Returns:
            16 hexadecimal digits.
        """
        config = replace(run.config, precision=resolve_precision(run.config.precision))
        determinants = {
            "config": dataclasses.asdict(config),
            "images": [self._describe_image(example.path)["sha256"] for example in (run.content, run.style)],
            "weights": load_backbone(run.config.backbone).digest,
            "version": __version__,
        }
        return hashlib.sha256(json.dumps(determinants, sort_keys=True).encode()).hexdigest()[:16]

    def picture(self, run_id: str) -> Path:
        """Name the picture file of a run, which is there once the run has been made."""
        return self.path / "runs" / run_id / _PICTURE

    def record(self, run_id: str) -> dict[str, Any] | None:
        """Read the record of a run, which has its "id" and its quality as well.

        The quality is {name: value} as "measures", and {name: [of the photo, of the painting]} as "bounds",
        which the records of earlier versions lack.

        Returns:
            None where the run has not been made.

        Raises:
            StudyError: for a file that is no record.
        """
        return _read_json(self.path / "runs" / run_id / _RECORD)

    def failure(self, run_id: str) -> str | None:
        """Read why a run failed when it was last tried; None where it did not fail."""
        failure = _read_json(self._failure_path(run_id))
        return failure["reason"] if failure else None

    def has(self, run_id: str) -> bool:
        """Return whether a run has been made."""
        return (self.path / "runs" / run_id / _RECORD).is_file()

    def keep(self, run: StudyRun, result: RunResult) -> None:
        """Keep a finished run, whole or not at all.

        Raises:
            ImageError, OSError: where it cannot be written.
        """
        run_id = self.run_id(run)
        record = {
            "id": run_id,
            "measures": {name: one.value for name, one in result.quality.items()},
            "bounds": {name: [one.photo, one.painting] for name, one in result.quality.items()},
            **result.record,
        }
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.path / "runs"))
        try:
            save_image(result.picture, unfinished / _PICTURE, metadata=json.dumps(record))
            save_record(record, unfinished / _RECORD)
            unfinished.chmod(0o755)  # as other folders have it: mkdtemp hides its own from other users
            unfinished.rename(self.path / "runs" / run_id)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        self._failure_path(run_id).unlink(missing_ok=True)

    def keep_failure(self, run: StudyRun, reason: str) -> None:
        """Keep the reason why a run failed.

        Raises:
            OSError: where it cannot be written.
        """
        failure = {
            "content": run.content.path.name,
            "style": run.style.path.name,
            "config": dataclasses.asdict(run.config),
            "reason": reason,
        }
        with open_atomically(self._failure_path(self.run_id(run))) as file:
            file.write(json.dumps(failure, indent=2) + "\n")

    def describe_upgrade(self, plan: Plan) -> str | None:
        """Say which runs of other versions are in the folder, if the plan has runs that it lacks.

        Returns:
            One sentence; None where there are no such runs, or nothing is to be made.
        """
        ids = {self.run_id(run) for run in plan}
        if all(map(self.has, ids)):
            return None
        records = (path for path in self.path.glob(f"runs/*/{_RECORD}") if path.parent.name not in ids)
        numbers = Counter(map(_read_version, records))
        for ignored in (__version__, None):
            del numbers[ignored]
        if not numbers:
            return None
        counts = " and ".join(
            f"{number} {'run' if number == 1 else 'runs'} of "
            + (f"version {version}" if version else "an earlier version")
            for version, number in sorted(numbers.items())
        )
        again = f"this study's pictures are made again with version {__version__}"
        return f"{self.path} keeps its {counts}; {again}."

    def _failure_path(self, run_id: str) -> Path:
        return self.path / "failed" / f"{run_id}.json"


@contextmanager
def open_atomically(path: Path) -> Iterator[TextIO]:
    """Open a text file for writing, which takes its place under that name once it is whole.

    Raises:
        OSError: where it cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=_UNFINISHED, dir=path.parent)
    unfinished = Path(name)
    try:
        # The names of files that it may hold need not be UTF-8.
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
        unfinished.chmod(0o644)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _describe_image(path: Path) -> dict[str, str]:
    """Describe an image file, even one that cannot be opened: read_inputs() says why when its runs begin."""
    try:
        return describe_image(path)
    except ImageError:
        return {"name": path.name, "sha256": f"not read: {path}"}


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StudyError(
            f"{path.parent.name}/{path.name} is damaged: please remove it, so that its run is made again."
        ) from error
    return content


def _read_version(record: Path) -> str | None:
    """Read which version of nst made a run: "" where its record does not say, None where it is damaged."""
    try:
        return str(json.loads(record.read_text(encoding="utf-8"))["versions"].get("nst", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
