"""The command line, mostly as a user runs it: what it writes, what it says, and how it ends."""

import csv
import hashlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageSequence

from nst.__main__ import main
from nst.config import TransferConfig
from nst.engine.images import SAVED_ENDINGS, load_image, read_metadata, save_image, to_uint8
from nst.engine.stylize import stylize
from nst.engine.vgg import forget_backbones
from nst.presets import PRESETS
from nst.runs.animation import save_animation
from nst.runs.record import levelled_off, restored_config

ROOT = Path(__file__).parents[2]
PHOTO = str(ROOT / "examples/content/chenonceau.jpg")  # 4:3
PAINTING = str(ROOT / "examples/style/hokusai-great-wave.jpg")
OTHER = str(ROOT / "examples/style/munch-the-scream.jpg")
SMALL = ["--size", "64", "--iterations", "2", "--backbone", "vgg16-hed"]
EXACT = [*SMALL, "--precision", "float32"]  # what repeats to the last bit

FLAGS = {  # of each setting: what is typed, and what the run record then says; no value is a default
    "content_weight": ("2.5", 2.5),
    "style_weight": ("1e3", 1000.0),
    "tv_weight": ("0", 0.0),
    "style_blend": ("2,0.5", [2.0, 0.5]),
    "style_scale": ("0.5", 0.5),
    "colors": ("luminance", "luminance"),
    "mask_mode": ("styles", "styles"),
    "strength": ("0.75", 0.75),
    "size": ("80", 80),
    "iterations": ("3", 3),
    "backbone": ("vgg16-hed", "vgg16-hed"),
    "precision": ("float32", "float32"),
    "pooling": ("avg", "avg"),
    "content_layers": ("block2_conv1,block3_conv2", ["block2_conv1", "block3_conv2"]),
    "style_layers": ("block1_conv2:0.5,block2_conv2:2", {"block1_conv2": 0.5, "block2_conv2": 2.0}),
    "optimizer": ("adam", "adam"),
    "init": ("noise", "noise"),
    "seed": ("2147483647", 2147483647),
}
NUMBERS = [setting.name for setting in fields(TransferConfig) if "range" in setting.metadata]
CHOICES = [setting.name for setting in fields(TransferConfig) if "choices" in setting.metadata]


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


TYPED = [part for name, (typed, _) in FLAGS.items() for part in (flag(name), typed)]


def stylized(path: Path, *arguments: str) -> np.ndarray:
    """The pixels (H, W, 3) of the picture that a run from the photo writes there."""
    assert main(["stylize", PHOTO, *arguments, "-o", str(path)]) == 0
    return pixels_of(path)


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def record_in(path: Path) -> dict:
    return json.loads(read_metadata(path) or "")


@pytest.fixture(autouse=True)
def _ctrl_c_heeded() -> Iterator[None]:
    """Ctrl-C as a terminal gives it, even where the tests run in a script's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "picture.png"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "run.json"


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Run a command that has to end with that exit code, one line on stderr, and nothing written."""

    def run(*command: str, exit_code: int = 2) -> str:
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        assert main(command) == exit_code
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert said.err.endswith("\n")
        assert len(said.err) > 20
        assert sorted(tmp_path.rglob("*")) == before
        return said.err

    return run


def start(*arguments: str, stderr: int = subprocess.PIPE, **environment: str) -> subprocess.Popen[str]:
    """The command as it is, without what the tests' own process has set for TensorFlow."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP_")}
    return subprocess.Popen(
        [sys.executable, "-m", "nst", *arguments],
        cwd=ROOT,
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


# A whole run


def test_command_without_vgg19(output: Path, report: Path, tmp_path: Path) -> None:
    """`auto` falls back and says so; off a terminal there are lines, about ten, and none of TensorFlow's."""
    files = ["-o", str(output), "--report", str(report)]
    settings = ["--size", "64", "--iterations", "30"]
    run = start("stylize", PHOTO, PAINTING, *files, *settings, NST_WEIGHTS=str(tmp_path / "none"))
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0
    assert re.fullmatch(rf"Wrote {output} and {report}: 64 x 48 pixels, 30 steps in \d\d:\d\d\.\n", out)

    note, *lines = err.splitlines()
    record = json.loads(report.read_text(encoding="utf-8"))
    assert note == record["backbone"]["note"]
    assert "bundled VGG-16 is used" in note
    line = r"step (\d+) of 30, 64 px, \d\d:\d\d left, content \S+, style \S+, total \S+"
    steps = [int(match[1]) for match in map(re.compile(line).fullmatch, lines) if match]
    assert len(steps) == len(lines)
    assert steps == [1, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30]

    with Image.open(output) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (64, 48))
    assert record["ended"] == "finished"
    assert record["config"]["backbone"] == "auto"
    assert record["backbone"]["name"] == "vgg16-hed"
    assert record["versions"].keys() >= {"python", "tensorflow"}
    assert [row["step"] for row in record["history"]] == list(range(1, 31))
    assert record["history"][-1]["style"] < record["history"][0]["style"] / 2
    assert record["seconds"] == record["history"][-1]["seconds"] > 0


