"""Large pictures in tiles: where they lie, and the losses of a tile as its share of the whole picture.

A tile has a core, one of the rectangles that the picture is divided into, and around it as many pixels as the
network needs to compute the features of the core.
"""

from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from nst.engine.losses import squared_change
from nst.engine.vgg import stride

_ALIGN = 16  # pixels: no pooling of a VGG straddles two tiles that begin at multiples of this


class Tile(NamedTuple):
    """Locate a tile in the picture: its core, and the larger box that it is computed in, in pixels."""

    core: tuple[slice, slice]
    outer: tuple[slice, slice]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Return the top, left, height and width of the core within the outer box."""
        (rows, columns), (above, before) = self.core, self.outer
        return (
            rows.start - above.start,
            columns.start - before.start,
            rows.stop - rows.start,
            columns.stop - columns.start,
        )

    def core_at(self, stride: int) -> tuple[slice, slice]:
        """Return the core in a layer whose positions lie `stride` pixels apart."""
        rows, columns = (slice(cut.start // stride, cut.stop // stride) for cut in self.core)
        return rows, columns


def tiles(height: int, width: int, side: int, margin: int) -> Iterator[Tile]:
    """Divide a picture into tiles of nearly equal size.

    Args:
        height: of the picture in pixels.
        width: of the picture in pixels.
        side: the longest side of a core in pixels.
        margin: the least number of pixels around a core, where the picture has them.
    """
    margin = -(-margin // _ALIGN) * _ALIGN
    for rows in _cuts(height, side):
        for columns in _cuts(width, side):
            yield Tile((rows, columns), (_widen(rows, margin, height), _widen(columns, margin, width)))


def _cuts(length: int, side: int) -> Iterator[slice]:
    count = -(-length // side)
    step = -(-length // (count * _ALIGN)) * _ALIGN
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


def _widen(cut: slice, margin: int, length: int) -> slice:
    return slice(max(cut.start - margin, 0), min(cut.stop + margin, length))


def crop_to_core(activation: tf.Tensor, core: tf.Tensor, layer: str) -> tf.Tensor:
    """Crop the activations of a tile to its core.

    Args:
        activation: (1, h, w, c).
        core: int32 (4,), the `Tile.box`.
        layer: the name of the layer.
    """
    first, last = core[:2] // stride(layer), (core[:2] + core[2:]) // stride(layer)
    rows, columns = tf.unstack(last - first)
    return tf.slice(activation, [0, first[0], first[1], 0], [1, rows, columns, activation.shape[-1]])


def share_of_positions(activation: tf.Tensor, size: tf.Tensor, layer: str) -> tf.Tensor:
    """Return which share of a layer's positions a cropped activation has, so that shares of means add up.

    Args:
        activation: (1, h, w, c), cropped to the core.
        size: int32 (2,), height and width of the whole picture in pixels.
        layer: the name of the layer.
    """
    positions = tf.reduce_prod(tf.shape(activation)[1:3]) / tf.reduce_prod(size // stride(layer))
    return tf.cast(positions, tf.float32)


def share_of_variation(image: tf.Tensor, core: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Compute what the core of a tile adds to the total variation of the whole picture.

    Its pixels are compared with their neighbours to the right and below, which may lie outside the core.

    Args:
        image: the tile, (1, h, w, c).
        core: int32 (4,), the `Tile.box`.
        size: int32 (2,), height and width of the whole picture in pixels.
    """
    _, bottom, right, channels = tf.unstack(tf.shape(image))
    top, left, rows, columns = tf.unstack(core)
    height, width = tf.unstack(size)
    start = [0, top, left, 0]
    across = tf.slice(image, start, [1, rows, tf.minimum(columns + 1, right - left), channels])
    down = tf.slice(image, start, [1, tf.minimum(rows + 1, bottom - top), columns, channels])
    pairs = (height * (width - 1) + (height - 1) * width) * channels
    return (squared_change(across, axis=2) + squared_change(down, axis=1)) / tf.cast(pairs, image.dtype)
