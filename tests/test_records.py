"""A record says everything about a run, in JSON that people can read."""

import dataclasses
import json
from importlib.metadata import version

import pytest

from nst.backbones import resolve_precision
from nst.losses import Losses
from nst.records import history_row, levelled_off, run_record, save_record
from nst.transfer import Progress, TransferConfig, stylize

CONFIG = TransferConfig(
    size=64, iterations=3, content_layers=("block2_conv1",), style_layers={"block1_conv1": 0.5}, seed=7
)


@pytest.fixture(scope="module")
def run(photo, painting, backbone) -> list[Progress]:
    return list(stylize(photo, painting, CONFIG, backbone))


@pytest.fixture(scope="module")
def record(run, backbone) -> dict:
    return run_record(CONFIG, backbone, [history_row(progress) for progress in run], "finished")


def saved(record, path) -> dict:
    save_record(record, path)
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_row_has_all_of_a_step_but_its_picture(run):
    for progress in run:
        row = history_row(progress)
        seconds = row.pop("seconds")
        assert seconds == pytest.approx(progress.seconds, abs=0.001)
        assert row == {
            "step": progress.step,
            "level": progress.level,
            "size": progress.size,
            "evaluations": progress.evaluations,
            "content": progress.losses.content,
            "style": progress.losses.style,
            "tv": progress.losses.tv,
            "total": progress.losses.total,
        }
        assert {*row, "seconds", "losses", "steps", "image"} >= {
            field.name for field in dataclasses.fields(Progress)
        }
        assert {*row} >= {*Losses._fields}


def test_a_row_comes_back_from_json_as_it_was(run):
    for progress in run:
        assert json.loads(json.dumps(history_row(progress))) == history_row(progress)


def rows(share_kept: float, count: int, level: int = 1) -> list[dict]:
    """A history whose total loss keeps that share of itself at each step."""
    return [{"level": level, "total": 3 * share_kept**step} for step in range(count)]


@pytest.mark.parametrize(
    ("share_kept", "flat"), [(0.99, False), (0.998, False), (0.9995, True), (1.0, True), (1.01, True)]
)
def test_losses_have_levelled_off_where_ten_steps_lower_them_by_less_than_a_percent(share_kept, flat):
    assert levelled_off(rows(share_kept, 11)) is flat
    assert levelled_off(rows(0.5, 20) + rows(share_kept, 11, level=2)) is flat


@pytest.mark.parametrize("count", [1, 2, 10])
def test_losses_of_fewer_than_eleven_steps_of_a_level_have_not_levelled_off(count):
    assert not levelled_off([])
    assert not levelled_off(rows(1, count))
    assert not levelled_off(rows(1, 30) + rows(1, count, level=2))


def test_only_the_last_ten_steps_tell_whether_the_losses_have_levelled_off():
    assert levelled_off(rows(0.5, 20) + [{"level": 1, "total": 0.1}] * 11)
    assert not levelled_off([{"level": 1, "total": 9}] * 20 + rows(0.5, 11))


def test_the_record_has_the_whole_config(record, tmp_path):
    loaded = saved(record, tmp_path / "run.json")
    assert {*loaded["config"]} == {field.name for field in dataclasses.fields(TransferConfig)}
    assert TransferConfig(**loaded["config"]) == CONFIG


def test_the_record_says_what_ran_and_how_it_ended(run, record, backbone):
    assert record["backbone"] == {"name": backbone.name, "note": backbone.note}
    assert record["versions"]["tensorflow"] == version("tensorflow")
    assert record["versions"]["python"].startswith("3.")
    assert {*record["versions"]} >= {"numpy", "pillow"}
    assert record["ended"] == "finished"
    assert record["evaluations"] == run[-1].evaluations
    assert record["seconds"] == pytest.approx(run[-1].seconds, abs=0.001)


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_the_record_says_what_precision_was_used(backbone, precision):
    record = run_record(dataclasses.replace(CONFIG, precision=precision), backbone, [], "stopped")
    assert record["config"]["precision"] == precision
    assert record["precision"] == resolve_precision(precision) != "auto"


def test_the_history_comes_back_with_one_line_a_step(record, tmp_path):
    path = tmp_path / "run.json"
    assert saved(record, path)["history"] == record["history"]
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line.strip().rstrip(",")) for line in lines if '"step"' in line]
    assert rows == record["history"]
    assert len(rows) == CONFIG.iterations


def test_text_comes_back_as_it_was(record, tmp_path):
    note = 'Größe "α"\n"history": []'
    told = {**record, "backbone": {"name": "vgg19", "note": note}, "ended": note}
    loaded = saved(told, tmp_path / "run.json")
    assert loaded["backbone"]["note"] == loaded["ended"] == note
    assert loaded["history"] == record["history"]
    assert "Größe" in (tmp_path / "run.json").read_text(encoding="utf-8")


def test_a_run_without_a_step_has_a_record(backbone, tmp_path):
    record = run_record(CONFIG, backbone, [], "stopped")
    loaded = saved(record, tmp_path / "run.json")
    assert loaded["history"] == []
    assert (loaded["ended"], loaded["evaluations"], loaded["seconds"]) == ("stopped", 0, 0)


def test_a_record_is_saved_under_a_path_or_its_text(record, tmp_path):
    save_record(record, str(tmp_path / "run.json"))
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["history"]
