"""Quality of a finished picture, by measures that no run is told to improve."""

import functools
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image, ImageCms

from nst.config import SETTINGS, TransferConfig
from nst.engine.blas import one_blas_thread
from nst.engine.color import luminance, to_grey
from nst.engine.graph import GraphCache
from nst.engine.images import Array, fitted_size, from_uint8, resize, to_uint8
from nst.engine.inputs import LevelInputs, prepare_inputs
from nst.engine.objective import Losses, build_objective
from nst.engine.vgg import Backbone

# Layers that no default objective uses, so that overfitting the objective does not improve the losses there.
HELD_OUT_CONTENT = ("block3_conv2",)
HELD_OUT_STYLE = ("block2_conv2", "block3_conv3", "block4_conv3")

_INCOMPARABLE = "not comparable with papers' figures"
QUALITY: Mapping[str, str] = {
    "held_out_content": "content loss at layers that were not optimised",
    "held_out_style": "style loss at layers that were not optimised",
    "judged_content": "content loss by another network, which painted nothing",
    "judged_style": "style loss by another network, which painted nothing",
    "luminance_ssim": "how much of the photo's light and dark is kept, up to 1",
    "edge_ssim": "how much of the photo's edges is kept, up to 1",
    "self_similarity_distance": "how differently its patches resemble each other from the photo's, in nats; "
    f"{_INCOMPARABLE}",
    "color_distance": "how far its colours are from the painting's, in units of CIE Lab",
    "histogram_distance": "how far its histogram of colours is from the painting's, from 0 to 1; "
    f"{_INCOMPARABLE}",
    "clipped": "share of values that are fully dark or fully bright",
}

Values = dict[str, float | None]  # for each name of QUALITY; None for what does not apply
Bounds = dict[str, tuple[float | None, float | None]]  # of the photo unchanged, of the painting itself

# Settings that bounds do not depend on.
_WITHOUT_EFFECT = (
    "content_weight",
    "style_weight",
    "tv_weight",
    "strength",
    "iterations",
    "optimizer",
    "init",
    "seed",
)
_DIRECTIONS = 64
_COLORS = 16_384  # of each picture, at most


class Measure(NamedTuple):
    """Hold a measure of a picture, between its bounds; None for what does not apply.

    Args:
        value: of the picture.
        photo: of the photo unchanged.
        painting: of the painting itself, resized to the picture.
    """

    value: float | None
    photo: float | None
    painting: float | None


def evaluate(
    picture: tf.Tensor,
    content: tf.Tensor,
    styles: Sequence[tf.Tensor],
    config: TransferConfig,
    backbone: Backbone,
    judge: Backbone | None = None,
    graphs: GraphCache | None = None,
) -> Values:
    """Evaluate a picture as it is saved, in 8 bits.

    Args:
        picture: (1, H, W, 3) in [0, 1].
        content: the content image, (1, h, w, 3) of any size.
        styles: the style images, (1, h, w, 3) of any size; colours are compared with the first.
        config: of the run.
        backbone: the network that painted it, in float32.
        judge: another network, in float32; None where there is none.
        graphs: what runs of this thread share.

    Returns:
        The values, rounded to six digits.
    """
    inputs = prepare_inputs(content, styles, None, config).resized(max(picture.shape[1:3]))
    (found,) = _evaluate_each([picture], styles[0], inputs, config, backbone, judge, graphs)
    return found


def bounds(
    content: tf.Tensor,
    styles: Sequence[tf.Tensor],
    config: TransferConfig,
    backbone: Backbone,
    judge: Backbone | None = None,
    graphs: GraphCache | None = None,
) -> Bounds:
    """Evaluate the photo unchanged and the painting itself, as if they were pictures of that run.

    The painting is the first one, as it is given, resized to the picture's height and width.

    Args:
        content, styles, config, backbone, judge, graphs: as in `evaluate`.

    Returns:
        For each name of QUALITY the values of the photo and of the painting, as `evaluate` returns them.
    """
    inputs = prepare_inputs(content, styles, None, config)
    painting = resize(styles[0], *inputs.photo.shape[1:3])
    of_photo, of_painting = _evaluate_each(
        [inputs.photo, painting], styles[0], inputs, config, backbone, judge, graphs
    )
    return {name: (of_photo[name], of_painting[name]) for name in QUALITY}


def settings_of_bounds(config: TransferConfig) -> TransferConfig:
    """Return a config with the same bounds, and the same one for all that differ in nothing else."""
    defaults: dict[str, Any] = {name: SETTINGS[name].default for name in _WITHOUT_EFFECT}
    return replace(config, **defaults)


