"""The command line: python -m nst stylize | study | bench."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import Field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tqdm import tqdm

import nst

if TYPE_CHECKING:  # main() imports what starts TensorFlow
    import numpy as np
    import tensorflow as tf

    import nst.config
    import nst.engine.images
    import nst.engine.parameterization
    import nst.engine.stylize
    import nst.presets
    import nst.runs.animation
    import nst.runs.record
    import nst.runs.recorder
    import nst.runs.runner
    import nst.study.datasets
    import nst.study.folder


class CommandError(Exception):
    """What ends the command: a line for the person who typed it, and the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out the command line `argv`, by default the program's own, and return the exit code."""
    try:
        with _tensorflow_silent():
            for module in ("runs.animation", "presets", "runs.recorder", "study.folder"):
                importlib.import_module(f"nst.{module}")
        logging.basicConfig(format="%(message)s")
        arguments = _parser().parse_args(argv)
        arguments.carry_out(arguments)
        return 0
    except KeyboardInterrupt:
        message, exit_code = "Stopped early: nothing was saved.", 130
    except CommandError as error:
        message, exit_code = error.args
    except (nst.ConfigError, nst.ImageError, nst.WeightsError) as error:
        message, exit_code = str(error), 2
    print(" ".join(message.split()), file=sys.stderr)
    return exit_code


