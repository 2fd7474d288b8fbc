"""What arrives of a mask that is drawn on the photo.

Gradio's image editor keeps whatever a browser sends it in memory, under as many names and layers as it is
told, and opens pictures of any format and size. Only one layer of a drawing is needed.
"""

import hashlib
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import numpy.typing as npt
from gradio.components.base import server
from gradio.components.image_editor import AcceptBlobs, EditorData
from PIL import Image

DRAWING_SIDE = 800  # pixels, of the photo that is drawn on


def harden_editor() -> None:
    """Let every image editor take one layer, as a file, and give it: uint8 (H, W, 4), or None."""
    gr.ImageEditor.accept_blobs = server(accept_blobs)  # type: ignore[method-assign, no-untyped-call]
    gr.ImageEditor.preprocess = _drawn  # type: ignore[method-assign, assignment]


def _file(editor: gr.ImageEditor, name: str) -> Path:
    """Where the layer lies that a browser calls so; it is cleared like the runs' files."""
    return Path(editor.GRADIO_CACHE, "runs", hashlib.sha256(name.encode()).hexdigest()[:32], "layer.png")


def accept_blobs(editor: gr.ImageEditor, data: AcceptBlobs) -> None:
    """Keep the layer that a browser sends before its event; the browser knows this function by its name."""
    if data.data["type"] == "layer":
        file = _file(editor, data.data["id"])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.files[0][1])


def _drawn(editor: gr.ImageEditor, payload: EditorData | None) -> npt.NDArray[np.uint8] | None:
    if payload is None:
        return None
    sent: Any = [_file(editor, payload.id)] if payload.id else [layer.path for layer in payload.layers]
    try:
        with Image.open(sent[0], formats=["PNG"]) as picture:
            if max(picture.size) <= 2 * DRAWING_SIDE:
                return np.asarray(picture.convert("RGBA"))
    except IndexError:
        return None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise gr.Error("This is no drawing: please draw it anew.", print_exception=False) from error
    raise gr.Error("This drawing is too large: please draw it anew.", print_exception=False)
