"""Whole runs on real images: what they yield, and how they end."""

import dataclasses
from collections.abc import Callable, Container
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from comparison import EXAMPLES, SHALLOW, losses_of, mean_difference

from nst.config import PRESETS, TransferConfig
from nst.engine.images import fitted_size, from_uint8, load_image, resize, to_uint8
from nst.engine.objective import Losses
from nst.engine.pyramid import coarse_to_fine
from nst.engine.stylize import Progress, stylize
from nst.engine.vgg import Backbone
from nst.errors import TransferError

NOTHING_TO_IMPROVE = {
    "content_layers": {"block1_conv1": 0},
    "style_layers": {"block1_conv1": 0},
    "tv_weight": 0,
}
WEIGHTS = {"content_weight": 1, "style_weight": 100, "tv_weight": 5}


@pytest.fixture(scope="module")
def begin(photo, painting, backbone, graphs):
    """Begin a run, of the photo in the painting's style unless other images are given."""

    def begin(config, content=photo, style=painting, network=backbone, **options):
        return stylize(content, style, config, network, **{"graphs": graphs, **options})

    return begin


@pytest.fixture(scope="module")
def losses_at(photo, painting, backbone, graphs):
    """Compute the losses of an image, for the photo and the painting."""

    def losses_at(image, config) -> Losses:
        return losses_of(image, photo, painting, config, backbone, graphs)

    return losses_at


def last(run) -> Progress:
    *_, progress = run
    return progress


def assert_coherent(history: list[Progress], content: tf.Tensor, config: TransferConfig) -> None:
    schedule = coarse_to_fine(config.size, config.iterations)
    expected = [(n, level.size) for n, level in enumerate(schedule, 1) for _ in range(level.steps)]
    assert [(progress.level, progress.size) for progress in history] == expected
    assert [progress.step for progress in history] == list(range(1, config.iterations + 1))
    for earlier, later in pairwise(history):
        assert earlier.evaluations < later.evaluations
        assert earlier.seconds < later.seconds
    for progress in history:
        assert progress.steps == config.iterations
        assert progress.schedule == schedule
        assert progress.image.dtype == tf.float32
        assert progress.image.shape[::3] == (1, 3)
        sides = np.array(progress.image.shape[1:3])
        assert max(sides) == progress.size
        np.testing.assert_allclose(sides, fitted_size(*content.shape[1:3], progress.size), atol=1)
        assert float(tf.reduce_min(progress.image)) >= 0
        assert float(tf.reduce_max(progress.image)) <= 1
        assert np.isfinite(progress.losses).all()
        weights = (config.content_weight, config.style_weight, config.tv_weight)
        assert progress.losses.total == pytest.approx(np.dot(weights, progress.losses[:3]), rel=1e-4)


# A run


@pytest.fixture(scope="module")
def config() -> TransferConfig:
    return TransferConfig(size=64, iterations=60, **WEIGHTS)


@pytest.fixture(scope="module")
def history(begin, config) -> list[Progress]:
    return list(begin(config))


def test_every_step_is_reported(history, photo, config):
    assert_coherent(history, photo, config)


def test_the_picture_has_the_style_and_still_shows_the_content(history, photo, painting, config, losses_at):
    photo_itself = losses_at(photo, config)
    stretched = resize(painting, *photo.shape[1:3])
    painting_itself = losses_at(stretched, config)
    assert history[-1].losses.style < 0.2 * photo_itself.style
    assert history[-1].losses.style < painting_itself.style
    assert history[-1].losses.content < 0.75 * painting_itself.content


