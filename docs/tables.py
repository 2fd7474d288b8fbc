"""Write the tables of the documentation that are made from the code.

`python docs/tables.py` brings them up to date; with `--check` it changes nothing, and fails where one is not.
A table stands between `<!-- table: NAME -->` and `<!-- end -->`; TABLES has its name.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, fields
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package need not be installed

from nst.cli.parser import build_parser
from nst.config import AXES, DEFAULT_PRESET, PRESETS, SETTINGS
from nst.engine.quality import QUALITY
from nst.runs.options import add_runner_options
from nst.serving.limits import PUBLIC, Limits

DOCS = Path(__file__).parent
MARKS = re.compile(r"(<!-- table: (?P<name>[a-z ]+) -->\n).*?(?=<!-- end -->)", re.DOTALL)

Rows = Iterable[tuple[str, ...]]


class _Collector(argparse.HelpFormatter):
    """Collect a parser's options by the group they are in, instead of formatting its help."""

    def __init__(self) -> None:
        super().__init__(prog="")
        self.groups: dict[str, list[argparse.Action]] = {}

    def start_section(self, heading: str | None) -> None:
        """Begin a group."""
        self._group = self.groups.setdefault(heading or "", [])

    def end_section(self) -> None:
        """Leave the group."""

    def add_arguments(self, actions: Iterable[argparse.Action]) -> None:
        """Take in the options of the group."""
        self._group.extend(action for action in actions if action.dest != "help")


def options(parser: argparse.ArgumentParser) -> dict[str, list[argparse.Action]]:
    """List a parser's options by the title of their group."""
    collector = _Collector()
    parser.formatter_class = lambda **_: collector  # type: ignore[assignment]
    parser.format_help()
    return collector.groups


def command(name: str) -> dict[str, list[argparse.Action]]:
    """List the options of one command of `nst` by the title of their group."""
    every = (action for group in options(build_parser("nst")).values() for action in group)
    commands: Any = next(action.choices for action in every if isinstance(action.choices, dict))
    return options(commands[name])


def settings() -> Rows:
    """List every setting of a run."""
    yield "setting", "default", "values", "what it does"
    for name, setting in SETTINGS.items():
        yield f"`{name}`", _default(setting), _values(setting), setting.metadata["help"]


def presets() -> Rows:
    """List the presets by how they differ from the default one."""
    yield "preset", "settings"
    default = PRESETS[DEFAULT_PRESET]
    for preset, config in PRESETS.items():
        changed = {name: getattr(config, name) for name in SETTINGS}
        yield (
            f"`{preset}`",
            ", ".join(
                f"`{name}={_plain(value)}`"
                for name, value in changed.items()
                if value != getattr(default, name)
            )
            or "the defaults",
        )


def limits() -> Rows:
    """List the limits of the page."""
    yield "flag", "environment variable", "the most", "on one's own machine", "with `--public`"
    for limit in fields(Limits):
        flag = f"--max-{limit.name.replace('_', '-')}"
        own, public = (f"{getattr(limits, limit.name):,}" for limits in (Limits(), PUBLIC))
        yield f"`{flag}`", f"`NST_MAX_{limit.name.upper()}`", limit.metadata["help"], own, public


def flags(name: str) -> Rows:
    """List the flags of a command that are neither a setting of the run nor about a cluster."""
    groups = command(name)
    yield "argument", "what it does"
    for title in ("positional arguments", "options"):
        yield from map(_described, groups[title])
    for action in groups.get("settings", []):
        if action.dest not in SETTINGS:
            yield _described(action)


def axes() -> Rows:
    """List the flags of a study that take several values."""
    yield "flag", "values", "what it does"
    for action in command("study")["settings"]:
        if action.dest in AXES:
            setting = SETTINGS[action.dest]
            yield f"`{action.option_strings[0]}`", _values(setting), setting.metadata["help"]


def ray() -> Rows:
    """List the flags that send runs to a cluster."""
    parser = argparse.ArgumentParser(add_help=False)
    add_runner_options(parser)
    yield "flag", "what it does"
    for group in options(parser).values():
        yield from map(_described, group)


def quality() -> Rows:
    """List the quality measures of a finished picture."""
    yield "measure", "what it says"
    for name, text in QUALITY.items():
        yield f"`{name}`", text


TABLES: Mapping[str, Callable[[], Rows]] = {
    "settings": settings,
    "presets": presets,
    "limits": limits,
    "flags stylize": partial(flags, "stylize"),
    "flags study": partial(flags, "study"),
    "flags bench": partial(flags, "bench"),
    "axes": axes,
    "ray": ray,
    "quality": quality,
}


def _plain(value: Any) -> str:
    """Write the value of a setting as a flag takes it."""
    if isinstance(value, tuple):
        return ",".join(value)
    return value if isinstance(value, str) else f"{value:g}"


def _written(value: Any) -> str:
    """Write a number, or names in code style."""
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value) or "none"
    return f"`{value}`" if isinstance(value, str) else f"{value:,g}"


def _default(setting: Field[Any]) -> str:
    return _written(setting.default)


def _values(setting: Field[Any]) -> str:
    if "choices" in setting.metadata:
        return _written(tuple(setting.metadata["choices"]))
    if "range" in setting.metadata:
        low, high = setting.metadata["range"]
        return f"{low:,} to {high:,}"
    return "layers, or layers with weights" if setting.name.endswith("_layers") else "weights"


def _described(action: argparse.Action) -> tuple[str, str]:
    """Write an option and its values, and its help."""
    value = ""
    if action.nargs != 0 and not action.choices:
        name = action.metavar or action.dest.upper()
        value = {"?": f" [{name}]", "+": f" {name} ..."}.get(action.nargs, f" {name}")
    names = [f"`{flag}`" for flag in action.option_strings] or [f"`{value.strip()}`"]
    if action.option_strings:
        names[-1] = f"`{action.option_strings[-1]}{value}`"
    text = (action.help or "") % vars(action)
    if action.choices:
        text += f": {_written(tuple(action.choices))}"
    return ", ".join(names), text


def _markdown(rows: Rows) -> str:
    head, *body = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _table(match: re.Match[str]) -> str:
    return match[1] + "\n" + _markdown(TABLES[match["name"]]()) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite every table, or check that all are up to date.

    Args:
        argv: the command line, by default the program's own.

    Returns:
        The exit status: 1 where a check found a table that is not up to date.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail where a table is out of date"
    )
    check = parser.parse_args(argv).check
    outdated = []
    for page in sorted(DOCS.glob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = MARKS.sub(_table, before)
        if after != before:
            outdated.append(page.name)
            if not check:
                page.write_text(after, encoding="utf-8")
    if outdated:
        print("out of date:" if check else "rewritten:", ", ".join(outdated))
    return 1 if check and outdated else 0


if __name__ == "__main__":
    sys.exit(main())
