"""Estimates from the last runs: nothing, roughly, and undisturbed by single ones."""

import pytest

from nst.serving.pace import LAST, Pace

pytestmark = pytest.mark.quick


def paced(*paces: float) -> Pace:
    pace = Pace()
    for one in paces:
        pace.add(one)
    return pace


def test_nothing_is_estimated_before_the_first_run():
    assert Pace().seconds(10) is None
    assert Pace().likely(10) is None


def test_a_few_runs_tell_the_time_roughly():
    assert paced(2).seconds(10) == 20
    assert paced(2).likely(10) == (10, 40)
    assert paced(2, 4).likely(10) == (15, 60)


def test_a_disturbed_run_does_not_change_the_estimate_much():
    for disturbed in (0.1, 50):
        pace = paced(2.0, 2.1, 1.9, 2.0, 2.05, disturbed)
        assert pace.seconds(10) == pytest.approx(20, rel=0.05)
        low, high = pace.likely(10)
        assert 18 < low < high < 22


def test_only_the_last_runs_count():
    assert paced(*[50.0] * 20, *[2.0] * LAST).likely(10) == (20, 20)
