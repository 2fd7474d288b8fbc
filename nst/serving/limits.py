"""The limits of a page, on one's own machine or in public."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from nst.config import SETTINGS, TransferConfig
from nst.errors import ConfigError

LIMITED = ("size", "iterations")  # settings that have a limit of their own

_SIZES, _STEPS = (SETTINGS[name].metadata["range"] for name in LIMITED)


def _limit(default: int, help: str, low: int = 1, high: int = 1_000_000) -> Any:
    return field(default=default, metadata={"help": help, "range": (low, high)})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Hold the limits of a page; the defaults are generous, for one's own machine.

    Raises:
        ConfigError: a limit is out of its range.
    """

    places: int = _limit(20, "number of runs in the queue, including those in progress")
    at_once: int = _limit(1, "number of runs in progress at once on this machine", high=64)
    seconds: int = _limit(1800, "duration of a run in seconds")
    size: int = _limit(1536, "long side of a picture in pixels", *_SIZES)
    iterations: int = _limit(_STEPS[1], "number of steps in a run", *_STEPS)
    per_minute: int = _limit(1000, "number of pictures that one visitor may request in a minute")
    per_visitor: int = _limit(1000, "number of runs that one visitor may have in the queue")
    requests: int = _limit(10_000, "number of requests that one visitor may send in a minute")
    connections: int = _limit(1000, "number of requests that one visitor may have open")
    uploads: int = _limit(20_000, "total size in megabytes of one visitor's uploads, while they are kept")
    storage: int = _limit(50_000, "total size in megabytes of the uploads and pictures on the server")
    kept: int = _limit(86_400, "time in seconds that uploads and pictures are kept on the server", low=60)
    study: int = _limit(40, "size of a study, counted in pictures with the default settings")

    def __post_init__(self) -> None:
        for limit in fields(self):
            low, high = limit.metadata["range"]
            value = getattr(self, limit.name)
            if not isinstance(value, int) or not low <= value <= high:
                flag = _flag(limit.name)
                raise ConfigError(f"Please set {flag} to a whole number from {low:,} to {high:,}.")

    def check(self, config: TransferConfig) -> None:
        """Check that a run keeps to the limits.

        Raises:
            ConfigError: a setting is above its limit.
        """
        for name in LIMITED:
            most = getattr(self, name)
            if getattr(config, name) > most:
                raise ConfigError(f"Please set {name} to {most} at most: more is for the command line.")


PUBLIC = Limits(  # two cores
    places=12,
    seconds=300,
    size=1024,
    iterations=300,
    per_minute=6,
    per_visitor=3,
    requests=600,
    connections=100,
    uploads=500,
    storage=5000,
    kept=3600,
    study=6,
)


def add_limit_options(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every limit, and --public, to a command line (see `limits_from`)."""
    group = parser.add_argument_group("limits", "each also by an environment variable, like NST_MAX_SIZE")
    group.add_argument(
        "--public", action="store_true", help="use limits suited to a public page on two cores"
    )
    for limit in fields(Limits):
        own, public = (getattr(limits, limit.name) for limits in (Limits(), PUBLIC))
        text = f"maximum {limit.metadata['help']} (default: {own:,}; with --public: {public:,})"
        group.add_argument(_flag(limit.name), dest=limit.name, metavar="N", help=text)


def limits_from(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Limits:
    """Work out the limits from the flags, then the environment, then the defaults.

    A Hugging Face Space, which sets SPACE_ID, is public unless NST_PUBLIC is 0.

    Args:
        arguments: parsed flags of `add_limit_options`.
        environment: variables such as NST_MAX_SIZE.

    Raises:
        ConfigError: a value is no whole number, or out of its range.
    """
    wanted = environment.get("NST_PUBLIC", environment.get("SPACE_ID", ""))
    public = arguments.public or wanted not in ("", "0")
    given = {
        limit.name: getattr(arguments, limit.name) or environment.get(f"NST_MAX_{limit.name.upper()}")
        for limit in fields(Limits)
    }
    typed: dict[str, Any] = {
        name: int(text) if text.isdecimal() else text for name, text in given.items() if text
    }
    return replace(PUBLIC if public else Limits(), **typed)


def _flag(name: str) -> str:
    return f"--max-{name.replace('_', '-')}"
