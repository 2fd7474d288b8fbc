"""The load test in a short form."""

from visitors import run


def test_a_dozen_visitors_and_a_hostile_one_get_pictures_or_plain_refusals_and_leave_nothing():
    report = run(visitors=12, seconds=45)
    assert report.failures == []
    assert report.finished
    assert report.outcomes["hostile, refused"]
