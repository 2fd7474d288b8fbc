"""Where runs happen: in this process, or on a Ray cluster. Nobody else knows."""

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
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image

import nst
from nst.config import TransferConfig
from nst.engine.images import to_uint8
from nst.engine.objective import Computations
from nst.engine.quality import measure
from nst.engine.stylize import Progress, TransferError, stylize
from nst.engine.vgg import load_backbone, resolve_precision

PREVIEW_SECONDS = 0.9  # no page shows more pictures than that
SENT_SECONDS = 0.1  # a message costs a worker a few milliseconds, which may be a step
ASKED_SECONDS = 0.1  # how often a run on the cluster is asked whether it is to end
LOST_SECONDS = 20  # without its head, a cluster is given up; Ray would end this process after 60
CONNECT_SECONDS = 5
RETRIES = 2  # of a run whose worker has died
LOST = "The Ray cluster is gone: please start it again."
KEPT_IMAGES = 64  # in the cluster's object store, for the runs that need them again

logger = logging.getLogger("nst")


class RunnerError(RuntimeError):
    """Runs can't go on there; one plain sentence that says what to do."""


class LostRunError(RuntimeError):
    """A run whose workers were lost again and again; one plain sentence that says what to do."""


@dataclass(frozen=True)
class Job:
    """What a run is made from, as in stylize(): images (1, H, W, 3), a mask (1, h, w, 1), and its config."""

    content: tf.Tensor
    styles: Sequence[tf.Tensor]
    config: TransferConfig
    mask: tf.Tensor | None = None
    start: tf.Tensor | None = None


