"""The command `study`: what it makes, what it says, and how it is stopped and resumed."""

import json
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nst import __version__
from nst.cli.main import main
from nst.config import PRESETS
from nst.engine.images import load_image, save_image
from tests.cli.commands import FLAGS, PAINTING, PHOTO, ROOT, flag, start

STUDY = ["--sizes", "64", "--iterations", "2", "--backbones", "vgg16"]


@pytest.fixture
def views(tmp_path: Path) -> Path:
    """A folder with two contents, of which the second is broken, and a style."""
    for role, name, text in (("content", "chenonceau", PHOTO), ("style", "wave", PAINTING)):
        (tmp_path / "views" / role).mkdir(parents=True)
        save_image(load_image(text, long_side=64), tmp_path / "views" / role / f"{name}.png")
    (tmp_path / "views" / "content" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path / "views"


def test_a_study_makes_what_can_be_made_and_then_says_what_failed(
    views: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["study", str(views), "--out", str(out), *STUDY, "--style-weight", "10", "100"]
    assert main(command) == 1
    said = capsys.readouterr()
    assert said.out == ""
    first, second, *failed, end = said.err.splitlines()
    assert re.fullmatch(r"1 of 4, \d\d:\d\d left: chenonceau × wave, β 10", first)
    assert re.fullmatch(r"2 of 4, \d\d:\d\d left: chenonceau × wave, β 100", second)
    assert len(failed) == 2
    assert all("torn × wave" in line and "failed: torn.png: This file is not" in line for line in failed)
    assert end == f"2 of 4 runs failed: {out / 'index.html'} says why."
    assert len([*out.glob("runs/*/result.png")]) == 2

    (views / "content" / "torn.png").unlink()
    assert main(command) == 0
    assert capsys.readouterr().out == f"Wrote {out / 'index.html'}: 2 runs.\n"


def test_every_setting_of_a_study_reaches_its_runs(views: Path, tmp_path: Path) -> None:
    (views / "content" / "torn.png").unlink()
    out = tmp_path / "out"
    typed = {name: value for name, value in FLAGS.items() if name not in ("style_blend", "mask_mode")}
    arguments = []
    for name, (text, _) in typed.items():
        plural = "s" if name in ("size", "backbone", "init", "optimizer", "seed") else ""
        arguments += [flag(name) + plural, text]
    assert main(["study", str(views), "--out", str(out), *arguments, "--seeds", "1", "2147483647"]) == 0
    records = [json.loads(path.read_text()) for path in out.glob("runs/*/run.json")]
    assert sorted(record["config"]["seed"] for record in records) == [1, 2147483647]
    for record in records:
        assert all(record["config"][name] == value for name, (_, value) in typed.items() if name != "seed")


def test_a_study_paints_the_pairs_of_a_file_into_a_gallery(views: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("chenonceau,wave\n")
    out, gallery = tmp_path / "out", tmp_path / "gallery"
    options = ["--pairs", str(tmp_path / "pairs.csv"), "--gallery", str(gallery), "--preset", "poster"]
    assert main(["study", str(views), "--out", str(out), *options, *STUDY]) == 0
    assert sorted(path.name for path in gallery.iterdir()) == [
        "chenonceau--wave.jpg",
        "chenonceau--wave.json",
    ]
    record = json.loads((gallery / "chenonceau--wave.json").read_text())
    assert record["config"]["tv_weight"] == PRESETS["poster"].tv_weight


def test_ctrl_c_ends_a_study_that_the_same_command_goes_on_with(views: Path, tmp_path: Path) -> None:
    (views / "content" / "torn.png").unlink()
    out = tmp_path / "out"
    weights = [str(weight) for weight in range(1, 15)]
    command = ["study", str(views), "--out", str(out), *STUDY, "--style-weight", *weights]
    run = start(*command)
    while len([*out.glob("runs/[0-9a-f]*")]) < 2:
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=120)
    assert run.returncode == 130
    made = len([*out.glob("runs/*/run.json")])
    assert 2 <= made < 14
    listed = f"Stopped: {made} of 14 runs are made, and listed in {out / 'index.html'}."
    assert err.splitlines()[-1] == f"{listed} Run the same command again to continue."
    assert (out / "index.html").is_file()
    assert main(command) == 0
    assert len([*out.glob("runs/*/run.json")]) == 14


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "Please name a dataset (small, large) or a folder with content/ and style/ in it."),
        (["VIEWS", "--sizes", "64", "9999"], "Please set the size to a whole number from 32 to 4,096."),
        (["VIEWS", "--seeds", "x"], "Please set the seed to a whole number"),
        (["VIEWS", "--pairs", "VIEWS/none.csv"], "none.csv cannot be read: No such file or directory."),
        (["VIEWS", *STUDY, "--seeds", "1", "2", "--gallery", "VIEWS"], "Please give --gallery one setting"),
        (["VIEWS", "--backbones", "vgg17"], "invalid choice: 'vgg17'"),
    ],
)
def test_a_study_that_cannot_be_made_is_refused(
    arguments: list[str], sentence: str, views: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    command = [argument.replace("VIEWS", str(views)) for argument in arguments]
    assert sentence in refused("study", *command, "--out", str(tmp_path / "out"))


def test_a_study_into_a_folder_that_cannot_be_written_is_refused(
    views: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    said = refused("study", str(views), "--out", str(views / "content" / "torn.png"), *STUDY)
    assert "torn.png cannot be written" in said


def test_a_study_of_an_earlier_version_is_resumed_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "tests" / "study" / "earlier", tmp_path / "earlier")
    out = tmp_path / "earlier" / "study"
    command = ["study", str(tmp_path / "earlier" / "views"), "--out", str(out), *STUDY]
    assert main(command) == 0
    said = capsys.readouterr()
    assert said.out == f"Wrote {out / 'index.html'}: 2 runs.\n"
    notice, *lines = said.err.splitlines()
    again = f"this study's pictures are made again with version {__version__}."
    assert notice == f"{out} keeps its 2 runs of an earlier version; {again}"
    assert len(lines) == 2
    assert len([*out.glob("runs/*/run.json")]) == 4
    assert main(command) == 0
    assert capsys.readouterr().err == ""
