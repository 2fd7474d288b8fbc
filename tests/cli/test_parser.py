"""The flags: what --help says, and what is refused in one line before anything is computed."""

import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nst.cli.main import main
from nst.config import PRESETS, SETTINGS
from nst.engine.images import save_image
from nst.formats import SAVED_ENDINGS
from nst.runs.animation import save_animation
from tests.cli.commands import PAINTING, PHOTO, SMALL, flag

pytestmark = pytest.mark.quick

NUMBERS = [name for name, setting in SETTINGS.items() if "range" in setting.metadata]
CHOICES = [name for name, setting in SETTINGS.items() if "choices" in setting.metadata]


def test_help_names_every_setting_with_its_range_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["stylize", "--help"])
    assert end.value.code == 0
    text = re.sub(r"\s+", "", capsys.readouterr().out)  # argparse wraps lines
    for setting in SETTINGS.values():
        about, default = setting.metadata, setting.default
        shown = ",".join(default) or "none" if isinstance(default, tuple) else default
        limits = "from{:,}to{:,}".format(*about["range"]) if "range" in about else ""
        kind = "{" + ",".join(about["choices"]) + "}" if "choices" in about else ""
        help_text = about["help"].replace(" ", "")
        assert f"{flag(setting.name)}{kind}" in text
        assert help_text + (f",{limits}" if limits else "") + f"(default:{shown})" in text


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("typed", ["-1", "1e30", "nan", "many"])
def test_numbers_out_of_range_are_refused(
    name: str, typed: str, output: Path, refused: Callable[..., str]
) -> None:
    said = refused("stylize", PHOTO, PAINTING, "-o", str(output), flag(name), typed)
    low, high = SETTINGS[name].metadata["range"]
    assert name.replace("_", " ") in said
    assert f"from {low:,} to {high:,}" in said


@pytest.mark.parametrize("name", CHOICES)
def test_unknown_choices_are_refused(name: str, output: Path, refused: Callable[..., str]) -> None:
    said = refused("stylize", PHOTO, PAINTING, "-o", str(output), flag(name), "other")
    for choice in SETTINGS[name].metadata["choices"]:
        assert choice in said


@pytest.mark.parametrize("name", ["content_layers", "style_layers"])
@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("block9_conv1", "block1_conv1, block1_conv2"),
        ("block1_conv1,,block2_conv1", "block1_conv1, block1_conv2"),
        ("", "block1_conv1, block1_conv2"),
        ("block1_conv1:1,block2_conv1", "or none"),
        ("block1_conv1:", "or none"),
        ("block1_conv1:heavy", "or none"),
        ("block1_conv1:-1", "weight from 0"),
        ("block1_conv1:nan", "weight from 0"),
        ("block1_conv1,block1_conv1", "once"),
        ("block1_conv1:1,block1_conv1:2", "once"),
    ],
)
def test_layers_that_cannot_be_had_are_refused(
    name: str, typed: str, hint: str, output: Path, refused: Callable[..., str]
) -> None:
    assert hint in refused("stylize", PHOTO, PAINTING, "-o", str(output), *SMALL, flag(name), typed)


def test_a_preset_and_an_earlier_picture_exclude_each_other(
    output: Path, refused: Callable[..., str]
) -> None:
    said = refused("stylize", PHOTO, PAINTING, "-o", str(output), "--from", PHOTO, "--preset", "poster")
    assert "--from" in said
    assert "--preset" in said


def test_unknown_presets_are_refused(output: Path, refused: Callable[..., str]) -> None:
    said = refused("stylize", PHOTO, PAINTING, "-o", str(output), "--preset", "other")
    assert all(name in said for name in PRESETS)


@pytest.mark.parametrize("typed", ["0", "101", "-1", "9.5", "best"])
def test_quality_out_of_range_is_refused_before_the_run(
    typed: str, output: Path, refused: Callable[..., str]
) -> None:
    assert "quality" in refused("stylize", "unread.jpg", "unread.jpg", "-o", str(output), "--quality", typed)


def test_help_names_what_can_be_written_and_the_qualities(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["stylize", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ", ".join(SAVED_ENDINGS) in text
    assert ".webp, .mp4" in text
    picture, animation = (
        inspect.signature(save).parameters["quality"].default for save in (save_image, save_animation)
    )
    assert f"(default: {picture}, of the animation {animation})" in text


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "COMMAND"),
        (["paint"], "paint"),
        (["stylize"], "CONTENT, STYLE, -o/--output"),
        (["stylize", PHOTO, PAINTING], "-o/--output"),
        (["stylize", PHOTO, "-o", "picture.png"], "STYLE"),
        (["stylize", PHOTO, PAINTING, "-o", "picture.png", "third.jpg"], "third.jpg"),
        (["stylize", PHOTO, PAINTING, "-o", "picture.png", "--siz", "64"], "--siz"),
        (["stylize", PHOTO, PAINTING, "-o", "picture.png", "--size"], "--size"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], hint: str, refused: Callable[..., str]) -> None:
    said = refused(*arguments)
    assert hint in said
    assert "--help" in said


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["-o", "a.webp"], ["--animation", "a.webp"]),
        (["-o", "a.webp"], ["--animation", "folder/../a.webp"]),
        (["-o", "a.webp", "--report", "a.json"], ["--losses", "link.csv"]),
    ],
)
def test_one_file_for_two_things_is_refused(
    first: list[str], second: list[str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.csv").symlink_to("a.json")  # which is not there
    paths = [part if part.startswith("-") else str(tmp_path / part) for part in (*first, *second)]
    said = refused("stylize", "unread.jpg", "unread.jpg", *paths)
    assert said.startswith(paths[-1])
    assert "twice" in said


@pytest.mark.parametrize(
    ("option", "right", "wrong"),
    [
        ("--output", ".png", ".gif"),
        ("--animation", ".mp4", ".gif"),
        ("--report", ".json", ".txt"),
        ("--losses", ".csv", ".txt"),
    ],
)
def test_files_that_cannot_be_written_are_refused_before_the_run(
    option: str, right: str, wrong: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / f"folder{right}").mkdir()
    (tmp_path / "file").touch()
    names = [f"it{wrong}", "it", f"none/it{right}", f"file/it{right}", f"folder{right}", "x" * 300 + right]
    for name in names:
        path = str(tmp_path / name)
        files = {"--output": str(tmp_path / "picture.png"), option: path}
        arguments = [part for pair in files.items() for part in pair]
        assert path in refused("stylize", "unread.jpg", "unread.jpg", *arguments)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert "Permission denied" in refused("stylize", PHOTO, PAINTING, "-o", str(folder / "picture.png"))