def _evaluate_each(
    pictures: Sequence[tf.Tensor],
    style: tf.Tensor,
    inputs: LevelInputs,
    config: TransferConfig,
    backbone: Backbone,
    judge: Backbone | None,
    graphs: GraphCache | None,
) -> list[Values]:
    """Evaluate pictures (1, H, W, 3) of one size, which is that of the inputs: see `evaluate`."""
    pictures = [from_uint8(to_uint8(picture)) for picture in pictures]
    photo = tf.clip_by_value(inputs.photo, 0, 1)
    held_out = held_out_losses(pictures, inputs, config, backbone, graphs)
    judged = judged_losses(pictures, inputs, config, backbone, judge, graphs)
    found = []
    for picture, of_painter, of_judge in zip(pictures, held_out, judged, strict=True):
        with one_blas_thread:
            values = {
                "held_out_content": of_painter[0],
                "held_out_style": of_painter[1],
                "judged_content": of_judge[0],
                "judged_style": of_judge[1],
                "luminance_ssim": luminance_ssim(picture, photo),
                "edge_ssim": edge_ssim(picture, photo),
                "self_similarity_distance": self_similarity_distance(picture, photo),
                "color_distance": color_distance(picture, style),
                "histogram_distance": histogram_distance(picture, style),
                "clipped": clipped(picture),
            }
        found.append(
            {name: None if value is None else float(f"{value:.6g}") for name, value in values.items()}
        )
    return found


def held_out_losses(
    pictures: Sequence[tf.Tensor],
    inputs: LevelInputs,
    config: TransferConfig,
    backbone: Backbone,
    graphs: GraphCache | None = None,
) -> list[tuple[float | None, float | None]]:
    """Compute content and style losses, scaled as in the objective, at held-out layers.

    Args:
        pictures: (1, H, W, 3) each.
        inputs: those of the run, at the size of the pictures.
        config: of the run; held-out layers that it optimises are left out.
        backbone: the network, in float32.
        graphs: what runs of this thread share.

    Returns:
        Content and style loss of each picture, None for one where the config optimises all held-out layers.
    """
    layers: dict[str, Any] = {
        "content_layers": tuple(layer for layer in HELD_OUT_CONTENT if layer not in config.content_layers),
        "style_layers": tuple(layer for layer in HELD_OUT_STYLE if layer not in config.style_layers),
    }
    applies = {name: bool(names) for name, names in layers.items()}
    if not any(applies.values()):
        return [(None, None)] * len(pictures)
    config = replace(config, **{name: names for name, names in layers.items() if names})
    return [
        (
            losses.content if applies["content_layers"] else None,
            losses.style if applies["style_layers"] else None,
        )
        for losses in _compute_losses(pictures, inputs, config, backbone, graphs)
    ]


def judged_losses(
    pictures: Sequence[tf.Tensor],
    inputs: LevelInputs,
    config: TransferConfig,
    backbone: Backbone,
    judge: Backbone | None,
    graphs: GraphCache | None = None,
) -> list[tuple[float | None, float | None]]:
    """Compute content and style losses, scaled as in the objective, at held-out layers of another network.

    A picture may please the network that painted it and nobody else. The judge reads all pictures in the same
    way, at all held-out layers and with its own pooling, whatever the config optimises.

    Args:
        pictures: (1, H, W, 3) each.
        inputs: those of the run, at the size of the pictures.
        config: of the run.
        backbone: the network that painted them.
        judge: the other network, in float32; None where there is none.
        graphs: what runs of this thread share.

    Returns:
        Content and style loss of each picture, None for both where there is no judge, or it is the painter.
    """
    if judge is None or judge.digest == backbone.digest:
        return [(None, None)] * len(pictures)
    config = replace(config, content_layers=HELD_OUT_CONTENT, style_layers=HELD_OUT_STYLE, pooling="max")
    return [
        (losses.content, losses.style) for losses in _compute_losses(pictures, inputs, config, judge, graphs)
    ]


def _compute_losses(
    pictures: Sequence[tf.Tensor],
    inputs: LevelInputs,
    config: TransferConfig,
    backbone: Backbone,
    graphs: GraphCache | None,
) -> list[Losses]:
    """Compute the losses of pictures (1, H, W, 3) at the layers of a config."""
    if config.colors == "luminance":
        pictures = [to_grey(picture) for picture in pictures]
    with closing(build_objective(config, backbone, graphs)) as objective:
        targets = objective.targets(inputs.content, *inputs.regions)
        return [objective.losses(picture, targets) for picture in pictures]


