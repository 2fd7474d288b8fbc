"""The settings of a run as controls: presets, sliders, more paintings, a mask, and everything else."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from nst.config import DEFAULT_PRESET, MAX_STYLES, PRESETS, TransferConfig, parse_layers
from nst.engine.images import Pixels, open_image, thumbnail
from nst.engine.weights import LAYERS
from nst.errors import ImageError
from nst.runs.record import describe_file, read_record, recorded_images, restore
from nst.serving.background import BackgroundPool
from nst.serving.limits import LIMITED, Limits
from nst.web.components import (
    DEFAULTS,
    UNQUEUED,
    Updates,
    Values,
    choice,
    describe,
    image_input,
    log_slider,
    preset_choices,
    slider,
)
from nst.web.mask_editor import DRAWING_SIDE, MaskEditor
from nst.web.uploads import uploaded_file
from nst.web.visitor_runs import visitor


class SettingsPanel:
    """Lay out the controls, and translate between their values and settings.

    Args:
        limits: how far the sliders go.
        background: where pictures are read.
    """

    def __init__(self, limits: Limits, background: BackgroundPool) -> None:
        self._limits, self._background = limits, background
        with gr.Group():
            self.preset = gr.Dropdown(
                preset_choices(),
                value=DEFAULT_PRESET,
                label="Preset",
                info="A starting point for your own settings",
            )
            self.controls: dict[str, Any] = {  # by the name of the setting
                "content_weight": slider("content_weight", "Content weight α", 0.1),
                "style_weight": log_slider("style_weight", "Style weight β"),
                "iterations": slider("iterations", "Iterations", 1, maximum=limits.iterations),
                "size": slider("size", "Size", 32, maximum=limits.size),
            }
        with gr.Accordion("Strokes and colours", open=False):
            self.controls |= {
                "style_scale": slider("style_scale", "Style scale", 0.05),
                "colors": choice("colors", "Colours"),
            }
        with gr.Accordion("More paintings", open=False):
            gr.Markdown("Up to three more, blended with the first. A painting of weight 2 counts twice.")
            with gr.Row(elem_classes="small-panes"):
                self.paintings = [
                    image_input(None, f"Painting {number}", f"style{number}", height=130)
                    for number in range(2, MAX_STYLES + 1)
                ]
            with gr.Row():
                self.weights = [
                    gr.Slider(0.1, 4, 1, step=0.1, label=f"Weight {number}", min_width=180)
                    for number in range(1, MAX_STYLES + 1)
                ]
        with gr.Accordion("Paint only a part", open=False):
            self._lay_out_mask()
        with gr.Accordion("Advanced", open=False):
            self.controls |= {
                "content_layers": _layers("content_layers", "Content layers"),
                "style_layers": _layers("style_layers", "Style layers"),
                "backbone": choice("backbone", "Network"),
                "precision": choice("precision", "Precision"),
                "optimizer": choice("optimizer", "Optimiser"),
                "init": choice("init", "Start"),
                "pooling": choice("pooling", "Pooling"),
                "tv_weight": slider("tv_weight", "Smoothing (TV)", 0.1),
                "seed": gr.Number(DEFAULTS.seed, label="Seed", info=describe("seed"), precision=0),
            }
        with gr.Accordion("Settings of an earlier picture", open=False):
            self.earlier = gr.File(
                label="A PNG that was saved here", file_types=[".png"], height=110, elem_id="earlier"
            )

    def _lay_out_mask(self) -> None:
        gr.Markdown(
            "White areas of the mask are painted, grey ones in part. Draw it on the photo, or upload one."
        )
        self.draw = gr.Button("Draw on the photo", size="sm")
        self.drawing = MaskEditor(
            visible=False,
            sources=[],
            transforms=[],
            layers=False,
            buttons=[],
            brush=gr.Brush(default_size=40, colors=["#ffffff", "#808080", "#000000"], color_mode="fixed"),
            label="Areas to paint, in white",
            height=420,
            elem_id="drawing",
        )
        self.mask = image_input(None, "Mask", "mask", height=160)
        self.controls["mask_mode"] = choice("mask_mode", "Black areas")

    @property
    def inputs(self) -> set[Any]:
        """List the components whose values a run needs (see `read`)."""
        return {self.mask, *self.paintings, *self.weights, *self.controls.values()}

    @property
    def outputs(self) -> list[Any]:
        """List the components that `show` updates."""
        return [*self.controls.values(), *self.weights]

    def read(self, values: Values) -> dict[str, Any]:
        """Read the settings of a run.

        Args:
            values: of the components in `inputs`.

        Raises:
            ConfigError: layers whose weights can't be read.
        """
        settings = {name: values[control] for name, control in self.controls.items()}
        for name in ("content_layers", "style_layers"):
            settings[name] = parse_layers(settings[name] or [])
        given = [True, *(values[painting] is not None for painting in self.paintings)]
        weights = [values[weight] for weight, there in zip(self.weights, given, strict=True) if there]
        # Equal weights are the equal shares that a single painting has as well.
        settings["style_blend"] = [] if weights.count(weights[0]) == len(weights) else weights
        return settings

    def read_paintings(self, values: Values) -> list[Any]:
        """List the further paintings that there are."""
        return [values[painting] for painting in self.paintings if values[painting] is not None]

    def connect(self, content: gr.Image, style: gr.Image) -> None:
        """Connect the controls to their handlers.

        Args:
            content: the photo to draw on.
            style: the painting.
        """
        self.preset.input(self._choose_preset, self.preset, self.outputs, **UNQUEUED)
        # In Gradio's queue, whose messages reach the page; and without Gradio opening the files itself.
        queued = {**UNQUEUED, "queue": True, "concurrency_limit": None, "preprocess": False}
        images = [content, style, *self.paintings, self.mask]
        self.earlier.upload(self._restore, [self.earlier, *images], self.outputs, **queued)
        self.draw.click(self._open_editor, content, self.drawing, **queued)
        self.drawing.input(self._take_mask, self.drawing, self.mask, trigger_mode="always_last", **UNQUEUED)
        content.change(
            lambda: (None, gr.ImageEditor(None, visible=False)),  # the mask was for another photo
            outputs=[self.mask, self.drawing],
            **UNQUEUED,
        )

    def _choose_preset(self, preset: str) -> Updates:
        """Show the settings that any preset changes; all others stay as they are."""
        about = {
            name
            for name in self.controls
            if any(getattr(other, name) != getattr(DEFAULTS, name) for other in PRESETS.values())
        }
        return {self.controls[name]: self._shown(PRESETS[preset], name) for name in about}

    async def _restore(self, request: gr.Request, earlier: Any, *images: Any) -> Updates:
        file = uploaded_file(earlier, "picture")
        here = []
        for image in images:
            with suppress(ImageError):
                here.append(uploaded_file(image, "image"))
        config, note, lacking = await self._background.run_for(visitor(request), _restore_beside, file, here)
        lowered = [
            f"{name} (at most {getattr(self._limits, name)} here)"
            for name in LIMITED
            if getattr(config, name) > getattr(self._limits, name)
        ]
        exceptions = f", except {' and '.join(lowered)}" if lowered else ""
        text = f"All settings were restored{exceptions}. {note}".rstrip()
        if lacking:
            text += f" Its images are not all here: please add its {_enumerate(lacking)}."
        gr.Info(text)
        return self.show(config)

    async def _open_editor(self, request: gr.Request, photo: Any) -> Any:
        path = uploaded_file(photo, "photo")
        pixels = await self._background.run_for(visitor(request), _photo_to_draw_on, path)
        return gr.ImageEditor({"background": pixels, "layers": [], "composite": None}, visible=True)

    async def _take_mask(self, request: gr.Request, strokes: Pixels | None) -> Any:
        return await self._background.run_for(visitor(request), _mask_from, strokes)

    def show(self, config: TransferConfig) -> Updates:
        """Make the updates that show every setting of a run.

        Args:
            config: the settings; those above a limit of the page are lowered to it.
        """
        weights = [*config.style_blend, *[1.0] * MAX_STYLES][:MAX_STYLES]
        controls = {control: self._shown(config, name) for name, control in self.controls.items()}
        return controls | dict(zip(self.weights, weights, strict=True))

    def _shown(self, config: TransferConfig, name: str) -> Any:
        """Return a setting in the form that its control has it."""
        value = getattr(config, name)
        if name.endswith("_layers"):
            explicit = isinstance(value, Mapping)
            return [f"{layer}:{value[layer]:g}" for layer in value] if explicit else list(value)
        return min(value, getattr(self._limits, name)) if name in LIMITED else value


def _restore_beside(picture: Path, here: list[Path]) -> tuple[TransferConfig, str, list[str]]:
    """Restore the settings of a picture; also name the images of its run that are not among those here."""
    record = read_record(picture)
    hashes = set()
    for path in here:
        with suppress(ImageError), open_image(path) as file:  # one that is no longer kept is not here
            hashes.add(describe_file(file)["sha256"])
    return *restore(record), [
        f"{image.role} ({_plain(image.name)})"
        for image in recorded_images(record)
        if image.sha256 not in hashes
    ]


def _plain(name: str) -> str:
    """Shorten a file's name, and replace what a browser might take for markup."""
    return "".join(letter if letter.isalnum() or letter in " ._-" else "_" for letter in name[:60])


def _enumerate(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _photo_to_draw_on(photo: Path) -> Pixels:
    try:
        return thumbnail(photo, DRAWING_SIDE)
    except ImageError as error:
        raise ImageError(f"Photo: {error}") from error


def _mask_from(strokes: Pixels | None) -> Any:
    """Lay the strokes (H, W, 4) over black; return None if nothing is drawn."""
    if strokes is None or not strokes[..., 3].any():
        return None
    height, width, _ = strokes.shape
    mask = Image.new("RGBA", (width, height), "black")
    mask.alpha_composite(Image.fromarray(strokes))
    return gr.Image(np.asarray(mask.convert("L")))


def _layers(name: str, label: str) -> gr.Dropdown:
    return gr.Dropdown(
        list(LAYERS),
        value=list(getattr(DEFAULTS, name)),
        multiselect=True,
        allow_custom_value=True,
        label=label,
        info=f"{describe(name)}. Type block1_conv1:0.5 to give each an explicit weight",
    )
