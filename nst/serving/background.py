"""Work for visitors outside the queue of runs: decoding, encoding, blending."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter

from nst.errors import BusyError
from nst.serving.rate_limit import RateLimiter, Share

AT_ONCE = 2  # each task takes a processor for up to some seconds, and up to half a gigabyte

P = ParamSpec("P")
T = TypeVar("T")


class BackgroundPool:
    """Do work in threads, two tasks at once, and the others wait.

    Args:
        rate_limiter: says how many tasks of one visitor may be done or wait.
    """

    def __init__(self, rate_limiter: RateLimiter) -> None:
        self._rate_limiter = rate_limiter
        self._capacity = CapacityLimiter(AT_ONCE)
        self._tasks: set[asyncio.Task[object]] = set()  # the event loop itself keeps no reference

    async def run_for(
        self, visitor: str | None, work: Callable[P, T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """Do a piece of work that a visitor asked for.

        Raises:
            BusyError: too much work of this visitor's is waiting.
        """
        give_back = self._rate_limiter.take(Share.TASKS, visitor)
        if give_back is None:
            raise BusyError("Please wait until your previous request is done.")
        task = self._start(partial(work, *arguments, **named))
        task.add_done_callback(lambda _: give_back())
        return await asyncio.shield(task)

    async def run(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Do a piece of work for a run or a study, whose number is limited elsewhere."""
        return await asyncio.shield(self._start(partial(work, *arguments, **named)))

    def _start(self, work: Callable[[], T]) -> asyncio.Task[T]:
        # A task of its own, shielded: a thread can't be cancelled, so it keeps its place to its end.
        task = asyncio.ensure_future(anyio.to_thread.run_sync(work, limiter=self._capacity))
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
