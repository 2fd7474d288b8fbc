"""Large pictures in tiles: cores that share the picture out, each with enough around it to be computed."""

from collections.abc import Iterator
from typing import NamedTuple

_ALIGN = 16  # pixels: where no pooling of a VGG straddles two tiles


class Tile(NamedTuple):
    """A core (top to bottom, left to right, in pixels), and the larger box that it is computed in."""

    core: tuple[slice, slice]
    outer: tuple[slice, slice]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Top, left, height and width of the core within the outer box."""
        (rows, columns), (above, before) = self.core, self.outer
        return (
            rows.start - above.start,
            columns.start - before.start,
            rows.stop - rows.start,
            columns.stop - columns.start,
        )

    def core_at(self, stride: int) -> tuple[slice, slice]:
        """The core among positions that stand for `stride` pixels each way."""
        rows, columns = (slice(cut.start // stride, cut.stop // stride) for cut in self.core)
        return rows, columns


def tiles(height: int, width: int, side: int, reach: int) -> Iterator[Tile]:
    """Cores of at most `side` pixels a side, nearly equal, each with at least `reach` pixels around it."""
    halo = -(-reach // _ALIGN) * _ALIGN
    for rows in _cuts(height, side):
        for columns in _cuts(width, side):
            core = rows, columns
            outer = _widened(rows, halo, height), _widened(columns, halo, width)
            yield Tile(core, outer)


def _cuts(length: int, side: int) -> Iterator[slice]:
    count = -(-length // side)
    step = -(-length // (count * _ALIGN)) * _ALIGN
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


def _widened(cut: slice, halo: int, length: int) -> slice:
    return slice(max(cut.start - halo, 0), min(cut.stop + halo, length))
