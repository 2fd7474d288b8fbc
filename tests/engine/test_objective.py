"""The weighted objective against plain NumPy on real features; several styles, regions and tiles."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from comparison import EXAMPLES, relative_error

from nst.engine.images import load_image, resize
from nst.engine.objective import Objective, Region
from nst.engine.scales import style_shares

CONTENT = ("block3_conv2", "block4_conv2")
STYLE = ("block1_conv1", "block3_conv1", "block5_conv1")


@pytest.fixture(scope="module")
def mixture(photo, painting) -> tf.Tensor:
    """Return a picture of the photo's size that is neither the photo nor the painting."""
    return 0.5 * photo + 0.5 * resize(painting, *photo.shape[1:3])


@pytest.fixture(scope="module")
def build(backbone, graphs):
    """Build an objective, of the bundled network and with shared graphs unless others are given."""

    def build(
        network=backbone, pooling="max", content=CONTENT, style=STYLE, weights=(2.0, 30.0, 7.0), **options
    ) -> Objective:
        content_weight, style_weight, tv_weight = weights
        return Objective(
            network,
            content_layers=content,
            style_layers=style,
            content_weight=content_weight,
            style_weight=style_weight,
            tv_weight=tv_weight,
            pooling=pooling,
            **{"graphs": graphs, **options},
        )

    return build


# Against NumPy


def in_numpy(features: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """Return {layer: (h * w, c)} in float64."""
    return {name: np.asarray(f, np.float64).reshape(-1, f.shape[-1]) for name, f in features.items()}


def gram(rows: np.ndarray) -> np.ndarray:
    return np.einsum("nc,nd->cd", rows, rows) / len(rows)


def neighbour_differences(image: tf.Tensor) -> np.ndarray:
    pixels = np.asarray(image[0], np.float64)
    return np.concatenate([np.diff(pixels, axis=0).ravel(), np.diff(pixels, axis=1).ravel()])


def distance_of_unrelated(one, other):
    """The mean squared distance between any two positions of (n, c) and (m, c)."""
    pairs = one[:, None, :] - other[None, :, :]
    return np.mean(pairs**2)


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_with_layer_names_each_loss_is_divided_by_its_bound(
    build, backbone, photo, painting, mixture, pooling
):
    objective = build(pooling=pooling)
    losses, gradient = objective(mixture, objective.targets(photo, Region([painting])))

    features = in_numpy(backbone(mixture, CONTENT + STYLE, pooling))
    wanted = in_numpy(backbone(photo, CONTENT + STYLE, pooling))
    painted = in_numpy(backbone(painting, CONTENT + STYLE, pooling))
    content = np.mean(
        [
            np.mean((features[name] - wanted[name]) ** 2) / distance_of_unrelated(wanted[name], painted[name])
            for name in CONTENT
        ]
    )
    style = sum(
        share
        * np.mean((gram(features[name]) - gram(painted[name])) ** 2)
        / np.mean((gram(wanted[name]) - gram(painted[name])) ** 2)
        for name, share in style_shares(STYLE).items()
    )
    tv = np.mean(neighbour_differences(mixture) ** 2)
    expected = (content, style, tv, 2 * content + 30 * style + 7 * tv)
    assert min(expected) > 0
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert gradient.shape == mixture.shape


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_with_explicit_weights_it_is_gatys_objective(build, backbone, photo, painting, mixture, pooling):
    channels = {name: backbone.weights[name][1].shape[0] for name in STYLE}
    content_layers = dict.fromkeys(CONTENT, 1.0)
    style_layers = {name: 1000 / count**2 for name, count in channels.items()}
    objective = build(backbone, pooling, content_layers, style_layers, (1.0, 1.0, 0.0))
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


def test_a_layer_may_serve_both_content_and_style(build, photo, painting, mixture):
    shared, alone = ("block2_conv1",), ("block3_conv1",)
    both, apart = build(content=shared, style=shared), build(content=shared, style=alone)
    content, expected = (
        objective.losses(mixture, objective.targets(photo, Region([painting]))).content
        for objective in (both, apart)
    )
    assert content == pytest.approx(expected, rel=1e-5)


def test_in_bfloat16_losses_and_gradient_are_about_the_same(build, backbone, photo, painting, mixture):
    exact, rounded = build(), build(backbone.in_precision("bfloat16"))
    losses, gradient = rounded(mixture, rounded.targets(photo, Region([painting])))
    expected_losses, expected_gradient = exact(mixture, exact.targets(photo, Region([painting])))
    np.testing.assert_allclose(losses, expected_losses, rtol=0.02)
    assert gradient.dtype == tf.float32
    assert (
        relative_error(gradient, expected_gradient) < 0.2
    )  # rounding decides some ReLUs and maxima otherwise


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 100.0, 10.0)])
def test_the_gradient_is_the_slope_of_the_total(build, photo, painting, mixture, weights):
    objective = build(weights=weights)
    targets = objective.targets(photo, Region([painting]))
    _, gradient = objective(mixture, targets)
    for direction in (gradient, photo - mixture):
        step = 0.01 * direction / tf.norm(direction)  # about 0.0001 a value: further off the loss bends
        rise = objective(mixture + step, targets)[0].total - objective(mixture - step, targets)[0].total
        assert rise / 2 == pytest.approx(float(tf.reduce_sum(gradient * step)), rel=0.02)