@contextmanager
def _tensorflow_silent() -> Iterator[None]:
    """Keep TensorFlow's start-up messages from stderr.

    The first are written by C++ before it heeds TF_CPP_MIN_LOG_LEVEL (tensorflow/tensorflow#100442).
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{self.prog}: {message} (see --help)", 2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m nst", description="Neural style transfer.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    purpose = "paint a photo as a painting is painted"
    stylize = commands.add_parser("stylize", help=purpose, description=purpose, allow_abbrev=False)
    stylize.add_argument("content", metavar="CONTENT", type=Path, help="the content image, a file")
    styles = f"the style image, a file; or up to {nst.config.MAX_STYLES} of them, which are blended"
    stylize.add_argument("styles", metavar="STYLE", type=Path, nargs="+", help=styles)
    output = (
        f"the picture to write: {', '.join(nst.engine.images.SAVED_ENDINGS)}; "
        "TIFF has 16 bits a channel; PNG and TIFF keep the record of the run"
    )
    stylize.add_argument("-o", "--output", metavar="OUT.png", type=Path, required=True, help=output)
    animation = f"the animation of the run to write: {', '.join(nst.runs.animation.ANIMATION_ENDINGS)}"
    for flag, metavar, text in (
        ("--mask", "FILE", "an image, of any size: what is white in it is painted"),
        ("--start", "PICTURE", "a picture to go on from, beginning at its size"),
        ("--animation", "FILE", animation),
        ("--report", "RUN.json", "the record to write: config, versions, and the losses of each step"),
        ("--losses", "FILE.csv", "the losses of each step to write, as a table"),
    ):
        stylize.add_argument(flag, metavar=metavar, type=Path, help=text)
    quality = "quality of JPEG, WebP and the animation, from 1 to 100 (default: 95, of the animation 80)"
    stylize.add_argument("--quality", metavar="N", type=int, help=quality)
    settings = stylize.add_argument_group("settings")
    base = settings.add_mutually_exclusive_group()
    preset = "named settings to begin with; the flags below change them"
    base.add_argument("--preset", choices=tuple(nst.presets.PRESETS), help=preset)
    earlier = (
        "settings to begin with: those of the run that wrote this PNG or TIFF; the flags below change them"
    )
    base.add_argument("--from", dest="earlier", metavar="PICTURE", type=Path, help=earlier)
    for setting in fields(nst.TransferConfig):
        _add_setting(settings, setting)
    stylize.set_defaults(carry_out=_stylize)

    purpose = "paint every pair of a dataset, and compare them"
    study = commands.add_parser("study", help=purpose, description=purpose, allow_abbrev=False)
    dataset = "a dataset of the examples by its name, or a folder with content/ and style/ in it"
    study.add_argument("dataset", metavar="DATASET", help=dataset)
    out = "the folder to write: index.html, runs.csv, and a folder for each run; what is there already stays"
    study.add_argument("--out", metavar="DIR", type=Path, required=True, help=out)
    pairs = "the pairs to paint instead of all: a CSV file of a content image and a style image a line"
    study.add_argument("--pairs", metavar="FILE", type=Path, help=pairs)
    gallery = "also write each pair as a JPEG and its run record into this folder, as the page shows them"
    study.add_argument("--gallery", metavar="DIR", type=Path, help=gallery)
    settings = study.add_argument_group("settings")
    settings.add_argument("--preset", choices=tuple(nst.presets.PRESETS), help=preset)
    for setting in fields(nst.TransferConfig):
        _add_setting(settings, setting, varied=setting.name in nst.study.folder.AXES)
    nst.runs.runner.add_options(study)
    study.set_defaults(carry_out=_study, earlier=None)

    purpose = "measure our procedure against the common ones, which takes hours"
    bench = commands.add_parser("bench", help=purpose, description=purpose, allow_abbrev=False)
    for flag, default, text in (
        ("--size", 512, "long side of the pictures in pixels"),
        ("--pairs", 3, "how many pairs of example images"),
        ("--repeats", 1, "how often each is run"),
        ("--patience", 10, "how many times the first reference's seconds Adam may take to reach its loss"),
    ):
        bench.add_argument(flag, type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    objective = "Gatys' explicit weights, the product's scaled form, or both (default)"
    bench.add_argument("--objective", choices=("gatys", "scaled", "both"), default="both", help=objective)
    bench.add_argument("--json", metavar="FILE", type=Path, help="where to write everything measured")
    page = "the page of loss against seconds to write (default: bench.html)"
    bench.add_argument("--html", metavar="FILE", type=Path, default=Path("bench.html"), help=page)
    bench.set_defaults(carry_out=_bench)
    return parser


def _add_setting(group: argparse._ArgumentGroup, setting: Field[Any], *, varied: bool = False) -> None:
    text, default = setting.metadata["help"], str(setting.default)
    options: dict[str, Any]
    if "choices" in setting.metadata:
        options = {"choices": setting.metadata["choices"]}
    elif "range" in setting.metadata:
        low, high = setting.metadata["range"]
        text = f"{text}, from {low:,} to {high:,}"
        options = {"metavar": "N", "type": _number}
    elif setting.name == "style_blend":
        default, options = "none", {"metavar": "WEIGHT,...", "type": _numbers}
    else:
        default = ",".join(setting.default)  # type: ignore[arg-type]
        options = {"metavar": "NAME[:WEIGHT],...", "type": _items}
    flag = "--" + setting.name.replace("_", "-")
    if varied:
        flag += "" if setting.name.endswith("_weight") else "s"
        text, options = f"{text}; several make a grid", {**options, "nargs": "+", "dest": setting.name}
    # A flag that is not typed leaves the setting to the preset or the earlier picture.
    group.add_argument(flag, default=argparse.SUPPRESS, help=f"{text} (default: {default})", **options)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # TransferConfig says which numbers it takes


def _numbers(text: str) -> list[float | str]:
    return [_number(item) for item in text.split(",")] if text else []


def _items(text: str) -> list[str]:
    return text.split(",")


def _stylize(arguments: argparse.Namespace) -> None:
    config = _config(arguments)
    if arguments.quality is not None:
        nst.engine.images.check_quality(arguments.quality)
    destinations = _destinations(arguments)
    content, content_entry = _read(arguments.content, config.size)
    size = round(config.size * config.style_scale)
    styles, style_entries = zip(*(_read(path, size) for path in arguments.styles), strict=True)
    images = {"content": content_entry, "styles": style_entries}
    mask = start = None
    if arguments.mask:
        mask, images["mask"] = _read(arguments.mask, config.size)
        mask = nst.engine.parameterization.luminance(mask)
    if arguments.start:
        start, images["start"] = _read(arguments.start)

    over_photo = partial(nst.engine.parameterization.blended, photo=content, strength=config.strength)
    pressed: list[int] = []
    steps = nst.stylize(content, styles, config, mask=mask, start=start, stop=lambda: bool(pressed))
    del styles  # those of a large picture take memory that it needs
    backbone = nst.load_backbone(config.backbone)  # once more: the one that the steps are made with
    progress, history, snapshots, failure = None, [], nst.runs.recorder.Snapshots(), None
    with _ctrl_c(pressed):
        try:
            for progress in _shown(steps, config):
                history.append(nst.runs.record.history_row(progress))
                if arguments.animation:
                    snapshots.add(replace(progress, image=over_photo(progress.image)))
        except nst.TransferError as error:
            failure = error
        if progress is None:
            raise CommandError(str(failure), 1) if failure else KeyboardInterrupt
        ended = "failed" if failure else "stopped" if pressed else "finished"
        record = nst.runs.record.run_record(config, backbone, history, ended, images)
        frames = [nst.to_uint8(content), *(moment.pixels for moment in snapshots.moments)]
        _save(arguments, over_photo(progress.image), record, frames)

    at = f"step {progress.step} of {progress.steps}"
    if failure:
        raise CommandError(f"{failure} The picture of {at} is in {arguments.output}.", 1)
    if pressed:
        raise CommandError(f"Stopped at {at}: the picture so far is in {arguments.output}.", 130)
    height, width = progress.image.shape[1:3]
    *others, last = map(str, destinations)
    written = f"{', '.join(others)} and {last}" if others else last
    took = tqdm.format_interval(progress.seconds)
    print(_plain(f"Wrote {written}: {width} x {height} pixels, {len(history)} steps in {took}."))


def _config(arguments: argparse.Namespace) -> nst.TransferConfig:
    """The settings that were typed; the others are the preset's, the earlier picture's, or the defaults."""
    names = {setting.name for setting in fields(nst.TransferConfig)}
    typed = {name: value for name, value in vars(arguments).items() if name in names}
    for name in ("content_layers", "style_layers"):
        if name in typed:
            typed[name] = nst.config.parse_layers(typed[name])
    base = nst.TransferConfig()
    if arguments.preset:
        base = nst.presets.PRESETS[arguments.preset]
    if arguments.earlier:
        with _naming(arguments.earlier):
            base = nst.runs.record.restored_config(arguments.earlier)
    return replace(base, **typed)


def _study(arguments: argparse.Namespace) -> None:
    from nst.study import report as index  # Plotly is needed here alone

    axes = {name: vars(arguments).pop(name) for name in nst.study.folder.AXES if name in arguments}
    try:
        dataset = nst.study.datasets.find_dataset(arguments.dataset)
        pairs = nst.study.folder.read_pairs(arguments.pairs, dataset) if arguments.pairs else None
    except (nst.study.datasets.CatalogError, nst.study.folder.StudyError) as error:
        raise CommandError(str(error), 2) from error
    except OSError as error:
        raise CommandError(f"{arguments.pairs} cannot be read: {error.strerror}.", 2) from error
    plan = nst.study.folder.Plan(dataset, nst.study.folder.grid(_config(arguments), axes), pairs)
    if arguments.gallery and len(plan.configs) > 1:
        raise CommandError("Please give --gallery one setting of everything: it has one picture a pair.", 2)
    folder = nst.study.folder.StudyFolder(arguments.out)
    pressed: list[int] = []
    try:
        with folder.locked(), closing(nst.runs.runner.runner_of(arguments)) as runner, _ctrl_c(pressed):
            outcomes = nst.study.folder.carry_out(plan, folder, runner, stop=lambda: bool(pressed))
            made, failed = _counted(outcomes, plan)
            index.write_index(plan, folder)
            if arguments.gallery:
                nst.study.folder.write_gallery(plan, folder, arguments.gallery)
    except nst.study.folder.StudyError as error:
        raise CommandError(str(error), 2) from error
    except (nst.ImageError, nst.runs.runner.RunnerError) as error:
        message = f"{arguments.out}: {error} What had been made is there, and the same command goes on."
        raise CommandError(message, 1) from error
    except OSError as error:
        raise CommandError(f"{arguments.out} cannot be written: {error.strerror}.", 2) from error
    page = arguments.out / "index.html"
    if pressed:
        so_far = f"{made} of {len(plan)} runs are made, and listed in {page}"
        raise CommandError(f"Stopped: {so_far}. The same command goes on from there.", 130)
    if failed:
        raise CommandError(f"{failed} of {len(plan)} runs failed: {page} says why.", 1)
    print(_plain(f"Wrote {page}: {len(plan)} runs."))


def _counted(outcomes: Iterator[nst.study.folder.Outcome], plan: nst.study.folder.Plan) -> tuple[int, int]:
    """How many runs are made and how many have failed, shown as they do: a bar, or elsewhere a line a run."""
    made = failed = 0
    left, spent, seconds, last = plan.cost, 0.0, 0.0, time.perf_counter()
    look = {"bar_format": "{bar}| {n_fmt}/{total_fmt} runs{postfix}", "dynamic_ncols": True}
    with tqdm(total=len(plan), miniters=1, disable=None, **look) as bar:
        for outcome in outcomes:
            now = time.perf_counter()
            left -= outcome.planned.cost
            if outcome.new and outcome.reason is None:
                spent, seconds = spent + outcome.planned.cost, seconds + now - last
            last = now
            failed += outcome.reason is not None
            made += outcome.reason is None
            state = f"{tqdm.format_interval(seconds * left / spent) if spent else '?'} left"
            bar.set_postfix_str(state, refresh=False)
            bar.update()
            title = _plain(plan.title(outcome.planned))
            if outcome.reason:
                bar.write(f"{title} failed: {outcome.reason}", file=sys.stderr)
            elif bar.disable and outcome.new:
                print(f"{made + failed} of {len(plan)}, {state}: {title}", file=sys.stderr, flush=True)
    return made, failed


def _bench(arguments: argparse.Namespace) -> None:
    from nst.benchmark import references as bench  # SciPy is needed here alone

    low, _ = nst.TransferConfig.__dataclass_fields__["size"].metadata["range"]
    for name, least, most in (
        ("size", low, bench.MAX_SIZE),
        ("pairs", 1, len(bench.PAIRS)),
        ("repeats", 1, 100),
        ("patience", 1, 100),
    ):
        if not least <= getattr(arguments, name) <= most:
            raise CommandError(f"Please set --{name} to a whole number from {least} to {most}.", 2)
    _check_destination(arguments.html, (".html",))
    if arguments.json:
        _check_destination(arguments.json, (".json",))
    objectives = ("gatys", "scaled") if arguments.objective == "both" else (arguments.objective,)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    about = {**bench.machine(), "size": arguments.size}
    settings = arguments.size, arguments.pairs, arguments.repeats, arguments.patience
    grown: list[bench.Growth] = []
    results: list[bench.Result] = []
    for config in bench.sizes_and_steps(arguments.size):
        with _tensorflow_silent():  # in the new process too
            grown.append(bench.growth(config))
        say(f"{config.size} px, {config.iterations} steps: {grown[-1].seconds:.1f} s")
    try:
        for result in bench.compare(*settings, objectives, say):
            results.append(result)
            if arguments.json:
                bench.save(about, results, grown, arguments.json)
    except KeyboardInterrupt as error:
        if not (results and arguments.json):
            raise
        message = f"Stopped early: what had been measured is in {arguments.json}."
        raise CommandError(message, 130) from error
    bench.draw(results, arguments.html)
    print(bench.report(about, results, grown))


def _destinations(arguments: argparse.Namespace) -> list[Path]:
    """Every file to write, each once, after finding out that it can be written."""
    paths: dict[Path, Path] = {}
    for path, endings in (
        (arguments.output, nst.engine.images.SAVED_ENDINGS),
        (arguments.animation, nst.runs.animation.ANIMATION_ENDINGS),
        (arguments.report, (".json",)),
        (arguments.losses, (".csv",)),
    ):
        if path is None:
            continue
        _check_destination(path, endings)
        if paths.setdefault(path.resolve(), path) is not path:
            raise CommandError(f"{path} would be written twice: please give each file a name of its own.", 2)
    return list(paths.values())


def _check_destination(path: Path, endings: Sequence[str]) -> None:
    """Find out before the run, not after it, whether that file can be written."""
    if path.suffix.lower() not in endings:
        raise CommandError(f"{path}: please use the ending {' or '.join(endings)}.", 2)
    try:
        new = not path.exists()
        path.open("ab").close()
        if new:
            path.resolve().unlink()  # what a link points to, and not the link
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}.", 2) from error


def _read(path: Path, size: int | None = None) -> tuple[tf.Tensor, dict[str, str]]:
    """The image in that file, and what the record says of it."""
    with _naming(path):
        image, entry = nst.load_image(path, long_side=size), nst.runs.record.image_entry(path)
    return image, {**entry, "name": _plain(entry["name"])}


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which file it is that cannot be used."""
    try:
        yield
    except (nst.ImageError, nst.runs.record.RecordError) as error:
        raise CommandError(f"{path}: {error}", 2) from error
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.", 2) from error


