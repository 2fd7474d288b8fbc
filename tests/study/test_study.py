"""Studies: their plan, their folder, what a broken image or a kill leaves, and what they are read by."""

import csv
import dataclasses
import json
import random
import re
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nst.config import ConfigError, TransferConfig
from nst.engine.images import load_image, save_image
from nst.engine.objective import Objective
from nst.engine.quality import MEASURES
from nst.engine.vgg import forget_backbones, resolve_precision
from nst.runs.record import restored_config
from nst.runs.runner import Local
from nst.study.datasets import CatalogError, find_dataset
from nst.study.folder import (
    Plan,
    StudyError,
    StudyFolder,
    carry_out,
    grid,
    read_pairs,
    write_gallery,
)
from nst.study.report import write_index

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
BASE = TransferConfig(size=64, iterations=2, backbone="vgg16-hed", precision="float32")


@pytest.fixture
def dataset(tmp_path):
    """Two contents and two styles, small."""
    folder = tmp_path / "views"
    for role, names in (
        ("content", ("chenonceau", "berlin-cathedral")),
        ("style", ("hokusai-great-wave", "munch-the-scream")),
    ):
        (folder / role).mkdir(parents=True)
        for name in names:
            save_image(
                load_image(EXAMPLES / role / f"{name}.jpg", long_side=64), folder / role / f"{name}.png"
            )
    return find_dataset(str(folder))


@pytest.fixture
def folder(tmp_path):
    return StudyFolder(tmp_path / "study")


def made(plan, folder):
    """The outcomes of a study in that folder."""
    with folder.locked(), closing(Local()) as runner:
        return list(carry_out(plan, folder, runner))


def names(outcomes):
    return [outcome.planned.name for outcome in outcomes]


def without_times(record):
    """A run record but for what differs between two runs of the same."""
    if isinstance(record, dict):
        return {key: without_times(value) for key, value in record.items() if key != "seconds"}
    return [without_times(row) for row in record] if isinstance(record, list) else record


# The plan


def test_a_dataset_is_found_by_its_name_or_its_folder(dataset, tmp_path):
    assert find_dataset("large").name == "large"
    assert [example.title for example in dataset.contents] == ["berlin cathedral", "chenonceau"]
    with pytest.raises(CatalogError, match=r"Please name a dataset \(small, large\) or a folder"):
        find_dataset("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CatalogError, match="at least one image each"):
        find_dataset(str(tmp_path / "empty"))


def test_a_plan_has_every_pair_with_every_config_style_by_style(dataset):
    plan = Plan(dataset, grid(BASE, {"style_weight": [10, 100]}))
    runs = list(plan)
    assert len(runs) == len(plan) == 8
    assert [run.style.path.stem for run in runs] == ["hokusai-great-wave"] * 4 + ["munch-the-scream"] * 4
    assert [run.config.style_weight for run in runs] == [10, 100] * 4
    assert plan.cost == pytest.approx(sum(run.cost for run in runs))


def test_the_styles_weight_goes_into_columns_and_all_else_into_rows(dataset):
    axes = {"content_weight": [1, 2], "style_weight": [10, 100], "seed": [0, 1], "size": [64]}
    plan = Plan(dataset, grid(BASE, axes))
    assert plan.varied == ("content_weight", "style_weight", "seed")
    assert (len(plan.rows), len(plan.columns)) == (2 * 4, 2 * 2)
    assert [edge.label for edge in plan.columns] == ["β 10", "β 100"] * 2
    assert next(iter(plan.rows)).label == "α 1, seed 0"
    places = [plan.place(run) for run in plan]
    assert sorted(places) == [(row, column) for row in range(8) for column in range(4)]


def test_a_grid_says_which_network_auto_stands_for_and_has_each_config_once(monkeypatch, tmp_path):
    monkeypatch.setenv("NST_WEIGHTS", str(tmp_path))
    forget_backbones()
    configs = grid(BASE, {"backbone": ["auto", "vgg16-hed"], "seed": [0, 1, 0]})
    assert [(config.backbone, config.seed) for config in configs] == [("vgg16-hed", 0), ("vgg16-hed", 1)]
    forget_backbones()


@pytest.mark.parametrize(
    ("axes", "sentence"),
    [
        ({"style_weight": [10, -1]}, "Please set the style weight to a number from 0.1 to 100,000."),
        ({"content_layers": [("block4_conv4",)]}, "Please name layers that vgg16-hed has"),
        ({"style_blend": [(1, 2)]}, "Please give as many weights as style images"),
    ],
)
def test_a_grid_that_cannot_be_run_is_refused_at_once(axes, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        grid(BASE, axes)


def test_pairs_are_read_by_file_names_with_or_without_ending(dataset, tmp_path):
    listed = tmp_path / "pairs.csv"
    listed.write_text(
        "content,style\nchenonceau,munch-the-scream\n\nberlin-cathedral.png, hokusai-great-wave.png\n"
    )
    plan = Plan(dataset, grid(BASE, {}), read_pairs(listed, dataset))
    assert [run.name for run in plan] == [
        "berlin-cathedral--hokusai-great-wave",
        "chenonceau--munch-the-scream",
    ]
    assert len(plan) == 2
    one = Plan(
        dataset, grid(BASE, {"seed": [0, 1]}), frozenset([(dataset.contents[1].path, dataset.styles[1].path)])
    )
    assert [edge.example for edge in one.columns] == [dataset.styles[1]]
    assert [edge.label for edge in one.rows] == ["seed 0", "seed 1"]
    assert [one.place(run) for run in one] == [(0, 0), (1, 0)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"chenonceau,munch-the-scream\nchenonceau,nobody\n", "Please correct line 2 of"),
        (b"chenonceau\n", "Please correct line 1 of"),
        (b"\xff\xfe\x00", "as a CSV file in UTF-8."),
        (b"content,style\n", "Please name at least one pair in"),
    ],
)
def test_pairs_that_cannot_be_read_are_refused(dataset, tmp_path, text, sentence):
    listed = tmp_path / "pairs.csv"
    listed.write_bytes(text)
    with pytest.raises(StudyError, match=sentence):
        read_pairs(listed, dataset)


