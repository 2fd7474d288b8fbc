"""Work in the background: two tasks at once, a share for each visitor, and a task that is cancelled."""

import asyncio
import threading

import pytest
from loops import run_in_loop

from nst.errors import BusyError
from nst.serving.background import AT_ONCE, BackgroundPool
from nst.serving.limits import Limits
from nst.serving.rate_limit import RateLimiter

pytestmark = pytest.mark.quick


class Work:
    """Tasks that wait to be let go, and how many of them run at once."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Semaphore(0)
        self.now, self.most, self._lock = 0, 0, threading.Lock()

    def __call__(self, value: int) -> int:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.begun.release()
        self.go.wait(10)
        with self._lock:
            self.now -= 1
        return value


async def until_begun(work: Work, number: int) -> None:
    for _ in range(number):
        while not work.begun.acquire(blocking=False):
            await asyncio.sleep(0.001)


def pool(**limits: int) -> BackgroundPool:
    return BackgroundPool(RateLimiter(Limits(**limits)))


def test_two_tasks_are_done_at_once_and_the_others_wait():
    async def main() -> None:
        background, work = pool(), Work()
        tasks = [asyncio.create_task(background.run(work, number)) for number in range(5)]
        await until_begun(work, AT_ONCE)
        await asyncio.sleep(0.05)
        assert work.now == AT_ONCE
        work.go.set()
        assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]
        assert work.most == AT_ONCE

    run_in_loop(main())


def test_a_visitor_has_few_tasks_at_a_time_and_an_error_gives_the_share_back():
    def fail() -> None:
        raise ValueError("no")

    async def main() -> None:
        background, work = pool(per_visitor=1), Work()
        tasks = [asyncio.create_task(background.run_for("one", work, number)) for number in range(2)]
        await until_begun(work, 2)
        with pytest.raises(BusyError, match=r"^Please wait until your previous request is done\.$"):
            await background.run_for("one", work, 3)
        work.go.set()
        await asyncio.gather(*tasks)
        for _ in range(3):
            with pytest.raises(ValueError, match="no"):
                await background.run_for("one", fail)
        assert await background.run_for("one", work, 4) == 4

    run_in_loop(main())


def test_a_cancelled_task_keeps_its_place_to_its_end():
    async def main() -> None:
        background, work = pool(), Work()
        tasks = [asyncio.create_task(background.run(work, number)) for number in range(AT_ONCE)]
        await until_begun(work, AT_ONCE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        later = asyncio.create_task(background.run(work, 9))
        await asyncio.sleep(0.05)
        assert work.now == AT_ONCE
        work.go.set()
        assert await later == 9
        assert work.most == AT_ONCE

    run_in_loop(main())
