"""The formulas in closed form, and the whole objective against plain NumPy on real features."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from nst.engine.graph import GraphCache
from nst.engine.images import load_image, resize
from nst.engine.losses import gram_matrix, total_variation
from nst.engine.objective import Objective, Region
from nst.study.datasets import BUNDLED as EXAMPLES

CONTENT = ("block3_conv2", "block4_conv2")
STYLE = ("block1_conv1", "block3_conv1", "block5_conv1")


@pytest.fixture(scope="module")
def mixture(photo, painting) -> tf.Tensor:
    """A picture of the photo's size that is neither the photo nor the painting."""
    return 0.5 * photo + 0.5 * resize(painting, *photo.shape[1:3])


def an_objective(
    backbone, pooling="max", content=CONTENT, style=STYLE, weights=(2.0, 30.0, 7.0), **limits
) -> Objective:
    content_weight, style_weight, tv_weight = weights
    return Objective(
        backbone,
        content_layers=content,
        style_layers=style,
        content_weight=content_weight,
        style_weight=style_weight,
        tv_weight=tv_weight,
        pooling=pooling,
        **limits,
    )


# Closed forms


@pytest.mark.parametrize("shape", [(1, 1, 1, 4), (1, 5, 3, 4), (1, 40, 2, 7)])
def test_gram_matrix_of_ones_is_all_ones(shape):
    assert np.array_equal(gram_matrix(tf.ones(shape)), np.ones((shape[-1], shape[-1])))


def test_gram_matrix_of_two_pixels():
    features = tf.constant([[[[1.0, 2.0, 0.0]], [[3.0, -4.0, 5.0]]]])  # (1, 2, 1, 3)
    expected = np.array([[10, -10, 15], [-10, 20, -20], [15, -20, 25]]) / 2
    assert np.array_equal(gram_matrix(features), expected)


def plain_gram_matrix(features: tf.Tensor) -> tf.Tensor:
    rows = tf.reshape(features, [-1, features.shape[-1]])
    return tf.matmul(rows, rows, transpose_a=True) / len(rows)


