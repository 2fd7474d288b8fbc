"""Gram matrix; content, style and total-variation losses; the weighted objective."""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nst.engine.images import Array, resize
from nst.engine.tiling import Tile, tiles
from nst.engine.vgg import Backbone, stride

# TensorFlow keeps what oneDNN compiles for each shape (see Objective); oneDNN need not do so once more, and
# for ever. It reads this when it is first used.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0")

LayerWeights = tuple[str, ...] | Mapping[str, float]


class Losses(NamedTuple):
    """The parts of the objective for one image, before weighting, and their weighted sum."""

    content: float
    style: float
    tv: float
    total: float


def gram_matrix(features: tf.Tensor) -> tf.Tensor:
    """Correlations of the channels of `features` (1, h, w, c), F^T F / (h*w): float32 (c, c).

    Gatys et al. 2016, eq. 3, with the division by the number of positions that their code has.
    """
    return _second_moment(tf.reshape(features, [-1, features.shape[-1]]))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _second_moment(rows: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """F^T F / n of F (n, c), with a gradient that takes one product where TensorFlow's takes two."""
    n, c = tf.unstack(tf.shape(rows))
    count = tf.cast(n, tf.float32)

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        return tf.matmul(rows, tf.cast((upstream + tf.transpose(upstream)) / count, rows.dtype))

    def product(part: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.matmul(part, part, transpose_a=True), tf.float32)

    # A product in bfloat16 is rounded to its 8 bits, so it is summed up from parts in float32.
    number = 8 if rows.dtype == tf.bfloat16 else 1
    even = n // number * number
    parts = tf.reshape(rows[:even], [number, n // number, c])
    return (tf.reduce_sum(product(parts), axis=0) + product(rows[even:])) / count, gradient


def total_variation(image: tf.Tensor) -> tf.Tensor:
    """Mean squared difference of the neighbouring values, across and down, of `image` (1, H, W, c)."""
    height, width = tf.unstack(tf.shape(image)[1:3])
    return _share_of_variation(image, tf.stack([0, 0, height, width]), height, width)


def _share_of_variation(image: tf.Tensor, core: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """What the values in box `core` of tile `image` add to the total variation of the whole, height x width.

    They are compared with their neighbours to the right and below, which may lie outside the box.
    """
    _, bottom, right, channels = tf.unstack(tf.shape(image))
    top, left, rows, columns = tf.unstack(core)
    down, along = tf.minimum(rows, bottom - 1 - top), tf.minimum(columns, right - 1 - left)

    def part(y: int, x: int, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        return tf.slice(
            image, [0, top + y, left + x, 0], [1, rows, columns, channels]
        )  # [y:] has a slow gradient

    across = tf.square(part(0, 1, rows, along) - part(0, 0, rows, along))
    below = tf.square(part(1, 0, down, columns) - part(0, 0, down, columns))
    pairs = (height * (width - 1) + (height - 1) * width) * channels
    return (tf.reduce_sum(across) + tf.reduce_sum(below)) / tf.cast(pairs, image.dtype)


@dataclass(frozen=True)
class Region:
    """A part of the picture, and the style images it is painted like, blended by weight."""

    styles: Sequence[tf.Tensor]  # (1, H, W, 3) each
    blend: Sequence[float] = (1.0,)  # a weight for each
    mask: tf.Tensor | None = (
        None  # (1, H, W, 1) of the picture's size: how far a pixel is in it; None: all are
    )


@dataclass(frozen=True)
class Targets:
    """What the content and the style images ask for, layer by layer, and how much each layer counts."""

    content: dict[str, npt.NDArray[Any]]  # {layer: features (1, h, w, c)}, in the network's precision
    style: dict[str, Array]  # {layer: Gram matrices, one a region (r, c, c)}
    content_factors: dict[str, Array]  # {layer: ()}
    style_factors: dict[str, Array]  # {layer: (r,)}
    guides: dict[str, Array] | None  # {layer: (r, h, w, 1)}, of mean square 1; None where there is no mask


class Objective:
    """alpha * content + beta * style + tv, the paper's eq. 1, for images of any one size.

    With layer names each part is divided by the energy of its own target and averaged over its layers; with a
    mapping {layer: weight} each layer's mean squared error is multiplied by exactly that weight, which
    reproduces other published objectives (Gatys' own: content 1, style 1000 / c**2).

    Regions with masks have a Gram matrix each, of features guided by the mask (Gatys et al. 2017,
    "Controlling perceptual factors in neural style transfer", eq. 5 and 6), and count by their area. An image
    of more than `whole_pixels` is computed in tiles of at most `tile_side` pixels a side, with the same
    losses and gradient: memory is bounded, for almost twice the time. Objectives that one thread uses in turn
    may share their computations. `before_tile` is called before each tile, and may raise.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        content_layers: LayerWeights,
        style_layers: LayerWeights,
        content_weight: float,
        style_weight: float,
        tv_weight: float,
        pooling: str,
        whole_pixels: int = 1024 * 1024,
        tile_side: int = 512,
        shared: "Computations | None" = None,
        before_tile: Callable[[], None] = lambda: None,
    ) -> None:
        self._backbone = backbone
        self._content_layers = content_layers
        self._style_layers = style_layers
        self._traced_for = tuple(content_layers), tuple(style_layers), pooling
        self._weights = np.array([content_weight, style_weight, tv_weight], np.float32)
        self._whole_pixels = whole_pixels
        self._tile_side = tile_side
        self._computations = shared or Computations()
        self._close = self._computations.settle if shared else self._computations.close
        self._before_tile = before_tile
        self.evaluations = 0  # calls so far

    def close(self) -> None:
        """Give back its threads and memory; it can't be used afterwards."""
        self._close()

    def targets(self, content: tf.Tensor, *regions: Region) -> Targets:
        """What content image (1, H, W, 3) and the regions' styles ask for, each at its present size."""
        guides, areas, guided = None, np.ones(1, np.float32), 0
        if len(regions) > 1 or regions[0].mask is not None:
            masks = tf.concat([region.mask for region in regions], axis=0)  # (r, H, W, 1)
            guides = {layer: _guide(masks, layer) for layer in self._style_layers}
            areas = tf.reduce_mean(masks, axis=(1, 2, 3)).numpy()
            guided = len(regions)
        features = self._features(content, guided)
        blended = [self._blended_grams(region, guided) for region in regions]
        grams = {layer: np.stack([one[layer] for one in blended]) for layer in self._style_layers}
        energies = {layer: np.array([_energy(gram) for gram in grams[layer]]) for layer in grams}
        return Targets(
            content=features,
            style=grams,
            content_factors=_factors(
                self._content_layers, {layer: _energy(target) for layer, target in features.items()}
            ),
            style_factors={
                layer: areas * factor for layer, factor in _factors(self._style_layers, energies).items()
            },
            guides=guides,
        )

    def __call__(self, image: tf.Tensor | Array, targets: Targets) -> tuple[Losses, Array]:
        """The losses of `image` (1, H, W, 3) and the gradient of the total with respect to its pixels."""
        self.evaluations += 1
        gradient = np.zeros(image.shape, np.float32)
        for tile, (values, part) in self._evaluated("losses_and_gradient", image, targets):
            losses = Losses(*values.tolist())  # the same for each
            gradient[:, *tile.outer] += part
        return losses, gradient

    def losses(self, image: tf.Tensor | Array, targets: Targets) -> Losses:
        """The losses of `image` (1, H, W, 3) alone, at less than half the cost."""
        _, values = next(self._evaluated("losses", image, targets))
        return Losses(*values.tolist())

    def _features(self, image: tf.Tensor, guided: int) -> dict[str, npt.NDArray[Any]]:
        """{layer: (1, h, w, c)} of the content layers."""
        height, width = image.shape[1:3]
        features: dict[str, npt.NDArray[Any]] = {}
        for tile, parts in self._computed("features", image, guided):
            for layer, part in parts.items():
                pixels = stride(layer)
                if layer not in features:
                    shape = 1, height // pixels, width // pixels, part.shape[-1]
                    features[layer] = np.empty(shape, part.dtype)
                features[layer][:, *tile.core_at(pixels)] = part
        return features

    def _blended_grams(self, region: Region, guided: int) -> dict[str, Array]:
        """{layer: (c, c)} of the style layers, the mean of the region's styles by weight."""
        blended: dict[str, Array] = {}
        for style, weight in zip(region.styles, region.blend, strict=True):
            share = np.float32(weight / sum(region.blend))
            for layer, gram in self._computations.grams(
                (self._backbone, *self._traced_for), style, partial(self._grams, style, guided)
            ).items():
                blended[layer] = blended.get(layer, 0) + share * gram
        return blended

    def _grams(self, style: tf.Tensor, guided: int) -> dict[str, Array]:
        """{layer: (c, c)} of the style layers of an image (1, H, W, 3)."""
        grams: dict[str, Array] = {}
        for _, parts in self._computed("grams", style, guided):
            for layer, part in parts.items():
                grams[layer] = grams.get(layer, 0) + part
        return grams

    def _evaluated(self, what: str, image: tf.Tensor | Array, targets: Targets) -> Iterator[tuple[Tile, Any]]:
        """That output of each tile, which knows what the other tiles add to the losses."""
        guided = len(next(iter(targets.guides.values()))) if targets.guides else 0
        if self._is_whole(image):
            return self._computed(what, image, guided, targets)
        sums: Any = None
        for _, own in self._computed("sums", image, guided, targets):
            sums = own if sums is None else tf.nest.map_structure(np.add, sums, own)
        return self._computed(what, image, guided, targets, sums)

    def _computed(
        self,
        what: str,
        image: tf.Tensor | Array,
        guided: int,
        targets: Targets | None = None,
        sums: Any = None,
    ) -> Iterator[tuple[Tile, Any]]:
        """That output of `_trace` for each tile of `image`; a small image is one tile."""
        height, width = image.shape[1:3]
        whole = self._is_whole(image)
        compute = self._computations.of(self._backbone, *self._traced_for, guided, whole=whole)
        pixels = np.asarray(image)
        side = max(height, width) if whole else self._tile_side
        reach = self._backbone.reach({*self._content_layers, *self._style_layers})
        for tile in tiles(height, width, side, reach):
            if not whole:
                self._before_tile()
            given: dict[str, Any] = {"image": pixels[:, *tile.outer]}
            self._computations.shapes.add(given["image"].shape)
            if not whole:
                given |= {"core": np.array(tile.box, np.int32), "size": np.array([height, width], np.int32)}
            if targets is not None:
                given |= {
                    "content": _cut(targets.content, tile),
                    "style": targets.style,
                    "content_factors": targets.content_factors,
                    "style_factors": targets.style_factors,
                    "weights": self._weights,
                }
                if targets.guides:
                    given["guides"] = _cut(targets.guides, tile)
            if sums is not None:
                given["sums"] = sums
            yield tile, compute(what, given)

    def _is_whole(self, image: tf.Tensor | Array) -> bool:
        height, width = image.shape[1:3]
        return bool(height * width <= self._whole_pixels)


def _cut(maps: Mapping[str, Array], tile: Tile) -> dict[str, Array]:
    return {layer: values[:, *tile.core_at(stride(layer))] for layer, values in maps.items()}


def _guide(masks: tf.Tensor, layer: str) -> Array:
    """What a layer's features are multiplied by for masks (r, H, W, 1): (r, h, w, 1), of mean square 1."""
    height, width = (side // stride(layer) for side in masks.shape[1:3])
    small = np.maximum(resize(masks, height, width), 0)
    tiny = 1e-12  # a mask of a few pixels may vanish in deep layers
    guide: Array = np.sqrt(small / np.maximum(small.mean(axis=(1, 2, 3), keepdims=True), tiny))
    return guide


def _energy(target: npt.NDArray[Any]) -> float:
    pieces = np.array_split(target.ravel(), 1 + target.size // 2**20)  # a copy of a large one would be large
    parts = (piece.astype(np.float32) for piece in pieces)
    return sum(float(np.vdot(part, part)) for part in parts) / target.size


def _factors(layers: LayerWeights, energies: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
    """What each layer's mean squared errors are multiplied by."""
    if isinstance(layers, Mapping):
        return {layer: np.full_like(energies[layer], weight, np.float32) for layer, weight in layers.items()}
    tiny = 1e-12  # a layer that a flat image leaves silent has no energy to divide by
    return {
        layer: (1 / (len(layers) * np.maximum(energy, tiny))).astype(np.float32)
        for layer, energy in energies.items()
    }


class Computations:
    """What objectives of one thread compute with: sessions, and the Gram matrices of the last styles."""

    MOST_SHAPES = 16  # images that sessions may have met, since each has cost them memory
    MOST_GRAMS = 32  # images; 2.4 MB each with the layers of the paper

    def __init__(self) -> None:
        self.shapes: set[tuple[int, ...]] = set()  # of the images that the sessions have met
        self._sessions: dict[Any, _Computation] = {}
        self._grams: OrderedDict[Any, dict[str, Array]] = OrderedDict()

    def of(self, *traced_for: Any, whole: bool) -> "_Computation":
        """The session for these arguments of `_trace`."""
        key = *traced_for, whole
        if key not in self._sessions:
            if not whole:
                self.close()  # tiles need the memory
            self._sessions[key] = _Computation(_trace(*key))
        return self._sessions[key]

    def grams(
        self, computed_by: Any, image: tf.Tensor, compute: Callable[[], dict[str, Array]]
    ) -> dict[str, Array]:
        """What `compute` says of that image, or said of one with the same pixels."""
        key = computed_by, image.shape, hashlib.blake2b(image.numpy().data).digest()
        if key not in self._grams:
            self._grams[key] = compute()
        self._grams.move_to_end(key)
        while len(self._grams) > self.MOST_GRAMS:
            self._grams.popitem(last=False)
        return self._grams[key]

    def settle(self) -> None:
        """Between runs: open new sessions where the present ones have met many sizes."""
        if len(self.shapes) > self.MOST_SHAPES:
            self.close()

    def close(self) -> None:
        """Give back the sessions' threads and memory."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        self.shapes.clear()


class _Computation:
    """What `_trace` has traced, with threads and memory of its own.

    TensorFlow's threads keep what oneDNN has compiled for each shape that they have met, for as long as they
    live. In a session they live no longer than the objective: memory stays flat over many sizes.
    """

    def __init__(self, traced: Any) -> None:
        self._traced = traced
        self._captured = [tensor.numpy() for tensor in traced.captured_inputs]
        threads = tf.compat.v1.ConfigProto(use_per_session_threads=True)
        self._session = tf.compat.v1.Session(graph=traced.graph, config=threads)
        self._calls: dict[str, Callable[..., Any]] = {}
        self.close = self._session.close

    def __call__(self, what: str, given: Mapping[str, Any]) -> Any:
        """That output, of which no more is computed than it needs."""
        if what not in self._calls:
            placeholders = [tensor.name for tensor in self._traced.inputs]
            (inputs,), _ = self._traced.structured_input_signature
            own = len(placeholders) - len(self._captured)
            named = tf.nest.pack_sequence_as(inputs, placeholders[:own])
            needed = tf.nest.flatten({name: named[name] for name in given})
            outputs = tf.nest.map_structure(lambda tensor: tensor.name, self._traced.structured_outputs[what])
            self._calls[what] = self._session.make_callable(outputs, [*needed, *placeholders[own:]])
        return self._calls[what](*tf.nest.flatten(given), *self._captured)


@lru_cache(maxsize=8)
def _trace(
    backbone: Backbone,
    content_layers: tuple[str, ...],
    style_layers: tuple[str, ...],
    pooling: str,
    guided: int,
    whole: bool,
) -> Any:
    """What an objective computes, traced once for every picture size and weight.

    `guided` is the number of regions with masks; the image is `whole`, or one of its tiles. A trace per size
    would cost a second each and stay in memory.
    """
    layers = tuple(dict.fromkeys(content_layers + style_layers))
    tensor = tf.TensorSpec
    signature: dict[str, Any] = {
        "image": tensor([1, None, None, 3]),
        "content": {layer: tensor([1, None, None, None], backbone.dtype) for layer in content_layers},
        "style": {layer: tensor([None, None, None]) for layer in style_layers},
        "content_factors": {layer: tensor([]) for layer in content_layers},
        "style_factors": {layer: tensor([None]) for layer in style_layers},
        "weights": tensor([3]),
    }
    if guided:
        signature["guides"] = {layer: tensor([guided, None, None, 1]) for layer in style_layers}
    if not whole:
        signature["core"] = tensor([4], tf.int32)  # as in Tile.box
        signature["size"] = tensor([2], tf.int32)  # height and width of the whole image
        signature["sums"] = {  # over all tiles
            "content": {layer: tensor([]) for layer in content_layers},
            "style": {layer: tensor([None, None, None]) for layer in style_layers},
            "tv": tensor([]),
        }

    @tf.function(input_signature=[signature])  # type: ignore[untyped-decorator]
    def compute(given: dict[str, Any]) -> dict[str, Any]:
        def core(activation: tf.Tensor, layer: str) -> tf.Tensor:
            """What of a layer (1, h, w, c) counts here."""
            if whole:
                return activation
            first = given["core"][:2] // stride(layer)
            last = (given["core"][:2] + given["core"][2:]) // stride(layer)
            rows, columns = tf.unstack(last - first)
            return tf.slice(activation, [0, first[0], first[1], 0], [1, rows, columns, activation.shape[-1]])

        def share(activation: tf.Tensor, layer: str) -> tf.Tensor:
            """Of how much of the layer's positions."""
            if whole:
                return 1.0
            positions = tf.reduce_prod(tf.shape(activation)[1:3]) / tf.reduce_prod(
                given["size"] // stride(layer)
            )
            return tf.cast(positions, tf.float32)

        image = given["image"]
        with tf.GradientTape() as tape:
            tape.watch(image)
            activations = {
                layer: core(activation, layer)
                for layer, activation in backbone(image, layers, pooling).items()
            }
            features = {layer: activations[layer] for layer in content_layers}
            grams = {
                layer: share(activations[layer], layer) * gram_matrix(activations[layer])
                for layer in style_layers
            }
            sums = {
                "content": {
                    layer: share(features[layer], layer)
                    * tf.reduce_mean(
                        tf.square(
                            tf.cast(features[layer], tf.float32)
                            - tf.cast(given["content"][layer], tf.float32)
                        )
                    )
                    for layer in content_layers
                },
                "style": {
                    layer: tf.stack(
                        [
                            share(activations[layer], layer)
                            * gram_matrix(activations[layer] * tf.cast(guide, activations[layer].dtype))
                            for guide in tf.split(given["guides"][layer], guided)
                        ]
                        if guided
                        else [grams[layer]]
                    )
                    for layer in style_layers
                },
                "tv": total_variation(image)
                if whole
                else _share_of_variation(image, given["core"], *tf.unstack(given["size"])),
            }
            total_sums = sums
            if not whole:  # those of all tiles, which vary as this tile's own do
                total_sums = tf.nest.map_structure(
                    lambda of_all, own: of_all + (own - tf.stop_gradient(own)), given["sums"], sums
                )
            content = tf.add_n(
                [given["content_factors"][layer] * total_sums["content"][layer] for layer in content_layers]
            )
            style = tf.add_n(
                [
                    tf.reduce_sum(
                        given["style_factors"][layer]
                        * tf.reduce_mean(
                            tf.square(total_sums["style"][layer] - given["style"][layer]), axis=(1, 2)
                        )
                    )
                    for layer in style_layers
                ]
            )
            parts = tf.stack([content, style, total_sums["tv"]])
            total = tf.reduce_sum(given["weights"] * parts)
        losses = tf.concat([parts, [total]], axis=0)  # as in Losses
        return {
            "features": features,
            "grams": grams,
            "sums": sums,
            "losses": losses,
            "losses_and_gradient": (losses, tape.gradient(total, image)),
        }

    return compute.get_concrete_function()
