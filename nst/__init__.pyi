from .config import TransferConfig as TransferConfig
from .engine.images import from_uint8 as from_uint8
from .engine.images import load_image as load_image
from .engine.images import save_image as save_image
from .engine.images import to_uint8 as to_uint8
from .engine.stylize import Progress as Progress
from .engine.stylize import stylize as stylize
from .engine.vgg import Backbone as Backbone
from .engine.weights import load_backbone as load_backbone
from .errors import ConfigError as ConfigError
from .errors import ImageError as ImageError
from .errors import TransferError as TransferError
from .errors import WeightsError as WeightsError

__version__: str
