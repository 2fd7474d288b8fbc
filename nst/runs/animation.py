"""The pictures of a run as an animation."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import ceil
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from PIL import Image

from nst.engine.color import blend
from nst.engine.images import SRGB_PROFILE, Pixels, check_quality, from_uint8, to_uint8
from nst.errors import ImageError
from nst.formats import ANIMATION_ENDINGS

HOLD = 2.0  # seconds that the last frame is shown

_MAX_RATE = 30  # frames a second
_MIN_VIDEO_RATE = 12  # some players stumble over slower videos, so frames are repeated


def save_animation(
    frames: Sequence[Pixels], path: Path | str, *, quality: int = 80, seconds: float = 6.0
) -> None:
    """Write an animation in which every frame has the size of the last one, which is held for two seconds.

    Args:
        frames: uint8 (H, W, 3), sRGB, of any sizes. Of over 30 a second, some are left out, evenly.
        path: ends with .webp for an animated WebP, which repeats for ever, or with .mp4 for H.264, where an
            odd side gets one pixel more.
        quality: from 1 to 100.
        seconds: the time of all frames but the last, each shown equally long.

    Raises:
        ImageError: there are no frames, the ending or the quality is unknown, or the file cannot be written.
    """
    ending = Path(path).suffix.lower()
    if ending not in ANIMATION_ENDINGS:
        raise ImageError(
            f"Animations are saved as {', '.join(ANIMATION_ENDINGS)}: please use one of these endings."
        )
    check_quality(quality)
    if not frames:
        raise ImageError("There is nothing to animate: please let the run take a step first.")
    height, width, _ = frames[-1].shape
    count = min(len(frames), 1 + int(_MAX_RATE * seconds))
    chosen = np.linspace(len(frames) - 1, 0, count).round().astype(int)[::-1]  # always the last
    save = {".webp": _save_webp, ".mp4": _save_mp4}[ending]
    try:
        save([_to_picture(frames[index], width, height) for index in chosen], Path(path), quality, seconds)
    except OSError as error:
        raise ImageError(
            "The animation cannot be saved: check that the folder exists and is writable."
        ) from error


def frames_over_photo(photo: Pixels, moments: Iterable[Pixels], strength: float) -> list[Pixels]:
    """Lay the moments of a run over the photo, as the frames of an animation that begins with the photo.

    Args:
        photo: uint8 (H, W, 3).
        moments: uint8 (h, w, 3) each, of any sizes.
        strength: opacity of the moments, from 0 to 1.

    Returns:
        uint8 (h, w, 3) each.
    """
    under = from_uint8(photo)
    return [photo, *(to_uint8(blend(from_uint8(moment), under, strength)) for moment in moments)]


def _to_picture(frame: Pixels, width: int, height: int) -> Image.Image:
    picture = Image.fromarray(frame)
    if picture.size == (width, height):
        return picture
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _save_webp(pictures: list[Image.Image], path: Path, quality: int, seconds: float) -> None:
    first, *others = pictures
    durations = [round(1000 * seconds / len(others))] * len(others) if others else []
    first.save(
        path,
        save_all=True,
        append_images=others,
        duration=[*durations, round(1000 * HOLD)],
        loop=0,  # for ever
        quality=quality,
        icc_profile=SRGB_PROFILE,
    )


def _save_mp4(pictures: list[Image.Image], path: Path, quality: int, seconds: float) -> None:
    steps = len(pictures) - 1
    repeats = ceil(_MIN_VIDEO_RATE * seconds / steps) if steps else 1
    rate = Fraction(steps * repeats / seconds if steps else _MIN_VIDEO_RATE).limit_denominator(1000)
    # An absolute path, because FFmpeg takes the text before a colon for a protocol.
    with av.open(path.absolute(), "w", format="mp4", options={"movflags": "faststart"}) as file:
        stream = file.add_stream("libx264", rate=rate, options={"crf": str(51 - round(0.41 * quality))})
        stream.width, stream.height = (side + side % 2 for side in pictures[0].size)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context  # its tags keep players from guessing the colours
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.IEC61966_2_1
        ticks = 0
        for number, picture in enumerate(pictures):
            frame = _to_video_frame(picture)
            for _ in range(repeats if number < steps else round(HOLD * rate)):
                frame.pts = ticks
                file.mux(stream.encode(frame))
                ticks += 1
        file.mux(stream.encode())


def _to_video_frame(picture: Image.Image) -> av.VideoFrame:
    to_even = ((0, picture.height % 2), (0, picture.width % 2), (0, 0))
    pixels = np.pad(np.asarray(picture), to_even, mode="edge")
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
