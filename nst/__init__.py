"""Neural style transfer: a photo, painted as a painting is painted."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nst.config import ConfigError, TransferConfig
    from nst.engine.images import ImageError, from_uint8, load_image, save_image, to_uint8
    from nst.engine.stylize import Progress, TransferError, stylize
    from nst.engine.vgg import Backbone, WeightsError, load_backbone
else:

    def __getattr__(name):
        # TensorFlow starts with the first use of these names, not with the import of nst: its start takes
        # seconds, and the command line has to answer to Ctrl-C, and keep stderr clean, while it lasts.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from nst import config
        from nst.engine import images
        from nst.engine import stylize as transfer
        from nst.engine import vgg as backbones

        return next(vars(home)[name] for home in (backbones, config, images, transfer) if name in vars(home))


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
