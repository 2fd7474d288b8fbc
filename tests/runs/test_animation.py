"""Animations, decoded again: their frames, how long each is shown, and their colours."""

from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from comparison import EXAMPLES
from PIL import Image

from nst.engine.images import load_image, to_uint8
from nst.errors import ImageError
from nst.formats import ANIMATION_ENDINGS
from nst.runs.animation import save_animation

pytestmark = pytest.mark.quick

PHOTO = EXAMPLES / "content" / "chenonceau.jpg"

Shown = list[tuple[np.ndarray, float]]  # pixels (H, W, 3), and for how many seconds


def flat(*color: int, height: int = 32, width: int = 48) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """Return frames as of a run: small ones first, the photo ever brighter, and the painting at last."""
    photo, large = (to_uint8(load_image(PHOTO, long_side=side)) for side in (64, 128))
    wave = to_uint8(load_image(EXAMPLES / "style" / "hokusai-great-wave.jpg", long_side=128))
    return [photo // 4, photo // 2, photo, large // 2 + 64, np.ascontiguousarray(wave[: large.shape[0]])]


def webp(path: Path) -> Shown:
    with Image.open(path) as file:
        shown = []
        for number in range(file.n_frames):
            file.seek(number)
            pixels = np.asarray(file.convert("RGB")).astype(int)
            shown.append((pixels, file.info.get("duration", 0) / 1000))
        return shown


def mp4(path: Path) -> Shown:
    """Decode frames as players show them, which believe the tags of the file about its colours."""
    with av.open(str(path)) as file:
        (stream,) = file.streams
        decoded = [
            (frame.to_ndarray(format="rgb24").astype(int), frame.time) for frame in file.decode(stream)
        ]
        end = float(stream.duration * stream.time_base)
    times = [time for _, time in decoded] + [end]
    return [(pixels, after - time) for (pixels, time), after in zip(decoded, times[1:], strict=True)]


def read(path: Path) -> Shown:
    return {".webp": webp, ".mp4": mp4}[path.suffix](path)


def screen(shown: Shown, second: float) -> np.ndarray:
    """Return the frame that is shown at that second."""
    ends = np.cumsum([seconds for _, seconds in shown])
    return shown[int(np.searchsorted(ends, second, side="right"))][0]


def resampled(frame: np.ndarray, like: np.ndarray) -> np.ndarray:
    height, width, _ = like.shape
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)).astype(int)


@pytest.mark.parametrize("ending", ANIMATION_ENDINGS)
def test_every_frame_is_shown_equally_long_at_the_last_ones_size_and_the_last_is_held(
    frames, tmp_path, ending
):
    path = tmp_path / f"run{ending}"
    save_animation(frames, path, seconds=2.0)
    shown = read(path)
    assert sum(seconds for _, seconds in shown) == pytest.approx(4.0, abs=0.01)
    height, width, _ = frames[-1].shape
    for number, frame in enumerate(frames):
        first, last = number * 0.5, number * 0.5 + (2.0 if number == len(frames) - 1 else 0.5)
        for second in first + 0.03, last - 0.03:
            found = screen(shown, second)[:height, :width]
            assert np.abs(found - resampled(frame, frames[-1])).mean() < 6, (number, second)
    differences = [np.abs(resampled(a, b) - b).mean() for a, b in pairwise(frames)]
    assert min(differences) > 12  # so that one frame is not taken for its neighbour


@pytest.mark.parametrize("ending", [".webp", ".mp4", ".MP4"])
def test_the_frames_are_not_written_to_and_a_path_may_be_text(frames, tmp_path, ending):
    before = [frame.copy() for frame in frames]
    save_animation(frames, str(tmp_path / f"run{ending}"), seconds=0.5)
    assert [file.name for file in tmp_path.iterdir()] == [f"run{ending}"]
    for frame, copy in zip(frames, before, strict=True):
        assert np.array_equal(frame, copy)


