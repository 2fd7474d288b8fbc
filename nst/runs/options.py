"""Command-line options that say where runs happen. This module loads no TensorFlow."""

import argparse
import math
from dataclasses import dataclass

from nst.errors import RunnerError


@dataclass(frozen=True)
class Resources:
    """Describe the resources of each worker on a cluster.

    Args:
        cpus: processor cores.
        gpus: None for one GPU where the cluster has any.
        memory: in gigabytes.

    Raises:
        RunnerError: an amount is negative or not finite.
    """

    cpus: float = 1
    gpus: float | None = None
    memory: float = 2.5

    def __post_init__(self) -> None:
        if not all(0 <= amount < math.inf for amount in (self.cpus, self.gpus or 0, self.memory)):
            raise RunnerError("Please give each worker CPUs, GPUs and memory of 0 or more.")


def add_runner_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `ray_runner.runner_from` reads."""
    group = parser.add_argument_group("on a Ray cluster")
    where = "run on this Ray cluster; without an address on the one here, which is started if necessary"
    group.add_argument("--ray", nargs="?", const="", metavar="ADDRESS", help=where)
    defaults = Resources()
    for flag, default, text in (
        ("--ray-cpus", defaults.cpus, "processor cores of each worker (default: 1)"),
        ("--ray-gpus", defaults.gpus, "GPUs of each worker (default: 1 where the cluster has any)"),
        ("--ray-memory", defaults.memory, "memory of each worker in GB (default: 2.5)"),
    ):
        group.add_argument(flag, type=float, default=default, metavar="N", help=text)
