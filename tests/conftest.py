"""Fixtures for all tests: the bundled network, real images at a small size, and graphs that runs share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it when it is imported

from collections.abc import Iterator

import pytest
import tensorflow as tf
from comparison import EXAMPLES

from nst import Backbone, load_backbone, load_image
from nst.engine.graph import GraphCache


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """The bundled VGG-16, whose weights are installed and need no download."""
    return load_backbone("vgg16")


@pytest.fixture(scope="session")
def thin_backbone(backbone) -> Backbone:
    """The bundled VGG-16 with eight channels in each layer: just as deep, and much quicker."""
    weights = {}
    for layer, (kernel, bias) in backbone.weights.items():
        channels = kernel.shape[2]
        few = min(channels, 8)
        weights[layer] = kernel[:, :, :few, :8] * (channels / few), bias[:8]
    return Backbone("thin", backbone.layers, backbone.mean, weights)


@pytest.fixture(scope="session")
def graphs() -> Iterator[GraphCache]:
    """Graphs for all runs of this thread. Opening a session takes seconds, so these stay open."""

    class LastingCache(GraphCache):
        MOST_SHAPES = 10_000

    cache = LastingCache()
    yield cache
    cache.close()


@pytest.fixture(scope="session")
def photo() -> tf.Tensor:
    """A content image, landscape (1, 48, 64, 3)."""
    return load_image(EXAMPLES / "content" / "chenonceau.jpg", long_side=64)


@pytest.fixture(scope="session")
def painting() -> tf.Tensor:
    """A style image with a long side of 64 pixels."""
    return load_image(EXAMPLES / "style" / "hokusai-great-wave.jpg", long_side=64)
