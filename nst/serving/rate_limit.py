"""Every visitor's share of the server: how often, how much, and how many at once.

Requests, connections and uploads are checked by the middleware, pictures and runs by the queue, tasks by the
background pool, studies by the page.
"""

import ipaddress
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum

from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from nst.serving.limits import Limits

MEGABYTE = 1_000_000


class Rate(Enum):
    """Hold the names of the quantities that are limited in a span of time."""

    REQUESTS = "requests"  # HTTP requests, per minute
    PICTURES = "pictures"  # runs asked for, per minute
    UPLOADS = "uploads"  # bytes, while uploads are kept


class Share(Enum):
    """Hold the names of the things of which a visitor may hold only so many at one time."""

    CONNECTIONS = "connections"  # open HTTP requests
    RUNS = "runs"  # in the queue
    STUDIES = "studies"  # in progress
    TASKS = "tasks"  # in the background pool


class RateLimiter:
    """Count what each visitor uses, and say when it is too much.

    Rates are counted by a sliding window of the `limits` library; shares are taken and given back. A visitor
    is a network address (see `visitor_of`); None, of whom nothing is known, is never refused.

    Args:
        limits: the limits of this server.
    """

    def __init__(self, limits: Limits) -> None:
        self._rates: dict[Rate, RateLimitItem] = {
            Rate.REQUESTS: RateLimitItemPerMinute(limits.requests, namespace="requests"),
            Rate.PICTURES: RateLimitItemPerMinute(limits.per_minute, namespace="pictures"),
            Rate.UPLOADS: RateLimitItemPerSecond(limits.uploads * MEGABYTE, limits.kept, namespace="uploads"),
        }
        self._most = {
            Share.CONNECTIONS: limits.connections,
            Share.RUNS: limits.per_visitor,
            Share.STUDIES: limits.per_visitor,
            Share.TASKS: 2 * limits.per_visitor,
        }
        self._window = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._held: Counter[tuple[Share, str]] = Counter()
        self._lock = threading.Lock()

    def allows(self, rate: Rate, visitor: str | None, amount: int = 1) -> bool:
        """Return whether a visitor has this much of a rate left, without using it."""
        return visitor is None or self._window.test(self._rates[rate], visitor, cost=amount)

    def use(self, rate: Rate, visitor: str | None, amount: int = 1) -> bool:
        """Use so much of a visitor's rate.

        Returns:
            False where less is left; then nothing is used.
        """
        return visitor is None or self._window.hit(self._rates[rate], visitor, cost=amount)

    def has_room(self, share: Share, visitor: str | None) -> bool:
        """Return whether a visitor may take one more of a share, without taking it."""
        return visitor is None or self._held[share, visitor] < self._most[share]

    def take(self, share: Share, visitor: str | None) -> Callable[[], None] | None:
        """Take one of a visitor's share.

        Returns:
            The function that gives it back, to be called once; None where the visitor has taken all of it.
        """
        if visitor is None:
            return lambda: None
        with self._lock:
            if not self.has_room(share, visitor):
                return None
            self._held[share, visitor] += 1

        def give_back() -> None:
            with self._lock:
                self._held[share, visitor] -= 1
                if not self._held[share, visitor]:
                    del self._held[share, visitor]

        return give_back

    @contextmanager
    def holding(self, share: Share, visitor: str | None) -> Iterator[bool]:
        """Hold one of a visitor's share for a `with` block, whose value says whether there was one."""
        give_back = self.take(share, visitor)
        try:
            yield give_back is not None
        finally:
            if give_back:
                give_back()


def visitor_of(host: str) -> str:
    """Name the visitor behind a network address.

    Whoever has one IPv6 address has the 2**64 of its network, so the network is the visitor.

    Args:
        host: an IPv4 or IPv6 address, or any other name of a host.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, ipaddress.IPv6Address) or address.ipv4_mapped:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False))
