"""Moments of a run to come back to: a bounded number, spread over all of it."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nst.engine.images import to_uint8
from nst.engine.stylize import Progress
from nst.runs.record import history_row


class Moment(NamedTuple):
    """One step of a run: its row in the history, and its picture."""

    row: dict[str, float]
    pixels: npt.NDArray[np.uint8]  # (H, W, 3), at the size of its level


class Snapshots:
    """At most `most` moments: every step at first, then every second, fourth, …, and always the last one."""

    def __init__(self, most: int = 32) -> None:
        self._most = most
        self._stride = 1
        self._kept: list[Moment] = []

    def add(self, progress: Progress) -> None:
        """Take in the next step."""
        if self._kept and self._kept[-1].row["step"] % self._stride:
            self._kept.pop()  # it was there only as the last one
        self._kept.append(Moment(history_row(progress), to_uint8(progress.image)))
        if len(self._kept) > self._most:
            self._stride *= 2
            *earlier, last = self._kept
            self._kept = [moment for moment in earlier if moment.row["step"] % self._stride == 0]
            self._kept.append(last)

    @property
    def moments(self) -> tuple[Moment, ...]:
        """The moments so far, in order."""
        return tuple(self._kept)