def value_and_gradient(formula, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The formula's matrix, and the gradient of its sum with random weights."""
    with tf.GradientTape() as tape:
        tape.watch(features)
        value = formula(features)
        weights = np.random.default_rng(1).normal(size=value.shape).astype(np.float32)
        total = tf.reduce_sum(weights * value)
    return value, tape.gradient(total, features)


def some_features(positions: int, channels: int = 16) -> tf.Tensor:
    normal = np.random.default_rng(positions).normal(size=(1, positions, 1, channels))
    return tf.constant(np.maximum(normal, 0), tf.float32)


def off(actual: tf.Tensor, expected: tf.Tensor) -> float:
    """The length of the difference, relative to what is expected."""
    return float(tf.norm(tf.cast(actual, tf.float32) - expected) / tf.norm(expected))


@pytest.mark.parametrize("positions", [1, 5, 8, 64, 67, 1000])
def test_gram_matrix_has_the_gradient_of_the_plain_formula(positions):
    features = some_features(positions)
    value, gradient = value_and_gradient(gram_matrix, features)
    expected_value, expected_gradient = value_and_gradient(plain_gram_matrix, features)
    np.testing.assert_allclose(value, expected_value, rtol=1e-5, atol=1e-6)
    assert off(gradient, expected_gradient) < 1e-5


@pytest.mark.parametrize(("positions", "close"), [(5, 3e-3), (8, 3e-3), (1000, 1e-3), (1003, 1e-3)])
def test_gram_matrix_of_bfloat16_is_summed_up_in_float32(positions, close):
    features = tf.cast(some_features(positions), tf.bfloat16)
    value, gradient = value_and_gradient(gram_matrix, features)
    expected_value, expected_gradient = value_and_gradient(gram_matrix, tf.cast(features, tf.float32))
    assert value.dtype == tf.float32
    assert off(value, expected_value) < close
    assert gradient.dtype == tf.bfloat16
    assert off(gradient, expected_gradient) < 1e-2


def test_total_variation_of_a_checkerboard_is_one():
    board = np.indices((6, 9)).sum(0) % 2
    image = tf.constant(np.repeat(board[np.newaxis, ..., np.newaxis], 3, axis=3), tf.float32)
    assert float(total_variation(image)) == 1


def test_total_variation_of_a_flat_image_is_zero():
    assert float(total_variation(tf.fill((1, 6, 9, 3), 0.7))) == 0


def test_total_variation_is_a_mean_over_neighbours_across_and_down():
    image = tf.reshape(tf.constant([0.0, 1.0, 3.0, 0.0, 1.0, 3.0]), (1, 2, 3, 1))  # two equal rows
    assert float(total_variation(image)) == pytest.approx((1 + 4 + 1 + 4 + 0 + 0 + 0) / 7)
    assert float(total_variation(tf.transpose(image, (0, 2, 1, 3)))) == pytest.approx(10 / 7)


@pytest.mark.parametrize("size", [(6, 9), (1, 4), (5, 1), (48, 64)])
def test_the_gradient_of_total_variation_pulls_neighbours_together(size):
    image = np.random.default_rng(0).random((1, *size, 3), np.float32)
    across, down = np.diff(image, axis=2), np.diff(image, axis=1)
    expected = np.zeros_like(image)
    expected[:, :, 1:] += across
    expected[:, :, :-1] -= across
    expected[:, 1:] += down
    expected[:, :-1] -= down
    expected *= 2 / (across.size + down.size)
    with tf.GradientTape() as tape:
        tape.watch(pixels := tf.constant(image))
        total = total_variation(pixels)
    np.testing.assert_allclose(tape.gradient(total, pixels), expected, atol=1e-6 * expected.max())


# The whole objective against NumPy


def in_numpy(features: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """{layer: (h*w, c)} in float64."""
    return {name: np.asarray(f, np.float64).reshape(-1, f.shape[-1]) for name, f in features.items()}


def gram(rows: np.ndarray) -> np.ndarray:
    return np.einsum("nc,nd->cd", rows, rows) / len(rows)


def neighbour_differences(image: tf.Tensor) -> np.ndarray:
    pixels = np.asarray(image[0], np.float64)
    return np.concatenate([np.diff(pixels, axis=0).ravel(), np.diff(pixels, axis=1).ravel()])


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_with_layer_names_each_part_is_divided_by_its_targets_energy(
    backbone, photo, painting, mixture, pooling
):
    objective = an_objective(backbone, pooling)
    losses, gradient = objective(mixture, objective.targets(photo, Region([painting])))

    features = in_numpy(backbone(mixture, CONTENT + STYLE, pooling))
    wanted = in_numpy(backbone(photo, CONTENT, pooling))
    painted = in_numpy(backbone(painting, STYLE, pooling))
    content = np.mean(
        [np.mean((features[name] - wanted[name]) ** 2) / np.mean(wanted[name] ** 2) for name in CONTENT]
    )
    style = np.mean(
        [
            np.mean((gram(features[name]) - gram(painted[name])) ** 2) / np.mean(gram(painted[name]) ** 2)
            for name in STYLE
        ]
    )
    tv = np.mean(neighbour_differences(mixture) ** 2)
    expected = (content, style, tv, 2 * content + 30 * style + 7 * tv)
    assert min(expected) > 0
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert gradient.shape == mixture.shape


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_with_explicit_weights_it_is_gatys_objective(backbone, photo, painting, mixture, pooling):
    channels = {name: backbone.weights[name][1].shape[0] for name in STYLE}
    content_layers = dict.fromkeys(CONTENT, 1.0)
    style_layers = {name: 1000 / count**2 for name, count in channels.items()}
    objective = an_objective(backbone, pooling, content_layers, style_layers, (1.0, 1.0, 0.0))
    losses, _ = objective(mixture, objective.targets(photo, Region([painting])))

    features = in_numpy(backbone(mixture, CONTENT + STYLE, pooling))
    wanted = in_numpy(backbone(photo, CONTENT, pooling))
    painted = in_numpy(backbone(painting, STYLE, pooling))
    content = sum(np.mean((features[name] - wanted[name]) ** 2) for name in CONTENT)
    style = sum(
        1000 / features[name].shape[1] ** 2 * np.mean((gram(features[name]) - gram(painted[name])) ** 2)
        for name in STYLE
    )
    np.testing.assert_allclose([losses.content, losses.style], [content, style], rtol=1e-4)
    assert losses.total == pytest.approx(content + style, rel=1e-4)


def test_a_layer_may_serve_content_and_style(backbone, photo, painting, mixture):
    shared, alone = ("block2_conv1",), ("block3_conv1",)
    both = an_objective(backbone, content=shared, style=shared)
    apart = an_objective(backbone, content=shared, style=alone)
    content = both(mixture, both.targets(photo, Region([painting])))[0].content
    assert content == pytest.approx(
        apart(mixture, apart.targets(photo, Region([painting])))[0].content, rel=1e-5
    )


def test_in_bfloat16_losses_and_gradient_are_about_the_same(backbone, photo, painting, mixture):
    exact, rounded = an_objective(backbone), an_objective(backbone.in_precision("bfloat16"))
    losses, gradient = rounded(mixture, rounded.targets(photo, Region([painting])))
    expected_losses, expected_gradient = exact(mixture, exact.targets(photo, Region([painting])))
    np.testing.assert_allclose(losses, expected_losses, rtol=0.02)
    assert gradient.dtype == tf.float32
    assert off(gradient, expected_gradient) < 0.2  # ReLUs and maxima that rounding decides otherwise


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 100.0, 10.0)])
def test_the_gradient_is_the_slope_of_the_total(backbone, photo, painting, mixture, weights):
    objective = an_objective(backbone, weights=weights)
    targets = objective.targets(photo, Region([painting]))
    _, gradient = objective(mixture, targets)
    for direction in (gradient, photo - mixture):
        step = 0.01 * direction / tf.norm(direction)  # about 0.0001 a value: further off the loss bends
        rise = objective(mixture + step, targets)[0].total - objective(mixture - step, targets)[0].total
        assert rise / 2 == pytest.approx(float(tf.reduce_sum(gradient * step)), rel=0.02)


