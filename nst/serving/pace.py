"""How long runs take on this server, judged by the last ones."""

from collections import deque
from statistics import median, quantiles

LAST = 9  # runs, of which one or two may have been disturbed, or ended early
_FEW = 3  # runs, by fewer of which a time is known only roughly


class Pace:
    """Remember the paces of the last runs: the seconds that each took for one unit of `run_cost`."""

    def __init__(self) -> None:
        self._paces: deque[float] = deque(maxlen=LAST)

    def add(self, pace: float) -> None:
        """Add the pace of a run that has ended."""
        self._paces.append(pace)

    def seconds(self, cost: float) -> float | None:
        """Estimate the seconds that a run of that cost takes; None before any run has been timed."""
        return cost * median(self._paces) if self._paces else None

    def likely(self, cost: float) -> tuple[float, float] | None:
        """Estimate between how many seconds a run of that cost takes; None before any run has been timed.

        They are the quartiles of the last runs. Where there are few, half and twice their median.
        """
        if not self._paces:
            return None
        if len(self._paces) < _FEW:
            low, high = median(self._paces) / 2, median(self._paces) * 2
        else:
            low, _, high = quantiles(self._paces, n=4, method="inclusive")
        return cost * low, cost * high
