"""The record of a run: everything about it, in JSON that people can read."""

import csv
import dataclasses
import hashlib
import io
import json
from importlib.metadata import version
from pathlib import Path

import pytest
from comparison import EXAMPLES
from PIL import Image
from sentences import one_sentence

import nst
from nst.config import TransferConfig
from nst.engine.images import load_image, save_image
from nst.engine.objective import Losses
from nst.engine.stylize import Progress, stylize
from nst.engine.vgg import resolve_precision
from nst.engine.weights import NETWORKS
from nst.errors import ImageError, RecordError
from nst.runs.record import (
    describe_image,
    has_plateaued,
    history_row,
    printable,
    recorded_images,
    restore,
    restore_from,
    restored_config,
    run_record,
    save_losses,
    save_record,
)

pytestmark = pytest.mark.quick

IMAGES = {
    "content": describe_image(EXAMPLES / "content" / "chenonceau.jpg"),
    "styles": [describe_image(EXAMPLES / "style" / "hokusai-great-wave.jpg")],
}
CONFIG = TransferConfig(
    size=64, iterations=3, content_layers=("block2_conv1",), style_layers={"block1_conv1": 0.5}, seed=7
)


@pytest.fixture(scope="module")
def run(photo, painting, backbone, graphs) -> list[Progress]:
    return list(stylize(photo, painting, CONFIG, backbone, graphs=graphs))


@pytest.fixture(scope="module")
def record(run, backbone) -> dict:
    return run_record(CONFIG, backbone, [history_row(progress) for progress in run], "finished", IMAGES)


def saved(record, path) -> dict:
    """Save a record, and read it again."""
    save_record(record, path)
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_row_holds_a_step_without_its_picture(run):
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
        assert {*row, "seconds", "losses", "steps", "schedule", "image"} >= {
            field.name for field in dataclasses.fields(Progress)
        }
        assert {*row} >= {*Losses._fields}


def test_a_row_survives_json(run):
    for progress in run:
        assert json.loads(json.dumps(history_row(progress))) == history_row(progress)


def rows(share_kept: float, count: int, level: int = 1) -> list[dict]:
    """Make a history whose total loss keeps that share of itself at each step."""
    return [{"level": level, "total": 3 * share_kept**step} for step in range(count)]


@pytest.mark.parametrize(
    ("share_kept", "plateaued"), [(0.99, False), (0.998, False), (0.9995, True), (1.0, True), (1.01, True)]
)
def test_losses_have_levelled_off_where_ten_steps_lower_them_by_less_than_a_percent(share_kept, plateaued):
    assert has_plateaued(rows(share_kept, 11)) is plateaued
    assert has_plateaued(rows(0.5, 20) + rows(share_kept, 11, level=2)) is plateaued


@pytest.mark.parametrize("count", [1, 2, 10])
def test_losses_of_fewer_than_eleven_steps_of_a_level_have_not_levelled_off(count):
    assert not has_plateaued([])
    assert not has_plateaued(rows(1, count))
    assert not has_plateaued(rows(1, 30) + rows(1, count, level=2))


def test_only_the_last_ten_steps_tell_whether_the_losses_have_levelled_off():
    assert has_plateaued(rows(0.5, 20) + [{"level": 1, "total": 0.1}] * 11)
    assert not has_plateaued([{"level": 1, "total": 9}] * 20 + rows(0.5, 11))


def test_the_record_has_the_whole_config(record, tmp_path):
    loaded = saved(record, tmp_path / "run.json")
    assert {*loaded["config"]} == {field.name for field in dataclasses.fields(TransferConfig)}
    assert TransferConfig(**loaded["config"]) == CONFIG


def test_the_record_names_its_images(record, tmp_path):
    assert saved(record, tmp_path / "run.json")["images"] == record["images"] == IMAGES


def test_an_image_is_described_by_its_name_and_its_bytes(tmp_path):
    path, copy = tmp_path / "photo.jpg", tmp_path / "copy.jpg"
    path.write_bytes(b"a photo")
    copy.write_bytes(b"a photo")
    digest = hashlib.sha256(b"a photo").hexdigest()
    assert describe_image(path) == describe_image(str(path)) == {"name": "photo.jpg", "sha256": digest}
    assert describe_image(copy) == {"name": "copy.jpg", "sha256": digest}
    copy.write_bytes(b"another")
    assert describe_image(copy)["sha256"] != digest
    with pytest.raises(ImageError, match="cannot be opened"):
        describe_image(tmp_path / "missing.jpg")


