"""The queue in which runs wait: their order, its end, and what stays of a run that has ended."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import median

import pytest
from served import MOST_SECONDS, has_begun, job, spent_until_free

from nst.config import TransferConfig
from nst.engine.pyramid import config_cost
from nst.engine.quality import QUALITY
from nst.errors import BusyError, ConfigError, RunnerError
from nst.serving.limits import Limits
from nst.serving.queue import Run, RunQueue
from nst.serving.rate_limit import Share

QUICK = TransferConfig(size=64, iterations=5, backbone="vgg16")
LONG = TransferConfig(size=64, iterations=1000, backbone="vgg16", optimizer="adam")


@pytest.fixture(scope="module")
def shared():
    queue = RunQueue(limits=Limits(places=2))
    yield queue
    queue.close()


@pytest.fixture
def queue(shared):
    """An empty queue; its warm-up is done once for all tests."""
    yield shared
    for run in shared.runs:
        run.stop()
    while shared.runs:
        time.sleep(0.02)


def joined(queue, *configs):
    return [queue.join(Run(job(config))) for config in configs]


def test_runs_take_their_turn_and_leave_the_queue_when_they_end(queue):
    first, second = joined(queue, LONG, QUICK)
    assert (queue.ahead(first), queue.ahead(second)) == (0, 1)
    with pytest.raises(BusyError, match="Too many people are waiting: please try again"):
        joined(queue, QUICK)
    first.stop()
    second.future.result()
    assert first.recorder.ended == "stopped"
    assert second.recorder.ended == "finished"
    assert len(second.recorder.history) == 5
    assert queue.ahead(second) == 0
    (third,) = joined(queue, QUICK)
    assert third.future.result() is None


def test_a_run_that_waits_leaves_the_queue_when_it_is_stopped(queue):
    first, second = joined(queue, LONG, QUICK)
    second.stop()
    (third,) = joined(queue, QUICK)
    assert queue.ahead(third) == 1
    first.stop()
    third.future.result()
    assert second.future.cancelled()
    assert second.recorder.history == []


def test_a_run_ends_when_its_time_is_up_and_frees_the_processor():
    queue = RunQueue(limits=Limits(seconds=1))
    try:
        queue.warm_up.future.result()
        (run,) = joined(queue, replace(LONG, size=256, optimizer="lbfgs"))
        began = time.monotonic()
        has_begun(queue)
        time.sleep(max(0, began + 1 - time.monotonic()))
        assert spent_until_free(queue) < MOST_SECONDS
        run.future.result()
        assert run.recorder.ended == "out of time"
        assert 0 < len(run.recorder.history) < 1000
    finally:
        queue.close()


def test_as_many_runs_go_on_at_once_as_the_limits_say_and_are_those_of_one(queue):
    (alone,) = joined(queue, QUICK)
    alone.future.result()
    wide = RunQueue(limits=Limits(at_once=2))
    try:
        wide.warm_up.future.result()
        first, second, third = joined(wide, LONG, QUICK, QUICK)
        assert (wide.ahead(second), wide.ahead(third)) == (0, 1)
        third.future.result()
        assert not first.future.done()
        assert wide.state()["painted"] == 1
        totals = [[row["total"] for row in run.recorder.history] for run in (second, alone)]
        assert totals[0] == totals[1]
    finally:
        wide.close()


def test_the_queue_estimates_from_the_warm_up_on_and_narrows_it_down():
    queue, cost = RunQueue(), config_cost(QUICK)
    try:
        queue.warm_up.future.result()
        paces = [queue.warm_up.recorder.pace]
        assert queue.pace.seconds(cost) == pytest.approx(cost * paces[0])
        low, high = queue.estimate_seconds(QUICK)
        assert high == pytest.approx(4 * low)
        for run in joined(queue, QUICK, QUICK):
            run.future.result()
            paces.append(run.recorder.pace)
        assert queue.pace.seconds(cost) == pytest.approx(cost * median(paces))
        low, high = queue.estimate_seconds(QUICK)
        assert cost * min(paces) <= low < high <= cost * max(paces)
    finally:
        queue.close()


def test_a_run_leaves_one_line_in_the_log(queue, caplog):
    caplog.set_level("INFO", "nst")
    queue.warm_up.future.result()
    broken = replace(QUICK, content_layers=("block9_conv1",))
    runs = joined(queue, QUICK, broken)
    with pytest.raises(ConfigError):
        runs[1].future.result()
    done, failed = caplog.messages[-2:]
    assert re.fullmatch(r"finished: 64 px, 5 of 5 steps, \d+\.\d s", done)
    assert failed == "failed: 64 px, 0 of 5 steps, 0.0 s"


def test_one_visitor_in_a_hurry_waits_and_another_does_not():
    queue = RunQueue(limits=Limits(per_minute=2, per_visitor=1))
    try:
        for _ in range(2):
            queue.admit("here")
        with pytest.raises(
            BusyError, match=r"^That was quick: please wait a minute before the next picture\.$"
        ):
            queue.admit("here")
        queue.join(Run(job(LONG)), "here")
        run = queue.join(Run(job(LONG)), "there")
        queue.admit(None)
        with pytest.raises(BusyError, match=r"^Your other pictures are still in the queue: please wait"):
            queue.admit("there")
        run.stop()
        queue.join(Run(job(LONG)), "there")
    finally:
        queue.close()


def test_a_thread_waits_for_a_place_and_runs_one_job_after_the_other(queue):
    waiting, stopping, watched = joined(queue, LONG, LONG), threading.Event(), []
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(queue.run, job(QUICK), "here", watch=watched.append)
        time.sleep(0.3)
        assert not running.done()
        assert watched == []
        for run in waiting:
            run.stop()
        recorder, quality = running.result()
        assert recorder.ended == "finished"
        assert quality.keys() == QUALITY.keys()  # evaluated in the same place in the queue
        assert recorder is watched[0].recorder
        assert recorder.moments == ()
        running = threads.submit(queue.run, job(LONG), "here", stopping.is_set)
        has_begun(queue)
        stopping.set()
        recorder, quality = running.result()
        assert (recorder.ended, quality) == ("stopped", {})
        broken = replace(QUICK, content_layers=("block9_conv1",))
        with pytest.raises(ConfigError):
            threads.submit(queue.run, job(broken)).result()


def test_a_job_that_is_stopped_before_it_has_a_place_has_not_begun(queue):
    joined(queue, LONG, LONG)
    recorder, quality = queue.run(job(QUICK), stop=lambda: True)
    assert (recorder.ended, recorder.progress, quality) == ("stopped", None, {})


def test_a_closed_queue_takes_no_more_and_keeps_nobodys_share():
    queue = RunQueue(limits=Limits(per_visitor=1))
    queue.close()
    for _ in range(2):
        with pytest.raises(RunnerError, match="The server is stopping"):
            queue.join(Run(job(QUICK)), "here")
    assert queue.rate_limiter.has_room(Share.RUNS, "here")
