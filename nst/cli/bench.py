"""The command `bench`: this project's speed compared with common procedures."""

import argparse
import sys
from collections.abc import Sequence

from nst.benchmark.charts import write_page
from nst.benchmark.measure import (
    MAX_SIZE,
    Growth,
    Pair,
    Result,
    compare,
    default_pairs,
    describe_machine,
    growing_configs,
    measure_growth,
)
from nst.benchmark.tables import format_report, save_measurements
from nst.cli.command import CommandError, check_destination, silence_tensorflow
from nst.config import SETTINGS
from nst.engine.images import from_uint8, save_image
from nst.study.datasets import find_dataset
from nst.study.plan import read_pairs


def run(arguments: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        CommandError, UserError: with the line that ends it.
        KeyboardInterrupt: if nothing was measured and saved.
    """
    _check_arguments(arguments)
    pairs = _choose_pairs(arguments)
    objectives = ("gatys", "scaled") if arguments.objective == "both" else (arguments.objective,)
    machine = {**describe_machine(), "size": arguments.size}
    settings = arguments.size, pairs, arguments.repeats, arguments.patience
    growth: list[Growth] = []
    results: list[Result] = []
    for config in growing_configs(arguments.size):
        with silence_tensorflow():  # in the new process, too
            growth.append(measure_growth(config))
        _say(f"{config.size} px, {config.iterations} steps: {growth[-1].seconds:.1f} s")
    try:
        for result in compare(*settings, objectives, _say):
            results.append(result)
            if arguments.json:
                save_measurements(machine, results, growth, arguments.json)
            if arguments.pictures:
                save_image(from_uint8(result.picture), arguments.pictures / f"{result.name}.png")
    except KeyboardInterrupt as error:
        if not (results and arguments.json):
            raise
        message = f"Stopped early: what had been measured is in {arguments.json}."
        raise CommandError(message, 130) from error
    write_page(results, arguments.html)
    print(format_report(machine, results, growth))


def _check_arguments(arguments: argparse.Namespace) -> None:
    least_size, _ = SETTINGS["size"].metadata["range"]
    for name, least, most in (
        ("size", least_size, MAX_SIZE),
        ("repeats", 1, 100),
        ("patience", 1, 100),
    ):
        _check_number(name, getattr(arguments, name), least, most)
    check_destination(arguments.html, (".html",))
    if arguments.json:
        check_destination(arguments.json, (".json",))
    if arguments.pictures:
        try:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"{arguments.pictures} cannot be written: {error.strerror}.", 2) from error


def _check_number(name: str, number: int, least: int, most: int) -> None:
    if not least <= number <= most:
        raise CommandError(f"Please set --{name} to a whole number from {least} to {most}.", 2)


def _choose_pairs(arguments: argparse.Namespace) -> Sequence[Pair]:
    """List the pairs of the dataset, or else of the benchmark: the first ones, or those that a file names."""
    dataset = find_dataset(arguments.dataset) if arguments.dataset else None
    pairs = dataset.pairs if dataset else default_pairs()
    if isinstance(arguments.pairs, int):
        _check_number("pairs", arguments.pairs, 1, len(pairs))
        return pairs[: arguments.pairs]
    if dataset is None:
        raise CommandError(f"Please name the dataset whose pairs {arguments.pairs} lists.", 2)
    try:
        chosen = read_pairs(arguments.pairs, dataset)
    except OSError as error:
        raise CommandError(f"{arguments.pairs} cannot be read: {error.strerror}.", 2) from error
    return [(content, style) for content, style in pairs if (content.path, style.path) in chosen]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
