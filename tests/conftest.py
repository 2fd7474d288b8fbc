"""What several test files share: the bundled backbone and real images, small."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it when it is imported

from pathlib import Path

import pytest
import tensorflow as tf

from nst import Backbone, load_backbone, load_image

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """The bundled VGG-16: its weights are installed, and need no download."""
    return load_backbone("vgg16-hed")


@pytest.fixture(scope="session")
def photo() -> tf.Tensor:
    """A content image, landscape (1, 48, 64, 3)."""
    return load_image(EXAMPLES / "content" / "chenonceau.jpg", long_side=64)


@pytest.fixture(scope="session")
def painting() -> tf.Tensor:
    """A style image with a long side of 64 pixels."""
    return load_image(EXAMPLES / "style" / "hokusai-great-wave.jpg", long_side=64)