def test_the_reported_losses_are_those_of_the_picture_as_saved(history, config, losses_at):
    for progress in history[:: len(history) // 4]:
        saved = from_uint8(to_uint8(progress.image))
        losses = losses_at(saved, config)
        np.testing.assert_allclose(losses, progress.losses, rtol=0.01)


def test_levels_double_and_each_is_reported(begin):
    content = load_image(EXAMPLES / "content" / "berlin-cathedral.jpg", long_side=300)
    style = load_image(EXAMPLES / "style" / "munch-the-scream.jpg", long_side=200)
    config = TransferConfig(size=256, iterations=5, **SHALLOW)
    history = list(begin(config, content, style))
    assert_coherent(history, content, config)
    assert [progress.size for progress in history if progress.step in (1, 5)] == [128, 256]
    assert max(history[-1].image.shape) == 256


def test_a_level_goes_on_from_the_one_before(begin):
    content = load_image(EXAMPLES / "content" / "berlin-cathedral.jpg", long_side=256)
    style = load_image(EXAMPLES / "style" / "munch-the-scream.jpg", long_side=256)
    config = TransferConfig(size=256, iterations=24, **SHALLOW)
    history = list(begin(config, content, style))
    coarse = [progress for progress in history if progress.level == 1]
    first_fine = history[len(coarse)]
    assert first_fine.level == 2
    assert first_fine.losses.style < 0.5 * coarse[0].losses.style
    back = resize(first_fine.image, *coarse[-1].image.shape[1:3])
    assert mean_difference(back, coarse[-1].image) < 0.5 * mean_difference(back, coarse[0].image)


def test_going_up_a_level_keeps_the_fine_detail_of_the_photo(begin):
    """In a run that cannot improve anything, the picture is the start, resized to the level."""
    content = 0.2 + 0.6 * load_image(EXAMPLES / "content" / "chenonceau.jpg", long_side=128)
    small = resize(content, 48, 64)
    config = TransferConfig(size=128, iterations=1, **NOTHING_TO_IMPROVE)
    for brighter in (0, 0.1):
        (only,) = begin(config, content, content, start=small + brighter)
        np.testing.assert_allclose(only.image, content + brighter, atol=1e-4)
    assert mean_difference(resize(small, 96, 128), content) > 0.01  # that detail is lost at half the size


def test_the_same_config_gives_the_same_picture(begin):
    for init in ("content", "noise"):
        config = TransferConfig(size=64, iterations=4, init=init, seed=3)
        first, second = (last(begin(config)) for _ in range(2))
        assert np.array_equal(first.image, second.image)
        assert first.losses == second.losses


def test_the_seed_decides_the_noise(begin):
    pictures = [
        last(begin(TransferConfig(size=64, iterations=2, init="noise", seed=seed))).image
        for seed in (0, 1, 2**31 - 1)
    ]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert mean_difference(pictures[one], pictures[other]) > 0.02


def test_noise_turns_into_the_content(begin):
    config = TransferConfig(size=64, iterations=40, init="noise", **(WEIGHTS | {"style_weight": 1}))
    history = list(begin(config))
    assert history[-1].losses.content < 0.6 * history[0].losses.content
    assert history[-1].losses.style < 0.5 * history[0].losses.style


def test_a_start_from_noise_leaves_no_noise(begin):
    settings = WEIGHTS | {"style_weight": 10}
    from_photo, from_noise = (
        last(begin(TransferConfig(size=64, iterations=60, init=init, **settings)))
        for init in ("content", "noise")
    )
    assert from_noise.losses.tv < 1.2 * from_photo.losses.tv
    assert from_noise.losses.total < 1.5 * from_photo.losses.total


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (40, 60, (43, 64)),
        (60, 40, (64, 43)),
        (32, 32, (64, 64)),
        (200, 200, (64, 64)),
        (32, 256, (16, 128)),  # a side of less than 16 pixels would be too small for the network
        (256, 32, (128, 16)),
    ],
)
def test_images_of_any_shape_are_stylized(begin, height, width, expected):
    content = resize(load_image(EXAMPLES / "content" / "mountain-sunset.jpg", long_side=256), height, width)
    style = resize(load_image(EXAMPLES / "style" / "hokusai-poppies.jpg", long_side=256), width, height)
    history = list(begin(TransferConfig(size=64, iterations=2), content, style))
    assert [progress.image.shape for progress in history] == 2 * [(1, *expected, 3)]
    assert history[1].losses.total < history[0].losses.total


def test_a_larger_image_gives_the_same_picture_as_one_loaded_at_the_size(begin):
    path = EXAMPLES / "content" / "chenonceau.jpg"
    config = TransferConfig(size=64, iterations=2)
    small, large = (last(begin(config, load_image(path, long_side=side))) for side in (64, 400))
    assert mean_difference(small.image, large.image) < 0.01


