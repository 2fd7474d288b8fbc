"""Every flag of the command line. This module loads no TensorFlow, so that --help answers at once."""

import argparse
from collections.abc import Callable
from dataclasses import Field
from pathlib import Path
from typing import Any, NoReturn

from nst.cli.command import CommandError
from nst.config import AXES, MAX_STYLES, PRESETS, SETTINGS, parse_layers
from nst.formats import ANIMATION_ENDINGS, SAVED_ENDINGS
from nst.runs.options import add_runner_options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{self.prog}: {message} (see --help)", 2)


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Build the parser of the whole command line.

    The parsed arguments have the "command": the name of the module in nst.cli that carries it out. A
    setting that was not given is no attribute of theirs.

    Args:
        prog: the name of the program, as help and errors say it.
    """
    parser = _Parser(prog=prog, description="Paint a photo in the style of a painting.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, purpose, add_arguments in (
        ("stylize", "paint a photo in the style of a painting", _add_stylize),
        ("study", "paint every pair of a dataset, and compare the pictures", _add_study),
        ("bench", "compare this project's speed with common procedures, which takes hours", _add_bench),
    ):
        description = f"{purpose[0].upper()}{purpose[1:]}."
        add_arguments(commands.add_parser(name, help=purpose, description=description, allow_abbrev=False))
    return parser


def _add_stylize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("content", metavar="CONTENT", type=Path, help="the content image, a file")
    styles = f"the style image, a file; or up to {MAX_STYLES} of them, which are blended"
    parser.add_argument("styles", metavar="STYLE", type=Path, nargs="+", help=styles)
    output = (
        f"the picture to write: {', '.join(SAVED_ENDINGS)}; "
        "TIFF has 16 bits a channel; PNG and TIFF keep the record of the run"
    )
    parser.add_argument("-o", "--output", metavar="OUT.png", type=Path, required=True, help=output)
    for flag, metavar, text in (
        ("--mask", "FILE", "an image of the photo's shape, of any size: what is white in it is painted"),
        ("--start", "PICTURE", "a picture to continue from, starting at its size"),
        ("--animation", "FILE", f"the animation of the run to write: {', '.join(ANIMATION_ENDINGS)}"),
        ("--report", "RUN.json", "the record to write: config, versions, and the losses of each step"),
        ("--losses", "FILE.csv", "the table to write of the losses of each step"),
    ):
        parser.add_argument(flag, metavar=metavar, type=Path, help=text)
    quality = (
        "quality of JPEG, WebP and the animation, from 1 to 100 (default: 95, of the animation 80); a WebP "
        "picture of 100 is exact"
    )
    parser.add_argument("--quality", metavar="N", type=int, help=quality)
    settings = parser.add_argument_group("settings")
    base = settings.add_mutually_exclusive_group()
    _add_preset(base.add_argument)
    base.add_argument(
        "--from",
        dest="earlier",
        metavar="PICTURE",
        type=Path,
        help="begin with the settings of the run that wrote this PNG or TIFF; the flags below change them",
    )
    for setting in SETTINGS.values():
        _add_setting(settings.add_argument, setting)


def _add_study(parser: argparse.ArgumentParser) -> None:
    dataset = "the name of an example dataset, or a folder with content/ and style/ in it"
    parser.add_argument("dataset", metavar="DATASET", help=dataset)
    out = "the folder to write: index.html, runs.csv, and a folder for each run; what it has already stays"
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help=out)
    pairs = "paint these pairs instead of all: a CSV file with a content image and a style image on each line"
    parser.add_argument("--pairs", metavar="FILE", type=Path, help=pairs)
    gallery = "also write each pair as a JPEG with its run record into this folder, as the page shows them"
    parser.add_argument("--gallery", metavar="DIR", type=Path, help=gallery)
    settings = parser.add_argument_group("settings")
    _add_preset(settings.add_argument)
    for name, setting in SETTINGS.items():
        _add_setting(settings.add_argument, setting, varied=name in AXES)
    add_runner_options(parser)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    dataset = "take the pairs of this dataset, as for nst study, instead of the benchmark's own"
    parser.add_argument("dataset", metavar="DATASET", nargs="?", help=dataset)
    pairs = (
        "how many pairs (default: 3), or which ones of DATASET: a CSV file with a content image and a style "
        "image on each line"
    )
    parser.add_argument("--pairs", metavar="N/FILE", type=_parse_count, default=3, help=pairs)
    for flag, default, text in (
        ("--size", 512, "long side of the pictures in pixels"),
        ("--repeats", 1, "how often each is run"),
        ("--patience", 10, "how many times the first reference's seconds Adam may take to reach its loss"),
    ):
        parser.add_argument(flag, type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    objective = "Gatys' explicit weights, this project's scaled form, or both (default)"
    parser.add_argument("--objective", choices=("gatys", "scaled", "both"), default="both", help=objective)
    parser.add_argument("--json", metavar="FILE", type=Path, help="where to write everything measured")
    pictures = "also write each procedure's picture of each pair into this folder, as a PNG"
    parser.add_argument("--pictures", metavar="DIR", type=Path, help=pictures)
    page = "the page of loss against seconds to write (default: bench.html)"
    parser.add_argument("--html", metavar="FILE", type=Path, default=Path("bench.html"), help=page)


AddArgument = Callable[..., argparse.Action]


def _add_preset(add_argument: AddArgument) -> None:
    text = "begin with these settings; the flags below change them"
    add_argument("--preset", choices=tuple(PRESETS), help=text)


def _add_setting(add_argument: AddArgument, setting: Field[Any], *, varied: bool = False) -> None:
    """Add the flag of a setting, which takes several values if a study may vary it."""
    text = setting.metadata["help"]
    default: Any = setting.default
    options: dict[str, Any]
    if "choices" in setting.metadata:
        options = {"choices": setting.metadata["choices"]}
    elif "range" in setting.metadata:
        low, high = setting.metadata["range"]
        text = f"{text}, from {low:,} to {high:,}"
        options = {"metavar": "N", "type": _parse_number}
    elif setting.name == "style_blend":
        default, options = "none", {"metavar": "WEIGHT,...", "type": _parse_numbers}
    else:
        default, options = ",".join(default), {"metavar": "NAME[:WEIGHT],...", "type": _split}
    flag = "--" + setting.name.replace("_", "-")
    if varied:
        flag += "" if setting.name.endswith("_weight") else "s"
        text, options = f"{text}; several make a grid", {**options, "nargs": "+", "dest": setting.name}
    # A flag that is not given leaves the setting to the preset or the earlier picture.
    add_argument(flag, default=argparse.SUPPRESS, help=f"{text} (default: {default})", **options)


def _parse_count(text: str) -> int | Path:
    try:
        return int(text)
    except ValueError:
        return Path(text)


def _parse_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # TransferConfig says which numbers it takes


def _parse_numbers(text: str) -> list[float | str]:
    return [_parse_number(item) for item in text.split(",")] if text else []


def _split(text: str) -> list[str]:
    return text.split(",")


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Collect the settings that were given, and no others; the value of one that a study varies is a list.

    Raises:
        ConfigError: for layers that cannot be parsed.
    """
    given = {name: value for name, value in vars(arguments).items() if name in SETTINGS}
    for name in ("content_layers", "style_layers"):
        if name in given:
            given[name] = parse_layers(given[name])
    return given
