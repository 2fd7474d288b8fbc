"""The command line: python -m nst stylize | bench."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tqdm import tqdm

import nst

if TYPE_CHECKING:  # main() imports what starts TensorFlow
    import tensorflow as tf

    import nst.images
    import nst.records
    import nst.transfer
    from nst.losses import LayerWeights


class CommandError(Exception):
    """What ends the command: a line for the person who typed it, and the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out the command line `argv`, by default the program's own, and return the exit code."""
    try:
        with _tensorflow_silent():
            importlib.import_module("nst.records")  # and with it the whole engine
        logging.basicConfig(format="%(message)s")
        arguments = _parser().parse_args(argv)
        arguments.carry_out(arguments)
        return 0
    except KeyboardInterrupt:
        message, exit_code = "Stopped early: nothing was saved.", 130
    except CommandError as error:
        message, exit_code = error.args
    except (nst.ConfigError, nst.WeightsError) as error:
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
    stylize.add_argument("style", metavar="STYLE", type=Path, help="the style image, a file")
    output = f"the picture to write: {', '.join(nst.images.SAVED_ENDINGS)}"
    stylize.add_argument("-o", "--output", metavar="OUT.png", type=Path, required=True, help=output)
    report = "the record to write: config, versions, and the losses of each step"
    stylize.add_argument("--report", metavar="RUN.json", type=Path, help=report)
    settings = stylize.add_argument_group("settings")
    for setting in fields(nst.TransferConfig):
        _add_setting(settings, setting)
    stylize.set_defaults(carry_out=_stylize)

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


def _add_setting(group: argparse._ArgumentGroup, setting: Field[Any]) -> None:
    text, default = setting.metadata["help"], str(setting.default)
    options: dict[str, Any]
    if "choices" in setting.metadata:
        options = {"choices": setting.metadata["choices"]}
    elif "range" in setting.metadata:
        low, high = setting.metadata["range"]
        text = f"{text}, from {low:,} to {high:,}"
        options = {"metavar": "N", "type": _number}
    else:
        default = ",".join(setting.default)  # type: ignore[arg-type]
        options = {"metavar": "NAME[:WEIGHT],...", "type": _layers}
    flag = "--" + setting.name.replace("_", "-")
    group.add_argument(flag, default=setting.default, help=f"{text} (default: {default})", **options)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # TransferConfig says which numbers it takes


def _layers(text: str) -> LayerWeights:
    names, colons, weights = zip(*(item.partition(":") for item in text.split(",")), strict=True)
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError("please name each layer once")
    if not any(colons):
        return names
    try:
        return dict(zip(names, map(float, weights), strict=True))
    except ValueError:
        raise argparse.ArgumentTypeError("please give each layer a weight, as in NAME:0.5, or none") from None


def _stylize(arguments: argparse.Namespace) -> None:
    settings = [setting.name for setting in fields(nst.TransferConfig)]
    config = nst.TransferConfig(**{name: getattr(arguments, name) for name in settings})
    output, report = arguments.output, arguments.report
    _check_destination(output, nst.images.SAVED_ENDINGS)
    if report:
        _check_destination(report, (".json",))
    content, style = (_read(path, config.size) for path in (arguments.content, arguments.style))
    backbone = nst.load_backbone(config.backbone)

    progress, history, failure = None, [], None
    with _ctrl_c() as pressed:
        steps = nst.stylize(content, style, config, backbone, stop=lambda: bool(pressed))
        try:
            for progress in _shown(steps, config):
                history.append(nst.records.history_row(progress))
        except nst.TransferError as error:
            failure = error
        if progress is None:
            raise CommandError(str(failure), 1) if failure else KeyboardInterrupt
        ended = "failed" if failure else "stopped" if pressed else "finished"
        record = nst.records.run_record(config, backbone, history, ended)
        _save(progress.image, output, record, report)

    at = f"step {progress.step} of {progress.steps}"
    if failure:
        raise CommandError(f"{failure} The picture of {at} is in {output}.", 1)
    if pressed:
        raise CommandError(f"Stopped at {at}: the picture so far is in {output}.", 130)
    height, width = progress.image.shape[1:3]
    written = f"{output} and {report}" if report else str(output)
    took = tqdm.format_interval(progress.seconds)
    message = f"Wrote {written}: {width} x {height} pixels, {len(history)} steps in {took}."
    print(message.encode(errors="backslashreplace").decode())  # the name of a file need not be UTF-8


def _bench(arguments: argparse.Namespace) -> None:
    from nst import bench  # SciPy is needed here alone

    low, high = nst.TransferConfig.__dataclass_fields__["size"].metadata["range"]
    for name, least, most in (
        ("size", low, high),
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


def _check_destination(path: Path, endings: Sequence[str]) -> None:
    """Find out before the run, not after it, whether that file can be written."""
    if path.suffix.lower() not in endings:
        raise CommandError(f"{path}: please use the ending {' or '.join(endings)}.", 2)
    try:
        new = not path.exists()
        path.open("ab").close()
        if new:
            path.unlink()
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}.", 2) from error


def _read(path: Path, size: int) -> tf.Tensor:
    try:
        return nst.load_image(path, long_side=size)
    except nst.ImageError as error:
        raise CommandError(f"{path}: {error}", 2) from error


def _save(image: tf.Tensor, output: Path, record: dict[str, Any], report: Path | None) -> None:
    try:
        nst.save_image(image, output)
        if report:
            nst.records.save_record(record, report)
    except (nst.ImageError, OSError) as error:
        raise CommandError(f"The run has ended, but not all of it could be saved: {error}", 1) from error


@contextmanager
def _ctrl_c() -> Iterator[list[int]]:
    """A list that grows with each Ctrl-C, which then interrupts neither a step nor the saving."""
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if before != signal.SIG_IGN:  # what a shell sets for a script's background jobs
        signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield pressed
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
            losses, left = progress.losses, nst.transfer.seconds_left(progress, config)
            state = (
                f"{progress.size} px, {tqdm.format_interval(left)} left, content {losses.content:.3g}, "
                f"style {losses.style:.3g}, total {losses.total:.3g}"
            )
            bar.set_postfix_str(state, refresh=False)
            bar.update(progress.step - bar.n)
            if bar.disable and tenths < (tenths := 10 * progress.step // total):
                print(f"step {progress.step} of {total}, {state}", file=sys.stderr)
            history.append(nst.records.history_row(progress))
            if not flat and progress.size == config.size and nst.records.levelled_off(history):
                flat = True
                at = f"Step {progress.step} of {total}"
                bar.write(f"{at}: the losses have levelled off. Ctrl-C keeps this picture.", file=sys.stderr)
            yield progress


if __name__ == "__main__":
    sys.exit(main())
