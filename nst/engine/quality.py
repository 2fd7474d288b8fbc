"""Quality of a finished picture, by measures that no run is told to improve."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image, ImageCms

from nst.config import TransferConfig
from nst.engine.color import luminance, to_grey
from nst.engine.graph import GraphCache
from nst.engine.images import from_uint8, to_uint8
from nst.engine.inputs import LevelInputs, prepare_inputs
from nst.engine.objective import build_objective
from nst.engine.vgg import Backbone

# Layers that no default objective uses, so that overfitting the objective does not improve the losses there.
HELD_OUT_CONTENT = ("block3_conv2",)
HELD_OUT_STYLE = ("block2_conv2", "block3_conv3", "block4_conv3")

QUALITY: Mapping[str, str] = {
    "held_out_content": "content loss at layers that were not optimised",
    "held_out_style": "style loss at layers that were not optimised",
    "luminance_ssim": "how much of the photo's light and dark is kept, up to 1",
    "edge_ssim": "how much of the photo's edges is kept, up to 1",
    "color_distance": "how far its colours are from the painting's, in units of CIE Lab",
    "clipped": "share of values that are fully dark or fully bright",
}

_DIRECTIONS = 64
_COLORS = 16_384  # of each picture, at most


def evaluate(
    picture: tf.Tensor,
    content: tf.Tensor,
    styles: Sequence[tf.Tensor],
    config: TransferConfig,
    backbone: Backbone,
    graphs: GraphCache | None = None,
) -> dict[str, float | None]:
    """Evaluate a picture as it is saved, in 8 bits.

    Args:
        picture: (1, H, W, 3) in [0, 1].
        content: the content image, (1, h, w, 3) of any size.
        styles: the style images, (1, h, w, 3) of any size; colours are compared with the first.
        config: of the run.
        backbone: the network, in float32.
        graphs: what runs of this thread share.

    Returns:
        {name: value} for each name of QUALITY, rounded to six digits; None where it does not apply.
    """
    picture = from_uint8(to_uint8(picture))
    inputs = prepare_inputs(content, styles, None, config).resized(max(picture.shape[1:3]))
    photo = tf.clip_by_value(inputs.photo, 0, 1)
    content_loss, style_loss = held_out_losses(picture, inputs, config, backbone, graphs)
    found = {
        "held_out_content": content_loss,
        "held_out_style": style_loss,
        "luminance_ssim": luminance_ssim(picture, photo),
        "edge_ssim": edge_ssim(picture, photo),
        "color_distance": color_distance(picture, styles[0]),
        "clipped": clipped(picture),
    }
    return {name: None if value is None else float(f"{value:.6g}") for name, value in found.items()}


def held_out_losses(
    picture: tf.Tensor,
    inputs: LevelInputs,
    config: TransferConfig,
    backbone: Backbone,
    graphs: GraphCache | None = None,
) -> tuple[float | None, float | None]:
    """Compute content and style loss, scaled as in the objective, at held-out layers.

    Args:
        picture: (1, H, W, 3).
        inputs: those of the run, at the size of the picture.
        config: of the run; held-out layers that it optimises are left out.
        backbone: the network, in float32.
        graphs: what runs of this thread share.

    Returns:
        Content and style loss, None for one where the config optimises all held-out layers.
    """
    layers: dict[str, Any] = {
        "content_layers": tuple(layer for layer in HELD_OUT_CONTENT if layer not in config.content_layers),
        "style_layers": tuple(layer for layer in HELD_OUT_STYLE if layer not in config.style_layers),
    }
    applies = {name: bool(names) for name, names in layers.items()}
    if not any(applies.values()):
        return None, None
    config = replace(config, **{name: names for name, names in layers.items() if names})
    image = to_grey(picture) if config.colors == "luminance" else picture
    with closing(build_objective(config, backbone, graphs)) as objective:
        losses = objective.losses(image, objective.targets(inputs.content, *inputs.regions))
    return (
        losses.content if applies["content_layers"] else None,
        losses.style if applies["style_layers"] else None,
    )


def luminance_ssim(picture: tf.Tensor, photo: tf.Tensor) -> float:
    """Compute the structural similarity of the luminance of two images (1, H, W, 3), from -1 to 1.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", eq. 13, with
    its window of 11 pixels and its constants, averaged over the image.
    """
    return float(tf.image.ssim(luminance(picture), luminance(photo), max_val=1.0)[0])


def edge_ssim(picture: tf.Tensor, photo: tf.Tensor) -> float:
    """Compute the structural similarity of the edges of two images (1, H, W, 3), from -1 to 1.

    This is the SSIM of the magnitudes of Sobel's gradient of the luminance, after Chen, Yang and Xie 2006,
    "Gradient-based structural similarity for image quality assessment".
    """
    return float(tf.image.ssim(_edges(picture), _edges(photo), max_val=1.0)[0])


def _edges(image: tf.Tensor) -> tf.Tensor:
    """Compute the magnitude of Sobel's gradient of the luminance, (1, H, W, 1), from 0 to 1."""
    slopes = tf.image.sobel_edges(luminance(image)) / 4  # (1, H, W, 1, 2), each from -1 to 1
    return tf.sqrt(tf.reduce_sum(tf.square(slopes), axis=-1) / 2)


def color_distance(picture: tf.Tensor, style: tf.Tensor) -> float:
    """Compute the distance between the colours of two images (1, H, W, 3) of any size, in units of CIE Lab.

    It is the sliced Wasserstein distance (Bonneel et al. 2015, "Sliced and Radon Wasserstein barycenters of
    measures"): the root mean square, over 64 directions spread over the sphere, of the distance between the
    sorted projections of the colours. Where all colours move by d, it is d / sqrt(3).
    """
    own, other = (_quantiles(_lab(image) @ _directions().T) for image in (picture, style))  # (256, 64)
    return float(np.sqrt(np.mean((own - other) ** 2)))


def _quantiles(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return 256 evenly spread quantiles of each column of (n, k): (256, k)."""
    ranks = (np.arange(256) + 0.5) / 256 * (len(values) - 1)
    quantiles: npt.NDArray[np.float64] = np.sort(values, axis=0)[np.round(ranks).astype(int)]
    return quantiles


def _lab(image: tf.Tensor) -> npt.NDArray[np.float64]:
    """Convert a sample of the pixels to CIE Lab, (n, 3): L from 0 to 100, a and b from -128 to 127."""
    pixels = to_uint8(image)
    stride = max(1, int(np.ceil(np.sqrt(pixels.shape[0] * pixels.shape[1] / _COLORS))))
    few = Image.fromarray(np.ascontiguousarray(pixels[::stride, ::stride]))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(few, *profiles, outputMode="LAB")
    assert converted is not None
    light, *opponent = (np.asarray(band) for band in converted.split())
    signed = (band.astype(np.float64) - 128 for band in opponent)
    return np.stack([light * (100 / 255), *signed], axis=-1).reshape(-1, 3)


def _directions() -> npt.NDArray[np.float64]:
    """Return 64 unit vectors (64, 3) spread evenly over the sphere: a Fibonacci lattice."""
    number = np.arange(_DIRECTIONS) + 0.5
    height = 1 - 2 * number / _DIRECTIONS
    angle = np.pi * (1 + np.sqrt(5)) * number
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)


def clipped(picture: tf.Tensor) -> float:
    """Compute the share of the 8-bit values of an image (1, H, W, 3) that are 0 or 255."""
    pixels = to_uint8(picture)
    return float(np.mean((pixels == 0) | (pixels == 255)))
