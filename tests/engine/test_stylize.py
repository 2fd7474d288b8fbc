"""Whole runs on real images: what they yield, how they end, and what a config refuses."""

import dataclasses
import json
import re
from collections.abc import Callable, Container
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nst.config import TransferConfig, parse_layers
from nst.engine.images import fitted_size, from_uint8, load_image, resize, to_uint8
from nst.engine.objective import Losses, Region, build_objective
from nst.engine.pyramid import coarse_to_fine
from nst.engine.stylize import Progress, _upsample_with_detail, stylize
from nst.engine.vgg import Backbone
from nst.errors import ConfigError, TransferError
from nst.study.datasets import BUNDLED as EXAMPLES

WEIGHTS = {"content_weight": 1, "style_weight": 100, "tv_weight": 5}
SHALLOW = {  # for what any layers show
    "content_layers": ("block2_conv1",),
    "style_layers": ("block1_conv1", "block2_conv1"),
}


def losses_of(
    image: tf.Tensor, content: tf.Tensor, style: tf.Tensor, config: TransferConfig, backbone: Backbone
) -> Losses:
    objective = build_objective(config, backbone)
    return objective(image, objective.targets(content, Region([style])))[0]


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
    return TransferConfig(size=64, iterations=25, **WEIGHTS)


@pytest.fixture(scope="module")
def history(photo, painting, config, backbone) -> list[Progress]:
    return list(stylize(photo, painting, config, backbone))


def test_every_step_is_told(history, photo, config):
    assert_coherent(history, photo, config)


def test_the_picture_is_painted_in_the_style_and_still_shows_the_content(
    history, photo, painting, config, backbone
):
    photo_itself = losses_of(photo, photo, painting, config, backbone)
    stretched = resize(painting, *photo.shape[1:3])
    painting_itself = losses_of(stretched, photo, painting, config, backbone)
    assert history[-1].losses.style < 0.2 * photo_itself.style
    assert history[-1].losses.style < painting_itself.style
    assert history[-1].losses.content < 0.75 * painting_itself.content