def luminance_ssim(picture: tf.Tensor, photo: tf.Tensor) -> float:
    """Compute the structural similarity of the luminance of two images (1, H, W, 3), from -1 to 1.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", eq. 13, with
    its window of 11 pixels and its constants, averaged over the image.
    """
    return float(_ssim(luminance(picture), luminance(photo)))


def edge_ssim(picture: tf.Tensor, photo: tf.Tensor) -> float:
    """Compute the structural similarity of the edges of two images (1, H, W, 3), from -1 to 1.

    This is the SSIM of the magnitudes of Sobel's gradient of the luminance, after Chen, Yang and Xie 2006,
    "Gradient-based structural similarity for image quality assessment".
    """
    return float(_ssim(_edges(picture), _edges(photo)))


_GREY_IMAGE = tf.TensorSpec([1, None, None, 1])


@tf.function(input_signature=[_GREY_IMAGE, _GREY_IMAGE])  # type: ignore[untyped-decorator]
def _ssim(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    return tf.image.ssim(one, other, max_val=1.0)[0]


@tf.function(input_signature=[tf.TensorSpec([1, None, None, 3])])  # type: ignore[untyped-decorator]
def _edges(image: tf.Tensor) -> tf.Tensor:
    """Compute the magnitude of Sobel's gradient of the luminance, (1, H, W, 1), from 0 to 1."""
    slopes = tf.image.sobel_edges(luminance(image)) / 4  # (1, H, W, 1, 2), each from -1 to 1
    return tf.sqrt(tf.reduce_sum(tf.square(slopes), axis=-1) / 2)


_STRUCTURE_SIDE = 256  # pixels
_CELL = 8  # pixels
_ORIENTATIONS = 9
_TEMPERATURE = 0.1


def self_similarity_distance(picture: tf.Tensor, photo: tf.Tensor) -> float:
    """Compute how differently the patches of two images of one size resemble each other, in nats, from 0.

    This follows the content feature structural distance (CFSD) of Chung, Hyun and Heo 2024, "Style injection
    in diffusion": the Kullback-Leibler divergence between two matrices, whose rows say as a softmax how much
    one patch resembles each patch of the same image. Their patches are described by features of a VGG. These
    are described without a network, by histograms of oriented gradients (Dalal and Triggs 2005, "Histograms
    of oriented gradients for human detection"), so that it is not comparable with papers' figures.

    Images are reduced to a long side of at most 256 pixels. Each of the n patches of 8 x 8 pixels has a
    histogram v_i of the orientations of its gradients, (9,):

    - f_i = v_i / (|v_i| + mean_k |v_k| / 10), so that contrast counts little, and noise as well,
    - S_ij = exp(f_i f_j / 0.1) / sum_k exp(f_i f_k / 0.1), (n, n), of the photo, and S' of the picture,
    - the distance is the mean over i of sum_j S_ij log(S_ij / S'_ij).

    Args:
        picture: (1, H, W, 3).
        photo: (1, H, W, 3).
    """
    wanted, own = (_log_self_similarity(image) for image in (photo, picture))
    return float(np.mean(np.sum(np.exp(wanted) * (wanted - own), axis=1)))


def _log_self_similarity(image: tf.Tensor) -> npt.NDArray[np.float64]:
    """Compute log S of an image (1, H, W, 3): (n, n)."""
    height, width = image.shape[1:3]
    if max(height, width) > _STRUCTURE_SIDE:
        image = resize(image, *fitted_size(height, width, _STRUCTURE_SIDE))
    histograms = _oriented_gradients(np.asarray(luminance(image))[0, :, :, 0])
    lengths = np.linalg.norm(histograms, axis=1, keepdims=True)
    features = histograms / np.maximum(lengths + np.mean(lengths) / 10, 1e-6)
    logits = features @ features.T / _TEMPERATURE
    similarity: npt.NDArray[np.float64] = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    return similarity


def _oriented_gradients(light: Array) -> npt.NDArray[np.float64]:
    """Compute the histogram of the orientations of the gradients in each patch of an image (H, W): (n, 9).

    A gradient counts by its length, for the two of the nine orientations that are nearest to its own.
    """
    down, across = np.gradient(light)
    place = np.arctan2(down, across) * (_ORIENTATIONS / np.pi)  # a gradient and its opposite are 9 apart
    away = (place[..., None] - np.arange(_ORIENTATIONS) + _ORIENTATIONS / 2) % _ORIENTATIONS
    shares = np.maximum(1 - np.abs(away - _ORIENTATIONS / 2), 0)  # (H, W, 9)
    rows, columns = light.shape[0] // _CELL, light.shape[1] // _CELL
    votes = (np.hypot(down, across)[..., None] * shares)[: rows * _CELL, : columns * _CELL]
    patches = votes.reshape(rows, _CELL, columns, _CELL, _ORIENTATIONS)
    histograms: npt.NDArray[np.float64] = patches.sum(axis=(1, 3), dtype=np.float64)
    return histograms.reshape(-1, _ORIENTATIONS)


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
    converted = ImageCms.applyTransform(few, _to_lab())
    assert converted is not None
    light, *opponent = (np.asarray(band) for band in converted.split())
    signed = (band.astype(np.float64) - 128 for band in opponent)
    return np.stack([light * (100 / 255), *signed], axis=-1).reshape(-1, 3)


@functools.cache
def _to_lab() -> ImageCms.ImageCmsTransform:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.buildTransform(*profiles, "RGB", "LAB")


def _directions() -> npt.NDArray[np.float64]:
    """Return 64 unit vectors (64, 3) spread evenly over the sphere: a Fibonacci lattice."""
    number = np.arange(_DIRECTIONS) + 0.5
    height = 1 - 2 * number / _DIRECTIONS
    angle = np.pi * (1 + np.sqrt(5)) * number
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)


