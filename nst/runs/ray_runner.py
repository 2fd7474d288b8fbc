"""Runs on a Ray cluster. Nobody else knows of Ray."""

import argparse
import hashlib
import io
import logging
import os
import socket
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

import nst
from nst.config import TransferConfig
from nst.engine.images import Array, Pixels, from_uint8, to_uint8
from nst.engine.quality import Measure
from nst.engine.stylize import Progress
from nst.engine.vgg import resolve_precision
from nst.engine.weights import load_backbone
from nst.errors import LostRunError, RunnerError, TransferError
from nst.runs.job import Job
from nst.runs.options import Resources
from nst.runs.runner import LocalRunner, Runner

PREVIEW_SECONDS = 0.9  # between two pictures; no page shows more
SEND_SECONDS = 0.1  # between two messages; each costs a worker a few milliseconds, which may be a step
POLL_SECONDS = 0.1  # between two questions whether a run is to end
LOST_SECONDS = 20  # after which a cluster without its head is given up; Ray would end this process after 60
CONNECT_SECONDS = 5
RETRIES = 2  # of a run whose worker has died
LOST = "The Ray cluster is gone: please start it again."
KEPT_IMAGES = 64  # in the cluster's object store, for the runs that need them again

logger = logging.getLogger("nst")

Step = tuple[Mapping[str, Any], Array | bytes | None]  # the fields of a Progress, and its picture


class _Worker:
    """Work on a cluster, with a network, graphs and sessions that stay from run to run."""

    def __init__(self) -> None:
        self._local = LocalRunner()
        self._ended: set[str] = set()  # runs that are to end

    def ready(self) -> None:
        """Return once the worker has started."""

    def stylize(
        self, run: str, config: TransferConfig, digest: str, *images: Pixels | None
    ) -> Iterator[list[Step] | str]:
        """Yield the steps, a few at a time, with a JPEG now and then, and the last one with its pixels.

        Where the run fails, the reason comes after that. `digest` is that of the weights to use.
        """
        if load_backbone(config.backbone).digest != digest:
            raise RunnerError(
                f"A worker has different weights for {config.backbone}: "
                "please give all machines the same file."
            )
        steps = self._local.stylize(_to_job(config, *images), stop=lambda: run in self._ended)
        last, reason = None, None
        waiting: list[Step] = []
        sent = shown = -np.inf
        try:
            for progress in steps:
                now = time.monotonic()
                if last is not None:  # one step late, so that the last step is known to be the last
                    due = now >= shown + PREVIEW_SECONDS
                    waiting.append((_fields(last), _to_jpeg(last.image) if due else None))
                    shown = now if due else shown
                last = progress
                if waiting and now >= sent + SEND_SECONDS:
                    yield waiting
                    waiting, sent = [], now
        except TransferError as error:
            reason = str(error)
        finally:
            self._ended.discard(run)
        if last is not None:
            yield [*waiting, (_fields(last), last.image.numpy())]
        if reason is not None:
            yield reason

    def stop(self, run: str) -> None:
        """End a run within one evaluation."""
        self._ended.add(run)

    def evaluate(self, picture: Array, config: TransferConfig, *images: Pixels | None) -> dict[str, Measure]:
        """Evaluate a picture: see `Runner.evaluate`."""
        return self._local.evaluate(tf.constant(picture), _to_job(config, *images))


def _to_job(config: TransferConfig, *images: Pixels | None) -> Job:
    """Make a job of its content image, mask, start and style images, in this order."""
    content, mask, start, *styles = images
    assert content is not None
    return Job(config, content, [style for style in styles if style is not None], mask, start)


def _fields(progress: Progress) -> dict[str, Any]:
    """Return all fields of a step but its picture."""
    return {field.name: getattr(progress, field.name) for field in fields(progress) if field.name != "image"}