def test_bytes_in_a_name_that_are_not_utf_8_are_escaped():
    assert printable("Größe α.jpg") == "Größe α.jpg"
    assert printable(b"caf\xe9.jpg".decode(errors="surrogateescape")) == r"caf\udce9.jpg"


def test_the_record_says_what_ran_and_how_it_ended(run, record, backbone):
    assert record["backbone"] == {"name": backbone.name, "note": backbone.note}
    assert record["versions"]["tensorflow"] == version("tensorflow")
    assert record["versions"]["python"].startswith("3.")
    assert record["versions"]["nst"] == nst.__version__
    assert {*record["versions"]} == {"nst", "python", "tensorflow", "numpy", "pillow"}
    assert record["ended"] == "finished"
    assert record["evaluations"] == run[-1].evaluations
    assert record["seconds"] == pytest.approx(run[-1].seconds, abs=0.001)


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_the_record_names_the_precision_that_was_used(backbone, precision):
    record = run_record(dataclasses.replace(CONFIG, precision=precision), backbone, [], "stopped", IMAGES)
    assert record["config"]["precision"] == precision
    assert record["precision"] == resolve_precision(precision) != "auto"


def test_the_record_tells_attempts_only_where_there_were_several(backbone):
    once, twice = (
        run_record(CONFIG, backbone, [], "finished", IMAGES, attempts=attempts) for attempts in (1, 2)
    )
    assert "attempts" not in once
    assert twice == {**once, "attempts": 2}


def test_the_history_is_saved_with_one_line_a_step(record, tmp_path):
    path = tmp_path / "run.json"
    assert saved(record, path)["history"] == record["history"]
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line.strip().rstrip(",")) for line in lines if '"step"' in line]
    assert rows == record["history"]
    assert len(rows) == CONFIG.iterations


def test_any_text_in_a_record_survives(record, tmp_path):
    note = 'Größe "α"\n"history": []'
    record = {**record, "backbone": {"name": "vgg19", "note": note}, "ended": note}
    loaded = saved(record, tmp_path / "run.json")
    assert loaded["backbone"]["note"] == loaded["ended"] == note
    assert loaded["history"] == record["history"]
    assert "Größe" in (tmp_path / "run.json").read_text(encoding="utf-8")


def test_a_run_without_a_step_has_a_record(backbone, tmp_path):
    record = run_record(CONFIG, backbone, [], "stopped", IMAGES)
    loaded = saved(record, tmp_path / "run.json")
    assert loaded["history"] == []
    assert (loaded["ended"], loaded["evaluations"], loaded["seconds"]) == ("stopped", 0, 0)


def test_a_record_is_saved_under_a_path_or_its_text(record, tmp_path):
    save_record(record, str(tmp_path / "run.json"))
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["history"]


# Losses as a table