@pytest.mark.parametrize("setting", [{"optimizer": "adam"}, {"pooling": "avg"}])
def test_every_optimizer_and_pooling_stylizes(begin, photo, setting, losses_at):
    config = TransferConfig(size=64, iterations=15, **WEIGHTS, **setting)
    history = list(begin(config))
    assert_coherent(history, photo, config)
    photo_itself = losses_at(photo, config)
    assert history[-1].losses.style < 0.3 * photo_itself.style
    losses = losses_at(history[-1].image, config)
    np.testing.assert_allclose(losses, history[-1].losses, rtol=0.01)


def test_both_precisions_come_to_the_same_picture(begin, photo, losses_at):
    exact = TransferConfig(size=64, iterations=15, precision="float32", **WEIGHTS)
    photo_itself = losses_at(photo, exact)
    reached = {}
    for precision in ("float32", "bfloat16"):
        config = dataclasses.replace(exact, precision=precision)
        picture = last(begin(config)).image
        reached[precision] = losses_at(picture, exact).total
        assert reached[precision] < 0.3 * photo_itself.total
    assert reached["bfloat16"] == pytest.approx(reached["float32"], rel=0.15)
    assert reached["bfloat16"] != reached["float32"]


def test_explicit_layer_weights_stylize(begin, backbone, losses_at):
    style_layers = {
        layer: 1000 / backbone.weights[layer][1].shape[0] ** 2 for layer in ("block1_conv1", "block3_conv1")
    }
    config = TransferConfig(
        size=64,
        iterations=8,
        content_weight=1,
        style_weight=1,
        tv_weight=0,
        content_layers={"block3_conv2": 1},
        style_layers=style_layers,
    )
    history = list(begin(config))
    losses = losses_at(history[-1].image, config)
    np.testing.assert_allclose(losses, history[-1].losses, rtol=0.01)
    assert history[-1].losses.style < 0.3 * history[0].losses.style


def test_a_picture_in_its_own_style_stays_as_it_is(begin, photo):
    config = TransferConfig(size=64, iterations=5, **(WEIGHTS | {"tv_weight": 0}))
    history = list(begin(config, photo, photo))
    assert history[-1].losses.total < 2e-3
    assert mean_difference(history[-1].image, photo) < 0.01


def test_a_run_that_cannot_improve_yields_its_picture_once(begin):
    config = TransferConfig(size=64, iterations=5, **NOTHING_TO_IMPROVE)
    (only,) = begin(config)
    assert only.step == 1
    assert only.losses == (0, 0, only.losses.tv, 0)


def test_flat_images_run(begin):
    flat = tf.fill((1, 64, 64, 3), 0.5)
    history = list(begin(TransferConfig(size=64, iterations=3), flat, flat))
    assert history
    assert np.isfinite([progress.losses for progress in history]).all()


def test_the_network_is_the_one_that_the_config_names_unless_one_is_given(photo, painting, backbone):
    config = TransferConfig(size=64, iterations=1, backbone="vgg16", **SHALLOW)
    loaded = last(stylize(photo, painting, config))
    given = last(stylize(photo, painting, dataclasses.replace(config, backbone="vgg19"), backbone))
    assert loaded.losses == given.losses


# How a run ends


def counting(ends_at: int = 10**9) -> Callable[[], bool]:
    """Make a `stop` that counts how often it is asked, and answers yes from the given time on."""

    def stop() -> bool:
        stop.asked += 1
        return stop.asked >= ends_at

    stop.asked = 0
    return stop


def test_closing_ends_the_work(begin):
    stop = counting()
    run = begin(TransferConfig(size=64, iterations=9, **SHALLOW), stop=stop)
    next(run)
    asked = stop.asked
    run.close()
    with pytest.raises(StopIteration):
        next(run)
    assert stop.asked == asked > 0


def test_stop_is_asked_before_each_evaluation(begin):
    stop = counting()
    config = TransferConfig(size=64, iterations=4, **SHALLOW)
    for progress in begin(config, stop=stop):
        assert stop.asked == progress.evaluations


