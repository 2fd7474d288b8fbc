"""Where tiles lie: in closed form."""

import numpy as np
import pytest

from nst.engine.tiling import tiles


@pytest.mark.parametrize("size", [(1, 1), (16, 700), (331, 512), (768, 769), (1537, 2049), (1000, 1000)])
@pytest.mark.parametrize(("side", "reach"), [(768, 66), (208, 70), (64, 16), (96, 1)])
def test_cores_share_out_the_picture_and_have_what_they_need_around_them(size, side, reach):
    height, width = size
    times = np.zeros(size, int)
    for tile in tiles(height, width, side, reach):
        times[tile.core] += 1
        for core, outer, length in zip(tile.core, tile.outer, size, strict=True):
            assert 0 < core.stop - core.start <= side
            assert outer.start == 0 or outer.start <= core.start - reach
            assert outer.stop == length or outer.stop >= core.stop + reach
            assert core.start % 16 == outer.start % 16 == 0
            assert all(end == length or end % 16 == 0 for end in (core.stop, outer.stop))
        top, left, rows, columns = tile.box
        part = np.zeros(size, bool)[tile.outer]
        part[top : top + rows, left : left + columns] = True
        everywhere = np.zeros(size, bool)
        everywhere[tile.outer] = part
        expected = np.zeros(size, bool)
        expected[tile.core] = True
        assert np.array_equal(everywhere, expected)
    assert (times == 1).all()


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
def test_cores_share_out_the_positions_of_every_layer(stride):
    height, width = 331, 517
    times = np.zeros((height // stride, width // stride), int)
    for tile in tiles(height, width, 96, 70):
        times[tile.core_at(stride)] += 1
    assert (times == 1).all()
