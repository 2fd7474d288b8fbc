"""Where runs happen: the interface that everybody uses, and this process."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from nst.engine.graph import GraphCache
from nst.engine.images import from_uint8
from nst.engine.quality import Bounds, Measure, bounds, evaluate, settings_of_bounds
from nst.engine.stylize import Progress, stylize
from nst.engine.vgg import Backbone
from nst.engine.weights import load_backbone, load_judge
from nst.runs.job import Job

KEPT_BOUNDS = 256  # of the last pairs, for the other runs of a grid; a few kilobytes each


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

    def evaluate(self, picture: tf.Tensor, job: Job) -> dict[str, Measure]:
        """Evaluate the picture (1, H, W, 3) that a job became, with the bounds: see engine/quality.py.

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
        self._bounds: OrderedDict[Any, Bounds] = OrderedDict()
        self._changing = threading.Lock()

    def stylize(self, job: Job, stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """Run a job, and yield every step: see `Runner.stylize`."""
        with self._graphs() as graphs:
            yield from stylize(**job.tensors(), config=job.config, stop=stop, graphs=graphs)

    def evaluate(self, picture: tf.Tensor, job: Job) -> dict[str, Measure]:
        """Evaluate a picture: see `Runner.evaluate`."""
        images = job.photo(), [from_uint8(style) for style in job.styles]
        networks = load_backbone(job.config.backbone), load_judge()
        with self._graphs() as graphs:
            values = evaluate(picture, *images, job.config, *networks, graphs)
            limits = self._remember_bounds(
                job, networks, lambda: bounds(*images, job.config, *networks, graphs)
            )
        return {name: Measure(value, *limits[name]) for name, value in values.items()}

    def close(self) -> None:
        """Close the idle sessions, which gives their threads and memory back."""
        while self._idle:
            self._idle.pop().close()

    def _remember_bounds(
        self, job: Job, networks: Iterable[Backbone | None], compute: Callable[[], Bounds]
    ) -> Bounds:
        """Return the bounds of a job's measures, computed once for all jobs that share them."""
        images = [np.ascontiguousarray(image) for image in (job.content, *job.styles)]
        key = (
            repr(settings_of_bounds(job.config)),  # a mapping of layers has no hash
            *(network and network.digest for network in networks),
            *((image.shape, hashlib.blake2b(image.data).digest()) for image in images),
        )
        with self._changing:
            known = self._bounds.get(key)
        if known is None:
            known = compute()
            with self._changing:
                self._bounds[key] = known
                if len(self._bounds) > KEPT_BOUNDS:
                    self._bounds.popitem(last=False)
        return known

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