@pytest.mark.parametrize("ends_at", [1, 2, 5])
def test_stop_ends_the_run_within_one_evaluation(begin, ends_at):
    stop = counting(ends_at)
    config = TransferConfig(size=64, iterations=9, optimizer="adam", **SHALLOW)
    history = list(begin(config, stop=stop))
    assert stop.asked == ends_at
    assert len(history) == max(0, ends_at - 2)  # the first evaluation is that of the start


IN_FLOAT32 = {**SHALLOW, "precision": "float32"}  # which has no copy of the weights


class Faulty:
    """A network that sees infinite pixels at the given evaluations, with the `stop` that counts them."""

    def __init__(self, backbone: Backbone, when: Container[int]) -> None:
        self.when = when
        self.evaluations = 0
        self.offset = np.float32(0)

        class Seeing(Backbone):
            def __call__(_, image: tf.Tensor, *asked: Any) -> dict[str, tf.Tensor]:
                offset = tf.numpy_function(lambda: self.offset, [], tf.float32)
                offset.set_shape(())
                return backbone(image + offset, *asked)

        self.backbone = Seeing(backbone.name, backbone.layers, backbone.mean, backbone.weights)

    def stop(self) -> bool:
        self.evaluations += 1
        self.offset = np.float32(np.inf if self.evaluations in self.when else 0)
        return False


@pytest.mark.parametrize(
    ("optimizer", "when"),
    [("lbfgs", range(6, 26)), ("adam", range(6, 7))],  # L-BFGS looks 20 times along a line
)
def test_after_a_non_finite_loss_it_goes_on_from_the_last_good_picture(
    begin, photo, backbone, optimizer, when
):
    faulty = Faulty(backbone, when)
    config = TransferConfig(size=64, iterations=8, optimizer=optimizer, **IN_FLOAT32)
    history = list(begin(config, network=faulty.backbone, graphs=None, stop=faulty.stop))
    assert faulty.evaluations > when.stop
    assert_coherent(history, photo, config)
    changes = [mean_difference(later.image, earlier.image) for earlier, later in pairwise(history)]
    last_good = sum(progress.evaluations < when.start for progress in history) - 1
    assert 0 < changes[last_good] < 0.5 * changes[last_good - 1]
    assert history[last_good + 1].losses.total < 1.05 * history[last_good].losses.total


@pytest.mark.parametrize(
    ("optimizer", "when"), [("lbfgs", range(4, 10**9)), ("adam", range(4, 10**9)), ("adam", {4, 7})]
)
def test_a_second_non_finite_loss_ends_it_with_the_last_good_picture(begin, backbone, optimizer, when):
    faulty = Faulty(backbone, when)
    config = TransferConfig(size=64, iterations=8, optimizer=optimizer, **IN_FLOAT32)
    run = begin(config, network=faulty.backbone, graphs=None, stop=faulty.stop)
    latest = next(run)
    with pytest.raises(TransferError, match=r"^The picture .* twice.*\.$") as caught:
        for latest in run:  # noqa: B007
            pass
    assert caught.value.progress is latest
    assert latest.evaluations not in when
    assert np.isfinite(latest.losses).all()


def test_without_any_good_picture_the_error_has_none(begin, backbone):
    faulty = Faulty(backbone, range(1, 10**9))
    config = TransferConfig(size=64, iterations=8, **IN_FLOAT32)
    with pytest.raises(TransferError) as caught:
        list(begin(config, network=faulty.backbone, graphs=None, stop=faulty.stop))
    assert caught.value.progress is None
    assert str(caught.value).startswith("The losses are out of range from the first picture on")


# Estimates and presets


def test_the_time_left_falls_to_nothing(history):
    assert all(progress.seconds_left > 0 for progress in history[:-1])
    assert history[-1].seconds_left == 0


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_stylizes(begin, photo, name):
    result = last(begin(dataclasses.replace(PRESETS[name], size=64, iterations=2)))
    assert result.step == 2
    assert result.image.shape == photo.shape
    assert 0 <= float(tf.reduce_min(result.image)) <= float(tf.reduce_max(result.image)) <= 1
    assert mean_difference(result.image, photo) > 0.01