def test_the_losses_told_are_those_of_the_picture_as_saved(history, photo, painting, config, backbone):
    for progress in history[:: len(history) // 4]:
        saved = from_uint8(to_uint8(progress.image))
        losses = losses_of(saved, photo, painting, config, backbone)
        np.testing.assert_allclose(losses, progress.losses, rtol=0.01)


def test_levels_double_and_each_is_told(backbone):
    content = load_image(EXAMPLES / "content" / "berlin-cathedral.jpg", long_side=300)
    style = load_image(EXAMPLES / "style" / "munch-the-scream.jpg", long_side=200)
    config = TransferConfig(size=256, iterations=5, **SHALLOW)
    history = list(stylize(content, style, config, backbone))
    assert_coherent(history, content, config)
    assert [progress.size for progress in history if progress.step in (1, 5)] == [128, 256]
    assert max(history[-1].image.shape) == 256


def test_a_level_goes_on_from_the_one_before(backbone):
    content = load_image(EXAMPLES / "content" / "berlin-cathedral.jpg", long_side=256)
    style = load_image(EXAMPLES / "style" / "munch-the-scream.jpg", long_side=256)
    config = TransferConfig(size=256, iterations=24, **SHALLOW)
    history = list(stylize(content, style, config, backbone))
    coarse = [progress for progress in history if progress.level == 1]
    first_fine = history[len(coarse)]
    assert first_fine.level == 2
    assert first_fine.losses.style < 0.5 * coarse[0].losses.style
    back = resize(first_fine.image, *coarse[-1].image.shape[1:3])
    moved = tf.reduce_mean(tf.abs(back - coarse[-1].image))
    assert float(moved) < 0.5 * float(tf.reduce_mean(tf.abs(back - coarse[0].image)))


def test_going_up_a_level_keeps_the_guides_fine_detail(photo):
    guide = resize(photo, 96, 128)
    small = resize(guide, 48, 64)
    np.testing.assert_allclose(_upsample_with_detail(small, guide), guide, atol=1e-5)
    brighter = _upsample_with_detail(small + 0.1, guide)
    np.testing.assert_allclose(brighter, guide + 0.1, atol=1e-5)


def test_the_same_config_gives_the_same_picture(photo, painting, backbone):
    for init in ("content", "noise"):
        config = TransferConfig(size=64, iterations=4, init=init, seed=3)
        first, second = (last(stylize(photo, painting, config, backbone)) for _ in range(2))
        assert np.array_equal(first.image, second.image)
        assert first.losses == second.losses


def test_the_seed_decides_the_noise(photo, painting, backbone):
    pictures = [
        last(
            stylize(photo, painting, TransferConfig(size=64, iterations=2, init="noise", seed=seed), backbone)
        ).image
        for seed in (0, 1, 2**31 - 1)
    ]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert float(tf.reduce_mean(tf.abs(pictures[one] - pictures[other]))) > 0.1


def test_noise_turns_into_the_content(photo, painting, backbone):
    config = TransferConfig(size=64, iterations=40, init="noise", **(WEIGHTS | {"style_weight": 1}))
    history = list(stylize(photo, painting, config, backbone))
    assert history[-1].losses.content < 0.6 * history[0].losses.content
    assert history[-1].losses.style < 0.5 * history[0].losses.style


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (40, 60, (43, 64)),
        (60, 40, (64, 43)),
        (32, 32, (64, 64)),
        (200, 200, (64, 64)),
        (32, 256, (16, 64)),
        (256, 32, (64, 16)),
    ],
)
def test_any_shape_is_painted_in_any_style(backbone, height, width, expected):
    content = resize(load_image(EXAMPLES / "content" / "mountain-sunset.jpg", long_side=256), height, width)
    style = resize(load_image(EXAMPLES / "style" / "hokusai-poppies.jpg", long_side=256), width, height)
    history = list(stylize(content, style, TransferConfig(size=64, iterations=2), backbone))
    assert [progress.image.shape for progress in history] == 2 * [(1, *expected, 3)]
    assert history[1].losses.total < history[0].losses.total


def test_a_larger_image_gives_the_same_picture_as_one_loaded_at_the_size(painting, backbone):
    path = EXAMPLES / "content" / "chenonceau.jpg"
    config = TransferConfig(size=64, iterations=2)
    small, large = (
        last(stylize(load_image(path, long_side=side), painting, config, backbone)) for side in (64, 400)
    )
    assert float(tf.reduce_mean(tf.abs(small.image - large.image))) < 0.01


@pytest.mark.parametrize("setting", [{"optimizer": "adam"}, {"pooling": "avg"}])
def test_every_choice_paints(photo, painting, backbone, setting):
    config = TransferConfig(size=64, iterations=15, **WEIGHTS, **setting)
    history = list(stylize(photo, painting, config, backbone))
    assert_coherent(history, photo, config)
    photo_itself = losses_of(photo, photo, painting, config, backbone)
    assert history[-1].losses.style < 0.3 * photo_itself.style
    losses = losses_of(history[-1].image, photo, painting, config, backbone)
    np.testing.assert_allclose(losses, history[-1].losses, rtol=0.01)


def test_both_precisions_paint_the_same(photo, painting, backbone):
    exact = TransferConfig(size=64, iterations=15, precision="float32", **WEIGHTS)
    photo_itself = losses_of(photo, photo, painting, exact, backbone)
    reached = {}
    for precision in ("float32", "bfloat16"):
        config = dataclasses.replace(exact, precision=precision)
        picture = last(stylize(photo, painting, config, backbone)).image
        reached[precision] = losses_of(picture, photo, painting, exact, backbone).total
        assert reached[precision] < 0.3 * photo_itself.total
    assert reached["bfloat16"] == pytest.approx(reached["float32"], rel=0.15)
    assert reached["bfloat16"] != reached["float32"]