def _to_jpeg(image: tf.Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray(to_uint8(image)).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


class RayRunner:
    """Run jobs on a Ray cluster, on as many workers as fit into it at the start.

    A run whose worker or node dies begins again on another, at most RETRIES times. When this process ends, so
    do its workers.

    Args:
        address: of the cluster. None: the cluster that this machine belongs to, or one that is started on
            this machine alone.
        resources: what each worker takes.

    Raises:
        RunnerError: there is no such cluster, or no room in it.
    """

    def __init__(self, address: str | None = None, resources: Resources = Resources()) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no calls home
        try:
            import ray  # optional
        except ImportError as error:
            raise RunnerError('Ray is not installed: please run pip install "ray<3".') from error
        self._ray = ray
        threads = str(max(1, int(resources.cpus)))
        environment = {"TF_NUM_INTRAOP_THREADS": threads, "TF_CPP_MIN_LOG_LEVEL": "3"}
        try:
            if address:  # Ray itself would keep trying for many minutes
                host, _, port = address.rpartition(":")
                socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
            ray.init(
                address=address,
                runtime_env={"py_modules": [nst], "env_vars": environment},
                log_to_driver=False,
                logging_level="ERROR",
            )
        except (OSError, ValueError, RuntimeError) as error:
            where = f"at {address}" if address else "here"
            raise RunnerError(
                f"There is no Ray cluster {where}: please give the address that its head was started with, "
                "like 10.0.0.1:6379."
            ) from error
        available = ray.cluster_resources()
        needs = {
            "CPU": resources.cpus,
            "GPU": float("GPU" in available) if resources.gpus is None else resources.gpus,
            "memory": resources.memory * 1e9,
        }
        self.workers = sum(  # each is on one node
            min(
                (int(node["Resources"].get(name, 0) // need) for name, need in needs.items() if need),
                default=1,
            )
            for node in ray.nodes()
            if node["Alive"]
        )
        if not self.workers:
            self.close()
            raise RunnerError(
                "No worker fits into the Ray cluster: please ask for fewer CPUs, GPUs or memory."
            )
        self._worker_class = ray.remote(
            num_cpus=needs["CPU"],
            num_gpus=needs["GPU"],
            memory=int(needs["memory"]),
            concurrency_groups={"control": 1},
        )(_Worker)
        head, port = ray.get_runtime_context().gcs_address.rsplit(":", 1)
        self._head = head, int(port)
        self._head_asked = self._head_seen = time.monotonic()
        self._changing = threading.Lock()
        self._images: OrderedDict[bytes, Any] = OrderedDict()
        self._starting: dict[Any, Any] = {}  # workers by the reference that says that they are ready
        self._idle: list[Any] = []
        for _ in range(self.workers):
            self._start_worker()

    def stylize(self, job: Job, stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """Run a job on a worker, and yield every step: see `Runner.stylize`."""
        backbone = load_backbone(job.config.backbone)
        precision = resolve_precision(job.config.precision)
        config = replace(job.config, backbone=backbone.name, precision=precision)
        images = self._put_images(job)
        for attempt in range(RETRIES + 1):
            try:
                with self._lend_worker(stop) as worker:
                    if worker is not None:
                        yield from self._follow(worker, stop, config, backbone.digest, *images)
                    return
            except self._ray.exceptions.RayActorError as error:
                self._report_lost(attempt, error)

    def _follow(
        self, worker: Any, stop: Callable[[], bool], config: TransferConfig, *arguments: Any
    ) -> Iterator[Progress]:
        """Yield the steps of a run on a worker."""
        run = uuid.uuid4().hex
        stream = worker.stylize.options(num_returns="streaming").remote(run, config, *arguments)
        progress, image, asked, over = None, None, False, False
        try:
            while True:
                if not asked and stop():
                    asked = True
                    worker.stop.options(concurrency_group="control").remote(run)
                if not self._wait([stream]):
                    continue
                try:
                    event = self._get(next(stream))
                except StopIteration:
                    over = True
                    return
                if isinstance(event, str):
                    raise TransferError(event, progress)
                for values, picture in event:
                    if isinstance(picture, bytes):
                        image = from_uint8(np.asarray(Image.open(io.BytesIO(picture))))
                    elif picture is not None:
                        image = tf.constant(picture)
                    progress = Progress(**values, image=image)
                    yield progress
        finally:
            if not over:  # the caller has gone, or the worker
                worker.stop.options(concurrency_group="control").remote(run)

    def evaluate(self, picture: tf.Tensor, job: Job) -> dict[str, Measure]:
        """Evaluate a picture on a worker: see `Runner.evaluate`."""
        images = self._put_images(job)
        for attempt in range(RETRIES + 1):
            try:
                with self._lend_worker() as worker:
                    answer = worker.evaluate.remote(picture.numpy(), job.config, *images)
                    while not self._wait([answer]):
                        pass
                    return dict(self._get(answer))
            except self._ray.exceptions.RayActorError as error:
                self._report_lost(attempt, error)
        raise AssertionError  # the last attempt returns or raises

    def close(self) -> None:
        """End the workers, and leave the cluster."""
        self._ray.shutdown()

    def _start_worker(self) -> None:
        worker = self._worker_class.remote()
        self._starting[worker.ready.remote()] = worker

    @contextmanager
    def _lend_worker(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Any]:
        """Lend a worker that answers to one run alone; None where `stop` came first. Replace a lost one."""
        while not stop():
            worker = self._pop_idle()
            if worker is None:
                time.sleep(POLL_SECONDS)
                continue
            try:
                answer = worker.ready.remote()  # it may have been lost while it was idle
                while not self._wait([answer]):
                    pass
                self._get(answer)
            except self._ray.exceptions.RayActorError:
                self._replace_worker()
                continue
            try:
                yield worker
            except self._ray.exceptions.RayActorError:
                self._replace_worker()
                raise
            except BaseException:
                self._return_worker(worker)
                raise
            self._return_worker(worker)
            return
        yield None

    def _replace_worker(self) -> None:
        with self._changing:
            self._start_worker()

    def _return_worker(self, worker: Any) -> None:
        with self._changing:
            self._idle.append(worker)

    def _pop_idle(self) -> Any:
        """Return an idle worker, or None."""
        with self._changing:
            for ready in self._wait(list(self._starting), 0):
                worker = self._starting.pop(ready)
                try:
                    self._get(ready)
                    self._idle.append(worker)
                except self._ray.exceptions.RayActorError:
                    self._start_worker()
            return self._idle.pop(0) if self._idle else None

    def _report_lost(self, attempt: int, error: Exception) -> None:
        """Log that a worker was lost; raise LostRunError after the last attempt."""
        if attempt == RETRIES:
            sentence = f"The worker that painted it was lost {RETRIES + 1} times: please use a smaller size."
            raise LostRunError(sentence) from error
        logger.warning("A worker was lost: its run begins again (%d of %d).", attempt + 1, RETRIES)

    def _wait(self, references: Sequence[Any], seconds: float = POLL_SECONDS) -> Sequence[Any]:
        """Return the references that are ready after so many seconds at most.

        Raises RunnerError where the cluster has no head any more.
        """
        now = time.monotonic()
        if now > self._head_asked + POLL_SECONDS * 10:
            self._head_asked = now
            try:
                socket.create_connection(self._head, timeout=CONNECT_SECONDS).close()
                self._head_seen = now
            except OSError as error:
                if now > self._head_seen + LOST_SECONDS:
                    raise RunnerError(LOST) from error
        if not references:
            return []
        with self._translated_errors():
            ready, _ = self._ray.wait(references, num_returns=len(references), timeout=seconds)
            return list(ready)

    def _get(self, reference: Any) -> Any:
        with self._translated_errors():
            return self._ray.get(reference)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raise what the worker raised, or RunnerError. The loss of a worker passes as it is."""
        exceptions = self._ray.exceptions
        try:
            yield
        except exceptions.RayActorError:
            raise
        except exceptions.RayTaskError as error:
            raise error.cause from error
        except exceptions.RayError as error:
            raise RunnerError(LOST) from error

    def _put_images(self, job: Job) -> list[Any]:
        """Put the images of a job into the cluster's object store, in the order of `_to_job`."""
        return [self._put(pixels) for pixels in (job.content, job.mask, job.start, *job.styles)]

    def _put(self, pixels: Pixels | None) -> Any:
        """Put an image into the object store, once for all runs that need it soon."""
        if pixels is None:
            return None
        key = hashlib.blake2b(np.ascontiguousarray(pixels).data).digest() + str(pixels.shape).encode()
        with self._changing, self._translated_errors():
            if key not in self._images:
                self._images[key] = self._ray.put(pixels)
            self._images.move_to_end(key)
            while len(self._images) > KEPT_IMAGES:
                self._images.popitem(last=False)
            return self._images[key]


def runner_from(arguments: argparse.Namespace, at_once: int = 1) -> Runner:
    """Make the runner that the options of `add_runner_options` ask for.

    Args:
        arguments: the parsed options.
        at_once: how many jobs run at once in this process, where no cluster is asked for.

    Raises:
        RunnerError: there is no such cluster, or no room in it.
    """
    if arguments.ray is None:
        return LocalRunner(at_once)
    return RayRunner(
        arguments.ray or None, Resources(arguments.ray_cpus, arguments.ray_gpus, arguments.ray_memory)
    )
