"""The weighted objective: targets from the images, then losses and gradient of a picture."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nst.config import LayerWeights, TransferConfig
from nst.engine.graph import GraphCache
from nst.engine.images import Array, resize
from nst.engine.tiling import Tile, tiles
from nst.engine.vgg import Backbone, stride


class Losses(NamedTuple):
    """Hold the losses of one picture before weighting, and their weighted sum."""

    content: float
    style: float
    tv: float
    total: float


@dataclass(frozen=True)
class Region:
    """Describe how a part of the picture is to be painted.

    Args:
        styles: style images (1, H, W, 3), whose Gram matrices are blended.
        blend: a weight for each of them.
        mask: (1, H, W, 1) of the picture's size, how far each pixel belongs to the region; None: all do.
    """

    styles: Sequence[tf.Tensor]
    blend: Sequence[float] = (1.0,)
    mask: tf.Tensor | None = None


@dataclass(frozen=True)
class Targets:
    """Hold the targets of every layer, and how much each counts, for r regions.

    Args:
        content: {layer: features P (1, h, w, c)} in the precision of the network.
        style: {layer: Gram matrices A (r, c, c)}.
        content_factors: {layer: ()}, what its content loss is multiplied by.
        style_factors: {layer: (r,)}, what its style losses are multiplied by.
        guides: {layer: (r, h, w, 1)} of mean square 1, what features are multiplied by; None without masks.
    """

    content: dict[str, npt.NDArray[Any]]
    style: dict[str, Array]
    content_factors: dict[str, Array]
    style_factors: dict[str, Array]
    guides: dict[str, Array] | None


class Objective:
    """Compute L = alpha * L_content + beta * L_style + gamma * L_tv: see `losses.total_loss`.

    Given the names of layers, each loss is divided by the energy of its own target, and averaged over the
    layers: a weight then means the same at every size, layer and network. Given a mapping {layer: weight},
    each layer's loss is multiplied by exactly that weight, which reproduces other published objectives
    (Gatys' own has content 1, style 1000 / c^2).

    Regions with masks have a Gram matrix each, of features guided by the mask (Gatys et al. 2017,
    "Controlling perceptual factors in neural style transfer", eq. 5 and 6), and count by their area.

    A picture of more than `whole_pixels` is computed in tiles, with the same losses and gradient: memory is
    bounded, for almost twice the time.

    Args:
        backbone: the network, in the precision to compute in.
        content_layers: names, or {name: weight}.
        style_layers: names, or {name: weight}.
        content_weight: alpha.
        style_weight: beta.
        tv_weight: gamma.
        pooling: "max" or "avg".
        whole_pixels: the largest picture that is computed as a whole.
        tile_side: the longest side of a tile in pixels.
        graphs: what objectives that one thread uses in turn may share; None: nothing.
        before_tile: called before each tile; it may raise.
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
        graphs: GraphCache | None = None,
        before_tile: Callable[[], None] = lambda: None,
    ) -> None:
        self._backbone = backbone
        self._content_layers = content_layers
        self._style_layers = style_layers
        self._graph_arguments = backbone, tuple(content_layers), tuple(style_layers), pooling
        self._weights = np.array([content_weight, style_weight, tv_weight], np.float32)
        self._whole_pixels = whole_pixels
        self._tile_side = tile_side
        self._graphs = graphs or GraphCache()
        self._owns_graphs = graphs is None
        self._before_tile = before_tile
        self.evaluations = 0  # calls so far

    def close(self) -> None:
        """Give threads and memory back. The objective cannot be used afterwards."""
        if self._owns_graphs:
            self._graphs.close()
        else:
            self._graphs.trim()

    def targets(self, content: tf.Tensor, *regions: Region) -> Targets:
        """Compute the targets.

        Args:
            content: the content image, (1, H, W, 3).
            regions: what each part of the picture is to be painted like.
        """
        guides, areas, guided = None, np.ones(1, np.float32), 0
        if len(regions) > 1 or regions[0].mask is not None:
            masks = tf.concat([region.mask for region in regions], axis=0)  # (r, H, W, 1)
            guides = {layer: _guide(masks, layer) for layer in self._style_layers}
            areas = tf.reduce_mean(masks, axis=(1, 2, 3)).numpy()  # (r,)
            guided = len(regions)
        features = self._features(content, guided)
        blended = [self._blended_grams(region, guided) for region in regions]
        grams = {layer: np.stack([one[layer] for one in blended]) for layer in self._style_layers}
        return Targets(
            content=features,
            style=grams,
            content_factors=_factors(
                self._content_layers, {layer: _energy(target) for layer, target in features.items()}
            ),
            style_factors={
                layer: areas * factor
                for layer, factor in _factors(
                    self._style_layers,
                    {layer: np.array([_energy(gram) for gram in grams[layer]]) for layer in grams},
                ).items()
            },
            guides=guides,
        )

    def __call__(self, image: tf.Tensor | Array, targets: Targets) -> tuple[Losses, Array]:
        """Compute the losses of a picture, and the gradient of the total with respect to its pixels.

        Args:
            image: (1, H, W, 3).
            targets: of the same size.

        Returns:
            The losses, and the gradient (1, H, W, 3).
        """
        self.evaluations += 1
        gradient = np.zeros(image.shape, np.float32)
        for tile, (values, part) in self._evaluate("losses_and_gradient", image, targets):
            losses = Losses(*values.tolist())  # the same for each tile
            gradient[:, *tile.outer] += part
        return losses, gradient

    def losses(self, image: tf.Tensor | Array, targets: Targets) -> Losses:
        """Compute the losses of a picture (1, H, W, 3) alone, at less than half the cost."""
        _, values = next(self._evaluate("losses", image, targets))
        return Losses(*values.tolist())

    def _features(self, image: tf.Tensor, guided: int) -> dict[str, npt.NDArray[Any]]:
        """Compute {content layer: (1, h, w, c)} of an image (1, H, W, 3)."""
        height, width = image.shape[1:3]
        features: dict[str, npt.NDArray[Any]] = {}
        for tile, parts in self._compute("features", image, guided):
            for layer, part in parts.items():
                pixels = stride(layer)
                if layer not in features:
                    shape = 1, height // pixels, width // pixels, part.shape[-1]
                    features[layer] = np.empty(shape, part.dtype)
                features[layer][:, *tile.core_at(pixels)] = part
        return features

    def _blended_grams(self, region: Region, guided: int) -> dict[str, Array]:
        """Compute {style layer: (c, c)}, the mean of a region's styles by weight."""
        blended: dict[str, Array] = {}
        for style, weight in zip(region.styles, region.blend, strict=True):
            share = np.float32(weight / sum(region.blend))
            compute = partial(self._grams, style, guided)
            for layer, gram in self._graphs.grams(self._graph_arguments, style, compute).items():
                blended[layer] = blended.get(layer, 0) + share * gram
        return blended

    def _grams(self, style: tf.Tensor, guided: int) -> dict[str, Array]:
        """Compute {style layer: (c, c)} of an image (1, H, W, 3)."""
        grams: dict[str, Array] = {}
        for _, parts in self._compute("grams", style, guided):
            for layer, part in parts.items():
                grams[layer] = grams.get(layer, 0) + part
        return grams

    def _evaluate(
        self, output: str, image: tf.Tensor | Array, targets: Targets
    ) -> Iterator[tuple[Tile, Any]]:
        """Compute an output that depends on the losses of the whole picture, for each tile."""
        guided = len(next(iter(targets.guides.values()))) if targets.guides else 0
        if self._is_whole(image):
            return self._compute(output, image, guided, targets)
        sums: Any = None
        for _, own in self._compute("sums", image, guided, targets):
            sums = own if sums is None else tf.nest.map_structure(np.add, sums, own)
        return self._compute(output, image, guided, targets, sums)

    def _compute(
        self,
        output: str,
        image: tf.Tensor | Array,
        guided: int,
        targets: Targets | None = None,
        sums: Any = None,
    ) -> Iterator[tuple[Tile, Any]]:
        """Compute an output of the graph for each tile of a picture; a small picture is one tile.

        `guided` is the number of regions with masks, and `sums` the "sums" over all tiles.
        """
        height, width = image.shape[1:3]
        whole = self._is_whole(image)
        session = self._graphs.session(*self._graph_arguments, guided, whole=whole)
        pixels = np.asarray(image)
        side = max(height, width) if whole else self._tile_side
        margin = self._backbone.receptive_field({*self._content_layers, *self._style_layers})
        for tile in tiles(height, width, side, margin):
            if not whole:
                self._before_tile()
            given: dict[str, Any] = {"image": pixels[:, *tile.outer]}
            self._graphs.shapes.add(given["image"].shape)
            if not whole:
                given |= {"core": np.array(tile.box, np.int32), "size": np.array([height, width], np.int32)}
            if targets is not None:
                given |= {
                    "content": _crop(targets.content, tile),
                    "style": targets.style,
                    "content_factors": targets.content_factors,
                    "style_factors": targets.style_factors,
                    "weights": self._weights,
                }
                if targets.guides:
                    given["guides"] = _crop(targets.guides, tile)
            if sums is not None:
                given["sums"] = sums
            yield tile, session(output, given)

    def _is_whole(self, image: tf.Tensor | Array) -> bool:
        height, width = image.shape[1:3]
        return bool(height * width <= self._whole_pixels)


