"""An image editor in which a mask is drawn on the photo."""

import hashlib
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.components.base import server
from gradio.components.image_editor import AcceptBlobs, EditorData
from PIL import Image

from nst.engine.images import Pixels
from nst.web.gradio_patches import without_stub_file

DRAWING_SIDE = 800  # pixels, of the photo that is drawn on

with without_stub_file():

    class MaskEditor(gr.ImageEditor):
        """Take one layer of a drawing, as a file, and give it to handlers as uint8 (H, W, 4), or None.

        Gradio's own editor keeps whatever a browser sends in memory, under as many names and layers as it is
        told, and opens pictures of any format and size.
        """

        is_template = True  # in the browser it is Gradio's editor

        @server  # type: ignore[untyped-decorator]
        def accept_blobs(self, data: AcceptBlobs) -> None:
            """Keep the layer that a browser sends before its event; it knows this function by its name."""
            if data.data["type"] == "layer":
                file = self._file(data.data["id"])
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data.files[0][1])

        def preprocess(self, payload: EditorData | None) -> Pixels | None:  # type: ignore[override]
            """Open the layer.

            Args:
                payload: what the browser sent with its event.

            Returns:
                uint8 (H, W, 4); None if nothing is drawn.

            Raises:
                gr.Error: it can't be read, or is too large.
            """
            if payload is None:
                return None
            sent: list[Any] = (
                [self._file(payload.id)] if payload.id else [layer.path for layer in payload.layers]
            )
            try:
                with Image.open(sent[0], formats=["PNG"]) as picture:
                    if max(picture.size) <= 2 * DRAWING_SIDE:
                        return np.asarray(picture.convert("RGBA"))
            except IndexError:
                return None
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                raise gr.Error(
                    "This drawing can't be read: please draw it again.", print_exception=False
                ) from error
            raise gr.Error("This drawing is too large: please draw it again.", print_exception=False)

        def _file(self, name: str) -> Path:
            """Locate a layer by the browser's name for it; it is cleared like the files of runs."""
            folder = hashlib.sha256(name.encode()).hexdigest()[:32]
            return Path(self.GRADIO_CACHE, "runs", folder, "layer.png")