def test_a_picture_that_is_its_own_target_has_no_loss(backbone, photo):
    objective = an_objective(backbone)
    losses, _ = objective(photo, objective.targets(photo, Region([photo])))
    assert losses.content == pytest.approx(0, abs=1e-9)
    assert losses.style == pytest.approx(0, abs=1e-9)
    assert losses.total == pytest.approx(7 * losses.tv)
    assert losses.tv > 0


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_flat_images_have_finite_losses(backbone, photo, value):
    flat = tf.fill(photo.shape, value)
    objective = an_objective(backbone)
    for image, content, style in ((flat, flat, flat), (flat, photo, photo), (photo, flat, flat)):
        losses, gradient = objective(image, objective.targets(content, Region([style])))
        assert np.isfinite(losses).all()
        assert np.isfinite(gradient).all()


def test_a_layer_that_stays_silent_adds_nothing(backbone, photo, painting):
    kernel, bias = backbone.weights["block2_conv1"]
    silent = replace(
        backbone,
        layers=("block1_conv1", "block1_conv2", "block2_conv1"),
        weights={**backbone.weights, "block2_conv1": (0 * kernel, 0 * bias)},
    )
    objective = an_objective(silent, content=("block2_conv1",), style=("block2_conv1",))
    losses, gradient = objective(photo, objective.targets(photo, Region([painting])))
    assert losses[:2] == (0, 0)
    assert np.isfinite(gradient).all()


# How it is computed


def test_one_trace_serves_every_size_and_every_weight(backbone, photo, painting):
    layers = ("block1_conv2",)
    first = an_objective(backbone, content=layers, style=layers)
    second = an_objective(backbone, content={"block1_conv2": 3.0}, style=layers, weights=(0.0, 5.0, 0.0))
    for objective in (first, second):
        for size in ((48, 64), (31, 50)):
            content = resize(photo, *size)
            losses, gradient = objective(content, objective.targets(content, Region([painting])))
            assert gradient.shape == content.shape
            assert losses.content == pytest.approx(0, abs=1e-9)
    (one,), (other,) = (objective._computations._sessions.values() for objective in (first, second))
    assert one is not other
    assert one._traced is other._traced


def test_objectives_that_share_compute_a_styles_targets_once(backbone, photo, painting, monkeypatch):
    computed = []
    compute = Objective._grams
    monkeypatch.setattr(
        Objective, "_grams", lambda *arguments: computed.append(arguments) or compute(*arguments)
    )
    shared = GraphCache()
    alone = an_objective(backbone)
    first, second = (an_objective(backbone, graphs=shared, weights=(1.0, beta, 0.0)) for beta in (1.0, 5.0))
    targets = [objective.targets(photo, Region([painting])) for objective in (alone, first, second)]
    assert len(computed) == 2
    assert len(shared._sessions) == 1
    for layer, gram in targets[0].style.items():
        assert np.array_equal(gram, targets[1].style[layer])
        assert np.array_equal(gram, targets[2].style[layer])
    first.close()
    assert second(photo, targets[2])[0].total > 0
    second.targets(photo, Region([painting[:, ::-1]]))
    assert len(computed) == 3
    shared.close()


def test_what_is_shared_begins_anew_after_many_sizes(backbone, photo, painting, monkeypatch):
    monkeypatch.setattr(GraphCache, "MOST_SHAPES", 5)
    monkeypatch.setattr(GraphCache, "MOST_GRAMS", 4)
    shared = GraphCache()
    for side in range(32, 32 + shared.MOST_SHAPES + 1):
        objective = an_objective(backbone, graphs=shared)
        content = resize(photo, side, side)
        objective.targets(content, Region([content]))
        sessions = len(shared._sessions)
        objective.close()
    assert sessions == 1
    assert shared._sessions == {}
    assert shared.shapes == set()
    assert len(shared._grams) == shared.MOST_GRAMS


def test_evaluations_are_counted(backbone, photo, painting):
    objective = an_objective(backbone)
    targets = objective.targets(photo, Region([painting]))
    assert objective.evaluations == 0
    for count in (1, 2, 3):
        objective(photo, targets)
        assert objective.evaluations == count


