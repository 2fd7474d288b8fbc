"""The settings: their ranges and choices, what is refused, and the presets."""

import dataclasses
import json
from itertools import combinations

import numpy as np
import pytest
from sentences import one_sentence

from nst.config import (
    AXES,
    BACKBONES,
    DEFAULT_PRESET,
    MAX_STYLES,
    OPTIMIZERS,
    PRECISIONS,
    PRESETS,
    SETTINGS,
    TransferConfig,
    parse_layers,
)
from nst.engine import optimizers
from nst.engine.vgg import resolve_precision
from nst.engine.weights import LAYERS as ALL_LAYERS
from nst.engine.weights import NETWORKS
from nst.errors import ConfigError

pytestmark = pytest.mark.quick


def refusal(**settings) -> str:
    """Return the sentence that a person reads."""
    with pytest.raises(ConfigError) as caught:
        TransferConfig(**settings)
    return one_sentence(caught.value)


METADATA = {name: setting.metadata for name, setting in SETTINGS.items()}
NUMBERS = [name for name, metadata in METADATA.items() if "range" in metadata]
CHOICES = [name for name, metadata in METADATA.items() if "choices" in metadata]
LAYERS = ["content_layers", "style_layers"]
OTHERS = ["style_blend"]


def test_every_setting_has_help_and_says_what_it_takes():
    assert {*NUMBERS, *CHOICES, *LAYERS, *OTHERS} == {*METADATA}
    assert all(metadata["help"] for metadata in METADATA.values())


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_accepted_up_to_both_ends_of_their_range(name):
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
def test_anything_but_a_number_in_the_range_is_refused(name, value):
    assert "from" in refusal(**{name: value})


@pytest.mark.parametrize("name", ["size", "iterations", "seed"])
def test_whole_numbers_may_not_have_a_fraction(name):
    assert "whole number" in refusal(**{name: 100.5})
    value = getattr(TransferConfig(**{name: 100.0}), name)
    assert value == 100
    assert type(value) is int


@pytest.mark.parametrize("name", CHOICES)
def test_only_the_choices_are_accepted(name):
    for choice in METADATA[name]["choices"]:
        assert getattr(TransferConfig(**{name: choice}), name) == choice
    for value in ("<i>wrong</i>", "", None, 3, True, ["max"], {}, METADATA[name]["choices"][0].upper()):
        sentence = refusal(**{name: value})
        assert sentence.endswith(f"from {', '.join(METADATA[name]['choices'])}.")
        assert "wrong" not in sentence


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_names_or_names_with_weights(name):
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
def test_anything_but_a_blend_is_refused(weights):
    assert "style blend" in refusal(style_blend=weights)


@pytest.mark.parametrize(
    ("items", "layers"),
    [
        (["block1_conv1"], ("block1_conv1",)),
        (["block2_conv1", "block1_conv1"], ("block2_conv1", "block1_conv1")),
        (["block1_conv1:0.5", "block2_conv1:1e3"], {"block1_conv1": 0.5, "block2_conv1": 1000}),
    ],
)
def test_layers_are_parsed_from_text(items, layers):
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
def test_text_that_names_no_layers_is_refused(items):
    with pytest.raises(ConfigError) as caught:
        parse_layers(items)
    one_sentence(caught.value)


def test_a_mapping_that_changes_later_does_not_change_the_config():
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
def test_anything_but_layers_is_refused(name, layers):
    sentence = refusal(**{name: layers})
    assert name.replace("_", " ") in sentence
    assert "block" not in sentence


def test_a_config_survives_json():
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


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TransferConfig().size = 64


def test_settings_that_are_not_given_keep_their_values():
    config = dataclasses.replace(PRESETS["light-wash"], style_weight=10)
    assert config.style_weight == 10 == TransferConfig().style_weight
    assert config.colors == PRESETS["light-wash"].colors != TransferConfig().colors


# The same names everywhere


def test_settings_are_the_fields_in_order():
    fields = {field.name: field for field in dataclasses.fields(TransferConfig)}
    assert fields == SETTINGS
    assert [*fields] == [*SETTINGS]


def test_the_names_of_networks_optimizers_and_precisions_agree_with_the_engine():
    assert ("auto", *NETWORKS) == BACKBONES
    assert tuple(optimizers.OPTIMIZERS) == OPTIMIZERS
    assert {resolve_precision(name) for name in PRECISIONS} == {*PRECISIONS} - {"auto"}
    assert METADATA["backbone"]["choices"] == BACKBONES
    assert METADATA["optimizer"]["choices"] == OPTIMIZERS
    assert METADATA["precision"]["choices"] == PRECISIONS


def test_the_default_layers_are_layers_of_every_network():
    defaults = {*TransferConfig().content_layers, *TransferConfig().style_layers}
    for network in NETWORKS.values():
        assert defaults <= {*network.kernel_shapes()} <= {*ALL_LAYERS}


def test_a_blend_may_have_as_many_weights_as_there_may_be_styles():
    assert len(TransferConfig(style_blend=[1] * MAX_STYLES).style_blend) == MAX_STYLES
    assert str(MAX_STYLES) in refusal(style_blend=[1] * (MAX_STYLES + 1))


def test_the_axes_of_a_study_are_settings_whose_values_have_titles():
    assert {*AXES} <= {*SETTINGS}
    for name, title in AXES.items():
        low, high = METADATA[name].get("range", (0, 0))
        values = METADATA[name].get("choices", (low, high))
        assert len({title.format(value) for value in values}) == len(values)
    assert AXES["style_weight"].format(100.0) == "β 100"


# Presets


def test_there_are_a_few_presets_and_the_first_is_the_default():
    assert len(PRESETS) >= 5
    assert next(iter(PRESETS)) == DEFAULT_PRESET
    assert PRESETS[DEFAULT_PRESET] == TransferConfig()


def test_no_two_presets_are_the_same():
    assert all(one != other for one, other in combinations(PRESETS.values(), 2))


@pytest.mark.parametrize("name", PRESETS)
def test_the_name_of_a_preset_is_easy_to_type(name):
    assert name.isascii()
    assert name == name.lower()
    assert name.replace("-", "").isalpha()
