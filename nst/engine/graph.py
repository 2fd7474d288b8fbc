"""The objective as one TensorFlow graph: losses, weighted sum and gradient, for pictures of any size."""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import tensorflow as tf

from nst.engine.images import Array
from nst.engine.losses import content_loss, gram_matrix, style_loss, total_loss, total_variation
from nst.engine.scales import Moments
from nst.engine.tiling import crop_to_core, share_of_positions, share_of_variation
from nst.engine.vgg import Backbone

# A session keeps what oneDNN compiles for each shape (see GraphSession). oneDNN would keep it a second time,
# for ever; it reads this variable when it is first used.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0")


class StyleStatistics(NamedTuple):
    """Hold what the targets need of a style image.

    Args:
        grams: {style layer: (c, c)}.
        moments: {content layer: moments}.
    """

    grams: dict[str, Array]
    moments: dict[str, Moments]


class GraphCache:
    """Keep what runs of one thread share: open sessions, and the statistics of the last style images."""

    MOST_SESSIONS = 4  # each has threads, and memory that grows with its layers
    MOST_SHAPES = 16  # image shapes in all sessions together, because each takes memory in them
    MOST_STYLES = 32  # style images, 1.4 MB each with the default layers

    def __init__(self) -> None:
        self.shapes: set[tuple[int, ...]] = set()  # of the images that the sessions have computed
        self._sessions: OrderedDict[Any, GraphSession] = OrderedDict()
        self._styles: OrderedDict[Any, StyleStatistics] = OrderedDict()

    def session(self, *arguments: Any, whole: bool) -> "GraphSession":
        """Open a session for a graph, or return the open one; the one used longest ago may be closed for it.

        Args:
            arguments: those of `trace_objective` before `whole`.
            whole: whether images are computed as one tile. Other sessions are closed before one for tiles is
                opened, because large pictures need their memory.
        """
        key = *arguments, whole
        if key not in self._sessions:
            if not whole:
                self.close()
            while len(self._sessions) >= self.MOST_SESSIONS:
                self._sessions.popitem(last=False)[1].close()
            self._sessions[key] = GraphSession(trace_objective(*key))
        self._sessions.move_to_end(key)
        return self._sessions[key]

    def statistics(
        self, network: Any, image: tf.Tensor, compute: Callable[[], StyleStatistics]
    ) -> StyleStatistics:
        """Return the statistics of a style image, computed once.

        Args:
            network: what they depend on in addition to the image (hashable).
            image: (1, H, W, 3).
            compute: computes them.
        """
        key = network, image.shape, hashlib.blake2b(image.numpy().data).digest()
        if key not in self._styles:
            self._styles[key] = compute()
        self._styles.move_to_end(key)
        while len(self._styles) > self.MOST_STYLES:
            self._styles.popitem(last=False)
        return self._styles[key]

    def trim(self) -> None:
        """Close all sessions if they have seen many image shapes. Call it between runs."""
        if len(self.shapes) > self.MOST_SHAPES:
            self.close()

    def close(self) -> None:
        """Close all sessions, which gives their threads and memory back."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        self.shapes.clear()


class GraphSession:
    """Run a traced graph with threads and memory of its own.

    The threads of TensorFlow keep what oneDNN has compiled for each shape that they have met, for as long as
    they live. In a session they live no longer than the session, so that memory stays flat over many sizes.

    Args:
        traced: the concrete function of `trace_objective`.
    """

    def __init__(self, traced: Any) -> None:
        self._traced = traced
        self._captured = [tensor.numpy() for tensor in traced.captured_inputs]
        threads = tf.compat.v1.ConfigProto(use_per_session_threads=True)
        self._session = tf.compat.v1.Session(graph=traced.graph, config=threads)
        self._calls: dict[str, Callable[..., Any]] = {}

    def __call__(self, output: str, given: Mapping[str, Any]) -> Any:
        """Compute one output of the graph, and nothing that it does not need.

        Args:
            output: its name.
            given: the inputs that it needs, by name.
        """
        if output not in self._calls:
            placeholders = [tensor.name for tensor in self._traced.inputs]
            (inputs,), _ = self._traced.structured_input_signature
            own = len(placeholders) - len(self._captured)
            named = tf.nest.pack_sequence_as(inputs, placeholders[:own])
            needed = tf.nest.flatten({name: named[name] for name in given})
            fetches = tf.nest.map_structure(
                lambda tensor: tensor.name, self._traced.structured_outputs[output]
            )
            self._calls[output] = self._session.make_callable(fetches, [*needed, *placeholders[own:]])
        return self._calls[output](*tf.nest.flatten(given), *self._captured)

    def close(self) -> None:
        """Give threads and memory back. The session cannot be used afterwards."""
        self._session.close()


@lru_cache(maxsize=8)
def trace_objective(
    backbone: Backbone,
    content_layers: tuple[str, ...],
    style_layers: tuple[str, ...],
    pooling: str,
    regions: int,
    whole: bool,
) -> Any:
    """Trace the objective once for all picture sizes and weights.

    A trace for each size would take a second, and would stay in memory.

    Args:
        backbone: the network, in the precision to compute in.
        content_layers: names of layers.
        style_layers: names of layers.
        pooling: "max" or "avg".
        regions: the number of regions with masks; 0 where there are no masks.
        whole: whether the image is the whole picture, or one of its tiles.

    Returns:
        A concrete function of a dictionary of inputs, named in the signature below, with the outputs

        - "photo": {content layer: (1, h, w, c)}, and Gram matrices of the regions {style layer: (r, c, c)},
        - "style": {content layer: (1, h, w, c)}, and Gram matrices of the whole {style layer: (c, c)},
        - "sums": what the objective is computed from: content losses, Gram matrices and total variation,
        - "losses": float32 (4,), as in `Losses`,
        - "losses_and_gradient": the same, and the gradient of the total, (1, H, W, 3).

        Those of a tile are its share of the whole picture. The losses are those of the whole picture, for
        which a tile is given the "sums" over all tiles.
    """
    layers = tuple(dict.fromkeys(content_layers + style_layers))
    tensor = tf.TensorSpec
    signature: dict[str, Any] = {
        "image": tensor([1, None, None, 3]),
        "content": {layer: tensor([1, None, None, None], backbone.dtype) for layer in content_layers},
        "style": {layer: tensor([None, None, None]) for layer in style_layers},  # (r, c, c)
        "content_factors": {layer: tensor([]) for layer in content_layers},
        "style_factors": {layer: tensor([None]) for layer in style_layers},  # (r,)
        "weights": tensor([3]),  # alpha, beta, gamma
    }
    if regions:
        signature["guides"] = {layer: tensor([regions, None, None, 1]) for layer in style_layers}
    if not whole:
        signature["core"] = tensor([4], tf.int32)  # Tile.box
        signature["size"] = tensor([2], tf.int32)  # height and width of the whole picture
        signature["sums"] = {
            "content": {layer: tensor([]) for layer in content_layers},
            "style": {layer: tensor([None, None, None]) for layer in style_layers},
            "tv": tensor([]),
        }

    @tf.function(input_signature=[signature])  # type: ignore[untyped-decorator]
    def compute(given: dict[str, Any]) -> dict[str, Any]:
        image = given["image"]
        with tf.GradientTape() as tape:
            tape.watch(image)

            # 1. Compute the features and Gram matrices of the picture.
            maps = backbone(image, layers, pooling)
            if whole:
                shares = dict.fromkeys(layers, 1.0)
            else:
                maps = {layer: crop_to_core(maps[layer], given["core"], layer) for layer in layers}
                shares = {layer: share_of_positions(maps[layer], given["size"], layer) for layer in layers}
            features = {layer: maps[layer] for layer in content_layers}
            grams = {layer: shares[layer] * gram_matrix(maps[layer]) for layer in style_layers}
            region_grams = {layer: [grams[layer]] for layer in style_layers}
            if regions:  # a Gram matrix for each, of guided features: Gatys et al. 2017, eq. 5 and 6
                for layer in style_layers:
                    guides = tf.split(tf.cast(given["guides"][layer], maps[layer].dtype), regions)
                    region_grams[layer] = [
                        shares[layer] * gram_matrix(maps[layer] * guide) for guide in guides
                    ]

            # 2. Collect the inputs of the losses; a tile contributes its share of them.
            sums: dict[str, Any] = {
                "content": {
                    layer: shares[layer] * content_loss(features[layer], given["content"][layer])
                    for layer in content_layers
                },
                "style": {layer: tf.stack(region_grams[layer]) for layer in style_layers},
                "tv": (
                    total_variation(image)
                    if whole
                    else share_of_variation(image, given["core"], given["size"])
                ),
            }
            picture = sums
            if not whole:  # the sums over all tiles, of which only this tile's share varies here
                picture = tf.nest.map_structure(
                    lambda of_all, own: of_all + (own - tf.stop_gradient(own)), given["sums"], sums
                )

            # 3. L = alpha * L_content + beta * L_style + gamma * L_tv.
            content = tf.add_n(
                [given["content_factors"][layer] * picture["content"][layer] for layer in content_layers]
            )
            style = tf.add_n(
                [
                    tf.reduce_sum(
                        given["style_factors"][layer]
                        * style_loss(picture["style"][layer], given["style"][layer])
                    )
                    for layer in style_layers
                ]
            )
            parts = tf.stack([content, style, picture["tv"]])
            total = total_loss(parts, given["weights"])
        losses = tf.concat([parts, [total]], axis=0)
        return {
            "photo": (features, sums["style"]),
            "style": (features, grams),
            "sums": sums,
            "losses": losses,
            "losses_and_gradient": (losses, tape.gradient(total, image)),
        }

    return compute.get_concrete_function()