def test_the_command_says_once_that_the_losses_have_levelled_off(
    output: Path, report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["-o", str(output), "--report", str(report)]
    soon_flat = ["--style-weight", "0.1", "--optimizer", "adam", "--iterations", "130"]
    assert main(["stylize", PHOTO, PAINTING, *files, *SMALL, *soon_flat]) == 0
    said = r"^Step (\d+) of 130: the losses have levelled off\. Ctrl-C keeps this picture\.$"
    (step,) = re.findall(said, capsys.readouterr().err, re.MULTILINE)
    history = json.loads(report.read_text(encoding="utf-8"))["history"]
    assert [levelled_off(history[: int(step) - ago]) for ago in (1, 0)] == [False, True]


@pytest.mark.parametrize(
    ("ending", "format"),
    [
        (".png", "PNG"),
        (".JPG", "JPEG"),
        (".jpeg", "JPEG"),
        (".webp", "WEBP"),
        (".tif", "TIFF"),
        (".TIFF", "TIFF"),
    ],
)
def test_output_has_the_format_of_its_ending(ending: str, format: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture{ending}"
    assert ending.lower() in SAVED_ENDINGS
    assert main(["stylize", PHOTO, PAINTING, "--output", str(path), *SMALL]) == 0
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == (format, (64, 48))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # no report unless asked for


def test_output_replaces_a_file(output: Path, report: Path) -> None:
    output.write_text("old")
    report.write_text("old")
    assert main(["stylize", PHOTO, PAINTING, "-o", str(output), "--report", str(report), *SMALL]) == 0
    with Image.open(output) as picture:
        assert picture.size == (64, 48)
    assert json.loads(report.read_text(encoding="utf-8"))["ended"] == "finished"


def test_output_may_have_a_name_that_is_not_utf8(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    assert main(["stylize", PHOTO, PAINTING, "-o", str(path), *SMALL]) == 0
    assert b"caf\\udce9.png" in capfdbinary.readouterr().out
    assert path.is_file()


@pytest.mark.parametrize("iterations", [1, 7])
def test_a_short_run_has_a_line_for_each_step(
    iterations: int, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stylize", PHOTO, PAINTING, "-o", str(output), *SMALL, "--iterations", str(iterations)]) == 0
    assert capsys.readouterr().err.count("\n") == iterations


# The settings


def test_every_setting_has_a_flag(output: Path, report: Path) -> None:
    assert FLAGS.keys() == {setting.name for setting in fields(TransferConfig)}
    picture = stylized(output, PAINTING, OTHER, "--report", str(report), *TYPED)
    record = json.loads(report.read_text(encoding="utf-8"))
    assert record["config"] == {name: value for name, (_, value) in FLAGS.items()}
    assert picture.shape == (60, 80, 3)


def test_settings_have_the_defaults_of_the_config(output: Path, report: Path) -> None:
    assert main(["stylize", PHOTO, PAINTING, "-o", str(output), "--report", str(report), *SMALL]) == 0
    config = json.loads(report.read_text(encoding="utf-8"))["config"]
    expected = TransferConfig(size=64, iterations=2, backbone="vgg16-hed")
    for name, value in config.items():
        default = getattr(expected, name)
        assert value == (list(default) if isinstance(default, tuple) else default)


def test_help_names_every_setting_with_its_range_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["stylize", "--help"])
    assert end.value.code == 0
    text = re.sub(r"\s+", "", capsys.readouterr().out)  # argparse wraps lines
    for setting in fields(TransferConfig):
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
    low, high = TransferConfig.__dataclass_fields__[name].metadata["range"]
    assert name.replace("_", " ") in said
    assert f"from {low:,} to {high:,}" in said


@pytest.mark.parametrize("name", CHOICES)
def test_unknown_choices_are_refused(name: str, output: Path, refused: Callable[..., str]) -> None:
    said = refused("stylize", PHOTO, PAINTING, "-o", str(output), flag(name), "other")
    for choice in TransferConfig.__dataclass_fields__[name].metadata["choices"]:
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


# Where the settings come from


def test_flags_change_a_preset_and_the_rest_stays(output: Path) -> None:
    stylized(output, PAINTING, "--preset", "poster", "--tv-weight", "50", *SMALL)
    changed = {"tv_weight": 50, "size": 64, "iterations": 2, "backbone": "vgg16-hed"}
    assert restored_config(output) == replace(PRESETS["poster"], **changed)
    assert restored_config(output).style_layers != TransferConfig().style_layers


@pytest.mark.parametrize("settings", [EXACT, TYPED], ids=["lbfgs", "every setting"])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_a_picture_gives_back_every_setting_and_its_run_is_repeated_exactly(
    settings: list[str], ending: str, tmp_path: Path
) -> None:
    first, second = tmp_path / f"first{ending}", tmp_path / f"second{ending}"
    picture = stylized(first, PAINTING, OTHER, *settings)
    assert np.array_equal(stylized(second, PAINTING, OTHER, "--from", str(first)), picture)
    assert record_in(second)["config"] == record_in(first)["config"]


def test_flags_change_an_earlier_pictures_settings_and_the_rest_stays(output: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.png"
    stylized(earlier, PAINTING, OTHER, *TYPED)
    stylized(
        output, PAINTING, "--from", str(earlier), "--seed", "5", "--style-blend", "", "--colors", "style"
    )
    changed = {"seed": 5, "style_blend": (), "colors": "style"}
    assert restored_config(output) == replace(restored_config(earlier), **changed)


@pytest.mark.parametrize(
    ("name", "metadata", "hint"),
    [
        ("photo.jpg", None, "no record"),
        ("photo.png", None, "no record"),
        ("photo.tif", None, "no record"),
        ("photo.png", '{"config": {"size"', "damaged"),
        ("photo.png", "[]", "no settings"),
        ("photo.png", '{"config": {"brush": 3}}', "brush"),
        ("photo.png", '{"config": {"size": 3}}', "size"),
    ],
)
def test_settings_that_cannot_be_restored_are_refused(
    name: str, metadata: str | None, hint: str, output: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    earlier = tmp_path / name
    save_image(load_image(PHOTO, long_side=64), earlier, metadata=metadata)
    said = refused("stylize", PHOTO, PAINTING, "-o", str(output), "--from", str(earlier))
    assert said.startswith(f"{earlier}: ")
    assert hint in said


def test_a_preset_and_an_earlier_picture_exclude_each_other(
    output: Path, refused: Callable[..., str]
) -> None:
    said = refused("stylize", PHOTO, PAINTING, "-o", str(output), "--from", PHOTO, "--preset", "poster")
    assert "--from" in said
    assert "--preset" in said


def test_unknown_presets_are_refused(output: Path, refused: Callable[..., str]) -> None:
    said = refused("stylize", PHOTO, PAINTING, "-o", str(output), "--preset", "other")
    assert all(name in said for name in PRESETS)


# Several styles, a mask, and a picture to go on from


def test_the_images_are_read_at_the_sizes_they_are_needed_at(output: Path) -> None:
    picture = stylized(output, PAINTING, OTHER, *EXACT, "--style-scale", "2")
    config = restored_config(output)
    photo, *paintings = (
        load_image(path, long_side=side) for path, side in ((PHOTO, 64), (PAINTING, 128), (OTHER, 128))
    )
    *_, last = stylize(photo, paintings, config)
    assert np.array_equal(picture, to_uint8(last.image))


def test_several_styles_are_blended_by_weight(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    both = stylized(path, PAINTING, OTHER, *EXACT)
    assert np.array_equal(stylized(path, PAINTING, OTHER, "--style-blend", "3,3", *EXACT), both)
    one, other = stylized(path, PAINTING, *EXACT), stylized(path, OTHER, *EXACT)
    nearly = stylized(path, PAINTING, OTHER, "--style-blend", "100,0.01", *EXACT)
    apart = np.abs(one - other).mean()
    assert np.abs(nearly - one).mean() < apart / 10
    assert np.abs(both - one).mean() > apart / 10
    assert np.abs(both - other).mean() > apart / 10


def test_the_picture_and_the_report_have_the_same_record_with_every_image(
    output: Path, report: Path, tmp_path: Path
) -> None:
    files = {name: str(tmp_path / name) for name in ("mask.png", "start.jpg")}
    Image.new("L", (64, 64), 255).save(files["mask.png"])
    save_image(load_image(PHOTO, long_side=64), files["start.jpg"])
    images = ["--mask", files["mask.png"], "--start", files["start.jpg"]]
    stylized(output, OTHER, PAINTING, *images, "--report", str(report), *SMALL)
    record = record_in(output)
    assert record == json.loads(report.read_text(encoding="utf-8"))

    def entry(path: str) -> dict[str, str]:
        return {"name": Path(path).name, "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()}

    assert record["images"] == {
        "content": entry(PHOTO),
        "styles": [entry(OTHER), entry(PAINTING)],
        "mask": entry(files["mask.png"]),
        "start": entry(files["start.jpg"]),
    }
    stylized(output, PAINTING, *SMALL)
    assert record_in(output)["images"] == {"content": entry(PHOTO), "styles": [entry(PAINTING)]}


def test_an_image_may_have_a_name_that_is_not_utf8(output: Path, report: Path, tmp_path: Path) -> None:
    photo = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    photo.write_bytes(Path(PHOTO).read_bytes())
    assert main(["stylize", str(photo), PAINTING, "-o", str(output), "--report", str(report), *SMALL]) == 0
    for record in record_in(output), json.loads(report.read_text(encoding="utf-8")):
        assert record["images"]["content"]["name"] == "caf\\udce9.jpg"


@pytest.fixture
def half(tmp_path: Path) -> str:
    """A mask that is black at the left and white at the right, of another shape than the photo."""
    pixels = np.zeros((90, 160), np.uint8)
    pixels[:, 80:] = 255
    Image.fromarray(pixels).save(tmp_path / "half.png")
    return str(tmp_path / "half.png")


def test_what_is_black_in_the_mask_stays_the_photo(output: Path, half: str, tmp_path: Path) -> None:
    picture = stylized(output, PAINTING, "--mask", half, *SMALL)
    save_image(load_image(PHOTO, long_side=64), tmp_path / "photo.png")
    changed = np.abs(picture - pixels_of(tmp_path / "photo.png"))
    assert changed[:, :28].max() == 0  # of 64; the edge between is a little soft
    assert changed[:, 36:].mean() > 5


def test_the_mask_may_part_two_styles(output: Path, half: str) -> None:
    apart = stylized(output, PAINTING, OTHER, "--mask", half, "--mask-mode", "styles", *EXACT)
    swapped = stylized(output, OTHER, PAINTING, "--mask", half, "--mask-mode", "styles", *EXACT)
    right, left = stylized(output, PAINTING, *EXACT), stylized(output, OTHER, *EXACT)

    def distance(picture: np.ndarray) -> float:
        return np.abs(picture[:, 36:] - right[:, 36:]).mean() + np.abs(picture[:, :28] - left[:, :28]).mean()

    assert distance(apart) < distance(swapped) / 2


def test_a_run_goes_on_from_a_picture(output: Path, tmp_path: Path) -> None:
    start = str(tmp_path / "start.png")
    stylized(Path(start), PAINTING, *SMALL, "--iterations", "20")
    stylized(output, PAINTING, *SMALL, "--start", start)
    before, after = record_in(Path(start))["history"], record_in(output)["history"]
    assert after[0]["total"] < before[5]["total"]
    assert after[0]["total"] == pytest.approx(before[-1]["total"], rel=0.2)  # but for 8 bits


@pytest.mark.parametrize(("side", "sizes"), [(64, [128, 256]), (256, [256, 256])])
def test_a_run_that_goes_on_begins_at_the_size_of_its_start(
    side: int, sizes: list[int], output: Path, tmp_path: Path
) -> None:
    save_image(load_image(PHOTO, long_side=side), tmp_path / "start.png")
    stylized(output, PAINTING, *SMALL, "--size", "256", "--start", str(tmp_path / "start.png"))
    assert [row["size"] for row in record_in(output)["history"]] == sizes


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([PAINTING] * 5, "one to 4 style images"),
        ([PAINTING, "--style-blend", "2,1"], "as many weights as style images"),
        ([PAINTING, OTHER, "--style-blend", "2"], "as many weights as style images"),
        ([PAINTING, OTHER, "--style-blend", "2,0"], "numbers from 0.01 to 100"),
        ([PAINTING, OTHER, "--style-blend", "2,much"], "numbers from 0.01 to 100"),
        ([PAINTING, OTHER, "--style-blend", "2,"], "numbers from 0.01 to 100"),
        ([PAINTING, "--style-blend", "1,1,1,1,1"], "at most 4"),
        ([PAINTING, "--mask", "HALF", "--mask-mode", "styles"], "two style images"),
    ],
)
def test_styles_that_do_not_fit_are_refused(
    arguments: list[str], hint: str, half: str, output: Path, refused: Callable[..., str]
) -> None:
    given = [half if argument == "HALF" else argument for argument in arguments]
    assert hint in refused("stylize", PHOTO, *given, "-o", str(output), *SMALL)


def test_a_mask_without_white_is_refused(output: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "black.png")
    mask = ["--mask", str(tmp_path / "black.png")]
    assert "black all over" in refused("stylize", PHOTO, PAINTING, "-o", str(output), *mask, *SMALL)


# What is written


def test_strength_lays_the_picture_over_the_photo(output: Path, tmp_path: Path) -> None:
    photo, half, whole = (
        stylized(output, PAINTING, *EXACT, "--strength", part) for part in ("0", "0.5", "1")
    )
    save_image(load_image(PHOTO, long_side=64), tmp_path / "photo.png")
    assert np.array_equal(photo, pixels_of(tmp_path / "photo.png"))
    assert np.abs(half - (photo + whole) / 2).max() <= 1
    assert np.abs(whole - photo).mean() > 5


def test_a_tiff_has_16_bits_and_the_record(tmp_path: Path) -> None:
    path = tmp_path / "picture.tif"
    stylized(path, PAINTING, *SMALL)
    pixels = tifffile.imread(path)
    assert (pixels.dtype, pixels.shape) == (np.uint16, (48, 64, 3))
    assert np.mean(pixels % 257 == 0) < 0.1  # what 8 bits would be
    assert record_in(path)["ended"] == "finished"


def shown_in(path: Path) -> list[np.ndarray]:
    """The frames of an animation, (H, W, 3) each; of a video, all that it repeats."""
    if path.suffix == ".mp4":
        with av.open(str(path)) as video:
            return [frame.to_ndarray(format="rgb24").astype(int) for frame in video.decode(video=0)]
    with Image.open(path) as file:
        frames = []
        for number in range(file.n_frames):
            file.seek(number)
            frames.append(np.asarray(file.convert("RGB")).astype(int))
        return frames


@pytest.mark.parametrize(
    ("ending", "frames"),
    [
        (".webp", 1 + 7),
        (".mp4", 7 * 11 + 26),  # 7 frames in 6 s and 2 s for the last, each 11 times for 12 or more a second
    ],
)
def test_the_animation_goes_from_the_photo_to_the_picture(
    ending: str, frames: int, output: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"run{ending}"
    settings = [*SMALL, "--iterations", "7", "--strength", "0.75", "--quality", "100"]
    picture = stylized(output, PAINTING, "--animation", str(path), *settings)
    shown = shown_in(path)
    assert len(shown) == frames
    save_image(load_image(PHOTO, long_side=64), tmp_path / "photo.png")
    photo = pixels_of(tmp_path / "photo.png")
    apart = np.abs(picture - photo).mean()
    assert np.abs(shown[0] - photo).mean() < apart / 3
    assert np.abs(shown[-1] - picture).mean() < apart / 3


def test_the_animation_of_a_long_run_has_a_bounded_number_of_frames(output: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.webp"
    stylized(output, PAINTING, "--animation", str(path), *SMALL, "--iterations", "40")
    with Image.open(path) as animation:  # frames that are the same are one, shown for longer
        shown = [frame.load() and frame.info["duration"] for frame in ImageSequence.Iterator(animation)]
    assert sum(shown) == 8000
    assert all(milliseconds % 300 == 0 for milliseconds in shown[:-1])  # the photo, and every second step


def test_the_losses_are_a_table_with_one_row_a_step(output: Path, tmp_path: Path) -> None:
    path = tmp_path / "losses.csv"
    stylized(output, PAINTING, "--losses", str(path), *SMALL, "--iterations", "5")
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows == record_in(output)["history"]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]


def test_every_file_is_named_at_the_end(
    output: Path, report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    animation, losses = tmp_path / "run.mp4", tmp_path / "losses.csv"
    files = ["--losses", str(losses), "--animation", str(animation), "--report", str(report)]
    stylized(output, PAINTING, *files, *SMALL)
    assert capsys.readouterr().out.startswith(f"Wrote {output}, {animation}, {report} and {losses}: 64 x 48 ")
    assert {*tmp_path.iterdir()} == {output, animation, report, losses}


@pytest.mark.parametrize("ending", [".jpg", ".webp"])
def test_quality_is_that_of_the_picture_and_of_the_animation(ending: str, tmp_path: Path) -> None:
    picture, animation = (
        tmp_path / f"picture{ending}",
        tmp_path / f"run{'.webp' if ending == '.jpg' else '.mp4'}",
    )
    sizes = {}
    for quality in ["5"], ["100"], []:
        given = ["--quality", *quality] if quality else []
        stylized(picture, PAINTING, "--animation", str(animation), *given, *EXACT)
        sizes[*quality] = picture.stat().st_size, animation.stat().st_size
    for least, default, most in zip(sizes["5",], sizes[()], sizes["100",], strict=True):
        assert least < default < most


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


# Other bad input


def test_bad_input_is_one_line_on_stderr(output: Path) -> None:
    run = start("stylize", "missing.jpg", PAINTING, "-o", str(output))
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (2, "")
    assert re.fullmatch(r"missing\.jpg: .+\n", err)
    assert not output.exists()


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


@pytest.mark.parametrize("role", ["content", "style", "second style", "--mask", "--start", "--from"])
def test_images_that_cannot_be_read_are_refused(
    role: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    text, broken, missing = (tmp_path / name for name in ("text.jpg", "broken.jpg", "missing\nname.jpg"))
    text.write_text("no image")
    broken.write_bytes(Path(PHOTO).read_bytes()[:2000])
    for path in (text, broken, missing, tmp_path):
        images = {"content": [PHOTO], "style": [PAINTING]}
        images[role] = [role, str(path)] if role.startswith("--") else [str(path)]
        arguments = [part for parts in images.values() for part in parts]
        said = refused("stylize", *arguments, "-o", str(tmp_path / "picture.png"), *SMALL)
        assert " ".join(str(path).split()) in said


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


def test_a_refused_run_leaves_an_earlier_picture_alone(output: Path, refused: Callable[..., str]) -> None:
    output.write_bytes(b"an earlier picture")
    refused("stylize", "missing.jpg", PAINTING, "-o", str(output))
    assert output.read_bytes() == b"an earlier picture"


def test_weights_that_cannot_be_had_are_refused(
    output: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NST_WEIGHTS", str(tmp_path / "none.h5"))
    forget_backbones()
    said = refused("stylize", PHOTO, PAINTING, "-o", str(output), "--backbone", "vgg19")
    assert "NST_WEIGHTS" in said


@pytest.mark.parametrize(
    ("option", "ending", "hint"),
    [
        ("--report", ".json", "No space left"),
        ("--losses", ".csv", "No space left"),
        ("--animation", ".webp", "animation cannot be saved"),
        ("--animation", ".mp4", "animation cannot be saved"),
    ],
)
def test_a_full_disk_is_told_in_one_line(
    option: str, ending: str, hint: str, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is Linux's")
    full = tmp_path / f"full{ending}"
    full.symlink_to("/dev/full")
    assert main(["stylize", PHOTO, PAINTING, "-o", str(output), option, str(full), *SMALL]) == 1
    said = capsys.readouterr()
    assert hint in said.err.splitlines()[-1]
    assert "Traceback" not in said.err
    assert said.out == ""
    with Image.open(output) as picture:
        assert picture.size == (64, 48)


# Runs that end early


def write_loud_network(path: Path, scale: float) -> None:
    """A VGG-16 whose first layer hands on the pixels, times `scale`, and whose other layers are silent."""
    with h5py.File(path, "w") as file:
        inputs = 3
        for block, (count, outputs) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), start=1):
            for convolution in range(1, count + 1):
                layer = file.create_group(f"block{block}_conv{convolution}")
                layer.create_dataset("kernel", (3, 3, inputs, outputs), "f4", chunks=True)
                layer.create_dataset("bias", (outputs,), "f4")
                inputs = outputs
        kernel = np.zeros((3, 3, 3, 64), np.float32)
        kernel[1, 1] = scale
        file["block1_conv1/kernel"][...] = kernel


@pytest.fixture
def loud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], list[str]]]:
    """A run in such a network: its stripes are grey at 128 pixels, and what they do comes with 256."""
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "content.png")
    Image.fromarray(120 + stripes // 16).save(tmp_path / "style.png")

    def arguments(scale: float) -> list[str]:
        write_loud_network(tmp_path / "loud.h5", scale)
        monkeypatch.setenv("NST_WEIGHTS", str(tmp_path / "loud.h5"))
        forget_backbones()
        images = [str(tmp_path / "content.png"), str(tmp_path / "style.png")]
        layers = ["--content-layers", "block1_conv1:1", "--style-layers", "block1_conv1:0"]
        return ["stylize", *images, *layers, "--backbone", "vgg16", "--size", "256", "--iterations", "4"]

    yield arguments
    forget_backbones()


def test_a_run_that_fails_keeps_its_last_good_picture(
    loud: Callable[[float], list[str]], output: Path, report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*loud(3e8), "-o", str(output), "--report", str(report)]) == 1
    said = capsys.readouterr()
    *steps, last = said.err.splitlines()
    assert [line[:6] for line in steps] == ["step 1", "step 2"]
    assert last.endswith(f"The picture of step 2 of 4 is in {output}.")
    assert said.out == ""
    with Image.open(output) as picture:
        assert picture.size == (128, 128)
    record = json.loads(report.read_text(encoding="utf-8"))
    assert record["ended"] == "failed"
    assert [row["step"] for row in record["history"]] == [1, 2]


def test_a_run_that_fails_at_once_saves_nothing(
    loud: Callable[[float], list[str]], output: Path, report: Path, refused: Callable[..., str]
) -> None:
    arguments = loud(1e12)
    assert "smaller weights" in refused(*arguments, "-o", str(output), "--report", str(report), exit_code=1)


def test_ctrl_c_saves_everything_up_to_that_step(output: Path, report: Path) -> None:
    animation, losses = output.with_suffix(".webp"), output.with_suffix(".csv")
    files = [
        "-o",
        str(output),
        "--report",
        str(report),
        "--animation",
        str(animation),
        "--losses",
        str(losses),
    ]
    run = start(
        "stylize", PHOTO, PAINTING, *files, "--size", "96", "--iterations", "1000", "--backbone", "vgg16-hed"
    )
    assert run.stderr is not None
    assert run.stderr.readline().startswith("step 1 of 1000")
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (130, "")
    record = json.loads(report.read_text(encoding="utf-8"))
    last = record["history"][-1]["step"]
    assert err.splitlines()[-1] == f"Stopped at step {last} of 1000: the picture so far is in {output}."
    assert all(line.startswith("step ") for line in err.splitlines()[:-1])
    assert record["ended"] == "stopped"
    assert 1 <= last < 1000
    assert record_in(output) == record
    assert losses.read_text(encoding="utf-8").count("\n") == 1 + len(record["history"])
    shown = shown_in(animation)
    assert 2 <= len(shown) <= 33
    assert shown[-1].shape == pixels_of(output).shape == (72, 96, 3)


def test_ctrl_c_while_tensorflow_starts_is_one_line(output: Path) -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("only Linux tells what a process has loaded")
    run = start("stylize", PHOTO, PAINTING, "-o", str(output), "--size", "64")
    loaded = Path(f"/proc/{run.pid}/maps")
    deadline = time.monotonic() + 60
    while "libtensorflow" not in loaded.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (130, "")
    assert err == "Stopped early: nothing was saved.\n"
    assert not output.exists()


def test_ctrl_c_before_the_first_step_saves_nothing(
    tmp_path: Path, output: Path, refused: Callable[..., str]
) -> None:
    """The content image is a pipe that never ends, so that it is being read when Ctrl-C comes."""
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    done = threading.Event()

    def press() -> None:
        with pipe.open("wb"):  # once it is read at the other end
            os.kill(os.getpid(), signal.SIGINT)
            done.wait(60)

    finger = threading.Thread(target=press)
    finger.start()
    try:
        said = refused("stylize", str(pipe), PAINTING, "-o", str(output), *SMALL, exit_code=130)
    finally:
        done.set()
        finger.join()
    assert said == "Stopped early: nothing was saved.\n"


def test_ctrl_c_is_left_alone_where_the_shell_ignores_it(output: Path, report: Path) -> None:
    """As for a script's background jobs, which go on when Ctrl-C ends the script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    done = threading.Event()

    def press() -> None:
        while not done.wait(0.05):
            os.kill(os.getpid(), signal.SIGINT)

    finger = threading.Thread(target=press)
    finger.start()
    try:
        assert main(["stylize", PHOTO, PAINTING, "-o", str(output), "--report", str(report), *SMALL]) == 0
    finally:
        done.set()
        finger.join()
    assert json.loads(report.read_text(encoding="utf-8"))["ended"] == "finished"


def test_the_terminals_own_ctrl_c_is_given_back(output: Path) -> None:
    assert main(["stylize", PHOTO, PAINTING, "-o", str(output), *SMALL]) == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# On a terminal


def test_a_terminal_gets_a_bar_with_losses_and_time_left(output: Path) -> None:
    terminal, end = os.openpty()
    termios.tcsetwinsize(end, (24, 100))
    run = start("stylize", PHOTO, PAINTING, "-o", str(output), *SMALL, "--iterations", "5", stderr=end)
    os.close(end)
    shown = b""
    with suppress(OSError):  # how Linux says that the other end is closed
        while part := os.read(terminal, 65536):
            shown += part
    os.close(terminal)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 0
    assert out.startswith(f"Wrote {output}: ")
    *frames, cleared, rest = shown.decode().split("\r")
    frame = r"[█▏▎▍▌▋▊▉ ]+\| (\d)/5, 64 px, \d\d:\d\d left, content \S+, style \S+, total \S+ *"
    steps = [int(match[1]) for match in map(re.compile(frame).fullmatch, frames[2:]) if match]
    assert len(steps) == len(frames[2:]) >= 1  # after "", and the bar of no steps
    assert steps == sorted(set(steps))
    assert cleared.strip() == rest == ""
    assert "\n" not in shown.decode()


# A study


@pytest.fixture
def views(tmp_path: Path) -> Path:
    """A folder with two contents, of which the second is broken, and a style."""
    for role, name, text in (("content", "chenonceau", PHOTO), ("style", "wave", PAINTING)):
        (tmp_path / "views" / role).mkdir(parents=True)
        save_image(load_image(text, long_side=64), tmp_path / "views" / role / f"{name}.png")
    (tmp_path / "views" / "content" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path / "views"


STUDY = ["--sizes", "64", "--iterations", "2", "--backbones", "vgg16-hed"]


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
    weights = [str(weight) for weight in range(1, 21)]
    command = ["study", str(views), "--out", str(out), *STUDY, "--style-weight", *weights]
    run = start(*command)
    while len([*out.glob("runs/[0-9a-f]*")]) < 2:
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=120)
    assert run.returncode == 130
    made = len([*out.glob("runs/*/run.json")])
    assert 2 <= made < 20
    listed = f"Stopped: {made} of 20 runs are made, and listed in {out / 'index.html'}."
    assert err.splitlines()[-1] == f"{listed} The same command goes on from there."
    assert (out / "index.html").is_file()
    assert main(command) == 0
    assert len([*out.glob("runs/*/run.json")]) == 20


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