def test_explicit_layer_weights_paint(photo, painting, backbone):
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
    history = list(stylize(photo, painting, config, backbone))
    losses = losses_of(history[-1].image, photo, painting, config, backbone)
    np.testing.assert_allclose(losses, history[-1].losses, rtol=0.01)
    assert history[-1].losses.style < 0.3 * history[0].losses.style


def test_a_picture_in_its_own_style_stays_as_it_is(photo, backbone):
    config = TransferConfig(size=64, iterations=5, **(WEIGHTS | {"tv_weight": 0}))
    history = list(stylize(photo, photo, config, backbone))
    assert history[-1].losses.total < 1e-3
    assert float(tf.reduce_mean(tf.abs(history[-1].image - photo))) < 0.01


def test_a_run_that_cannot_improve_yields_its_picture_once(photo, painting, backbone):
    config = TransferConfig(
        size=64,
        iterations=5,
        content_layers={"block1_conv1": 0},
        style_layers={"block1_conv1": 0},
        tv_weight=0,
    )
    (only,) = stylize(photo, painting, config, backbone)
    assert only.step == 1
    assert only.losses == (0, 0, only.losses.tv, 0)


def test_flat_images_run(backbone):
    flat = tf.fill((1, 64, 64, 3), 0.5)
    history = list(stylize(flat, flat, TransferConfig(size=64, iterations=3), backbone))
    assert history
    assert np.isfinite([progress.losses for progress in history]).all()


def test_the_backbone_is_the_configs_unless_one_is_given(photo, painting, backbone):
    config = TransferConfig(size=64, iterations=1, backbone="vgg16-hed", **SHALLOW)
    loaded = last(stylize(photo, painting, config))
    given = last(stylize(photo, painting, dataclasses.replace(config, backbone="vgg19"), backbone))
    assert loaded.losses == given.losses


# How a run ends


def counting(ends_at: int = 10**9) -> Callable[[], bool]:
    """A `stop` that counts how often it is asked, and says yes from the given time on."""

    def stop() -> bool:
        stop.asked += 1
        return stop.asked >= ends_at

    stop.asked = 0
    return stop


def test_closing_ends_the_work(photo, painting, backbone):
    stop = counting()
    run = stylize(photo, painting, TransferConfig(size=64, iterations=9, **SHALLOW), backbone, stop=stop)
    next(run)
    asked = stop.asked
    run.close()
    with pytest.raises(StopIteration):
        next(run)
    assert stop.asked == asked > 0


def test_stop_is_asked_before_each_evaluation(photo, painting, backbone):
    stop = counting()
    config = TransferConfig(size=64, iterations=4, **SHALLOW)
    for progress in stylize(photo, painting, config, backbone, stop=stop):
        assert stop.asked == progress.evaluations


@pytest.mark.parametrize("ends_at", [1, 2, 5])
def test_stop_ends_the_run_within_one_evaluation(photo, painting, backbone, ends_at):
    stop = counting(ends_at)
    config = TransferConfig(size=64, iterations=9, optimizer="adam", **SHALLOW)
    history = list(stylize(photo, painting, config, backbone, stop=stop))
    assert stop.asked == ends_at
    assert len(history) == max(0, ends_at - 2)  # the first evaluation is that of the start


IN_FLOAT32 = {**SHALLOW, "precision": "float32"}  # which has no copy of the weights


class Faulty:
    """A backbone that sees infinite pixels at the given evaluations, and the `stop` that makes it do so."""

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
    photo, painting, backbone, optimizer, when
):
    faulty = Faulty(backbone, when)
    config = TransferConfig(size=64, iterations=8, optimizer=optimizer, **IN_FLOAT32)
    history = list(stylize(photo, painting, config, faulty.backbone, stop=faulty.stop))
    assert faulty.evaluations > when.stop
    assert_coherent(history, photo, config)
    changes = [
        float(tf.reduce_mean(tf.abs(later.image - earlier.image))) for earlier, later in pairwise(history)
    ]
    last_good = sum(progress.evaluations < when.start for progress in history) - 1
    assert 0 < changes[last_good] < 0.5 * changes[last_good - 1]
    assert history[last_good + 1].losses.total < 1.05 * history[last_good].losses.total


