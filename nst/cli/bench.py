"""The command `bench`: this project's speed compared with common procedures."""

import argparse
import sys

from nst.benchmark.charts import write_page
from nst.benchmark.measure import (
    MAX_SIZE,
    PAIRS,
    Growth,
    Result,
    compare,
    describe_machine,
    growing_configs,
    measure_growth,
)
from nst.benchmark.tables import format_report, save_measurements
from nst.cli.command import CommandError, check_destination, silence_tensorflow
from nst.config import SETTINGS


def run(arguments: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        CommandError, UserError: with the line that ends it.
        KeyboardInterrupt: if nothing was measured and saved.
    """
    _check_arguments(arguments)
    objectives = ("gatys", "scaled") if arguments.objective == "both" else (arguments.objective,)
    machine = {**describe_machine(), "size": arguments.size}
    settings = arguments.size, arguments.pairs, arguments.repeats, arguments.patience
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
        ("pairs", 1, len(PAIRS)),
        ("repeats", 1, 100),
        ("patience", 1, 100),
    ):
        if not least <= getattr(arguments, name) <= most:
            raise CommandError(f"Please set --{name} to a whole number from {least} to {most}.", 2)
    check_destination(arguments.html, (".html",))
    if arguments.json:
        check_destination(arguments.json, (".json",))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
