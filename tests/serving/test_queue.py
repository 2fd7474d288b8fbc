"""The line in which runs wait: their order, its end, and what stays of a run that has ended."""

import re
from dataclasses import replace

import pytest

from nst.config import ConfigError, TransferConfig
from nst.engine.stylize import coarse_to_fine, cost
from nst.runs.runner import Job
from nst.serving.limits import Limits
from nst.serving.queue import BusyError, Line, Run

QUICK = TransferConfig(size=64, iterations=5, backbone="vgg16-hed")
LONG = TransferConfig(size=64, iterations=1000, backbone="vgg16-hed", optimizer="adam")


@pytest.fixture
def line():
    line = Line(limits=Limits(places=2))
    yield line
    line.close()


def test_runs_take_their_turn_and_leave_the_line_when_they_end(line, photo, painting):
    first, second = (line.join(Run(Job(photo, [painting], config))) for config in (LONG, QUICK))
    assert (line.ahead(first), line.ahead(second)) == (0, 1)
    with pytest.raises(BusyError, match="Too many people are waiting: please try again"):
        line.join(Run(Job(photo, [painting], QUICK)))
    first.stop()
    second.future.result()
    assert first.ended == "stopped"
    assert second.ended == "finished"
    assert len(second.history) == 5
    assert line.ahead(second) == 0
    assert line.join(Run(Job(photo, [painting], QUICK))).future.result() is None


def test_a_run_that_waits_leaves_the_line_when_it_is_stopped(line, photo, painting):
    first, second = (line.join(Run(Job(photo, [painting], config))) for config in (LONG, QUICK))
    second.stop()
    third = line.join(Run(Job(photo, [painting], QUICK)))
    assert line.ahead(third) == 1
    first.stop()
    third.future.result()
    assert second.future.cancelled()
    assert second.history == []


def test_a_run_ends_when_its_time_is_up(photo, painting):
    line = Line(limits=Limits(seconds=1))
    try:
        run = line.join(Run(Job(photo, [painting], LONG)))
        run.future.result()
        assert run.ended == "out of time"
        assert 0 < len(run.history) < 1000
    finally:
        line.close()


def test_as_many_runs_are_painted_at_once_as_the_limits_say_and_are_those_of_one(line, photo, painting):
    alone = line.join(Run(Job(photo, [painting], QUICK)))
    alone.future.result()
    wide = Line(limits=Limits(at_once=2))
    try:
        wide.warm_up.future.result()
        first = wide.join(Run(Job(photo, [painting], LONG)))
        second, third = (wide.join(Run(Job(photo, [painting], QUICK))) for _ in range(2))
        assert (wide.ahead(second), wide.ahead(third)) == (0, 1)
        third.future.result()
        assert not first.future.done()
        assert wide.state()["painted"] == 1
        assert [row["total"] for row in second.history] == [row["total"] for row in alone.history]
    finally:
        wide.close()


def test_the_line_knows_its_pace_from_the_warm_up_on(line, photo, painting):
    line.warm_up.future.result()
    assert line.warm_up.ended == "finished"
    first = line.pace
    assert first > 0
    run = line.join(Run(Job(photo, [painting], QUICK)))
    run.future.result()
    assert line.pace == run.pace != first
    steps = cost(coarse_to_fine(64, 5)) - cost(coarse_to_fine(64, 5), 1, 1)
    took = run.history[-1]["seconds"] - run.history[0]["seconds"]
    assert run.pace == pytest.approx(took / steps)


def test_a_run_leaves_one_line_in_the_log(line, photo, painting, caplog):
    caplog.set_level("INFO", "nst")
    line.warm_up.future.result()
    broken = replace(QUICK, content_layers=("block9_conv1",))
    runs = [line.join(Run(Job(photo, [painting], config))) for config in (QUICK, broken)]
    with pytest.raises(ConfigError):
        runs[1].future.result()
    done, failed = caplog.messages[-2:]
    assert re.fullmatch(r"finished: 64 px, 5 of 5 steps, \d+\.\d s", done)
    assert failed == "failed: 64 px, 0 of 5 steps, 0.0 s"
