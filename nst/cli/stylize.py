"""The command `stylize`: one photo in the style of one or more paintings."""

import argparse
import json
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nst.cli.command import CommandError, CtrlC, check_destination
from nst.cli.parser import given_settings
from nst.cli.progress import show_steps
from nst.config import DEFAULT_PRESET, PRESETS
from nst.engine.images import check_quality, save_image
from nst.engine.weights import load_backbone
from nst.errors import ImageError, RecordError, TransferError
from nst.formats import ANIMATION_ENDINGS, SAVED_ENDINGS
from nst.runs.animation import frames_over_photo, save_animation
from nst.runs.job import Job, read_inputs
from nst.runs.record import Restored, printable, restore_from, save_losses, save_record
from nst.runs.recorder import Recorder
from nst.runs.runner import LocalRunner


def run(arguments: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        CommandError, UserError: with the line that ends it.
        KeyboardInterrupt: before the first step.
    """
    # 1. Check everything that was given, before anything is computed.
    config, note = _read_config(arguments)
    if arguments.quality is not None:
        check_quality(arguments.quality)
    destinations = _check_destinations(arguments)
    job = read_inputs(
        config,
        arguments.content,
        arguments.styles,
        mask=arguments.mask,
        start=arguments.start,
        label=lambda role, path: str(path),
    )

    # 2. Run. From here on Ctrl-C keeps the picture so far.
    if note:
        print(printable(f"{arguments.earlier}: {note}"), file=sys.stderr)
    ctrl_c = CtrlC()
    backbone = load_backbone(config.backbone)
    recorder = Recorder(config) if arguments.animation else Recorder(config, most_moments=0)
    with ctrl_c, closing(LocalRunner()) as runner:
        steps = recorder.follow(runner.stylize(job, ctrl_c.pressed), ctrl_c.pressed)
        try:
            for _ in show_steps(steps, config, recorder):
                pass
        except TransferError as error:
            if recorder.progress is None:
                raise CommandError(str(error), 1) from error
        if recorder.progress is None:
            raise KeyboardInterrupt

        # 3. Save.
        _save(arguments, job, recorder, recorder.record(job, backbone))

    # 4. Say how it ended.
    progress = recorder.progress
    at = f"step {progress.step} of {progress.steps}"
    if recorder.failure:
        raise CommandError(f"{recorder.failure} The picture of {at} is in {arguments.output}.", 1)
    if ctrl_c.pressed():
        raise CommandError(f"Stopped at {at}: the picture so far is in {arguments.output}.", 130)
    height, width = progress.image.shape[1:3]
    *others, last = map(str, destinations)
    written = f"{', '.join(others)} and {last}" if others else last
    took = tqdm.format_interval(progress.seconds)
    print(printable(f"Wrote {written}: {width} x {height} pixels, {len(recorder.history)} steps in {took}."))


def _read_config(arguments: argparse.Namespace) -> Restored:
    """Take the settings that were given, and the others from the earlier picture or the preset."""
    base = Restored(PRESETS[arguments.preset or DEFAULT_PRESET])
    if arguments.earlier:
        try:
            base = restore_from(arguments.earlier)
        except (ImageError, RecordError) as error:
            raise CommandError(f"{arguments.earlier}: {error}", 2) from error
    return base._replace(config=replace(base.config, **given_settings(arguments)))


def _check_destinations(arguments: argparse.Namespace) -> list[Path]:
    """List every file to write, after finding out that each can be written, and none is written twice."""
    paths: dict[Path, Path] = {}
    for path, endings in (
        (arguments.output, SAVED_ENDINGS),
        (arguments.animation, ANIMATION_ENDINGS),
        (arguments.report, (".json",)),
        (arguments.losses, (".csv",)),
    ):
        if path is None:
            continue
        check_destination(path, endings)
        if paths.setdefault(path.resolve(), path) is not path:
            raise CommandError(f"{path} would be written twice: please give each file a name of its own.", 2)
    return list(paths.values())


def _save(arguments: argparse.Namespace, job: Job, recorder: Recorder, record: dict[str, Any]) -> None:
    """Write every file that was asked for."""
    assert recorder.progress is not None
    picture = recorder.result(job)
    quality = {"quality": arguments.quality} if arguments.quality else {}
    try:
        save_image(picture, arguments.output, metadata=json.dumps(record), **quality)
        if arguments.report:
            save_record(record, arguments.report)
        if arguments.losses:
            save_losses(record["history"], arguments.losses)
        if arguments.animation:
            moments = (moment.pixels for moment in recorder.moments)
            frames = frames_over_photo(job.content, moments, job.config.strength)
            save_animation(frames, arguments.animation, **quality)
    except (ImageError, OSError) as error:
        raise CommandError(f"The run has ended, but not all of it could be saved: {error}", 1) from error
