"""Components and texts that several parts of the page share."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from jinja2 import Environment, FileSystemLoader

from nst.config import PRESETS, SETTINGS, TransferConfig
from nst.engine.weights import NETWORKS
from nst.web.theme import STATIC

Values = Mapping[Any, Any]  # what the page sent, by component
Updates = dict[Any, Any]  # what the page shows, by component

UNQUEUED: dict[str, Any] = {  # options of light events, which need no place in Gradio's queue
    "queue": False,
    "show_progress": "hidden",
    "api_visibility": "private",
}
UNQUEUED_LATEST: dict[str, Any] = {
    **UNQUEUED,
    "trigger_mode": "always_last",
}  # for those that follow a slider

DEFAULTS = TransferConfig()

LABELS = {
    "auto": "automatic",
    **{name: network.title for name, network in NETWORKS.items()},
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

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True, trim_blocks=True
)


def render(template: str, **values: Any) -> str:
    """Fill in one of the HTML templates; values are escaped."""
    return _TEMPLATES.get_template(template).render(values)


def script(name: str) -> str:
    """Read a JavaScript function or an HTML snippet from the static files."""
    return (STATIC / name).read_text(encoding="utf-8")


def chain_scripts(*names: str) -> str:
    """Combine JavaScript functions into one that calls each, and passes on the values it was given."""
    calls = " ".join(f"({script(name)})();" for name in names)
    return f"(...values) => {{ {calls} return values; }}"


def image_input(path: Path | None, label: str, name: str, height: int) -> gr.Image:
    """Make a field in which an image is dropped, pasted or photographed; its value is the file.

    Args:
        path: the image at first, if any.
        label: the text above it.
        name: the element's id.
        height: in pixels.
    """
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
    """Make a slider for a setting with a range.

    Args:
        name: the setting.
        label: the text above it.
        step: how far it moves at least.
        **other: arguments of gr.Slider that differ from what the setting says.
    """
    low, high = SETTINGS[name].metadata["range"]
    usual = {"minimum": low, "maximum": high, "value": getattr(DEFAULTS, name), "info": describe(name)}
    return gr.Slider(**(usual | other), step=step, label=label)


def choice(name: str, label: str) -> gr.Radio:
    """Make radio buttons for a setting with choices."""
    choices = [(LABELS.get(choice, choice), choice) for choice in SETTINGS[name].metadata["choices"]]
    return gr.Radio(choices, value=getattr(DEFAULTS, name), label=label, info=describe(name))


def describe(name: str) -> str:
    """Say what a setting does, beginning with a capital."""
    text: str = SETTINGS[name].metadata["help"]
    return text[0].upper() + text[1:]


def preset_choices() -> list[tuple[str, str]]:
    """List the presets as (label, name)."""
    return [(name.replace("-", " ").capitalize(), name) for name in PRESETS]


def log_slider(name: str, label: str) -> gr.HTML:
    """Make a slider over several decades; its value is the number that it shows, to two digits."""
    low, high = SETTINGS[name].metadata["range"]
    return gr.HTML(
        getattr(DEFAULTS, name),
        label=label,
        html_template=script("log_slider.html"),
        js_on_load=script("log_slider.js"),
        elem_classes="log-slider",
        info=describe(name),
        standard=getattr(DEFAULTS, name),
        minimum=low,
        maximum=high,
        start=math.log10(low),
        end=math.log10(high),
    )


def status(text: str, share: float | None = None) -> str:
    """Render the status line, over a bar that is filled to `share` of its length, or emptied at once."""
    return render("status.html", text=text, share=share)


def format_duration(seconds: float) -> str:
    """Write whole seconds under a minute and a half, minutes beyond."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def format_durations(low: float, high: float) -> str:
    """Write a duration that lies between two, in the unit of the longer one; "about", where they are near."""
    if high < 1.5 * low:
        return f"about {format_duration((low + high) / 2)}"
    unit, name = (1, "s") if high < 90 else (60, "min")
    shortest = max(1, round(low / unit))
    return f"{shortest} to {max(shortest + 1, round(high / unit))} {name}"
