"""Neural style transfer: repaint a photo in the style of a painting.

`__init__.pyi` lists the public names. Each is imported when it is first used (SPEC 1), because TensorFlow
takes seconds to start, and `import nst.config` and the command line's `--help` do not need it.
"""

import lazy_loader

__version__ = "1.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
