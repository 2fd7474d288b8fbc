"""What the page allows: on one's own machine, or in public."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from nst.config import ConfigError, TransferConfig

_SETTINGS = TransferConfig.__dataclass_fields__
_SIZES, _STEPS = (_SETTINGS[name].metadata["range"] for name in ("size", "iterations"))


def _limit(default: int, help: str, low: int = 1, high: int = 1_000_000) -> Any:
    return field(default=default, metadata={"help": help, "range": (low, high)})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most of everything, generous for one's own machine. Raises ConfigError for what is out of range."""

    places: int = _limit(20, "runs in the line, with those that are being painted")
    seconds: int = _limit(1800, "seconds of one run")
    size: int = _limit(1536, "long side of a picture in pixels", *_SIZES)
    iterations: int = _limit(_STEPS[1], "steps of a run", *_STEPS)
    per_minute: int = _limit(1000, "pictures that one visitor may ask for in a minute")
    per_visitor: int = _limit(1000, "runs of one visitor in the line")
    kept: int = _limit(86_400, "seconds that uploads and pictures stay on the server", low=60)
    study: int = _limit(40, "pictures with the default settings that a study may be worth")

    def __post_init__(self) -> None:
        for limit in fields(self):
            low, high = limit.metadata["range"]
            value = getattr(self, limit.name)
            if not isinstance(value, int) or not low <= value <= high:
                flag = _flag(limit.name)
                raise ConfigError(f"Please set {flag} to a whole number from {low:,} to {high:,}.")


PUBLIC = Limits(
    places=12, seconds=300, size=1024, iterations=300, per_minute=6, per_visitor=3, kept=3600, study=6
)  # two cores


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let a command line set the limits: see limits_of()."""
    group = parser.add_argument_group("limits", "each also by an environment variable, like NST_MAX_SIZE")
    group.add_argument("--public", action="store_true", help="those fit for a public page on two cores")
    for limit in fields(Limits):
        own, public = (getattr(limits, limit.name) for limits in (Limits(), PUBLIC))
        text = f"most {limit.metadata['help']} (default: {own:,}; with --public: {public:,})"
        group.add_argument(_flag(limit.name), dest=limit.name, metavar="N", help=text)


def limits_of(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Limits:
    """The limits that the options, and else the environment, ask for. Raises ConfigError.

    A Hugging Face Space, which sets SPACE_ID, is public unless NST_PUBLIC is 0.
    """
    said = environment.get("NST_PUBLIC", environment.get("SPACE_ID", ""))
    public = arguments.public or said not in ("", "0")
    given = {
        limit.name: getattr(arguments, limit.name) or environment.get(f"NST_MAX_{limit.name.upper()}")
        for limit in fields(Limits)
    }
    typed = {name: int(text) if text.isdecimal() else text for name, text in given.items() if text}
    return replace(PUBLIC if public else Limits(), **typed)  # type: ignore[arg-type]  # it checks them


def _flag(name: str) -> str:
    return f"--max-{name.replace('_', '-')}"