@pytest.mark.parametrize(
    ("optimizer", "when"), [("lbfgs", range(4, 10**9)), ("adam", range(4, 10**9)), ("adam", {4, 7})]
)
def test_a_second_non_finite_loss_ends_it_with_the_last_good_picture(
    photo, painting, backbone, optimizer, when
):
    faulty = Faulty(backbone, when)
    config = TransferConfig(size=64, iterations=8, optimizer=optimizer, **IN_FLOAT32)
    run = stylize(photo, painting, config, faulty.backbone, stop=faulty.stop)
    latest = next(run)
    with pytest.raises(TransferError, match=r"^The picture .* twice.*\.$") as caught:
        for latest in run:  # noqa: B007
            pass
    assert caught.value.progress is latest
    assert latest.evaluations not in when
    assert np.isfinite(latest.losses).all()


def test_without_any_good_picture_the_error_has_none(photo, painting, backbone):
    faulty = Faulty(backbone, range(1, 10**9))
    config = TransferConfig(size=64, iterations=8, **IN_FLOAT32)
    with pytest.raises(TransferError) as caught:
        list(stylize(photo, painting, config, faulty.backbone, stop=faulty.stop))
    assert caught.value.progress is None


# The schedule


SIZES = [64, 100, 255, 256, 257, 500, 511, 512, 768, 1000, 1024, 1025, 1040, 1536, 2048, 3000, 4095, 4096]
STARTS = [0, 16, 64, 200, 256, 400, 512, 513, 1024, 1500, 2048, 5000]


@pytest.mark.parametrize("size", SIZES)
def test_the_schedule_shares_out_all_steps(size):
    for iterations in range(1, 1001):
        schedule = coarse_to_fine(size, iterations)
        assert sum(level.steps for level in schedule) == iterations
        assert min(level.steps for level in schedule) >= 1
        assert schedule[-1].size == size
        assert schedule[0].size < 256 or len(schedule) == iterations
        for coarse, fine in pairwise(schedule):
            assert coarse.size >= 128
            assert abs(fine.size - 2 * coarse.size) <= 1