def test_a_webp_repeats_for_ever_and_has_the_profile_of_srgb(frames, tmp_path):
    save_animation(frames, tmp_path / "run.webp")
    with Image.open(tmp_path / "run.webp") as file:
        assert file.format == "WEBP"
        assert file.n_frames == len(frames)
        assert file.info["loop"] == 0
        assert b"sRGB" in file.info["icc_profile"].replace(b"\0", b"")
    assert [seconds for _, seconds in webp(tmp_path / "run.webp")] == [1.5, 1.5, 1.5, 1.5, 2.0]


def test_an_mp4_is_of_a_kind_that_every_browser_plays(frames, tmp_path):
    save_animation(frames, tmp_path / "run.mp4")
    with av.open(str(tmp_path / "run.mp4")) as file:
        (stream,) = file.streams
        assert "mp4" in file.format.name
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        context = stream.codec_context
        bt709, limited, srgb = 1, 1, 13  # ITU-T H.273
        assert (context.color_primaries, context.colorspace) == (bt709, bt709)
        assert (context.color_trc, context.color_range) == (srgb, limited)
    content = (tmp_path / "run.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")  # a browser plays it before it has it all


@pytest.mark.parametrize(
    ("count", "seconds"), [(2, 6.0), (5, 6.0), (14, 1.0), (25, 1.0), (40, 1.1), (3, 0.1)]
)
def test_an_mp4_has_one_rate_of_12_to_30_frames_a_second(tmp_path, count, seconds):
    frames = [flat(5 * number, 100, 100) for number in range(count)]
    save_animation(frames, tmp_path / "run.mp4", seconds=seconds)
    durations = [seconds for _, seconds in mp4(tmp_path / "run.mp4")]
    assert max(durations) - min(durations) < 0.001
    assert 12 <= 1 / np.mean(durations) < 30.01
    assert sum(durations) == pytest.approx(seconds + 2, abs=0.05)


@pytest.mark.parametrize("ending", ANIMATION_ENDINGS)
@pytest.mark.parametrize(
    "color",
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 120, 60)],
)
def test_colours_are_kept(tmp_path, ending, color):
    path = tmp_path / f"run{ending}"
    save_animation([flat(90, 90, 90), flat(*color)], path, quality=90, seconds=0.5)
    found, _ = read(path)[-1]
    assert np.abs(found - color).max() <= 4


@pytest.mark.parametrize("ending", ANIMATION_ENDINGS)
def test_the_mean_colour_of_a_painting_is_kept(tmp_path, ending):
    for example in sorted((EXAMPLES / "style").glob("*.jpg"))[:4]:
        painting = to_uint8(load_image(example, long_side=128))
        save_animation([painting], tmp_path / f"run{ending}")
        height, width, _ = painting.shape
        found = read(tmp_path / f"run{ending}")[-1][0][:height, :width]
        assert np.abs(found.mean(axis=(0, 1)) - painting.mean(axis=(0, 1))).max() < 2
        assert np.abs(found - painting).mean() < 8


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 48), (32, 47), (33, 47)])
def test_an_odd_side_of_an_mp4_gets_one_pixel_more_and_nothing_moves(tmp_path, height, width):
    frame = flat(40, 40, 40, height=height, width=width)
    frame[-5:, :, :] = frame[:, -5:, :] = 220
    save_animation([frame], tmp_path / "run.mp4", quality=95)
    save_animation([frame], tmp_path / "run.webp", quality=95)
    found, _ = mp4(tmp_path / "run.mp4")[0]
    assert found.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(found[:height, :width] - frame.astype(int)).mean() < 4
    assert np.abs(found[height:] - 220).max(initial=0) < 12
    assert np.abs(found[:, width:] - 220).max(initial=0) < 12
    assert webp(tmp_path / "run.webp")[0][0].shape == frame.shape