def build_objective(
    config: TransferConfig,
    backbone: Backbone,
    graphs: GraphCache | None = None,
    before_tile: Callable[[], None] = lambda: None,
) -> Objective:
    """Build the objective of a run from its config, in the precision of the config."""
    return Objective(
        backbone.in_precision(config.precision),
        content_layers=config.content_layers,
        style_layers=config.style_layers,
        content_weight=config.content_weight,
        style_weight=config.style_weight,
        tv_weight=config.tv_weight,
        pooling=config.pooling,
        graphs=graphs,
        before_tile=before_tile,
    )


def _crop(maps: Mapping[str, npt.NDArray[Any]], tile: Tile) -> dict[str, npt.NDArray[Any]]:
    return {layer: values[:, *tile.core_at(stride(layer))] for layer, values in maps.items()}


def _guide(masks: tf.Tensor, layer: str) -> Array:
    """Shrink masks (r, H, W, 1) to a layer, (r, h, w, 1), as factors of mean square 1."""
    height, width = (side // stride(layer) for side in masks.shape[1:3])
    small = np.maximum(resize(masks, height, width), 0)
    tiny = 1e-12  # a mask of a few pixels may vanish in deep layers
    guide: Array = np.sqrt(small / np.maximum(small.mean(axis=(1, 2, 3), keepdims=True), tiny))
    return guide


def _energy(target: npt.NDArray[Any]) -> float:
    """Compute mean(target^2) in float32."""
    pieces = np.array_split(target.ravel(), 1 + target.size // 2**20)  # a copy of a large one would be large
    parts = (piece.astype(np.float32) for piece in pieces)
    return sum(float(np.vdot(part, part)) for part in parts) / target.size


def _factors(layers: LayerWeights, energies: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
    """Compute what the losses of each layer are multiplied by."""
    if isinstance(layers, Mapping):
        return {layer: np.full_like(energies[layer], weight, np.float32) for layer, weight in layers.items()}
    tiny = 1e-12  # a layer that stays silent for a flat image has no energy to divide by
    return {
        layer: (1 / (len(layers) * np.maximum(energy, tiny))).astype(np.float32)
        for layer, energy in energies.items()
    }
