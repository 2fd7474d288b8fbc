"""The runs of the page's visitors, from what they sent to the moment nobody follows them any more."""

import asyncio
import logging
import time
from collections.abc import Callable

import gradio as gr

from nst.errors import TransferError, UserError
from nst.serving.background import BackgroundPool
from nst.serving.queue import Run, RunQueue
from nst.serving.rate_limit import visitor_of
from nst.web.gradio_patches import is_followed
from nst.web.uploads import RunRequest

UNREAD_SECONDS = 15  # after which nobody is reading what they are sent

logger = logging.getLogger("nst")


def visitor(request: gr.Request) -> str | None:
    """Name the visitor who sent a request, as the limits tell visitors apart."""
    return visitor_of(request.client.host) if request.client else None


class VisitorRuns:
    """Put visitors' runs into the queue, and end those that nobody follows.

    Args:
        queue: where the runs wait.
        background: where images are read.
    """

    def __init__(self, queue: RunQueue, background: BackgroundPool) -> None:
        self._queue, self._background = queue, background
        self._runs: dict[str | None, set[Run]] = {}  # by session
        self._guards: set[asyncio.Task[None]] = set()  # the event loop itself keeps no reference

    async def join(self, request: gr.Request, given: RunRequest) -> Run:
        """Read what a visitor sent, and put the run into the queue.

        Raises:
            BusyError: there is no place for it.
            ConfigError, ImageError: what was sent can't be used.
        """
        self._queue.admit(visitor(request))
        config = given.config()
        self._queue.limits.check(config)
        job = await self._background.run(given.read, config)
        run = self._queue.join(Run(job), visitor(request))
        self._runs.setdefault(request.session_hash, set()).add(run)
        guard = asyncio.create_task(stop_unfollowed(request, run.future.done, run.stop))
        self._guards.add(guard)
        guard.add_done_callback(self._guards.discard)
        return run

    def leave(self, request: gr.Request, run: Run) -> None:
        """Forget a run at the end of its handler, and stop it if it is still running.

        Args:
            request: the visitor's.
            run: one that `join` returned.
        """
        run.stop()
        runs = self._runs[request.session_hash]
        runs.discard(run)
        if not runs:
            del self._runs[request.session_hash]

    def has_run(self, request: gr.Request) -> bool:
        """Return whether a run of a session is waiting or running.

        Args:
            request: one of the session's.
        """
        return request.session_hash in self._runs

    def stop(self, request: gr.Request) -> None:
        """Stop the runs of a session; their pictures so far stay.

        Args:
            request: one of the session's.
        """
        for run in tuple(self._runs.get(request.session_hash, ())):
            run.stop()


async def stop_unfollowed(request: gr.Request, ended: Callable[[], bool], stop: Callable[[], None]) -> None:
    """Wait until something has `ended`, and `stop` it where its visitor reads nothing any more."""
    read = time.monotonic()
    while not ended():
        await asyncio.sleep(0.2)
        alive, has_read_all = is_followed(request)
        if has_read_all:
            read = time.monotonic()
        if not alive or time.monotonic() > read + UNREAD_SECONDS:
            stop()
            return


def raise_failure(run: Run) -> None:
    """Raise why a run failed, if it did, in words for its visitor."""
    error = None if run.future.cancelled() else run.future.exception()
    if error is None:
        return
    if isinstance(error, UserError):
        raise error
    logger.error("a run failed", exc_info=error)
    raise TransferError("Something went wrong: please try again, perhaps at a smaller size.") from error
