"""The command `stylize`: what it writes, from which settings and images, and how it fails."""

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageSequence

from nst.cli.main import main
from nst.config import PRESETS, SETTINGS, TransferConfig
from nst.engine.images import load_image, save_image, to_uint8
from nst.engine.stylize import stylize
from nst.engine.weights import forget_backbones
from nst.formats import SAVED_ENDINGS
from nst.runs.record import has_plateaued, restored_config
from tests.cli.commands import (
    EXACT,
    FLAGS,
    OTHER,
    PAINTING,
    PHOTO,
    ROOT,
    SMALL,
    TYPED,
    pixels_of,
    record_in,
    shown_in,
    stylized,
)

# A whole run


def test_the_command_says_once_that_the_losses_have_levelled_off(
    output: Path, report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["-o", str(output), "--report", str(report)]
    soon_flat = ["--size", "32", "--style-weight", "0.1", "--optimizer", "adam", "--iterations", "130"]
    assert main(["stylize", PHOTO, PAINTING, *files, *SMALL, *soon_flat]) == 0
    said = r"^Step (\d+) of 130: the losses have levelled off\. Ctrl-C keeps this picture\.$"
    (step,) = re.findall(said, capsys.readouterr().err, re.MULTILINE)
    history = json.loads(report.read_text(encoding="utf-8"))["history"]
    assert [has_plateaued(history[: int(step) - ago]) for ago in (1, 0)] == [False, True]


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
    assert FLAGS.keys() == SETTINGS.keys()
    picture = stylized(output, PAINTING, OTHER, "--report", str(report), *TYPED)
    record = json.loads(report.read_text(encoding="utf-8"))
    assert record["config"] == {name: value for name, (_, value) in FLAGS.items()}
    assert picture.shape == (60, 80, 3)


def test_settings_have_the_defaults_of_the_config(output: Path, report: Path) -> None:
    assert main(["stylize", PHOTO, PAINTING, "-o", str(output), "--report", str(report), *SMALL]) == 0
    config = json.loads(report.read_text(encoding="utf-8"))["config"]
    expected = TransferConfig(size=64, iterations=2, backbone="vgg16")
    for name, value in config.items():
        default = getattr(expected, name)
        assert value == (list(default) if isinstance(default, tuple) else default)


# Where the settings come from


def test_flags_change_a_preset_and_the_rest_stays(output: Path) -> None:
    stylized(output, PAINTING, "--preset", "poster", "--tv-weight", "50", *SMALL)
    changed = {"tv_weight": 50, "size": 64, "iterations": 2, "backbone": "vgg16"}
    assert restored_config(output) == replace(PRESETS["poster"], **changed)
    assert restored_config(output).style_layers != TransferConfig().style_layers


def test_a_flag_counts_even_where_it_gives_the_default(output: Path) -> None:
    stylized(output, PAINTING, "--preset", "light-wash", "--style-weight", "10", *SMALL)
    assert PRESETS["light-wash"].style_weight != TransferConfig().style_weight == 10
    changed = {"style_weight": 10, "size": 64, "iterations": 2, "backbone": "vgg16"}
    assert restored_config(output) == replace(PRESETS["light-wash"], **changed)


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


def test_a_picture_of_an_earlier_version_is_restored_and_says_so(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (earlier, *_) = sorted((ROOT / "tests/study/earlier").glob("study/runs/*/result.png"))
    assert record_in(earlier)["config"]["backbone"] == "vgg16-hed"
    stylized(output, PAINTING, "--from", str(earlier), "--iterations", "3")
    note, *steps = capsys.readouterr().err.splitlines()
    assert note == (
        f"{earlier}: An earlier version made this picture with another network and other scales of the "
        "weights: a new run will look different."
    )
    assert all(line.startswith("step ") for line in steps)
    expected = {**record_in(earlier)["config"], "backbone": "vgg16", "iterations": 3}
    assert record_in(output)["config"] == expected

    stylized(output, PAINTING, "--from", str(output), "--iterations", "2")
    assert all(line.startswith("step ") for line in capsys.readouterr().err.splitlines())


def test_a_refused_run_says_nothing_about_an_earlier_version(
    output: Path, refused: Callable[..., str]
) -> None:
    (earlier, *_) = sorted((ROOT / "tests/study/earlier").glob("study/runs/*/result.png"))
    assert "missing.jpg" in refused(
        "stylize", PHOTO, "missing.jpg", "-o", str(output), "--from", str(earlier)
    )


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
    Image.new("L", (64, 48), 255).save(files["mask.png"])
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
    """A mask that is black at the left and white at the right, of another size than the photo."""
    pixels = np.zeros((120, 160), np.uint8)
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


# Bad input


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


# Runs that fail


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