def test_losses_are_saved_as_a_table_with_one_row_a_step(record, tmp_path):
    for path in tmp_path / "losses.csv", str(tmp_path / "losses.csv"):
        save_losses(record["history"], path)
        with (tmp_path / "losses.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [*rows[0]] == [*record["history"][0]]
        assert [{name: float(text) for name, text in row.items()} for row in rows] == record["history"]


def test_no_step_makes_an_empty_table(tmp_path):
    save_losses([], tmp_path / "losses.csv")
    assert (tmp_path / "losses.csv").read_bytes() == b""


# Settings out of a picture


def with_text(photo, path, text):
    """Save a picture with that text as its metadata."""
    save_image(photo, path, metadata=text)
    return path


def unusable(photo, tmp_path, text) -> str:
    """Return the sentence that says why the settings cannot be restored."""
    with pytest.raises(RecordError) as caught:
        restored_config(with_text(photo, tmp_path / "picture.png", text))
    sentence = one_sentence(caught.value)
    assert not {*sentence} & {*"&/\\"}
    return sentence


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_a_picture_restores_the_config_of_its_run(run, record, tmp_path, ending):
    path = with_text(run[-1].image, tmp_path / f"picture{ending}", json.dumps(record))
    assert restored_config(path) == restored_config(str(path)) == CONFIG
    with path.open("rb") as file:
        assert restored_config(file) == CONFIG


@pytest.mark.parametrize("setting", dataclasses.fields(TransferConfig), ids=lambda setting: setting.name)
def test_a_setting_that_is_missing_has_its_default(photo, record, tmp_path, setting):
    config = {name: value for name, value in record["config"].items() if name != setting.name}
    path = with_text(photo, tmp_path / "picture.png", json.dumps({"config": config}))
    assert restored_config(path) == dataclasses.replace(CONFIG, **{setting.name: setting.default})


# Records of earlier versions

EARLIER = Path(__file__).parents[1] / "study" / "earlier" / "study" / "runs"  # before records had a version
NETWORK_AND_SCALES = (
    "An earlier version made this picture with another network and other scales of the weights: "
    "a new run will look different."
)
SCALES = NETWORK_AND_SCALES.replace("another network and ", "")
NETWORK = NETWORK_AND_SCALES.replace(" and other scales of the weights", "")


def as_of(record: dict, version: str | None, **config) -> dict:
    """Return the record as that version would have written it; the first ones did not say which they were."""
    versions = {"python": "3.11.7"} if version is None else {"nst": version, "python": "3.11.7"}
    return {**record, "versions": versions, "config": {**record["config"], **config}}


def test_this_versions_record_is_restored_without_a_note(record):
    assert restore(record) == (CONFIG, "")


def test_the_images_of_a_record_are_listed_by_their_roles():
    def entry(name: str) -> dict[str, str]:
        return {"name": name, "sha256": name * 2}

    images = {
        "content": entry("a"),
        "styles": [entry("b"), entry("c")],
        "mask": entry("d"),
        "start": entry("e"),
    }
    roles = "photo", "painting", "painting 2", "mask"  # the page takes no picture to go on from
    assert recorded_images({"images": images}) == [
        (role, name, name * 2) for role, name in zip(roles, "abcd", strict=True)
    ]
    moment = {"name": "step 5 of the run before"}  # which has no file
    odd = {"content": entry("a"), "styles": {"b": 1}, "mask": ["d"], "start": moment}
    assert recorded_images({"images": odd}) == [("photo", "a", "aa")]
    for record in None, [], {}, {"images": 7}:
        assert recorded_images(record) == []


@pytest.mark.parametrize("path", sorted(EARLIER.iterdir()), ids=lambda path: path.name)
def test_a_run_on_the_former_network_is_restored_on_its_successor(path):
    record = json.loads((path / "run.json").read_text(encoding="utf-8"))
    expected = TransferConfig(**{**record["config"], "backbone": "vgg16"})
    assert record["config"]["backbone"] == "vgg16-hed"
    assert restore(record) == restore_from(path / "result.png") == (expected, NETWORK_AND_SCALES)
    assert restored_config(path / "result.png") == expected


def test_every_record_of_the_gallery_is_restored():
    records = sorted((EXAMPLES / "results").glob("*.json"))
    assert records
    for path in records:
        assert restore(json.loads(path.read_text(encoding="utf-8"))).config.backbone in NETWORKS


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_a_picture_on_the_former_network_is_restored_with_a_note(photo, record, tmp_path, ending):
    text = json.dumps(as_of(record, "1.0.0", backbone="vgg16-hed"))
    path = with_text(photo, tmp_path / f"picture{ending}", text)
    assert restore_from(path) == (dataclasses.replace(CONFIG, backbone="vgg16"), NETWORK_AND_SCALES)


def test_auto_stays_auto_where_it_stood_for_the_former_network(record):
    old = as_of(record, "1.0.0", backbone="auto")
    config = dataclasses.replace(CONFIG, backbone="auto")
    assert restore({**old, "backbone": {"name": "vgg16-hed"}}) == (config, NETWORK_AND_SCALES)
    assert restore({**old, "backbone": {"name": "vgg19"}}) == (config, SCALES)


@pytest.mark.parametrize(
    ("version", "note"),
    [
        (None, SCALES),
        ("", SCALES),
        ("unknown", SCALES),
        ("0.9.0", SCALES),
        ("1.0.0", SCALES),
        ("1.0.12", SCALES),
        ("1.1.0", ""),
        ("1.1.0.dev1", ""),
        ("1.10.0", ""),
        ("2.0.0", ""),
    ],
)
def test_a_record_from_before_version_1_1_has_other_scales(record, version, note):
    assert restore(as_of(record, version)) == (CONFIG, note)


def test_explicit_weights_had_the_same_scale_before_version_1_1(record):
    both = {"content_layers": {"block2_conv1": 1}, "style_layers": {"block1_conv1": 0.5}}
    assert restore(as_of(record, "1.0.0", **both)).note == ""
    assert restore(as_of(record, "1.0.0", backbone="vgg16-hed", **both)).note == NETWORK
    for name in both:
        names = {**both, name: [*both[name]]}
        assert restore(as_of(record, "1.0.0", **names)).note == SCALES


@pytest.mark.parametrize(
    "value", [None, 3, "1.1.0", [], ["nst"], {"nst": 3}, {"nst": "9" * 5000}, {"name": []}]
)
def test_any_version_and_network_in_a_record_are_read(record, value):
    for name in "versions", "backbone":
        assert restore({**record, name: value}).config == CONFIG


@pytest.mark.parametrize("value", [None, 3, [], {}, "vgg16-HED", ["vgg16-hed"]])
def test_no_other_network_is_replaced(record, value):
    with pytest.raises(RecordError, match="please choose the backbone from auto, vgg19, vgg16"):
        restore(as_of(record, "1.0.0", backbone=value))


# Records that cannot be used


def test_a_picture_without_a_record_is_refused(photo, tmp_path):
    sentence = "This picture holds no record of a run: please use the file as it was first saved."
    assert unusable(photo, tmp_path, None) == sentence
    Image.open(tmp_path / "picture.png").save(tmp_path / "copy.jpg")
    with pytest.raises(RecordError, match="no record"):
        restored_config(tmp_path / "copy.jpg")


def test_unreadable_images_are_refused_as_everywhere(tmp_path):
    with pytest.raises(ImageError, match="cannot be opened"):
        restored_config(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="not a readable image"):
        restored_config(io.BytesIO(b"just some words"))


@pytest.mark.parametrize(
    "text",
    ["", "a castle, oil on canvas", '{"config": {"size": 64', "[" * 500_000, '{"a":' * 100_000, "1" * 5_000],
    ids=lambda text: text[:12],
)
def test_a_damaged_record_is_refused(photo, tmp_path, text):
    sentence = "The record in this picture is damaged: please use the file as it was first saved."
    assert unusable(photo, tmp_path, text) == sentence


@pytest.mark.parametrize(
    "text",
    ["3", "null", "[]", '["config"]', "{}", '{"config": null}', '{"config": []}', '{"config": "size"}'],
)
def test_a_record_without_settings_is_refused(photo, tmp_path, text):
    sentence = "The record in this picture has no settings: please use the file as it was first saved."
    assert unusable(photo, tmp_path, text) == sentence


def test_an_unknown_setting_is_refused_and_named_where_its_name_is_plain(photo, tmp_path):
    sentence = "The settings in this picture can't be used: this version does not know "
    text = json.dumps({"config": {"size": 64, "brush_size": 3}})
    assert unusable(photo, tmp_path, text) == sentence + "brush_size."
    for name in "<b>brush</b>", "größe", "b" * 41, "", "a b", "x\ny":
        text = json.dumps({"config": {"size": 64, name: 3}})
        assert unusable(photo, tmp_path, text) == sentence + "all of them."


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("size", 10**9, "please set the size to a whole number from 32 to "),
        ("size", "64", "please set the size to a whole number from 32 to "),
        ("style_weight", float("nan"), "please set the style weight to a number from "),
        ("style_weight", [1], "please set the style weight to a number from "),
        ("optimizer", "<b>", "please choose the optimizer from lbfgs, adam."),
        ("optimizer", {}, "please choose the optimizer from lbfgs, adam."),
        ("content_layers", [[]], "please give the content layers as a list of names"),
        ("style_layers", {"block1_conv1": -1}, "please give each of the style layers a weight from 0 to "),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_with_its_reason(photo, tmp_path, name, value, reason):
    text = json.dumps({"config": {name: value}})
    sentence = unusable(photo, tmp_path, text)
    assert sentence.startswith(f"The settings in this picture can't be used: {reason}")


def test_the_pixels_of_a_picture_do_not_change_with_its_record(photo, record, tmp_path):
    path = with_text(photo, tmp_path / "picture.png", json.dumps(record))
    save_image(photo, tmp_path / "plain.png")
    assert (load_image(path) == load_image(tmp_path / "plain.png")).numpy().all()
