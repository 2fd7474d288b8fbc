"""The page's own components, and how it looks."""

import html
import math
from functools import cache
from pathlib import Path

import gradio as gr
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from nst.catalog import Example
from nst.images import ImageError, load_image, to_uint8

CSS = Path(__file__).with_name("page.css")


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
        f'<div class="status" role="status"><p>{html.escape(text)}</p>'
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
