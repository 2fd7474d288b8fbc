"""Where runs happen: the interface that everybody uses, and this process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import tensorflow as tf

from nst.engine.graph import GraphCache
from nst.engine.images import from_uint8
from nst.engine.quality import evaluate
from nst.engine.stylize import Progress, stylize
from nst.engine.weights import load_backbone
from nst.runs.job import Job


class Runner(Protocol):
    """Run jobs, `workers` of them at a time, each followed by a thread of its own."""

    workers: int

    def stylize(self, job: Job, stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """Run a job, and yield every step.

        Some steps may share the picture of the first of them; the last has its own. A run whose worker is
        lost begins again, with step 1.

        Args:
            job: the run.
            stop: asked before each evaluation; True ends the run.

        Raises:
            ConfigError, WeightsError, TransferError: as `stylize`.
            RunnerError: no run can be carried out any more.
            LostRunError: the workers of this run were lost again and again.
        """
        ...

    def evaluate(self, picture: tf.Tensor, job: Job) -> dict[str, float | None]:
        """Evaluate the picture (1, H, W, 3) that a job became: see `quality.evaluate`.

        Raises:
            RunnerError, LostRunError: as `stylize`.
        """
        ...

    def close(self) -> None:
        """End all runs, and give back what was taken."""
        ...


class LocalRunner:
    """Run jobs in this process. On few cores two at once would only slow each other down.

    Args:
        workers: how many jobs run at once.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._idle: list[GraphCache] = []

    def stylize(self, job: Job, stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """Run a job, and yield every step: see `Runner.stylize`."""
        with self._graphs() as graphs:
            yield from stylize(**job.tensors(), config=job.config, stop=stop, graphs=graphs)

    def evaluate(self, picture: tf.Tensor, job: Job) -> dict[str, float | None]:
        """Evaluate a picture: see `Runner.evaluate`."""
        styles = [from_uint8(style) for style in job.styles]
        backbone = load_backbone(job.config.backbone)
        with self._graphs() as graphs:
            return evaluate(picture, job.photo(), styles, job.config, backbone, graphs)

    def close(self) -> None:
        """Close the idle sessions, which gives their threads and memory back."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _graphs(self) -> Iterator[GraphCache]:
        """Lend a graph cache to one run alone; where one is idle, it has served others before."""
        try:
            graphs = self._idle.pop()
        except IndexError:
            graphs = GraphCache()
        try:
            yield graphs
        finally:
            if len(self._idle) < self.workers:
                self._idle.append(graphs)
            else:
                graphs.close()
