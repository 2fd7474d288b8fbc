"""Tiles in closed form: where they lie, and the shares of the whole picture that they add up to."""

import numpy as np
import pytest
import tensorflow as tf

from nst.engine.losses import total_variation
from nst.engine.tiling import crop_to_core, share_of_positions, share_of_variation, tiles
from nst.engine.vgg import stride

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("size", [(1, 1), (16, 700), (331, 512), (768, 769), (1537, 2049), (1000, 1000)])
@pytest.mark.parametrize(("side", "margin"), [(768, 66), (208, 70), (64, 16), (96, 1)])
def test_cores_divide_the_picture_and_have_their_margin_around_them(size, side, margin):
    height, width = size
    times = np.zeros(size, int)
    for tile in tiles(height, width, side, margin):
        times[tile.core] += 1
        for core, outer, length in zip(tile.core, tile.outer, size, strict=True):
            assert 0 < core.stop - core.start <= side
            assert outer.start == 0 or outer.start <= core.start - margin
            assert outer.stop == length or outer.stop >= core.stop + margin
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


@pytest.mark.parametrize("pixels", [1, 2, 4, 8, 16])
def test_cores_divide_the_positions_of_every_layer(pixels):
    height, width = 331, 517
    times = np.zeros((height // pixels, width // pixels), int)
    for tile in tiles(height, width, 96, 70):
        times[tile.core_at(pixels)] += 1
    assert (times == 1).all()


def test_the_variations_of_all_tiles_add_up_to_that_of_the_picture():
    image = np.random.default_rng(0).random((1, 77, 101, 3), np.float32)
    shares = [
        share_of_variation(
            tf.constant(image[:, *tile.outer]), tf.constant(tile.box), tf.constant(image.shape[1:3])
        )
        for tile in tiles(77, 101, 32, 16)
    ]
    assert len(shares) == 12
    assert sum(map(float, shares)) == pytest.approx(float(total_variation(tf.constant(image))), rel=1e-5)


@pytest.mark.parametrize("layer", ["block1_conv1", "block3_conv2", "block5_conv1"])
def test_the_cropped_features_of_all_tiles_are_those_of_the_picture(layer):
    pixels, size = stride(layer), (80, 112)
    whole = np.random.default_rng(0).random((1, size[0] // pixels, size[1] // pixels, 2), np.float32)
    found, share = np.full_like(whole, np.nan), 0.0
    for tile in tiles(*size, 32, 16):
        rows, columns = (slice(side.start // pixels, side.stop // pixels) for side in tile.outer)
        core = crop_to_core(tf.constant(whole[:, rows, columns]), tf.constant(tile.box), layer)
        found[:, *tile.core_at(pixels)] = core
        share += float(share_of_positions(core, tf.constant(size), layer))
    assert np.array_equal(found, whole)
    assert share == pytest.approx(1)
