"""The plan of a study: which runs it has, in which order, and where they stand in the contact sheet."""

import re
import shutil

import pytest

from nst.config import TransferConfig
from nst.engine.weights import forget_backbones
from nst.errors import ConfigError, StudyError
from nst.study.datasets import find_dataset
from nst.study.plan import Plan, grid, read_pairs

pytestmark = pytest.mark.quick


def test_a_plan_has_every_pair_with_every_config_style_by_style(dataset, base):
    plan = Plan(dataset, grid(base, {"style_weight": [10, 100]}))
    runs = list(plan)
    assert len(runs) == len(plan) == 8
    assert [run.style.path.stem for run in runs] == ["hokusai-great-wave"] * 4 + ["munch-the-scream"] * 4
    assert [run.config.style_weight for run in runs] == [10, 100] * 4
    assert plan.cost == pytest.approx(sum(run.cost for run in runs))


def test_the_style_weight_goes_into_columns_and_all_else_into_rows(dataset, base):
    axes = {"content_weight": [1, 2], "style_weight": [10, 100], "seed": [0, 1], "size": [64]}
    plan = Plan(dataset, grid(base, axes))
    assert plan.varied == ("content_weight", "style_weight", "seed")
    assert (len(plan.rows), len(plan.columns)) == (2 * 4, 2 * 2)
    assert [edge.label for edge in plan.columns] == ["β 10", "β 100"] * 2
    assert next(iter(plan.rows)).label == "α 1, seed 0"
    places = [plan.place(run) for run in plan]
    assert sorted(places) == [(row, column) for row in range(8) for column in range(4)]


def test_a_run_is_titled_by_its_pair_and_by_what_is_varied(dataset, base):
    plan = Plan(dataset, grid(base, {"style_weight": [10, 100], "seed": [0, 1], "size": [64]}))
    *_, last = plan
    assert plan.title(last) == "chenonceau × munch the scream, seed 1, β 100"
    assert last.name == "chenonceau--munch-the-scream"
    assert Plan(dataset, grid(base, {})).title(last) == "chenonceau × munch the scream"


def test_a_grid_says_which_network_auto_stands_for_and_has_each_config_once(base, monkeypatch, tmp_path):
    monkeypatch.setenv("NST_WEIGHTS", str(tmp_path))
    forget_backbones()
    configs = grid(base, {"backbone": ["auto", "vgg16"], "seed": [0, 1, 0]})
    assert [(config.backbone, config.seed) for config in configs] == [("vgg16", 0), ("vgg16", 1)]
    forget_backbones()


@pytest.mark.parametrize(
    ("axes", "sentence"),
    [
        ({"style_weight": [10, -1]}, "Please set the style weight to a number from 0.1 to 100,000."),
        ({"content_layers": [("block4_conv4",)]}, "Please name layers that vgg16 has"),
        ({"style_blend": [(1, 2)]}, "Please give as many weights as style images"),
    ],
)
def test_a_grid_that_cannot_be_run_is_refused_at_once(base, axes, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        grid(base, axes)


def test_pairs_are_read_by_file_names_with_or_without_ending(dataset, base, tmp_path):
    listed = tmp_path / "pairs.csv"
    listed.write_text(
        "content,style\nchenonceau,munch-the-scream\n\nberlin-cathedral.png, hokusai-great-wave.png\n"
    )
    plan = Plan(dataset, grid(base, {}), read_pairs(listed, dataset))
    assert [run.name for run in plan] == [
        "berlin-cathedral--hokusai-great-wave",
        "chenonceau--munch-the-scream",
    ]
    assert len(plan) == 2
    one = Plan(
        dataset, grid(base, {"seed": [0, 1]}), frozenset([(dataset.contents[1].path, dataset.styles[1].path)])
    )
    assert [edge.example for edge in one.columns] == [dataset.styles[1]]
    assert [edge.label for edge in one.rows] == ["seed 0", "seed 1"]
    assert [one.place(run) for run in one] == [(0, 0), (1, 0)]


@pytest.mark.parametrize("text", ["Content; Style\n{};{}\n", "CONTENT,STYLE\r\n{} , {}\r\n"])
def test_pairs_may_be_written_as_a_spreadsheet_writes_them(dataset, tmp_path, text):
    listed = tmp_path / "pairs.csv"
    listed.write_text(text.format("chenonceau", "munch-the-scream"))
    [run] = Plan(dataset, grid(TransferConfig(backbone="vgg16"), {}), read_pairs(listed, dataset))
    assert run.name == "chenonceau--munch-the-scream"


def test_images_that_differ_in_the_ending_alone_are_kept_apart(dataset, tmp_path):
    root = dataset.contents[0].path.parents[1]
    for ending in "png", "JPG":
        shutil.copy(dataset.contents[0].path, root / "content" / f"IMG_0001.{ending}")
    plan = Plan(find_dataset(str(root)), grid(TransferConfig(backbone="vgg16"), {}))
    assert {f"IMG_0001.{ending}--munch-the-scream" for ending in ("png", "JPG")} <= {run.name for run in plan}
    assert len({run.name for run in plan}) == len(plan)
    listed = tmp_path / "pairs.csv"
    listed.write_text("IMG_0001,munch-the-scream\n")
    with pytest.raises(StudyError, match="Please correct line 1"):
        read_pairs(listed, plan.dataset)
    listed.write_text("IMG_0001.JPG,munch-the-scream\n")
    assert len(read_pairs(listed, plan.dataset)) == 1


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
