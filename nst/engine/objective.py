"""The weighted objective: targets from the images, then losses and gradient of a picture."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nst.config import LayerWeights, TransferConfig
from nst.engine.graph import GraphCache, StyleStatistics
from nst.engine.images import Array, resize
from nst.engine.scales import (
    Moments,
    combined,
    content_scale,
    factors,
    moments,
    style_scale,
    style_shares,
)
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

    Given the names of layers, each loss is divided by its bound, as scales.py says, and the layers are
    averaged: a weight then means the same at every size, for every pair of images and on every network. Given
    a mapping {layer: weight}, each layer's loss is multiplied by exactly that weight, which reproduces other
    published objectives (Gatys' own has content 1, style 1000 / c^2).

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
        features, photo_grams = self._photo_statistics(content, guided, guides)
        blended = [self._blended(region, guided) for region in regions]
        grams = {layer: np.stack([one.grams[layer] for one in blended]) for layer in self._style_layers}
        return Targets(
            content=features,
            style=grams,
            content_factors=self._content_factors(
                features, [one.moments for one in blended], areas / areas.sum()
            ),
            style_factors={
                layer: areas * factor for layer, factor in self._style_factors(photo_grams, grams).items()
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

    def _photo_statistics(
        self, image: tf.Tensor, guided: int, guides: dict[str, Array] | None
    ) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Array]]:
        """Compute {content layer: (1, h, w, c)} and {style layer: (r, c, c)} of an image (1, H, W, 3)."""
        height, width = image.shape[1:3]
        features: dict[str, npt.NDArray[Any]] = {}
        grams: dict[str, Array] = {}
        for tile, (maps, parts) in self._compute("photo", image, guided, guides):
            for layer, part in maps.items():
                pixels = stride(layer)
                if layer not in features:
                    shape = 1, height // pixels, width // pixels, part.shape[-1]
                    features[layer] = np.empty(shape, part.dtype)
                features[layer][:, *tile.core_at(pixels)] = part
            for layer, part in parts.items():
                grams[layer] = grams.get(layer, 0) + part
        return features, grams

    def _content_factors(
        self,
        features: Mapping[str, npt.NDArray[Any]],
        styles: Sequence[Mapping[str, Moments]],
        areas: Array,
    ) -> dict[str, Array]:
        """Compute {content layer: ()}, given the moments of the regions' styles, and shares of the area."""
        if isinstance(self._content_layers, Mapping):
            return {layer: np.asarray(weight, np.float32) for layer, weight in self._content_layers.items()}
        scales = {
            layer: content_scale(
                moments(target),
                combined(zip(areas, (style[layer] for style in styles), strict=True)),
            )
            for layer, target in features.items()
        }
        return factors(dict.fromkeys(scales, 1 / len(scales)), scales)

    def _style_factors(self, photo: Mapping[str, Array], grams: Mapping[str, Array]) -> dict[str, Array]:
        """Compute {style layer: (r,)}, given the Gram matrices (r, c, c) of the photo, and the targets."""
        if isinstance(self._style_layers, Mapping):
            return {
                layer: np.full(len(grams[layer]), weight, np.float32)
                for layer, weight in self._style_layers.items()
            }
        scales = {layer: style_scale(photo[layer], target) for layer, target in grams.items()}
        return factors(style_shares(self._style_layers), scales)

    def _blended(self, region: Region, guided: int) -> StyleStatistics:
        """Compute the statistics of a region's styles together, each with its share."""
        shares = np.array(region.blend, np.float32) / np.float32(sum(region.blend))
        of_each = [
            self._graphs.statistics(
                self._graph_arguments, style, partial(self._style_statistics, style, guided)
            )
            for style in region.styles
        ]
        return StyleStatistics(
            grams={
                layer: np.average([one.grams[layer] for one in of_each], axis=0, weights=shares)
                for layer in self._style_layers
            },
            moments={
                layer: combined(zip(shares, (one.moments[layer] for one in of_each), strict=True))
                for layer in self._content_layers
            },
        )

    def _style_statistics(self, style: tf.Tensor, guided: int) -> StyleStatistics:
        """Compute the statistics of a style image (1, H, W, 3)."""
        height, width = style.shape[1:3]
        grams: dict[str, Array] = {}
        of_tiles: dict[str, list[tuple[float, Moments]]] = {layer: [] for layer in self._content_layers}
        for _, (maps, parts) in self._compute("style", style, guided):
            for layer, part in parts.items():
                grams[layer] = grams.get(layer, 0) + part
            for layer, part in maps.items():
                positions = (height // stride(layer)) * (width // stride(layer))
                share = part.shape[1] * part.shape[2] / positions
                of_tiles[layer].append((share, moments(part)))
        return StyleStatistics(grams, {layer: combined(parts) for layer, parts in of_tiles.items()})

    def _evaluate(
        self, output: str, image: tf.Tensor | Array, targets: Targets
    ) -> Iterator[tuple[Tile, Any]]:
        """Compute an output that depends on the losses of the whole picture, for each tile."""
        guided = len(next(iter(targets.guides.values()))) if targets.guides else 0
        if self._is_whole(image):
            return self._compute(output, image, guided, targets.guides, targets)
        sums: Any = None
        for _, own in self._compute("sums", image, guided, targets.guides, targets):
            sums = own if sums is None else tf.nest.map_structure(np.add, sums, own)
        return self._compute(output, image, guided, targets.guides, targets, sums)

    def _compute(
        self,
        output: str,
        image: tf.Tensor | Array,
        guided: int,
        guides: Mapping[str, Array] | None = None,
        targets: Targets | None = None,
        sums: Any = None,
    ) -> Iterator[tuple[Tile, Any]]:
        """Compute an output of the graph for each tile of a picture; a small picture is one tile.

        `guided` is the number of regions with masks, `guides` are those of the picture, and `sums` the "sums"
        over all tiles.
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
            if guides:
                given["guides"] = _crop(guides, tile)
            if targets is not None:
                given |= {
                    "content": _crop(targets.content, tile),
                    "style": targets.style,
                    "content_factors": targets.content_factors,
                    "style_factors": targets.style_factors,
                    "weights": self._weights,
                }
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
