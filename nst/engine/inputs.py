"""The images of a run, checked against its config, then sized, recoloured and divided into regions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from nst.config import MAX_STYLES, TransferConfig
from nst.engine.color import match_colors, to_grey
from nst.engine.images import fitted_size, resize
from nst.engine.objective import Region
from nst.engine.parameterization import Parameterization
from nst.engine.vgg import Backbone
from nst.errors import ConfigError


def check_layers(config: TransferConfig, backbone: Backbone) -> None:
    """Check that the network has all layers of a config.

    Raises:
        ConfigError: it lacks one.
    """
    if not {*config.content_layers, *config.style_layers} <= {*backbone.layers}:
        raise ConfigError(f"Please name layers that {backbone.name} has: {', '.join(backbone.layers)}.")


def check_styles(number: int, config: TransferConfig, mask: tf.Tensor | None = None) -> None:
    """Check that a config can be used with that number of style images, and with that mask.

    Args:
        number: of style images.
        config: of the run.
        mask: (1, h, w, 1) in [0, 1], or None.

    Raises:
        ConfigError: it cannot.
    """
    if not 1 <= number <= MAX_STYLES:
        raise ConfigError(f"Please give one to {MAX_STYLES} style images.")
    if config.style_blend and len(config.style_blend) != number:
        raise ConfigError(
            "Please give as many weights as style images, or none to blend them in equal shares."
        )
    if mask is None:
        return
    if float(tf.reduce_max(mask)) < 0.5 / 255:
        raise ConfigError("The mask is black all over: please make white what is to be painted.")
    if config.mask_mode == "styles":
        if number != 2:
            raise ConfigError(
                "Please give two style images: one for the mask's white, and one for its black."
            )
        if config.style_blend:
            raise ConfigError(
                "Please give the style images no weights: each has a part of the mask of its own."
            )
        if float(tf.reduce_min(mask)) > 1 - 0.5 / 255:
            raise ConfigError("The mask is white all over: please make black what the second style is for.")


def check_start(start: tuple[int, int], content: tuple[int, int]) -> None:
    """Check that a picture to continue from has the aspect of the content image.

    Args:
        start: its height and width in pixels.
        content: height and width of the content image.

    Raises:
        ConfigError: it has another one.
    """
    if _difference(start, content) > 1:
        raise ConfigError(
            "The picture to go on from has another shape than the photo: please use the photo it shows."
        )


def check_mask(mask: tuple[int, int], content: tuple[int, int]) -> None:
    """Check that a mask has the aspect of the content image, to a hundredth of its longer side.

    Args:
        mask: its height and width in pixels.
        content: height and width of the content image.

    Raises:
        ConfigError: it has another one.
    """
    if _difference(mask, content) > max(1, 0.01 * max(mask)):  # a small mask is rounded to whole pixels
        raise ConfigError(
            "The mask has another shape than the photo, or is turned another way: please use one that fits "
            "the photo as you see it."
        )


def _difference(shape: tuple[int, int], content: tuple[int, int]) -> int:
    """Compute by how many pixels a shape differs from that of the content image at its size."""
    scale = max(shape) / max(content)
    return max(abs(side - round(other * scale)) for side, other in zip(shape, content, strict=True))


@dataclass(frozen=True)
class LevelInputs:
    """Hold the images of a run at one size of the result.

    Args:
        photo: (1, H, W, 3).
        content: the photo as the network reads it, (1, H, W, 3): grey where only luminance is painted.
        init_image: (1, H, W, 3), what the run starts as, and where a larger level takes its fine detail from,
            unless it starts from noise.
        regions: the style images for each part of the picture.
    """

    photo: tf.Tensor
    content: tf.Tensor
    init_image: tf.Tensor
    regions: tuple[Region, ...]

    def resized(self, size: int) -> "LevelInputs":
        """Resize all images in proportion, for a result with a long side of `size` pixels."""
        scale = size / max(self.photo.shape[1:3])
        photo, content, init_image = (
            _fit(image, size) for image in (self.photo, self.content, self.init_image)
        )
        regions = (
            Region(
                [_fit(style, round(scale * max(style.shape[1:3]))) for style in region.styles],
                region.blend,
                None if region.mask is None else _fit_mask(region.mask, photo),
            )
            for region in self.regions
        )
        return LevelInputs(photo, content, init_image, tuple(regions))

    def parameterization(self, config: TransferConfig) -> Parameterization:
        """Build the parameterization of a run with that config."""
        mask = self.regions[0].mask if config.mask_mode == "keep" else None
        photo = tf.clip_by_value(self.photo, 0, 1)  # resizing may overshoot
        return Parameterization(photo, mask, keep_colors=config.colors == "luminance")


def prepare_inputs(
    content: tf.Tensor, styles: Sequence[tf.Tensor], mask: tf.Tensor | None, config: TransferConfig
) -> LevelInputs:
    """Prepare the images of a run at the size of its result.

    The init image is the photo with the mean and covariance of the styles' colours, which saves steps.

    Args:
        content: (1, h, w, 3) of any size.
        styles: (1, h, w, 3) each, of any size.
        mask: (1, h, w, 1) of any size, or None.
        config: of the run.
    """
    photo = _fit(content, config.size)
    content = photo
    styles = [_fit(style, round(config.size * config.style_scale)) for style in styles]
    if config.colors == "luminance":
        content, styles = to_grey(photo), [to_grey(style) for style in styles]
    if config.colors != "style":
        styles = [match_colors(style, content) for style in styles]
    weights = config.style_blend or (1.0,) * len(styles)
    regions: tuple[Region, ...] = (Region(styles, weights),)
    if mask is not None:
        mask = _fit_mask(mask, photo)
        regions = (Region(styles, weights, mask),)
        if config.mask_mode == "styles":
            regions = Region(styles[:1], (1.0,), mask), Region(styles[1:], (1.0,), 1 - mask)
    init_image = np.array(content)
    for region in regions:
        for style, weight in zip(region.styles, region.blend, strict=True):
            change = np.array(match_colors(content, style))
            change -= content
            change *= weight / sum(region.blend) * (1 if region.mask is None else region.mask)
            init_image += change
    return LevelInputs(photo, content, tf.constant(init_image), regions)


def _fit(image: tf.Tensor, long_side: int) -> tf.Tensor:
    height, width = image.shape[1:3]
    return resize(image, *fitted_size(height, width, long_side))


def _fit_mask(mask: tf.Tensor, photo: tf.Tensor) -> tf.Tensor:
    # Not by Lanczos, whose ringing would paint a little where the mask is black.
    fitted = tf.image.resize(mask, photo.shape[1:3], antialias=True)
    return tf.clip_by_value(fitted, 0, 1)
