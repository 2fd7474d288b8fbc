"""Reference 4: neural-style-pt's own objective and optimiser, in PyTorch, on the benchmark's network.

The settings are the defaults of github.com/ProGamerGov/neural-style-pt. As for the other references, the
start is the content image (its `-init image`), and the run ends after references.EVALUATIONS.
"""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
import torch
from torch.nn.functional import conv2d, max_pool2d, mse_loss

from nst.benchmark import references
from nst.benchmark.references import GATYS_CONTENT, GATYS_STYLE, Stopwatch, Task
from nst.engine.vgg import Backbone

CONTENT_WEIGHT, STYLE_WEIGHT, TV_WEIGHT = 5.0, 100.0, 1e-3

Weights = Mapping[str, tuple[torch.Tensor, torch.Tensor]]


def neural_style_pt(task: Task, watch: Stopwatch) -> None:
    """Run reference 4: PyTorch's L-BFGS with unit steps, at one size, from the content image.

    The pixels have no bounds, and are clipped at the end. The task's objective measures the pictures, but is
    not the one that is lowered.

    Args:
        task: the images and the network.
        watch: measures the pictures.
    """
    mean = task.backbone.mean
    objective = make_objective(
        convert_weights(task.backbone), to_pixels(task.content, mean), to_pixels(task.style, mean)
    )
    pixels = to_pixels(task.content, mean).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [pixels], max_iter=references.EVALUATIONS, tolerance_grad=-1, tolerance_change=-1, history_size=100
    )
    evaluations = 0

    def evaluate() -> torch.Tensor:
        nonlocal evaluations
        evaluations += 1
        optimizer.zero_grad()
        loss = objective(pixels)
        loss.backward()
        watch.measure(to_image(pixels, mean), evaluations, final=evaluations == references.EVALUATIONS)
        return loss

    optimizer.step(evaluate)  # without a line search, an iteration is an evaluation


def make_objective(
    weights: Weights, content: torch.Tensor, style: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Make the function that gives the loss of pixels (1, 3, H, W).

    Args:
        weights: of the network, see `convert_weights`.
        content: pixels of the content image, (1, 3, H, W).
        style: pixels of the style image, (1, 3, h, w).
    """
    with torch.no_grad():
        target = extract_features(weights, content)[GATYS_CONTENT]
        painting = extract_features(weights, style)
        grams = {layer: gram_matrix(painting[layer]) for layer in GATYS_STYLE}

    def objective(pixels: torch.Tensor) -> torch.Tensor:
        features = extract_features(weights, pixels)
        content_loss = mse_loss(features[GATYS_CONTENT], target)
        style_loss = sum(mse_loss(gram_matrix(features[layer]), gram) for layer, gram in grams.items())
        return CONTENT_WEIGHT * content_loss + STYLE_WEIGHT * style_loss + TV_WEIGHT * total_variation(pixels)

    return objective


def extract_features(weights: Weights, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Compute the activations (1, c, h, w) of all layers after their ReLU."""
    features: dict[str, torch.Tensor] = {}
    x = pixels
    for layer, (kernel, bias) in weights.items():
        if layer.endswith("_conv1") and features:
            x = max_pool2d(x, 2)
        x = features[layer] = conv2d(x, kernel, bias, padding=1).relu_()
    return features


def gram_matrix(features: torch.Tensor) -> torch.Tensor:
    """Compute F F^T / (c * h * w) of F (1, c, h, w)."""
    rows = features.flatten(2)[0]  # (c, h * w)
    return rows @ rows.T / rows.numel()


def total_variation(pixels: torch.Tensor) -> torch.Tensor:
    """Sum up |x' - x| over the neighbours in pixels (1, 3, H, W)."""
    return pixels.diff(dim=2).abs().sum() + pixels.diff(dim=3).abs().sum()


def convert_weights(backbone: Backbone) -> Weights:
    """Convert all layers that are needed to PyTorch's order: {layer: (kernel (d, c, 3, 3), bias (d,))}."""
    depth = backbone.layers.index(GATYS_STYLE[-1]) + 1
    return {
        layer: (torch.tensor(kernel.numpy()).permute(3, 2, 0, 1).contiguous(), torch.tensor(bias.numpy()))
        for layer, (kernel, bias) in list(backbone.weights.items())[:depth]
    }


def to_pixels(image: tf.Tensor, mean: tuple[float, float, float]) -> torch.Tensor:
    """Turn an image (1, H, W, 3) into pixels (1, 3, H, W): BGR from 0 to 255, less the network's mean."""
    bgr = 255 * image.numpy()[..., ::-1] - np.array(mean, np.float32)
    return torch.tensor(bgr).permute(0, 3, 1, 2).contiguous()


def to_image(pixels: torch.Tensor, mean: tuple[float, float, float]) -> tf.Tensor:
    """Turn pixels (1, 3, H, W) into an image (1, H, W, 3), clipped to [0, 1]."""
    bgr = pixels.detach().permute(0, 2, 3, 1).numpy() + np.array(mean, np.float32)
    return tf.constant(np.clip(bgr[..., ::-1] / 255, 0, 1))