@pytest.mark.parametrize("ending", ANIMATION_ENDINGS)
def test_of_more_frames_than_30_a_second_some_are_left_out_evenly(tmp_path, ending):
    frames = [flat(2 * number, 2 * number, 2 * number) for number in range(101)]
    path = tmp_path / f"run{ending}"
    save_animation(frames, path, quality=90, seconds=1.0)
    shown = read(path)
    assert sum(seconds for _, seconds in shown) == pytest.approx(3.0, abs=0.04)
    assert min(seconds for _, seconds in shown) > 0.02
    assert np.abs(shown[0][0]).max() <= 3
    assert np.abs(shown[-1][0] - 200).max() <= 3
    for second in 0.25, 0.5, 0.75:
        assert np.abs(screen(shown, second).mean() - 200 * second) < 9


@pytest.mark.parametrize("ending", ANIMATION_ENDINGS)
@pytest.mark.parametrize("alone", ["the only frame", "no time for others"])
def test_the_last_frame_alone_is_a_still_picture(frames, tmp_path, ending, alone):
    path = tmp_path / f"run{ending}"
    if alone == "the only frame":
        save_animation(frames[-1:], path)
    else:
        save_animation(frames, path, seconds=0)
    height, width, _ = frames[-1].shape
    assert np.abs(read(path)[0][0][:height, :width] - frames[-1]).mean() < 6
    with Image.open(path) if ending == ".webp" else av.open(str(path)) as file:
        assert ending == ".mp4" or file.n_frames == 1
        assert ending == ".webp" or file.duration == pytest.approx(2_000_000, abs=1)


@pytest.mark.parametrize("ending", ANIMATION_ENDINGS)
def test_a_higher_quality_is_nearer_to_the_frames_in_a_larger_file(frames, tmp_path, ending):
    path, sizes, errors = tmp_path / f"run{ending}", [], []
    height, width, _ = frames[-1].shape
    for options in {"quality": 1}, {"quality": 50}, {}, {"quality": 100}:  # the default is 80
        save_animation(frames, path, **options, seconds=0.5)
        sizes.append(path.stat().st_size)
        errors.append(np.abs(read(path)[-1][0][:height, :width] - frames[-1].astype(int)).mean())
    assert sizes == sorted({*sizes})
    assert errors == sorted({*errors}, reverse=True)


def refusal(*arguments, **options) -> str:
    with pytest.raises(ImageError) as caught:
        save_animation(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", ["run.gif", "run.png", "run", ".mp4", "run.mp4.txt"])
def test_other_endings_are_refused_and_nothing_is_written(frames, tmp_path, name):
    assert (
        refusal(frames, tmp_path / name)
        == "Animations are saved as .webp, .mp4: please use one of these endings."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ANIMATION_ENDINGS)
def test_no_frames_and_any_other_quality_are_refused_and_nothing_is_written(frames, tmp_path, ending):
    path = tmp_path / f"run{ending}"
    assert refusal([], path) == "There is nothing to animate: please let the run take a step first."
    for quality in 0, 101, 80.5, None:
        sentence = refusal(frames, path, quality=quality)
        assert sentence == "Please set the quality to a whole number from 1 to 100."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ANIMATION_ENDINGS)
def test_a_place_that_cannot_be_written_is_refused(frames, tmp_path, ending):
    (tmp_path / f"folder{ending}").mkdir()
    (tmp_path / "file").write_text("")
    for place in f"missing/run{ending}", f"folder{ending}", f"file/run{ending}":
        sentence = refusal(frames, tmp_path / place, seconds=0.5)
        assert sentence == "The animation cannot be saved: check that the folder exists and is writable."


@pytest.mark.parametrize("ending", ANIMATION_ENDINGS)
def test_any_file_name_works(frames, tmp_path, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    for name in f"http:%03d α{ending}", b"caf\xe9".decode(errors="surrogateescape") + ending:
        save_animation(frames[:2], name, seconds=0.5)
        assert (tmp_path / name).stat().st_size > 500