def test_a_picture_that_is_its_own_target_has_no_loss(build, photo):
    objective = build()
    losses, _ = objective(photo, objective.targets(photo, Region([photo])))
    assert losses.content == pytest.approx(0, abs=1e-9)
    assert losses.style == pytest.approx(0, abs=1e-9)
    assert losses.total == pytest.approx(7 * losses.tv)
    assert losses.tv > 0


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_flat_images_have_finite_losses(build, photo, value):
    flat = tf.fill(photo.shape, value)
    objective = build()
    for image, content, style in ((flat, flat, flat), (flat, photo, photo), (photo, flat, flat)):
        losses, gradient = objective(image, objective.targets(content, Region([style])))
        assert np.isfinite(losses).all()
        assert np.isfinite(gradient).all()


def test_a_layer_that_stays_silent_adds_nothing(build, backbone, photo, painting):
    kernel, bias = backbone.weights["block2_conv1"]
    silent = replace(
        backbone,
        layers=("block1_conv1", "block1_conv2", "block2_conv1"),
        weights={**backbone.weights, "block2_conv1": (0 * kernel, 0 * bias)},
    )
    objective = build(silent, content=("block2_conv1",), style=("block2_conv1",))
    losses, gradient = objective(photo, objective.targets(photo, Region([painting])))
    assert losses[:2] == (0, 0)
    assert np.isfinite(gradient).all()


def test_evaluations_are_counted(build, photo, painting):
    objective = build()
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


def test_the_gram_matrices_of_several_styles_are_blended_by_weight(build, photo, painting):
    objective = build()
    both = objective.targets(photo, Region([photo, painting], [1.0, 3.0]))
    alone = [objective.targets(photo, Region([style])) for style in (photo, painting)]
    for layer in STYLE:
        expected = 0.25 * alone[0].style[layer] + 0.75 * alone[1].style[layer]
        np.testing.assert_allclose(both.style[layer], expected, rtol=1e-5, atol=1e-6 * expected.max())


def test_regions_have_a_gram_matrix_each_of_what_their_mask_shows(build, backbone, photo, painting, mixture):
    """Each is divided by that of the photo, or by 1 % of its target's energy, and counts by its area."""
    mask = half_mask(photo)
    regions = Region([painting], mask=mask), Region([photo], mask=1 - mask)
    objective = build()
    losses, _ = objective(mixture, objective.targets(photo, *regions))

    features, of_photo = backbone(mixture, STYLE), backbone(photo, STYLE)
    style = 0.0
    for region in regions:
        (target,) = region.styles
        painted = in_numpy(backbone(target, STYLE))
        for layer, weight in style_shares(STYLE).items():
            _, height, width, channels = features[layer].shape
            share = np.maximum(resize(region.mask, height, width), 0).astype(np.float64).reshape(-1, 1)

            def guided(maps, share=share, layer=layer, channels=channels):
                rows = np.asarray(maps[layer], np.float64).reshape(-1, channels)
                return (share * rows).T @ rows / share.sum()

            wanted = gram(painted[layer])
            scale = max(np.mean((guided(of_photo) - wanted) ** 2), 0.01 * np.mean(wanted**2))
            area = float(tf.reduce_mean(region.mask))
            style += area * weight * np.mean((guided(features) - wanted) ** 2) / scale
    assert losses.style == pytest.approx(style, rel=1e-4)


