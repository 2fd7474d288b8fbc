"""A run that has ended, as files: encoded once, restored, and downloaded in many forms."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from served import job

from nst.config import TransferConfig
from nst.engine.color import blend
from nst.engine.images import from_uint8, read_metadata, to_uint8
from nst.errors import ImageError
from nst.runs.record import restore, restore_from, restored_config
from nst.serving.queue import Run, RunQueue
from nst.web.finished_run import FORMATS, read_files, write_files

CONFIG = TransferConfig(size=64, iterations=4, backbone="vgg16", strength=0.5)
PNG, JPEG = FORMATS[:2]
PANES = ["/photos/a.jpg", "/paintings/b.jpg"]


@pytest.fixture(scope="module")
def run():
    queue = RunQueue()
    run = queue.join(Run(job(CONFIG)))
    run.future.result()
    queue.close()
    return run


@pytest.fixture
def finished(run, tmp_path):
    return write_files(run, "a--b", tmp_path, PANES)


def pixels(path):
    return np.asarray(Image.open(path))


def test_the_result_is_encoded_once_and_is_what_is_shown_and_saved(run, finished):
    before = sorted(finished.folder.rglob("*"))
    result = finished.moments[-1]
    assert result.name == "a--b.png"
    assert finished.shown(4, 1) == finished.saved(4, 1, PNG, 90) == result
    assert sorted(finished.folder.rglob("*")) == before
    assert np.array_equal(pixels(result), to_uint8(run.recorder.picture))
    assert np.array_equal(pixels(finished.photo), run.job.content)
    record = json.loads(read_metadata(result))
    assert (record["shown"], record["config"]["strength"]) == (4, 1)
    assert record["history"] == run.recorder.history
    assert [entry.name for entry in before if entry.suffix == ".png"] == [
        "a--b.png",
        "photo.png",
        "step-1.png",
        "step-2.png",
        "step-3.png",
    ]


def test_other_strengths_and_moments_are_made_when_they_are_wanted(run, finished):
    half = finished.saved(4, 0.5, PNG, 90)
    assert half.name == "a--b.png"
    expected = blend(from_uint8(run.recorder.moments[-1].pixels), run.job.photo(), 0.5)
    assert np.array_equal(pixels(half), to_uint8(expected))
    assert restored_config(half) == CONFIG
    moment = finished.saved(2, 1, PNG, 90)
    assert moment.name == "a--b--step-2.png"
    assert np.array_equal(pixels(moment), run.recorder.moments[1].pixels)
    assert finished.saved(2, 1, JPEG, 90).name == "a--b--step-2.jpg"


def test_a_run_goes_on_from_any_moment(run, finished):
    start = finished.start(2)
    assert np.array_equal(start.pixels, run.recorder.moments[1].pixels)
    assert start.entry == {"name": "step 2 of the run before"}


def test_a_run_is_restored_from_its_folder(finished):
    record = json.loads(json.dumps(finished.record))  # whose tuples are lists
    assert read_files(finished.folder) == replace(finished, record=record)


def test_a_run_that_an_earlier_version_kept_is_restored(run, finished, tmp_path):
    """Its result was a moment like the others, without a record, and its network is gone."""
    old = tmp_path / "old"
    old.mkdir()
    for number, moment in enumerate(run.recorder.moments, start=1):
        Image.fromarray(moment.pixels).save(old / f"step-{number}.png")
    Image.fromarray(run.job.content).save(old / "photo.png")
    names = [f"step-{number}.png" for number in range(1, 5)]
    changed = {"style_layers": ["block1_conv1"], "backbone": "vgg16-hed"}
    record = {**finished.record, "config": {**finished.record["config"], **changed}, "versions": {}}
    values = {"name": "a--b", "moments": names, "steps": [1, 2, 3, 4], "record": record, "panes": PANES}
    (old / "finished.json").write_text(json.dumps(values), encoding="utf-8")
    restored = read_files(old)
    assert restored.panes == tuple(PANES)
    saved = restored.saved(4, 1, PNG, 90)
    assert saved.name == "a--b.png"
    assert saved.parent != old
    assert np.array_equal(pixels(saved), pixels(finished.moments[-1]))
    settings, note = restore_from(saved)
    assert (settings.style_layers, settings.backbone) == (("block1_conv1",), "vgg16")
    assert (replace(settings, strength=0.5), note) == restore(restored.record)
    assert "An earlier version made this picture with another network" in note
    assert json.loads(read_metadata(saved))["config"]["backbone"] == "vgg16-hed"


def test_a_run_whose_files_are_gone_says_so(finished, tmp_path):
    assert read_files(tmp_path / "nowhere") is None
    finished.moments[1].unlink()
    with pytest.raises(ImageError, match="no longer kept: please run it once more"):
        finished.shown(2, 1)
