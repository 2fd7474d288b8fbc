"""The folder of a study: run ids, its lock, and folders that other versions have written."""

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from nst import __version__
from nst.engine.vgg import resolve_precision
from nst.errors import StudyError
from nst.study import folder as module
from nst.study.datasets import find_dataset
from nst.study.folder import StudyFolder
from nst.study.plan import Plan, grid
from nst.study.report import write_report

EXAMPLES = Path(__file__).parents[2] / "examples"
EARLIER = Path(__file__).with_name("earlier")  # a study that nst made before its records had a version


@pytest.fixture
def first_id(dataset, base, tmp_path):
    """The id of the dataset's first run, with other settings than the base's where they are given."""

    def first_id(**settings):
        plan = Plan(dataset, grid(dataclasses.replace(base, **settings), {}))
        return StudyFolder(tmp_path).run_id(next(iter(plan)))

    return first_id


def test_the_id_hashes_all_that_determines_the_picture(first_id, dataset, monkeypatch):
    before = first_id()
    assert first_id() == before
    assert re.fullmatch("[0-9a-f]{16}", before)
    others = [
        first_id(**setting)
        for setting in (
            {"style_weight": 101},
            {"seed": 1},
            {"size": 65},
            {"precision": "bfloat16"},
            {"style_layers": {"block1_conv1": 1.0}},
        )
    ]
    for example in (dataset.contents[0], dataset.styles[0]):
        shutil.copy(EXAMPLES / "content" / "mountain-sunset.jpg", example.path)
        others.append(first_id())
    monkeypatch.setattr(module, "__version__", "0.0.1")
    others.append(first_id())
    assert len({before, *others}) == 1 + len(others)


def test_the_id_is_the_same_whether_the_precision_was_chosen_or_found(first_id):
    assert first_id(precision="auto") == first_id(precision=resolve_precision("auto"))


def test_two_studies_cannot_write_into_one_folder(folder):
    with (
        folder.locked(),
        pytest.raises(StudyError, match="Another study is writing into"),
        StudyFolder(folder.path).locked(),
    ):
        pass


def test_a_record_that_is_damaged_is_named(folder):
    damaged = folder.path / "runs" / "0123456789abcdef" / "run.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text('{"config": ')
    with pytest.raises(StudyError, match=r"^0123456789abcdef/run\.json is damaged: please remove it"):
        folder.record("0123456789abcdef")


# Folders of other versions


@pytest.fixture
def earlier(tmp_path, base):
    """A plan and a copy of a folder in which an earlier version has made its two runs."""
    shutil.copytree(EARLIER, tmp_path / "earlier")
    plan = Plan(find_dataset(str(tmp_path / "earlier" / "views")), grid(base, {}))
    return plan, StudyFolder(tmp_path / "earlier" / "study")


def files_in(folder):
    return {path: path.read_bytes() for path in (folder.path / "runs").rglob("*") if path.is_file()}


def test_a_folder_of_an_earlier_version_is_resumed_and_its_runs_stay(earlier, make):
    plan, folder = earlier
    before = files_in(folder)
    old = {path.parent.name for path in before}
    assert len(old) == len(plan) == 2
    assert folder.describe_upgrade(plan) == (
        f"{folder.path} keeps its 2 runs of an earlier version; "
        f"this study's pictures are made again with version {__version__}."
    )

    assert [outcome.new for outcome in make(plan, folder)] == [True, True]
    after = files_in(folder)
    assert {path: after[path] for path in before} == before
    new = {path.parent.name for path in after} - old
    assert new == {folder.run_id(run) for run in plan}
    assert all(folder.record(identity)["versions"]["nst"] == __version__ for identity in new)
    assert all("nst" not in folder.record(identity)["versions"] for identity in old)
    assert folder.describe_upgrade(plan) is None  # nothing is left to be made
    assert [outcome.new for outcome in make(plan, folder)] == [False, False]

    write_report(plan, folder)
    with (folder.path / "runs.csv").open(newline="") as table:
        assert {row["id"] for row in csv.DictReader(table)} == new
    page = (folder.path / "index.html").read_text()
    assert all(identity in page for identity in new)
    assert not any(identity in page for identity in old)
    assert f"Made with nst {__version__}." in page


def test_the_runs_of_each_other_version_are_counted(earlier, make):
    plan, folder = earlier
    make(plan, folder)
    for path in sorted(folder.path.glob("runs/*/run.json")):
        record = json.loads(path.read_text())
        if record["versions"].get("nst") == __version__:
            record["versions"]["nst"] = "0.9.0"
            path.write_text(json.dumps(record))
            path.parent.rename(path.parent.with_name(path.parent.name[::-1]))
    (folder.path / "runs" / "torn").mkdir()
    (folder.path / "runs" / "torn" / "run.json").write_text("[")
    (folder.path / "runs" / "stray.txt").touch()
    assert folder.describe_upgrade(plan) == (
        f"{folder.path} keeps its 2 runs of an earlier version and 2 runs of version 0.9.0; "
        f"this study's pictures are made again with version {__version__}."
    )


def test_runs_of_this_version_with_other_settings_are_no_upgrade(made, base, folder):
    plan, made_folder, _ = made
    other = Plan(plan.dataset, grid(base, {"seed": [7]}))
    assert made_folder.describe_upgrade(other) is None
    assert folder.describe_upgrade(other) is None  # there is no such folder
