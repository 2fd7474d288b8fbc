"""Components and texts of our own, and how the page looks."""

import html
import math
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from nst.config import TransferConfig
from nst.engine.images import ImageError, load_image, to_uint8
from nst.study.datasets import Example

CSS = Path(__file__).with_name("static") / "page.css"
SCREEN_READERS_JS = (Path(__file__).with_name("static") / "screen_readers.js").read_text(encoding="utf-8")
QUIETLY: dict[str, Any] = {
    "queue": False,
    "show_progress": "hidden",
    "api_visibility": "private",
}  # light events

DEFAULTS = TransferConfig()
SETTINGS = {setting.name: setting.metadata for setting in fields(TransferConfig)}

BACKBONES = {"vgg19": "VGG-19", "vgg16": "VGG-16", "vgg16-hed": "the bundled VGG-16"}
LABELS = {
    "auto": "automatic",
    **BACKBONES,
    "lbfgs": "L-BFGS",
    "adam": "Adam",
    "content": "the photo",
    "max": "maximum",
    "avg": "average",
    "style": "the painting's",
    "luminance": "the photo's",
    "matched": "matched",
    "keep": "keeps the photo",
    "styles": "gets the second painting",
}


def pane(path: Path | None, label: str, name: str, height: int) -> gr.Image:
    """Where an image is dropped, pasted or photographed; its value is the file."""
    return gr.Image(
        None if path is None else str(path),
        type="filepath",
        label=label,
        height=height,
        format="png",
        sources=["upload", "clipboard", "webcam"],
        buttons=[],
        webcam_options=gr.WebcamOptions(mirror=False),
        elem_id=name,
    )


def slider(name: str, label: str, step: float, **other: Any) -> gr.Slider:
    """A setting with a range; `other` are arguments of gr.Slider that differ here."""
    low, high = SETTINGS[name]["range"]
    usual = {"minimum": low, "maximum": high, "value": getattr(DEFAULTS, name), "info": sentence(name)}
    return gr.Slider(**(usual | other), step=step, label=label)


def choice(name: str, label: str) -> gr.Radio:
    """A setting with choices."""
    choices = [(LABELS.get(choice, choice), choice) for choice in SETTINGS[name]["choices"]]
    return gr.Radio(choices, value=getattr(DEFAULTS, name), label=label, info=sentence(name))


def sentence(name: str) -> str:
    """What a setting does."""
    text = SETTINGS[name]["help"]
    return str(text[0].upper() + text[1:])


def log_slider(minimum: float, maximum: float, *, value: float, label: str, info: str) -> gr.HTML:
    """A slider over several decades, whose value is the number it shows, to two digits."""
    return gr.HTML(
        value,
        label=label,
        html_template=_LOG_SLIDER_HTML,
        js_on_load=_LOG_SLIDER_JS,
        elem_classes="log-slider",
        info=info,
        minimum=minimum,
        maximum=maximum,
        start=math.log10(minimum),
        end=math.log10(maximum),
    )


_LOG_SLIDER_HTML = """
<div class="head"><span>${label}</span>
<input type="number" aria-label="${label}" step="any" value="${value}"></div>
<div class="info">${info}</div>
<div class="track"><span>${minimum}</span>
<input type="range" aria-label="${label}, slider" step="0.05"
min="${start}" max="${end}" value="${Math.log10(value)}"
style="--filled: ${100 * (Math.log10(value) - start) / (end - start)}%">
<span>${maximum}</span></div>
"""
_LOG_SLIDER_JS = """
const shown = (power) => Number((10 ** power).toPrecision(2));
element.addEventListener('input', ({target}) => {
    if (target.type !== 'range') return;
    element.querySelector('[type=number]').value = shown(target.value);
    const filled = (target.value - target.min) / (target.max - target.min);
    target.style.setProperty('--filled', `${100 * filled}%`);
});
element.addEventListener('change', ({target}) => {
    props.value = target.type === 'range' ? shown(target.value) : target.valueAsNumber;
    trigger('change');
});
"""


def status(text: str, share: float | None = None) -> str:
    """One line of plain text over a bar that is filled to `share` of its length, or emptied at once."""
    filled = "width: 0; transition: none" if share is None else f"width: {100 * share:.1f}%"
    return (
        f'<div class="status"><p>{html.escape(text)}</p>'
        f'<div class="bar"><div style="{filled}"></div></div></div>'
    )


def duration(seconds: float) -> str:
    """Whole seconds under a minute and a half, minutes beyond."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def pair_thumbnail(content: Example, style: Example) -> npt.NDArray[np.uint8]:
    """The middles of the two images side by side, (150, 200, 3). Raises ImageError, which names the file."""
    seam = np.full((150, 2, 3), 255, np.uint8)
    return np.concatenate([_middle(content.path), seam, _middle(style.path)], axis=1)


@cache
def _middle(path: Path) -> npt.NDArray[np.uint8]:
    try:
        pixels = to_uint8(load_image(path, long_side=300))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    return np.asarray(ImageOps.fit(Image.fromarray(pixels), (99, 150)))