def _plain(text: str) -> str:
    """`text` with escapes for what is not UTF-8, which the name of a file need not be."""
    return text.encode(errors="backslashreplace").decode()


def _save(
    arguments: argparse.Namespace, picture: tf.Tensor, record: dict[str, Any], frames: Sequence[np.ndarray]
) -> None:
    quality = {"quality": arguments.quality} if arguments.quality else {}
    try:
        nst.save_image(picture, arguments.output, metadata=json.dumps(record), **quality)
        if arguments.report:
            nst.runs.record.save_record(record, arguments.report)
        if arguments.losses:
            nst.runs.record.save_losses(record["history"], arguments.losses)
        if arguments.animation:
            nst.runs.animation.save_animation(frames, arguments.animation, **quality)
    except (nst.ImageError, OSError) as error:
        raise CommandError(f"The run has ended, but not all of it could be saved: {error}", 1) from error


@contextmanager
def _ctrl_c(pressed: list[int]) -> Iterator[None]:
    """Add each Ctrl-C to that list, and let it interrupt neither a step nor the saving."""
    before = signal.getsignal(signal.SIGINT)
    if before != signal.SIG_IGN:  # what a shell sets for a script's background jobs
        signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _shown(steps: Iterator[nst.Progress], config: nst.TransferConfig) -> Iterator[nst.Progress]:
    """Hand the steps on, with a bar on a terminal, elsewhere with a line for each tenth of the run.

    Once the losses have levelled off, a line says so.
    """
    total, tenths = config.iterations, -1
    history, flat = [], False
    look = {"bar_format": "{bar}| {n_fmt}/{total_fmt}{postfix}", "dynamic_ncols": True, "leave": False}
    with tqdm(total=total, miniters=1, disable=None, **look) as bar:
        for progress in steps:
            losses, left = progress.losses, nst.engine.stylize.seconds_left(progress)
            state = (
                f"{progress.size} px, {tqdm.format_interval(left)} left, content {losses.content:.3g}, "
                f"style {losses.style:.3g}, total {losses.total:.3g}"
            )
            bar.set_postfix_str(state, refresh=False)
            bar.update(progress.step - bar.n)
            if bar.disable and tenths < (tenths := 10 * progress.step // total):
                print(f"step {progress.step} of {total}, {state}", file=sys.stderr)
            history.append(nst.runs.record.history_row(progress))
            if not flat and progress.size == config.size and nst.runs.record.levelled_off(history):
                flat = True
                at = f"Step {progress.step} of {total}"
                bar.write(f"{at}: the losses have levelled off. Ctrl-C keeps this picture.", file=sys.stderr)
            yield progress


if __name__ == "__main__":
    sys.exit(main())