# Several styles, regions, tiles


def half_mask(photo: tf.Tensor) -> tf.Tensor:
    """White at the left, black at the right, with a grey column in between."""
    _, height, width, _ = photo.shape
    columns = np.clip(width / 2 - np.arange(width) + 0.5, 0, 1).astype(np.float32)
    return tf.constant(np.tile(columns, (height, 1))[np.newaxis, ..., np.newaxis])


def test_the_gram_matrices_of_several_styles_are_blended_by_weight(backbone, photo, painting):
    objective = an_objective(backbone)
    both = objective.targets(photo, Region([photo, painting], [1.0, 3.0]))
    alone = [objective.targets(photo, Region([style])) for style in (photo, painting)]
    for layer in STYLE:
        expected = 0.25 * alone[0].style[layer] + 0.75 * alone[1].style[layer]
        np.testing.assert_allclose(both.style[layer], expected, rtol=1e-5, atol=1e-6 * expected.max())


def test_regions_have_a_gram_matrix_each_of_what_their_mask_shows(backbone, photo, painting, mixture):
    """Each is divided by its target's energy, and counts by its area."""
    mask = half_mask(photo)
    regions = Region([painting], mask=mask), Region([photo], mask=1 - mask)
    objective = an_objective(backbone)
    losses, _ = objective(mixture, objective.targets(photo, *regions))

    features = backbone(mixture, STYLE)
    style = 0.0
    for region in regions:
        (target,) = region.styles
        painted = in_numpy(backbone(target, STYLE))
        for layer in STYLE:
            _, height, width, channels = features[layer].shape
            share = np.maximum(resize(region.mask, height, width), 0).astype(np.float64).reshape(-1, 1)
            rows = np.asarray(features[layer], np.float64).reshape(-1, channels)
            guided = (share * rows).T @ rows / share.sum()
            wanted = gram(painted[layer])
            area = float(tf.reduce_mean(region.mask))
            style += area * np.mean((guided - wanted) ** 2) / np.mean(wanted**2) / len(STYLE)
    assert losses.style == pytest.approx(style, rel=1e-4)


def test_a_white_mask_is_no_mask(backbone, photo, painting, mixture):
    objective = an_objective(backbone)
    white = Region([painting], mask=tf.ones([*photo.shape[:3], 1]))
    losses, gradient = objective(mixture, objective.targets(photo, white))
    expected_losses, expected_gradient = objective(mixture, objective.targets(photo, Region([painting])))
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    assert off(gradient, expected_gradient) < 1e-5


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("masked", [False, True])
def test_tiles_give_the_losses_and_the_gradient_of_the_whole(backbone, masked, pooling):
    """At 512 pixels, to float32 accuracy; the height is no multiple of any tile's or pooling's."""
    content = load_image(EXAMPLES / "content" / "berlin-cathedral.jpg", long_side=512)[:, :331]
    style = load_image(EXAMPLES / "style" / "munch-the-scream.jpg", long_side=400)
    mask = half_mask(content)
    regions = (Region([style], mask=mask), Region([content], mask=1 - mask)) if masked else (Region([style]),)
    whole, tiled = (
        an_objective(backbone, pooling, **limits)
        for limits in ({}, {"whole_pixels": 10_000, "tile_side": 208})
    )
    targets, tiled_targets = (objective.targets(content, *regions) for objective in (whole, tiled))
    for layer in CONTENT:
        np.testing.assert_allclose(
            tiled_targets.content[layer], targets.content[layer], atol=1e-4 * targets.content[layer].max()
        )
    image = 0.5 * content + 0.5 * resize(style, *content.shape[1:3])
    losses, gradient = tiled(image, tiled_targets)
    expected_losses, expected_gradient = whole(image, targets)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    np.testing.assert_allclose(tiled.losses(image, tiled_targets), expected_losses, rtol=1e-4)
    assert off(gradient, expected_gradient) < 1e-4


class BrokenOffError(Exception):
    """What ends a computation here."""


@pytest.mark.parametrize("ends_at", [1, 3, 8])
def test_a_large_image_can_be_broken_off_before_each_tile(backbone, photo, painting, ends_at):
    asked = []

    def before_tile():
        asked.append(None)
        if len(asked) == ends_at:
            raise BrokenOffError

    small = {"whole_pixels": 1000, "tile_side": 32}
    targets = an_objective(backbone).targets(photo, Region([painting]))
    objective = an_objective(backbone, before_tile=before_tile, **small)
    with pytest.raises(BrokenOffError):
        objective(photo, targets)
    objective(photo, targets)
    assert len(asked) == ends_at + 2 * 4  # two passes over 48 x 64 pixels
    whole = an_objective(backbone, before_tile=before_tile)
    whole(photo, targets)
    assert len(asked) == ends_at + 2 * 4