@pytest.mark.parametrize("size", SIZES)
def test_all_levels_have_10_steps_or_equal_shares_and_the_largest_of_up_to_1024_pixels_the_rest(size):
    for iterations in range(1, 1001):
        schedule = coarse_to_fine(size, iterations)
        main = max((level for level in schedule if level.size <= 1024), default=schedule[0])
        others = {level.steps for level in schedule if level is not main}
        assert others <= {min(10, iterations // len(schedule))}
        assert all(level.steps <= main.steps for level in schedule)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("start_size", STARTS)
def test_a_run_that_goes_on_skips_the_sizes_below_its_picture(size, start_size):
    sizes = [level.size for level in coarse_to_fine(size, 1000)]
    left = [level for level in sizes if level >= start_size] or [size]
    for iterations in (1, 2, 3, 7, 120, 1000):
        schedule = coarse_to_fine(size, iterations, start_size)
        assert [level.size for level in schedule] == left[-iterations:]
        assert sum(level.steps for level in schedule) == iterations


def test_the_schedule_of_some_runs():
    assert coarse_to_fine(200, 7) == ((200, 7),)
    assert coarse_to_fine(512, 80) == ((128, 10), (256, 10), (512, 60))
    assert coarse_to_fine(512, 80, 512) == ((512, 80),)
    assert coarse_to_fine(1024, 20) == ((128, 5), (256, 5), (512, 5), (1024, 5))
    assert coarse_to_fine(4096, 80) == ((128, 10), (256, 10), (512, 10), (1024, 30), (2048, 10), (4096, 10))
    assert coarse_to_fine(4096, 50, 2048) == ((2048, 40), (4096, 10))


def test_the_time_left_falls_to_nothing(history):
    assert all(progress.seconds_left > 0 for progress in history[:-1])
    assert history[-1].seconds_left == 0


def share_done(example: Progress, size: int, level: int, step: int, seconds: float = 1.0) -> float:
    """Of the time that a run of 100 steps up to `size` is estimated to take."""
    at = dataclasses.replace(
        example, schedule=coarse_to_fine(size, 100), level=level, step=step, seconds=seconds
    )
    return seconds / (seconds + at.seconds_left)


@pytest.mark.parametrize("size", [256, 512, 2048])
def test_the_time_left_follows_the_pace_so_far_and_the_pixels_of_a_step(history, size):
    share = partial(share_done, history[0], size)
    assert share(1, 5, 8.0) == pytest.approx(share(1, 5, 4.0))
    first, done, spent = 0, [], 0.0
    for number, (_, steps) in enumerate(coarse_to_fine(size, 100), start=1):
        done.append((share(number, first + steps) - share(number, first + 1)) / (steps - 1))
        spent += steps * done[-1]
        first += steps
    assert 0.7 < spent < 1  # what comes before a level's first step is the rest
    for (coarse, fine), level in zip(pairwise(done), coarse_to_fine(size, 100)[1:], strict=True):
        assert 2 < fine / coarse <= (8 if level.size == 2048 else 4)


# The config


def refusal(**settings) -> str:
    """The sentence that a person reads."""
    with pytest.raises(ConfigError) as caught:
        TransferConfig(**settings)
    return assert_one_sentence(caught.value)


def assert_one_sentence(error: ValueError) -> str:
    assert re.fullmatch(r"[A-Z][^\n<>]+[^.\s]\.", str(error))
    assert ". " not in str(error)
    assert "lease " in str(error) or not isinstance(error, ConfigError)
    return str(error)


METADATA = {setting.name: setting.metadata for setting in dataclasses.fields(TransferConfig)}
NUMBERS = [name for name, metadata in METADATA.items() if "range" in metadata]
CHOICES = [name for name, metadata in METADATA.items() if "choices" in metadata]
LAYERS = ["content_layers", "style_layers"]
OTHERS = ["style_blend"]


def test_every_setting_says_what_it_is_and_what_it_takes():
    assert {*NUMBERS, *CHOICES, *LAYERS, *OTHERS} == {*METADATA}
    assert all(metadata["help"] for metadata in METADATA.values())


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_taken_up_to_both_ends_of_their_range(name):
    low, high = METADATA[name]["range"]
    for value in (low, high, np.float32(high) if name.endswith("weight") else np.int64(high)):
        assert getattr(TransferConfig(**{name: value}), name) == value
    for value in (low - 1e-6, high + 1, low - 1, -high - 1):
        sentence = refusal(**{name: value})
        assert name.replace("_", " ") in sentence
        assert f"from {low:,} to {high:,}." in sentence


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        float("-inf"),
        10**400,
        1e300,
        "64",
        "<b>no</b>",
        "",
        None,
        True,
        False,
        [64],
        {"a": 1},
        64j,
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_number_in_the_range_is_refused(name, value):
    assert "from" in refusal(**{name: value})


@pytest.mark.parametrize("name", ["size", "iterations", "seed"])
def test_whole_numbers_may_not_have_a_fraction(name):
    assert "whole number" in refusal(**{name: 100.5})
    value = getattr(TransferConfig(**{name: 100.0}), name)
    assert value == 100
    assert type(value) is int


@pytest.mark.parametrize("name", CHOICES)
def test_only_the_choices_are_taken(name):
    for choice in METADATA[name]["choices"]:
        assert getattr(TransferConfig(**{name: choice}), name) == choice
    for value in ("<i>wrong</i>", "", None, 3, True, ["max"], {}, METADATA[name]["choices"][0].upper()):
        sentence = refusal(**{name: value})
        assert sentence.endswith(f"from {', '.join(METADATA[name]['choices'])}.")
        assert "wrong" not in sentence


@pytest.mark.parametrize("name", LAYERS)
def test_layers_come_as_names_or_as_names_with_weights(name):
    def stored(layers):
        return getattr(TransferConfig(**{name: layers}), name)

    assert stored(["block1_conv1", "block2_conv1"]) == ("block1_conv1", "block2_conv1")
    assert stored(("block1_conv1",)) == ("block1_conv1",)
    weights = {"block1_conv1": 2, "block2_conv1": np.float32(0.5), "block3_conv1": 0}
    assert stored(weights) == weights
    assert all(type(weight) is float for weight in stored(weights).values())


def test_a_blend_is_a_list_of_weights():
    assert TransferConfig().style_blend == ()
    for weights in ([0.01, 100], (np.float32(0.5), np.int64(3)), [1], [], (1, 2, 3, 4)):
        stored = TransferConfig(style_blend=weights).style_blend
        assert stored == tuple(weights)
        assert all(type(weight) is float for weight in stored)


@pytest.mark.parametrize(
    "weights",
    [
        *(
            [1, wrong]
            for wrong in (0, 0.009, -1, 100.1, float("nan"), float("inf"), 10**400, "1", None, True)
        ),
        "12",
        3,
        None,
        {1: 1},
        {1.0},
        [[1]],
        [1, 1, 1, 1, 1],
    ],
    ids=str,
)
def test_what_is_no_blend_is_refused(weights):
    assert "style blend" in refusal(style_blend=weights)


@pytest.mark.parametrize(
    ("items", "layers"),
    [
        (["block1_conv1"], ("block1_conv1",)),
        (["block2_conv1", "block1_conv1"], ("block2_conv1", "block1_conv1")),
        (["block1_conv1:0.5", "block2_conv1:1e3"], {"block1_conv1": 0.5, "block2_conv1": 1000}),
    ],
)
def test_layers_are_read_from_words(items, layers):
    assert parse_layers(items) == layers
    assert TransferConfig(style_layers=parse_layers(items)).style_layers == layers


@pytest.mark.parametrize(
    "items",
    [
        ["block1_conv1", "block1_conv1"],
        ["block1_conv1:1", "block1_conv1:2"],
        ["block1_conv1:1", "block2_conv1"],
        ["block1_conv1:"],
        ["block1_conv1:one"],
        ["block1_conv1:1:2"],
    ],
    ids=str,
)
def test_what_can_not_be_read_as_layers_is_refused(items):
    with pytest.raises(ConfigError) as caught:
        parse_layers(items)
    assert_one_sentence(caught.value)


def test_what_is_done_to_a_mapping_afterwards_is_no_setting():
    layers = {"block1_conv1": 1.0}
    config = TransferConfig(style_layers=layers)
    layers["block1_conv1"] = float("nan")
    assert config.style_layers == {"block1_conv1": 1.0}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    "layers",
    [
        "block4_conv2",
        "",
        (),
        [],
        {},
        None,
        3,
        True,
        [4],
        [None],
        [["block1_conv1"]],
        {"block1_conv1"},
        {1: 1.0},
        *(
            {"block1_conv1": weight}
            for weight in (-1, -1e-9, float("nan"), float("inf"), 10**400, "1", None, True, [1])
        ),
    ],
    ids=str,
)
def test_what_is_no_layers_is_refused(name, layers):
    sentence = refusal(**{name: layers})
    assert name.replace("_", " ") in sentence
    assert "block" not in sentence


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("layers", [["<b>block9_conv9</b>"], {"block1_conv1": 1, "block9_conv9": 1}])
def test_layers_that_the_backbone_has_not_are_refused_at_once(photo, painting, backbone, name, layers):
    config = TransferConfig(**{name: layers})
    with pytest.raises(ConfigError) as caught:
        stylize(photo, painting, config, backbone)
    sentence = assert_one_sentence(caught.value)
    assert "block9" not in sentence
    assert sentence.endswith(f"{', '.join(backbone.layers)}.")


def blank(*shape: int, dtype: tf.DType = tf.float32) -> tf.Tensor:
    return tf.ones(shape, dtype)


@pytest.mark.parametrize(
    "arguments",
    [
        {"styles": 0},
        {"styles": 5},
        {"styles": 2, "style_blend": (1,)},
        {"styles": 2, "style_blend": (1, 2, 3)},
        {"style_blend": (1, 1)},
        {"mask": 0 * blank(1, 20, 20, 1)},
        {"mask": blank(1, 20, 20, 1) / 600},  # less than half an 8-bit step
        {"styles": 2, "mask_mode": "styles", "mask": 0 * blank(1, 20, 20, 1)},
        {"styles": 2, "mask_mode": "styles", "mask": blank(1, 20, 20, 1)},
        {"styles": 1, "mask_mode": "styles", "mask": blank(1, 20, 20, 1) / 2},
        {"styles": 3, "mask_mode": "styles", "mask": blank(1, 20, 20, 1) / 2},
        {"styles": 2, "style_blend": (1, 2), "mask_mode": "styles", "mask": blank(1, 20, 20, 1) / 2},
        {"start": blank(1, 48, 48, 3)},  # the photo is 48 x 64
        {"start": blank(1, 32, 64, 3)},
    ],
    ids=lambda arguments: ", ".join(arguments),
)
def test_images_that_do_not_fit_the_settings_are_refused_at_once(photo, painting, backbone, arguments):
    settings = dict(arguments)
    styles = [painting] * settings.pop("styles", 1)
    pictures = {name: settings.pop(name) for name in ("mask", "start") if name in settings}
    with pytest.raises(ConfigError) as caught:
        stylize(photo, styles, TransferConfig(**settings), backbone, **pictures)
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("size", [(24, 32), (36, 48), (49, 65), (480, 640), (15, 20)])
def test_a_run_goes_on_from_the_photos_shape_at_any_size(photo, painting, backbone, size):
    stylize(photo, painting, TransferConfig(), backbone, start=blank(1, *size, 3))


WRONG_IMAGES = {
    "of four channels": blank(1, 40, 40, 4),
    "of one batch too many": blank(2, 40, 40, 3),
    "without a batch": blank(40, 40, 3),
    "of bytes": blank(1, 40, 40, 3, dtype=tf.uint8),
    "in double precision": blank(1, 40, 40, 3, dtype=tf.float64),
}
WRONG_MASKS = {
    "of three channels": blank(1, 40, 40, 3),
    "of one batch too many": blank(2, 40, 40, 1),
    "without channels": blank(1, 40, 40),
    "of bytes": blank(1, 40, 40, 1, dtype=tf.uint8),
    "of truths": blank(1, 40, 40, 1, dtype=tf.bool),
}


@pytest.mark.parametrize(
    ("where", "image"),
    [
        *(
            (where, wrong)
            for where in ("content", "style", "second style", "start")
            for wrong in WRONG_IMAGES
        ),
        *(("mask", wrong) for wrong in WRONG_MASKS),
    ],
)
def test_what_is_no_image_is_refused_at_once(photo, painting, backbone, where, image):
    wrong = (WRONG_MASKS if where == "mask" else WRONG_IMAGES)[image]
    given = {"content": photo, "style": painting, "config": TransferConfig(size=64), "backbone": backbone}
    if where == "second style":
        given["style"] = [painting, wrong]
    else:
        given[where] = wrong
    with pytest.raises(ValueError, match=r"^An image must be float32 \(1, H, W, [13]\), not .+\.$") as caught:
        stylize(**given)
    assert_one_sentence(caught.value)


def test_a_config_comes_back_from_json():
    for config in (
        TransferConfig(),
        TransferConfig(
            size=100,
            content_layers={"block1_conv1": 2},
            style_layers=["block5_conv1"],
            style_blend=[1, 2.5],
            style_scale=0.5,
            colors="matched",
            mask_mode="styles",
            strength=0.75,
            init="noise",
            seed=9,
        ),
    ):
        assert TransferConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_a_config_stays_as_it_is():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TransferConfig().size = 64
