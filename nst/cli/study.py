"""The command `study`: every pair of a dataset, and a page that compares the pictures."""

import argparse
import sys
from contextlib import closing
from dataclasses import replace

from nst.cli.command import CommandError, CtrlC
from nst.cli.parser import given_settings
from nst.cli.progress import show_outcomes
from nst.config import AXES, DEFAULT_PRESET, PRESETS
from nst.errors import ImageError, RunnerError, StudyError
from nst.runs.ray_runner import runner_from
from nst.runs.record import printable
from nst.study.datasets import find_dataset
from nst.study.execute import execute
from nst.study.folder import StudyFolder
from nst.study.plan import Plan, grid, read_pairs
from nst.study.report import write_gallery, write_report


def run(arguments: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        CommandError, UserError: with the line that ends it.
    """
    # 1. Check everything that was given, before anything is computed.
    plan = _read_plan(arguments)
    if arguments.gallery and len(plan.configs) > 1:
        raise CommandError("Please give --gallery one setting of everything: it has one picture a pair.", 2)
    folder, page = StudyFolder(arguments.out), arguments.out / "index.html"
    ctrl_c = CtrlC()
    try:
        with folder.locked(), closing(runner_from(arguments)) as runner, ctrl_c:
            # 2. Make the runs that the folder lacks.
            if upgrade := folder.describe_upgrade(plan):
                print(printable(upgrade), file=sys.stderr)
            outcomes = execute(plan, folder, runner, stop=ctrl_c.pressed)
            made, failed = show_outcomes(outcomes, plan)

            # 3. Write what is there to be read.
            write_report(plan, folder)
            if arguments.gallery:
                write_gallery(plan, folder, arguments.gallery)
    except (ImageError, RunnerError) as error:
        message = f"{arguments.out}: {error} Finished runs are kept: run the same command again to continue."
        raise CommandError(message, 1) from error
    except StudyError as error:
        raise CommandError(f"{arguments.out}: {error}", 2) from error
    except OSError as error:
        raise CommandError(f"{arguments.out} cannot be written: {error.strerror}.", 2) from error

    # 4. Say how it ended.
    if ctrl_c.pressed():
        so_far = f"{made} of {len(plan)} runs are made, and listed in {page}"
        raise CommandError(f"Stopped: {so_far}. Run the same command again to continue.", 130)
    if failed:
        raise CommandError(f"{failed} of {len(plan)} runs failed: {page} says why.", 1)
    print(printable(f"Wrote {page}: {len(plan)} runs."))


def _read_plan(arguments: argparse.Namespace) -> Plan:
    """Combine the dataset with the settings that were given: a study varies those that are an axis."""
    given = given_settings(arguments)
    axes = {name: given.pop(name) for name in AXES if name in given}
    base = replace(PRESETS[arguments.preset or DEFAULT_PRESET], **given)
    dataset = find_dataset(arguments.dataset)
    try:
        pairs = read_pairs(arguments.pairs, dataset) if arguments.pairs else None
    except OSError as error:
        raise CommandError(f"{arguments.pairs} cannot be read: {error.strerror}.", 2) from error
    return Plan(dataset, grid(base, axes), pairs)
