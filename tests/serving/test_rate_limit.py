"""A visitor's rates and shares: each visitor has their own, and gets them back."""

import time

import pytest

from nst.serving import rate_limit
from nst.serving.limits import PUBLIC, Limits
from nst.serving.rate_limit import MEGABYTE, Rate, RateLimiter, Share, visitor_of

pytestmark = pytest.mark.quick


def test_a_rate_is_each_visitors_own_and_what_is_refused_uses_nothing():
    limiter = RateLimiter(Limits(per_minute=3))
    used = [limiter.use(Rate.PICTURES, "one", amount) for amount in (2, 2, 1)]
    assert used == [True, False, True]
    assert not limiter.allows(Rate.PICTURES, "one")
    assert limiter.allows(Rate.PICTURES, "another", 3)
    assert not limiter.allows(Rate.PICTURES, "another", 4)
    assert limiter.use(Rate.PICTURES, "another", 3)
    assert limiter.use(Rate.PICTURES, None, 100)


def test_a_rate_comes_back(monkeypatch):
    """The library counts a window of whole seconds: a minute here is one of them."""
    monkeypatch.setattr(rate_limit, "RateLimitItemPerMinute", rate_limit.RateLimitItemPerSecond)
    limiter = RateLimiter(Limits(requests=3))
    assert limiter.use(Rate.REQUESTS, "one", 3)
    began = time.monotonic()
    while not limiter.allows(Rate.REQUESTS, "one", 3):
        time.sleep(0.05)
    assert 0 < time.monotonic() - began < 2.2
    assert limiter.use(Rate.REQUESTS, "one", 3)
    assert not limiter.allows(Rate.REQUESTS, "one")


def test_uploads_are_counted_in_megabytes():
    limiter = RateLimiter(PUBLIC)
    assert limiter.use(Rate.UPLOADS, "one", PUBLIC.uploads * MEGABYTE)
    assert not limiter.allows(Rate.UPLOADS, "one", 1)


def test_a_share_is_taken_and_given_back():
    limiter = RateLimiter(Limits(per_visitor=2))
    first, second = (limiter.take(Share.RUNS, "one") for _ in range(2))
    assert first
    assert second
    assert limiter.take(Share.RUNS, "one") is None
    assert limiter.take(Share.STUDIES, "one") is not None
    assert limiter.take(Share.RUNS, "another") is not None
    first()
    assert limiter.has_room(Share.RUNS, "one")
    with limiter.holding(Share.RUNS, "one") as held:
        assert held
        with limiter.holding(Share.RUNS, "one") as more:
            assert not more
        assert not limiter.has_room(Share.RUNS, "one")
    assert limiter.has_room(Share.RUNS, "one")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8:1:2:3::4", "2001:db8:1:2:ffff::1", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("testclient", "testclient", True),
    ],
)
def test_an_ipv6_network_is_one_visitor(one, other, same):
    assert (visitor_of(one) == visitor_of(other)) is same