# The folder


def test_each_run_lands_with_its_picture_its_record_and_its_measures(dataset, folder):
    plan = Plan(dataset, grid(BASE, {}))
    outcomes = made(plan, folder)
    assert len(outcomes) == 4
    assert all(outcome.new and outcome.reason is None for outcome in outcomes)
    for planned in plan:
        identity = folder.id_of(planned)
        record = folder.record(identity)
        assert record["id"] == identity
        assert record["config"] == json.loads(json.dumps(dataclasses.asdict(planned.config)))
        assert record["images"]["content"]["name"] == planned.content.path.name
        assert len(record["history"]) == 2
        assert record["measures"].keys() == MEASURES.keys()
        with Image.open(folder.picture(identity)) as picture:
            assert picture.size == (64, 48 if "chenonceau" in planned.name else 43)
        assert restored_config(folder.picture(identity)) == planned.config
    assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "failed", "runs"]
    assert not any((folder.path / "failed").iterdir())


def test_a_study_makes_only_what_is_missing_or_has_other_settings(dataset, folder):
    plan = Plan(dataset, grid(BASE, {}))
    made(plan, folder)
    assert [outcome.new for outcome in made(plan, folder)] == [False] * 4
    shutil.rmtree(folder.path / "runs" / folder.id_of(list(plan)[2]))
    assert [outcome.new for outcome in made(plan, folder)] == [False, False, True, False]
    wider = Plan(dataset, grid(BASE, {"style_weight": [10, 100]}))
    assert [outcome.new for outcome in made(wider, folder)] == [True, False] * 4


