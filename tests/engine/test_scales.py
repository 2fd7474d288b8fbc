"""The bounds that losses are divided by."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from comparison import EXAMPLES

from nst.config import TransferConfig
from nst.engine.images import load_image, resize
from nst.engine.objective import Region, build_objective
from nst.engine.scales import Moments, combined, content_scale, factors, moments, style_scale, style_shares

pytestmark = pytest.mark.quick

CONFIG = TransferConfig(precision="float32")


def test_moments_of_known_features():
    features = np.array([[[[1.0, 0.0], [3.0, 2.0]]]], np.float32)  # (1, 1, 2, 2)
    mean, energy = moments(features)
    np.testing.assert_array_equal(mean, [2, 1])
    assert energy == (1 + 9 + 4) / 4


def test_moments_of_parts_combine_to_those_of_the_whole():
    features = np.random.default_rng(0).random((1, 6, 5, 3)).astype(np.float32)
    parts = [
        (rows / 6, moments(features[:, start : start + rows])) for start, rows in ((0, 2), (2, 3), (5, 1))
    ]
    whole, together = moments(features), combined(parts)
    np.testing.assert_allclose(together.mean, whole.mean, rtol=1e-6)
    assert together.energy == pytest.approx(whole.energy, rel=1e-6)


def test_the_content_scale_is_the_mean_distance_between_unrelated_positions():
    rng = np.random.default_rng(1)
    photo, painting = rng.random((1, 4, 5, 3)), 2 * rng.random((1, 3, 7, 3))
    pairs = photo.reshape(-1, 1, 3) - painting.reshape(1, -1, 3)
    scale = content_scale(moments(photo), moments(painting))
    assert scale == pytest.approx(np.mean(pairs**2), rel=1e-5)


def test_the_content_scale_of_constant_features_is_their_squared_difference():
    one, other = Moments(np.float32([3]), 9.0), Moments(np.float32([5]), 25.0)
    assert content_scale(one, other) == 4


def test_the_style_scale_is_the_distance_of_the_photo_with_a_least_value():
    target = np.stack([np.eye(2), np.eye(2)]).astype(np.float32)
    photo = np.stack([3 * np.eye(2), np.eye(2)]).astype(np.float32)
    np.testing.assert_allclose(style_scale(photo, target), [2, 0.005])  # mean(A^2) = 1/2


def test_style_layers_of_the_middle_blocks_count_most():
    shares = style_shares([f"block{block}_conv1" for block in range(1, 6)])
    assert sum(shares.values()) == pytest.approx(1)
    relative = [share / shares["block2_conv1"] for share in shares.values()]
    np.testing.assert_allclose(relative, [1 / 4, 1, 1, 1 / 4, 1 / 16])
    assert style_shares(["block5_conv1"]) == {"block5_conv1": 1}


def test_a_silent_layer_has_finite_factors():
    found = factors({"layer": 1.0}, {"layer": np.zeros(2, np.float32)})
    assert np.isfinite(found["layer"]).all()


@pytest.mark.parametrize("size", [64, 160])
@pytest.mark.parametrize(
    "pair", [("chenonceau", "munch-the-scream"), ("mountain-sunset", "hokusai-great-wave")]
)
def test_the_losses_run_from_the_photo_to_the_painting(backbone, graphs, pair, size):
    photo, painting = (
        load_image(EXAMPLES / kind / f"{name}.jpg", long_side=size)
        for kind, name in zip(("content", "style"), pair, strict=True)
    )
    objective = build_objective(CONFIG, backbone, graphs)
    targets = objective.targets(photo, Region([painting]))
    unchanged = objective.losses(photo, targets)
    assert unchanged.content == pytest.approx(0, abs=1e-6)
    assert unchanged.style == pytest.approx(1, rel=1e-3)
    itself = objective.losses(resize(painting, *photo.shape[1:3]), targets)
    assert itself.content == pytest.approx(1, abs=0.25)  # where its motifs lie matters a little
    assert itself.style < 0.25  # stretched to the photo's shape


def test_a_network_with_other_energies_has_the_same_objective(backbone, graphs, photo, painting):
    """Scale each layer's activations, which no later layer sees: a VGG as Gatys et al. normalised theirs."""
    weights, before = {}, 1.0
    for number, (layer, (kernel, bias)) in enumerate(backbone.weights.items(), start=1):
        scale = 10.0 ** ((-1) ** number * number / 4)
        weights[layer] = kernel * (scale / before), bias * scale
        before = scale
    normalised = replace(backbone, name="normalised", weights=weights)
    found = []
    for network in (backbone, normalised):
        objective = build_objective(CONFIG, network, graphs)
        found.append(objective(tf.reverse(photo, [2]), objective.targets(photo, Region([painting]))))
    (losses, gradient), (other_losses, other_gradient) = found
    np.testing.assert_allclose(other_losses, losses, rtol=1e-4)
    np.testing.assert_allclose(other_gradient, gradient, atol=1e-4 * np.abs(gradient).max())


def test_a_photo_with_the_style_of_the_painting_has_finite_losses(backbone, graphs, photo):
    objective = build_objective(CONFIG, backbone, graphs)
    losses, gradient = objective(tf.reverse(photo, [2]), objective.targets(photo, Region([photo])))
    assert np.isfinite(losses).all()
    assert np.isfinite(gradient).all()
