"""Named settings: few, each another one, and each of use as it is."""

from dataclasses import replace
from itertools import combinations

import pytest
import tensorflow as tf

from nst.config import PRESETS, TransferConfig
from nst.engine.stylize import stylize


def test_there_are_a_few_and_the_first_is_the_default():
    assert 5 <= len(PRESETS) <= 7
    assert next(iter(PRESETS.values())) == TransferConfig()


def test_no_two_are_the_same():
    assert all(one != other for one, other in combinations(PRESETS.values(), 2))


@pytest.mark.parametrize("name", PRESETS)
def test_a_name_can_be_typed(name):
    assert name.isascii()
    assert name == name.lower()
    assert name.replace("-", "").isalpha()


@pytest.mark.parametrize("name", PRESETS)
def test_each_paints(name, photo, painting, backbone):
    config = replace(PRESETS[name], size=64, iterations=2)
    *_, last = stylize(photo, painting, config, backbone)
    assert last.step == 2
    assert last.image.shape == photo.shape
    assert 0 <= float(tf.reduce_min(last.image)) <= float(tf.reduce_max(last.image)) <= 1
    assert float(tf.reduce_mean(tf.abs(last.image - photo))) > 0.01