def test_the_id_is_of_all_that_determines_the_picture(dataset, tmp_path):
    def identity(**settings):
        return StudyFolder(tmp_path).id_of(
            next(iter(Plan(dataset, grid(dataclasses.replace(BASE, **settings), {}))))
        )

    before = identity()
    assert identity() == before
    assert re.fullmatch("[0-9a-f]{16}", before)
    others = [
        identity(**setting)
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
        others.append(identity())
    assert len({before, *others}) == 1 + len(others)


def test_the_id_is_the_same_whether_the_precision_was_chosen_or_found(dataset, tmp_path):
    found, chosen = (
        [StudyFolder(tmp_path).id_of(one) for one in Plan(dataset, grid(BASE, {"precision": [precision]}))]
        for precision in ("auto", resolve_precision("auto"))
    )
    assert found == chosen


def test_a_broken_image_fails_alone_and_is_made_once_it_is_mended(dataset, folder):
    broken = dataset.contents[0].path
    whole = broken.read_bytes()
    broken.write_bytes(whole[:500])
    plan = Plan(dataset, grid(BASE, {}))
    outcomes = made(plan, folder)
    reason = "berlin-cathedral.png: The image is damaged or incomplete: please export or download it again."
    assert [outcome.reason for outcome in outcomes] == [reason, None, reason, None]
    first = next(iter(plan))
    assert folder.failure(folder.id_of(first)) == reason
    assert folder.record(folder.id_of(first)) is None
    outcomes = made(plan, folder)
    assert [outcome.new for outcome in outcomes] == [True, False, True, False]

    broken.write_bytes(whole)
    folder = StudyFolder(folder.path)
    assert [outcome.reason for outcome in made(plan, folder)] == [None] * 4
    assert folder.failure(folder.id_of(first)) is None


def test_an_image_that_cannot_be_opened_fails_alone(dataset, folder):
    dataset.styles[0].path.unlink()
    outcomes = made(Plan(dataset, grid(BASE, {})), folder)
    assert [outcome.reason is None for outcome in outcomes] == [False, False, True, True]
    assert "cannot be opened" in outcomes[0].reason


def test_a_stopped_study_loses_no_more_than_the_run_in_flight(dataset, folder):
    plan, asked = Plan(dataset, grid(BASE, {})), []

    def stop():
        asked.extend((folder.path / "runs").glob("[0-9a-f]*"))
        return len(asked) > 3  # in the midst of the second run

    with folder.locked(), closing(Local()) as runner:
        outcomes = list(carry_out(plan, folder, runner, stop))
    assert len(outcomes) == 1
    assert len(list((folder.path / "runs").iterdir())) == 1
    assert [outcome.new for outcome in made(plan, folder)] == [False, True, True, True]


def test_two_studies_cannot_write_into_one_folder(folder):
    with (
        folder.locked(),
        pytest.raises(StudyError, match="Another study is writing into"),
        StudyFolder(folder.path).locked(),
    ):
        pass


def test_a_styles_targets_are_computed_once_for_each_size(dataset, folder, monkeypatch):
    computed = []
    compute = Objective._grams
    monkeypatch.setattr(
        Objective,
        "_grams",
        lambda self, style, guided: computed.append(style.shape) or compute(self, style, guided),
    )
    made(Plan(dataset, grid(BASE, {"content_weight": [1, 2, 3]})), folder)
    # Once for the objective and once for the layers that are held out.
    assert len(computed) == 2 * len(dataset.styles)


def test_runs_that_share_their_computations_give_the_same_pictures(dataset, folder, tmp_path):
    plan = Plan(dataset, grid(BASE, {}))
    made(plan, folder)
    for number, planned in enumerate(plan):
        alone = StudyFolder(tmp_path / f"alone-{number}")
        pairs = frozenset([(planned.content.path, planned.style.path)])
        made(Plan(dataset, plan.configs, pairs), alone)
        identity = folder.id_of(planned)
        assert without_times(alone.record(identity)) == without_times(folder.record(identity))


COMMAND = [sys.executable, "-m", "nst", "study", "--backbones", "vgg16-hed", "--sizes", "64"]


def test_a_study_that_is_killed_three_times_ends_like_one_that_ran_through(dataset, folder, tmp_path):
    settings = ["--iterations", "6", "--style-weight", "10", "100", "1000", "--precision", "float32"]
    command = [*COMMAND, *settings, str(dataset.contents[0].path.parents[1]), "--out"]
    through = tmp_path / "through"
    subprocess.run([*command, str(through)], cwd=ROOT, check=True, capture_output=True)
    chance = random.Random(5)
    for wanted in (1, 4, 8):
        process = subprocess.Popen([*command, str(folder.path)], cwd=ROOT, stderr=subprocess.DEVNULL)
        while len([*folder.path.glob("runs/[0-9a-f]*")]) < wanted:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.wait()
    assert len([*folder.path.glob("runs/[0-9a-f]*")]) < 12
    subprocess.run([*command, str(folder.path)], cwd=ROOT, check=True, capture_output=True)

    runs = {path.parent.name: path for path in folder.path.glob("runs/*/run.json")}
    assert len(runs) == 12
    assert not [path for path in folder.path.rglob(".*") if path.name != ".lock"]
    for name, path in runs.items():
        expected = through / "runs" / name / "run.json"
        assert without_times(json.loads(path.read_text())) == without_times(json.loads(expected.read_text()))
        pictures = [Image.open(one.with_name("result.png")) for one in (path, expected)]
        assert np.array_equal(*map(np.asarray, pictures))


# What it is read by


def test_the_table_has_a_row_for_each_run_and_says_what_failed(dataset, folder):
    dataset.contents[0].path.write_bytes(b"no image")
    plan = Plan(dataset, grid(BASE, {"style_weight": [10, 100]}))
    made(plan, folder)
    write_index(plan, folder)
    with (folder.path / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    for row, planned in zip(rows, plan, strict=True):
        assert row["content_image"] == planned.content.path.name
        assert float(row["style_weight"]) == planned.config.style_weight
        failed = planned.content is dataset.contents[0]
        assert ("not a readable image" in row["failed"]) == failed
        if not failed:
            record = folder.record(row["id"])
            assert float(row["total"]) == record["history"][-1]["total"]
            assert float(row["edge_ssim"]) == record["measures"]["edge_ssim"]


def embedded(page, name):
    """What the page's script has under that name."""
    return json.loads(re.search(rf"const {name} = (.*?);\n\n?const ", page, re.DOTALL)[1])


def test_the_page_holds_every_run_and_asks_for_nothing(dataset, folder):
    hostile = dataset.contents[0].path
    hostile.rename(hostile.with_name("</script><script>alert(1)</script>.png".replace("/", "∕")))
    plan = Plan(find_dataset(str(hostile.parents[1])), grid(BASE, {"style_weight": [10, 100]}))
    made(plan, folder)
    write_index(plan, folder)
    page = (folder.path / "index.html").read_text()
    runs, about = embedded(page, "runs"), embedded(page, "about")
    assert [run["id"] for run in runs] == [folder.id_of(planned) for planned in plan]
    assert [(run["row"], run["column"]) for run in runs] == [plan.place(planned) for planned in plan]
    assert all(run["picture"].startswith("data:image/webp;base64,") for run in runs)
    assert runs[0]["curve"][0] == [1, 2]
    assert len(about["tradeOff"]["data"]) == 4
    assert sorted(about["tradeOff"]["data"][0]["text"]) == ["β 10", "β 100"]
    assert "alert(1)" in about["rows"][0]["title"] + about["rows"][1]["title"]
    assert "<script>alert" not in page
    own = re.sub(r"<script>/\*\*.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", own.split("<body>")[1])


def test_a_study_of_one_weight_has_no_trade_off(dataset, folder):
    plan = Plan(dataset, grid(BASE, {"seed": [0, 1]}))
    folder.path.mkdir()
    write_index(plan, folder)
    page = (folder.path / "index.html").read_text()
    assert embedded(page, "runs") == []
    assert embedded(page, "about")["tradeOff"] is None


def test_the_gallery_has_each_pairs_picture_and_record(dataset, folder, tmp_path):
    plan = Plan(dataset, grid(BASE, {}))
    made(plan, folder)
    write_gallery(plan, folder, tmp_path / "results")
    written = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert written == sorted(f"{run.name}{ending}" for run in plan for ending in (".jpg", ".json"))
    first = next(iter(plan))
    record = json.loads((tmp_path / "results" / f"{first.name}.json").read_text())
    assert record == folder.record(folder.id_of(first))