_HISTOGRAM_SIDE = 150  # pixels
_HISTOGRAM_BINS = np.linspace(-3, 3, 64, dtype=np.float32)
_FALL_OFF = np.float32(0.02)  # tau
_DARKEST = np.float32(1e-6)  # keeps the logarithm of black finite


def histogram_distance(picture: tf.Tensor, style: tf.Tensor) -> float:
    """Compute the distance between the colour histograms of two images (1, H, W, 3) of any size, from 0 to 1.

    This is the colour matching loss of HistoGAN (Afifi, Brubaker and Brown 2021, "HistoGAN: controlling
    colors of GAN-generated and real images via color histograms", section 3.2): the Hellinger distance
    |sqrt(H) - sqrt(H')|_2 / sqrt(2) between two RGB-uv histograms. Papers take it of other images at other
    sizes, so that it is not comparable with their figures.
    """
    own, other = (np.sqrt(color_histogram(image)) for image in (picture, style))
    return float(np.linalg.norm(own - other) / np.sqrt(2))


def color_histogram(image: tf.Tensor) -> Array:
    """Compute the RGB-uv histogram of an image: Afifi et al. 2021, section 3.1, with their constants.

    The chroma (u, v) of a pixel is the logarithm of the ratio of one channel to each of the others: R to G
    and B, G to R and B, B to R and G. A pixel adds its intensity sqrt(R^2 + G^2 + B^2) to the bins around its
    chroma, by an inverse-quadratic kernel in u and another in v, 1 / (1 + (u - bin)^2 / tau^2), with 64 bins
    from -3 to 3 and tau = 0.02. As in their code, an image with a side of more than 150 pixels is resized to
    150 x 150 pixels.

    Args:
        image: (1, H, W, 3) in [0, 1].

    Returns:
        H, float32 (3, 64, 64), which sums to 1.
    """
    if max(image.shape[1:3]) > _HISTOGRAM_SIDE:
        image = tf.image.resize(image, [_HISTOGRAM_SIDE, _HISTOGRAM_SIDE])
    colors = np.reshape(np.clip(image, 0, 1), (-1, 3))  # (n, 3)
    red, green, blue = np.log(colors + _DARKEST).T  # (n,) each
    to_green, to_blue, between = (_kernel(ratio) for ratio in (red - green, red - blue, green - blue))
    intensity = np.sqrt(np.sum(colors**2, axis=1, keepdims=True) + _DARKEST)
    weighted = intensity * to_green
    # Bins are symmetric, so that a ratio turned over has the same kernel turned over.
    histogram = np.stack(
        [
            weighted.T @ to_blue,
            (weighted.T @ between)[::-1],
            ((intensity * to_blue).T @ between)[::-1, ::-1],
        ]
    )
    return np.asarray(histogram / np.sum(histogram), np.float32)


def _kernel(chroma: Array) -> Array:
    """Compute how far each of n values falls into each bin, (n, 64)."""
    return np.asarray(1 / (1 + ((chroma[:, None] - _HISTOGRAM_BINS) / _FALL_OFF) ** 2), np.float32)


def clipped(picture: tf.Tensor) -> float:
    """Compute the share of the 8-bit values of an image (1, H, W, 3) that are 0 or 255."""
    pixels = to_uint8(picture)
    return float(np.mean((pixels == 0) | (pixels == 255)))
