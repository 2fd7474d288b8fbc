"""The images of a run: sized, recoloured, and shared out among regions as the config says."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from nst.config import TransferConfig
from nst.engine.images import fitted_size, match_colors, resize
from nst.engine.objective import Region
from nst.engine.parameterization import Canvas, in_grey


@dataclass(frozen=True)
class Scene:
    """The images of a run at one size of the result."""

    photo: tf.Tensor  # (1, H, W, 3)
    read: tf.Tensor  # the photo as the network reads it: in grey, where only luminance is painted
    guide: tf.Tensor  # what the run starts as, and where a larger level takes its fine detail from
    regions: tuple[Region, ...]

    def at(self, size: int) -> "Scene":
        """The same at another size."""
        scale = size / max(self.photo.shape[1:3])
        photo, read, guide = (_fitted(image, size) for image in (self.photo, self.read, self.guide))
        regions = (
            Region(
                [_fitted(style, round(scale * max(style.shape[1:3]))) for style in region.styles],
                region.blend,
                None if region.mask is None else _mask_like(region.mask, photo),
            )
            for region in self.regions
        )
        return Scene(photo, read, guide, tuple(regions))

    def canvas(self, config: TransferConfig) -> Canvas:
        """What a run with that config may make of the photo."""
        kept = self.regions[0].mask if config.mask_mode == "keep" else None
        photo = tf.clip_by_value(self.photo, 0, 1)  # as it is seen, without what resizing overshot
        return Canvas(photo, kept, keep_colors=config.colors == "luminance")


def scene_of(
    content: tf.Tensor, styles: Sequence[tf.Tensor], mask: tf.Tensor | None, config: TransferConfig
) -> Scene:
    """The scene at the result's size, of images (1, H, W, 3) and a mask (1, h, w, 1) of any size."""
    photo = _fitted(content, config.size)
    read = photo
    styles = [_fitted(style, round(config.size * config.style_scale)) for style in styles]
    if config.colors == "luminance":
        read, styles = in_grey(photo), [in_grey(style) for style in styles]
    if config.colors != "style":
        styles = [match_colors(style, read) for style in styles]
    blend = config.style_blend or (1.0,) * len(styles)
    regions: tuple[Region, ...] = (Region(styles, blend),)
    if mask is not None:
        mask = _mask_like(mask, photo)
        regions = (Region(styles, blend, mask),)
        if config.mask_mode == "styles":
            regions = Region(styles[:1], (1.0,), mask), Region(styles[1:], (1.0,), 1 - mask)
    guide = np.array(read)
    for region in regions:
        for style, weight in zip(region.styles, region.blend, strict=True):
            moved = np.array(match_colors(read, style))
            moved -= read
            moved *= weight / sum(region.blend) * (1 if region.mask is None else region.mask)
            guide += moved
    return Scene(photo, read, tf.constant(guide), regions)


def _fitted(image: tf.Tensor, long_side: int) -> tf.Tensor:
    height, width = image.shape[1:3]
    return resize(image, *fitted_size(height, width, long_side))


def _mask_like(mask: tf.Tensor, photo: tf.Tensor) -> tf.Tensor:
    # Not by Lanczos, whose ringing would paint a little of what is black.
    fitted = tf.image.resize(mask, photo.shape[1:3], antialias=True)
    return tf.clip_by_value(fitted, 0, 1)
