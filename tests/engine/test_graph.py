"""Graphs: traced once for every picture, and shared by runs without growing for ever."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from comparison import SHALLOW

from nst.engine.graph import GraphCache, StyleStatistics, trace_objective
from nst.engine.images import resize
from nst.engine.objective import Objective, Region

pytestmark = pytest.mark.quick


class ObservedCache(GraphCache):
    """A graph cache that remembers what it has lent and computed."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = []  # each as often as it was asked for
        self.computed = 0  # style images

    def session(self, *arguments, whole):
        self.sessions.append(super().session(*arguments, whole=whole))
        return self.sessions[-1]

    def statistics(self, network, image, compute):
        def counted():
            self.computed += 1
            return compute()

        return super().statistics(network, image, counted)


@pytest.fixture
def shared():
    cache = ObservedCache()
    yield cache
    cache.close()


def build(backbone, graphs, weights=(2.0, 30.0, 7.0), **options) -> Objective:
    content_weight, style_weight, tv_weight = weights
    return Objective(
        backbone,
        content_weight=content_weight,
        style_weight=style_weight,
        tv_weight=tv_weight,
        pooling="max",
        graphs=graphs,
        **{**SHALLOW, **options},
    )


def test_one_trace_serves_every_size_and_every_weight(thin_backbone, photo, painting):
    layers = ("block1_conv2",)
    first = build(thin_backbone, GraphCache(), content_layers=layers, style_layers=layers)
    second = build(
        thin_backbone, None, (0.0, 5.0, 0.0), content_layers={"block1_conv2": 3.0}, style_layers=layers
    )
    before = trace_objective.cache_info()
    for objective in (first, second):
        for size in ((48, 64), (31, 50)):
            content = resize(photo, *size)
            losses, gradient = objective(content, objective.targets(content, Region([painting])))
            assert gradient.shape == content.shape
            assert losses.content == pytest.approx(0, abs=1e-9)
        objective.close()
    after = trace_objective.cache_info()
    assert after.misses == before.misses + 1
    assert after.hits == before.hits + 1  # a session of its own for the second objective


def test_objectives_that_share_graphs_compute_the_targets_of_a_style_once(
    thin_backbone, photo, painting, shared
):
    own = ObservedCache()
    alone = build(thin_backbone, own)
    first, second = (build(thin_backbone, shared, (1.0, beta, 0.0)) for beta in (1.0, 5.0))
    targets = [objective.targets(photo, Region([painting])) for objective in (alone, first, second)]
    own.close()
    assert (own.computed, shared.computed) == (1, 1)
    for layer, gram in targets[0].style.items():
        assert np.array_equal(gram, targets[1].style[layer])
        assert np.array_equal(gram, targets[2].style[layer])
    first.close()
    assert second(photo, targets[2])[0].total > 0
    assert len({*map(id, shared.sessions)}) == 1
    second.targets(photo, Region([painting[:, ::-1]]))
    assert shared.computed == 2


def test_shared_sessions_are_closed_after_many_shapes(thin_backbone, photo, shared):
    shared.MOST_SHAPES = 5
    for side in range(32, 32 + shared.MOST_SHAPES + 1):
        assert len(shared.shapes) == side - 32
        objective = build(thin_backbone, shared)
        content = resize(photo, side, side)
        objective.targets(content, Region([content]))
        objective.close()
    assert shared.shapes == set()
    assert len({*map(id, shared.sessions)}) == 1
    build(thin_backbone, shared).targets(photo, Region([photo]))
    assert shared.sessions[-1] is not shared.sessions[0]


def test_sessions_are_closed_before_one_for_tiles_is_opened(thin_backbone, photo, painting, shared):
    targets = build(thin_backbone, shared).targets(photo, Region([painting]))
    build(thin_backbone, shared, whole_pixels=1000, tile_side=32)(photo, targets)
    in_tiles = shared.sessions[-1]
    build(thin_backbone, shared)(photo, targets)
    first, last = shared.sessions[0], shared.sessions[-1]
    assert len({*map(id, (first, in_tiles, last))}) == 3


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_the_session_used_longest_ago_is_closed_with_its_threads(thin_backbone, photo, shared):
    def ask(*style_layers: str) -> int:
        """Return how many sessions have been opened so far."""
        build(thin_backbone, shared, style_layers=style_layers).targets(photo, Region([photo]))
        return len({*map(id, shared.sessions)})

    layers = thin_backbone.layers[:4]
    first, *others = [some for number in (1, 2, 3, 4) for some in combinations(layers, number)]
    ask(*first)
    for some in others[: shared.MOST_SESSIONS - 1]:
        ask(*some)
    most = threads()
    for some in others[shared.MOST_SESSIONS - 1 :]:
        ask(*some)
        assert threads() <= most
    opened = ask(*others[-2])
    assert opened == 1 + len(others)
    assert ask(*first) == opened + 1


def test_only_the_statistics_of_the_last_style_images_are_kept(shared):
    shared.MOST_STYLES = 4
    styles = [tf.fill((1, 2, 2, 3), shade / 10) for shade in range(5)]

    def ask(number: int) -> None:
        kept = StyleStatistics({"layer": np.float32(number)}, {})
        assert shared.statistics("network", styles[number], lambda: kept) == kept

    for number in (0, 1, 2, 3, 0, 1, 2, 3):
        ask(number)
    assert shared.computed == 4
    ask(0)
    ask(4)  # 1 goes, which was asked for longest ago
    for number in (0, 2, 3, 4):
        ask(number)
    assert shared.computed == 5
    ask(1)
    assert shared.computed == 6


def test_statistics_belong_to_an_image_of_a_shape_and_to_a_network(shared):
    image = tf.reshape(tf.range(12.0), (1, 2, 2, 3))
    for number, (network, style) in enumerate(
        [("a", image), ("b", image), ("a", image + 1), ("a", tf.reshape(image, (1, 1, 4, 3)))]
    ):
        kept = StyleStatistics({"layer": np.float32(number)}, {})
        assert shared.statistics(network, style, lambda kept=kept: kept) == kept
    assert shared.computed == 4
    assert shared.statistics("a", tf.identity(image), dict).grams == {"layer": 0}