class Runner(Protocol):
    """Where runs happen, `workers` of them at a time, each followed by a thread of its own."""

    workers: int

    def paint(self, job: Job, stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """As stylize(). Some steps may share the picture of the first of them; the last has its own.

        A run whose worker is lost begins anew, with step 1. Raises RunnerError and LostRunError besides.
        """
        ...

    def measure(self, picture: tf.Tensor, job: Job) -> dict[str, float | None]:
        """As quality.measure(), of what that job became. Raises RunnerError and LostRunError besides."""
        ...

    def close(self) -> None:
        """End what still runs, and give back what was taken."""
        ...


class Local:
    """Runs in this process. On few cores two at once would only slow each other down."""

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._idle: list[Computations] = []

    def paint(self, job: Job, stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """As Runner.paint()."""
        images = {"mask": job.mask, "start": job.start}
        with self._computations() as shared:
            yield from stylize(job.content, job.styles, job.config, **images, stop=stop, shared=shared)

    def measure(self, picture: tf.Tensor, job: Job) -> dict[str, float | None]:
        """As Runner.measure()."""
        backbone = load_backbone(job.config.backbone)
        with self._computations() as shared:
            return measure(picture, job.content, job.styles, job.config, backbone, shared)

    def close(self) -> None:
        """Give back the sessions' threads and memory."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _computations(self) -> Iterator[Computations]:
        """Some for one run alone, which have served others before it where such are idle."""
        try:
            shared = self._idle.pop()
        except IndexError:
            shared = Computations()
        try:
            yield shared
        finally:
            self._idle.append(shared)


@dataclass(frozen=True)
class Resources:
    """What each worker on a cluster takes."""

    cpus: float = 1
    gpus: float | None = None  # None: one where the cluster has any
    memory: float = 2.5  # gigabytes

    def __post_init__(self) -> None:
        if not all(0 <= amount < np.inf for amount in (self.cpus, self.gpus or 0, self.memory)):
            raise RunnerError("Please give each worker CPUs, GPUs and memory of 0 or more.")


Pixels = npt.NDArray[np.float32]
Step = tuple[Mapping[str, Any], Pixels | bytes | None]  # the fields of its Progress, and its picture


class _Painter:
    """A worker of a cluster: it keeps its network, traces and sessions from run to run."""

    def __init__(self) -> None:
        self._local = Local()
        self._ended: set[str] = set()  # runs that are to end

    def ready(self) -> None:
        """Return once the worker is there."""

    def paint(
        self,
        run: str,
        config: TransferConfig,
        digest: str,
        *images: Pixels | None,
    ) -> Iterator[list[Step] | str]:
        """The steps, a few at a time, with a JPEG now and then, and with its pixels the last.

        Where the run fails, its reason comes after that. `digest` is that of the weights to paint with.
        """
        if load_backbone(config.backbone).digest != digest:
            raise RunnerError(
                f"A worker has other weights of {config.backbone}: please give all machines the same file."
            )
        steps = self._local.paint(_job(config, *images), stop=lambda: run in self._ended)
        last, reason = None, None
        waiting: list[Step] = []
        sent = shown = -np.inf
        try:
            for progress in steps:
                now = time.monotonic()
                if last is not None:  # a step later, so that the last one is known to be the last
                    due = now >= shown + PREVIEW_SECONDS
                    waiting.append((_about(last), _jpeg(last.image) if due else None))
                    shown = now if due else shown
                last = progress
                if waiting and now >= sent + SENT_SECONDS:
                    yield waiting
                    waiting, sent = [], now
        except TransferError as error:
            reason = str(error)
        finally:
            self._ended.discard(run)
        if last is not None:
            yield [*waiting, (_about(last), last.image.numpy())]
        if reason is not None:
            yield reason

    def stop(self, run: str) -> None:
        """End that run within one evaluation."""
        self._ended.add(run)

    def measure(
        self, picture: Pixels, config: TransferConfig, *images: Pixels | None
    ) -> dict[str, float | None]:
        """As Runner.measure()."""
        return self._local.measure(tf.constant(picture), _job(config, *images))


def _job(config: TransferConfig, *images: Pixels | None) -> Job:
    """The job of these images: content, mask, start and styles."""
    content, mask, start, *styles = (None if image is None else tf.constant(image) for image in images)
    return Job(content, styles, config, mask, start)


def _about(progress: Progress) -> dict[str, Any]:
    return {field.name: getattr(progress, field.name) for field in fields(progress) if field.name != "image"}


def _jpeg(image: tf.Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray(to_uint8(image)).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


class Ray:
    """Runs on a Ray cluster, on as many workers as have room in it when it is connected to.

    `address` is that of the cluster. Without one, it is the cluster that this machine belongs to, or one that
    is started on this machine alone. A run whose worker or node dies begins anew on another, at most RETRIES
    times. When this process ends, so do its workers. Raises RunnerError where there is no such cluster or no
    room in it.
    """

    def __init__(self, address: str | None = None, resources: Resources = Resources()) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no calls home
        try:
            import ray
        except ImportError as error:
            raise RunnerError(
                "Ray is not installed: please run pip install -r tests/requirements-ray.txt."
            ) from error
        self._ray = ray
        threads = str(max(1, int(resources.cpus)))
        environment = {"TF_NUM_INTRAOP_THREADS": threads, "TF_CPP_MIN_LOG_LEVEL": "3"}
        try:
            if address:  # Ray itself would try for many minutes
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
        there = ray.cluster_resources()
        needs = {
            "CPU": resources.cpus,
            "GPU": float("GPU" in there) if resources.gpus is None else resources.gpus,
            "memory": resources.memory * 1e9,
        }
        self.workers = sum(  # a worker is on one node
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
        self._painter = ray.remote(
            num_cpus=needs["CPU"],
            num_gpus=needs["GPU"],
            memory=int(needs["memory"]),
            concurrency_groups={"control": 1},
        )(_Painter)
        head, port = ray.get_runtime_context().gcs_address.rsplit(":", 1)
        self._head = head, int(port)
        self._head_asked = self._head_seen = time.monotonic()
        self._changing = threading.Lock()
        self._images: OrderedDict[bytes, Any] = OrderedDict()
        self._starting: dict[Any, Any] = {}  # workers by what says that they are ready
        self._idle: list[Any] = []
        for _ in range(self.workers):
            self._start_worker()

    def paint(self, job: Job, stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """As Runner.paint()."""
        backbone = load_backbone(job.config.backbone)
        precision = resolve_precision(job.config.precision)
        config, given = replace(job.config, backbone=backbone.name, precision=precision), self._put_all(job)
        for attempt in range(RETRIES + 1):
            try:
                with self._worker(stop) as worker:
                    if worker is not None:
                        yield from self._follow(worker, stop, config, backbone.digest, *given)
                    return
            except self._ray.exceptions.RayActorError as error:
                self._lost(attempt, error)

    def _follow(
        self, worker: Any, stop: Callable[[], bool], config: TransferConfig, *given: Any
    ) -> Iterator[Progress]:
        """The steps of a run on that worker."""
        run = uuid.uuid4().hex
        stream = worker.paint.options(num_returns="streaming").remote(run, config, *given)
        progress, image, asked, over = None, None, False, False
        try:
            while True:
                if not asked and stop():
                    asked = True
                    worker.stop.options(concurrency_group="control").remote(run)
                if not self._ready([stream]):
                    continue
                try:
                    event = self._get(next(stream))
                except StopIteration:
                    over = True
                    return
                if isinstance(event, str):
                    raise TransferError(event, progress)
                for about, picture in event:
                    if isinstance(picture, bytes):
                        picture = np.asarray(Image.open(io.BytesIO(picture)), np.float32)[None] / 255
                    if picture is not None:
                        image = tf.constant(picture)
                    progress = Progress(**about, image=image)
                    yield progress
        finally:
            if not over:  # whoever followed it has gone, or the worker has
                worker.stop.options(concurrency_group="control").remote(run)

    def measure(self, picture: tf.Tensor, job: Job) -> dict[str, float | None]:
        """As Runner.measure()."""
        given = self._put_all(job)
        for attempt in range(RETRIES + 1):
            try:
                with self._worker() as worker:
                    answer = worker.measure.remote(picture.numpy(), job.config, *given)
                    while not self._ready([answer]):
                        pass
                    return dict(self._get(answer))
            except self._ray.exceptions.RayActorError as error:
                self._lost(attempt, error)
        raise AssertionError  # the last attempt returns or raises

    def close(self) -> None:
        """End the workers, and leave the cluster."""
        self._ray.shutdown()

    def _start_worker(self) -> None:
        worker = self._painter.remote()
        self._starting[worker.ready.remote()] = worker

    @contextmanager
    def _worker(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Any]:
        """A worker that answers, for oneself; None where `stop` came first. One that is lost is replaced."""
        while not stop():
            worker = self._idle_worker()
            if worker is None:
                time.sleep(ASKED_SECONDS)
                continue
            try:
                answer = worker.ready.remote()  # it may have been lost since it was idle
                while not self._ready([answer]):
                    pass
                self._get(answer)
            except self._ray.exceptions.RayActorError:
                self._replace()
                continue
            try:
                yield worker
            except self._ray.exceptions.RayActorError:
                self._replace()
                raise
            except BaseException:
                self._give_back(worker)
                raise
            self._give_back(worker)
            return
        yield None

    def _replace(self) -> None:
        with self._changing:
            self._start_worker()

    def _give_back(self, worker: Any) -> None:
        with self._changing:
            self._idle.append(worker)

    def _idle_worker(self) -> Any:
        with self._changing:
            for ready in self._ready(list(self._starting), 0):
                worker = self._starting.pop(ready)
                try:
                    self._get(ready)
                    self._idle.append(worker)
                except self._ray.exceptions.RayActorError:
                    self._start_worker()
            return self._idle.pop(0) if self._idle else None

    def _lost(self, attempt: int, error: Exception) -> None:
        """Say that a worker was lost; raise LostRunError where it was the last attempt."""
        if attempt == RETRIES:
            sentence = f"The worker that painted it was lost {RETRIES + 1} times: please use a smaller size."
            raise LostRunError(sentence) from error
        logger.warning("A worker was lost: its run begins anew (%d of %d).", attempt + 1, RETRIES)

    def _ready(self, waited_for: Sequence[Any], seconds: float = ASKED_SECONDS) -> Sequence[Any]:
        """Which of them can be had, after so many seconds at most. Raises RunnerError without a head."""
        now = time.monotonic()
        if now > self._head_asked + ASKED_SECONDS * 10:
            self._head_asked = now
            try:
                socket.create_connection(self._head, timeout=CONNECT_SECONDS).close()
                self._head_seen = now
            except OSError as error:
                if now > self._head_seen + LOST_SECONDS:
                    raise RunnerError(LOST) from error
        if not waited_for:
            return []
        with self._in_words():
            ready, _ = self._ray.wait(waited_for, num_returns=len(waited_for), timeout=seconds)
            return list(ready)

    def _get(self, reference: Any) -> Any:
        with self._in_words():
            return self._ray.get(reference)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Raise what the worker raised, or RunnerError; that a worker is lost is left as it is."""
        exceptions = self._ray.exceptions
        try:
            yield
        except exceptions.RayActorError:
            raise
        except exceptions.RayTaskError as error:
            raise error.cause from error
        except exceptions.RayError as error:
            raise RunnerError(LOST) from error

    def _put_all(self, job: Job) -> list[Any]:
        return [self._put(image) for image in (job.content, job.mask, job.start, *job.styles)]

    def _put(self, image: tf.Tensor | None) -> Any:
        """The image in the cluster's object store, put there once for the runs that follow each other."""
        if image is None:
            return None
        pixels = image.numpy()
        key = hashlib.blake2b(pixels.data).digest() + str(pixels.shape).encode()
        with self._changing, self._in_words():
            if key not in self._images:
                self._images[key] = self._ray.put(pixels)
            self._images.move_to_end(key)
            while len(self._images) > KEPT_IMAGES:
                self._images.popitem(last=False)
            return self._images[key]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let a command line say where its runs are to happen: see runner_of()."""
    group = parser.add_argument_group("on a Ray cluster")
    where = "run on this Ray cluster; without an address on the one here, which is started if need be"
    group.add_argument("--ray", nargs="?", const="", metavar="ADDRESS", help=where)
    defaults = Resources()
    for flag, default, text in (
        ("--ray-cpus", defaults.cpus, "processor cores of each worker (default: 1)"),
        ("--ray-gpus", defaults.gpus, "GPUs of each worker (default: 1 where the cluster has any)"),
        ("--ray-memory", defaults.memory, "memory of each worker in GB (default: 2.5)"),
    ):
        group.add_argument(flag, type=float, default=default, metavar="N", help=text)


def runner_of(arguments: argparse.Namespace, at_once: int = 1) -> Runner:
    """What the options of add_options() ask for; in this process `at_once` workers. Raises RunnerError."""
    if arguments.ray is None:
        return Local(at_once)
    return Ray(arguments.ray or None, Resources(arguments.ray_cpus, arguments.ray_gpus, arguments.ray_memory))
