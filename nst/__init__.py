"""Neural style transfer: a photo, painted as a painting is painted."""

from nst.backbones import Backbone, WeightsError, load_backbone
from nst.images import ImageError, from_uint8, load_image, save_image, to_uint8
from nst.transfer import ConfigError, Progress, TransferConfig, TransferError, stylize

__all__ = [
    "Backbone",
    "ConfigError",
    "ImageError",
    "Progress",
    "TransferConfig",
    "TransferError",
    "WeightsError",
    "from_uint8",
    "load_backbone",
    "load_image",
    "save_image",
    "stylize",
    "to_uint8",
]