def test_a_white_mask_is_no_mask(build, photo, painting, mixture):
    objective = build()
    white = Region([painting], mask=tf.ones([*photo.shape[:3], 1]))
    losses, gradient = objective(mixture, objective.targets(photo, white))
    expected_losses, expected_gradient = objective(mixture, objective.targets(photo, Region([painting])))
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    assert relative_error(gradient, expected_gradient) < 1e-5


def assert_tiles_are_as_good_as_the_whole(whole, tiled, content, style, masked):
    """Compare targets, losses and gradient, to float32 accuracy."""
    mask = half_mask(content)
    regions = (Region([style], mask=mask), Region([content], mask=1 - mask)) if masked else (Region([style]),)
    targets, tiled_targets = (objective.targets(content, *regions) for objective in (whole, tiled))
    for layer in CONTENT:
        np.testing.assert_allclose(
            tiled_targets.content[layer], targets.content[layer], atol=1e-4 * targets.content[layer].max()
        )
    image = 0.5 * content + 0.5 * resize(style, *content.shape[1:3])
    losses, gradient = tiled(image, tiled_targets)
    expected_losses, expected_gradient = whole(image, targets)
    assert min(expected_losses) > 0
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    np.testing.assert_allclose(tiled.losses(image, tiled_targets), expected_losses, rtol=1e-4)
    assert relative_error(gradient, expected_gradient) < 1e-4
    tiled.close()


def images_for_tiles(side: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Load two images; the height of the first is no multiple of any tile's or pooling's."""
    content = load_image(EXAMPLES / "content" / "berlin-cathedral.jpg", long_side=side)
    style = load_image(EXAMPLES / "style" / "munch-the-scream.jpg", long_side=3 * side // 4)
    return content[:, : side * 2 // 3 // 16 * 16 + 11], style


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("masked", [False, True])
def test_tiles_give_the_losses_and_the_gradient_of_the_whole(build, thin_backbone, masked, pooling):
    whole = build(thin_backbone, pooling)
    tiled = build(thin_backbone, pooling, graphs=None, whole_pixels=10_000, tile_side=160)
    assert_tiles_are_as_good_as_the_whole(whole, tiled, *images_for_tiles(384), masked)


def test_tiles_of_the_bundled_network_give_the_losses_and_the_gradient_of_the_whole(build):
    whole, tiled = build(), build(graphs=None, whole_pixels=10_000, tile_side=64)
    assert_tiles_are_as_good_as_the_whole(whole, tiled, *images_for_tiles(144), masked=False)


class BrokenOffError(Exception):
    """Ends a computation."""


@pytest.mark.parametrize("ends_at", [1, 3, 8])
def test_a_large_picture_can_be_broken_off_before_each_tile(build, thin_backbone, photo, painting, ends_at):
    asked = []

    def before_tile():
        asked.append(None)
        if len(asked) == ends_at:
            raise BrokenOffError

    whole = build(thin_backbone, before_tile=before_tile)
    targets = whole.targets(photo, Region([painting]))
    tiled = build(thin_backbone, before_tile=before_tile, graphs=None, whole_pixels=1000, tile_side=32)
    with pytest.raises(BrokenOffError):
        tiled(photo, targets)
    tiled(photo, targets)
    assert len(asked) == ends_at + 2 * 4  # two passes over 48 x 64 pixels
    whole(photo, targets)
    assert len(asked) == ends_at + 2 * 4
    tiled.close()
