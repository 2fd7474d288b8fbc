"""The settings of a run as controls: presets, sliders, more paintings, a mask, and everything else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import numpy.typing as npt
from PIL import Image

from nst.config import MAX_STYLES, TransferConfig, parse_layers
from nst.engine.images import ImageError, load_image, to_uint8
from nst.engine.vgg import LAYERS
from nst.presets import PRESETS
from nst.runs.record import RecordError, restored_config
from nst.serving.limits import LIMITED, Limits
from nst.serving.middleware import Chores
from nst.serving.storage import uploaded
from nst.web.components import DEFAULTS, QUIETLY, SETTINGS, choice, log_slider, pane, sentence, slider
from nst.web.mask_editor import DRAWING_SIDE


class Settings:
    """The controls, in the order of `inputs`, and the way from their values to settings and back."""

    def __init__(self, limits: Limits, chores: Chores) -> None:
        self._limits, self._chores = limits, chores
        with gr.Group():
            self.preset = gr.Dropdown(
                [(name.replace("-", " ").capitalize(), name) for name in PRESETS],
                value=next(iter(PRESETS)),
                label="Preset",
                info="A starting point, to go on from",
            )
            low, high = SETTINGS["style_weight"]["range"]
            self.controls = {
                "content_weight": slider("content_weight", "Content weight α", 0.1),
                "style_weight": log_slider(
                    low,
                    high,
                    value=DEFAULTS.style_weight,
                    label="Style weight β",
                    info=sentence("style_weight"),
                ),
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
                    pane(None, f"Painting {number}", f"style{number}", height=130)
                    for number in range(2, MAX_STYLES + 1)
                ]
            with gr.Row():
                self.weights = [
                    gr.Slider(0.1, 4, 1, step=0.1, label=f"Weight {number}", min_width=180)
                    for number in range(1, MAX_STYLES + 1)
                ]
        with gr.Accordion("Paint only a part", open=False):
            self._regions()
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
                "seed": gr.Number(DEFAULTS.seed, label="Seed", info=sentence("seed"), precision=0),
            }
        with gr.Accordion("Settings of an earlier picture", open=False):
            self.earlier = gr.File(
                label="A PNG that was saved here", file_types=[".png"], height=110, elem_id="earlier"
            )

    def _regions(self) -> None:
        gr.Markdown("White of the mask is painted; grey, in part. Draw it on the photo, or upload one.")
        self.draw = gr.Button("Draw on the photo", size="sm")
        brush = gr.Brush(default_size=40, colors=["#ffffff", "#808080", "#000000"], color_mode="fixed")
        self.drawing = gr.ImageEditor(
            visible=False,
            sources=[],
            transforms=[],
            layers=False,
            buttons=[],
            brush=brush,
            label="What is to be painted, in white",
            height=420,
            elem_id="drawing",
        )
        self.mask = pane(None, "Mask", "mask", height=160)
        self.controls["mask_mode"] = choice("mask_mode", "What is black")

    @property
    def inputs(self) -> list[gr.components.Component]:
        """What a run is given beside the photo and the first painting: see read()."""
        return [self.mask, *self.paintings, *self.weights, *self.controls.values()]

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What restored() updates."""
        return [*self.controls.values(), *self.weights]

    def read(self, values: Sequence[Any]) -> tuple[Any, list[Any], dict[str, Any]]:
        """The mask, the further paintings, and the config's settings, of the values of `inputs`.

        Raises ConfigError for layers whose weights can't be read.
        """
        mask, *values = values
        paintings, weights = values[: MAX_STYLES - 1], values[MAX_STYLES - 1 : 2 * MAX_STYLES - 1]
        settings = dict(zip(self.controls, values[2 * MAX_STYLES - 1 :], strict=True))
        for name in ("content_layers", "style_layers"):
            settings[name] = parse_layers(settings[name] or [])
        given = [True, *(painting is not None for painting in paintings)]
        blend = [weight for weight, there in zip(weights, given, strict=True) if there]
        settings["style_blend"] = [] if blend.count(blend[0]) == len(blend) else blend
        return mask, [painting for painting in paintings if painting is not None], settings

    def connect(self, content: gr.Image) -> None:
        """Let presets, earlier pictures and the drawing act."""
        self.preset.input(self._choose, self.preset, list(self.controls.values()), **QUIETLY)
        # In the queue, whose messages reach the page; the files as they came, which Gradio would open itself.
        aloud = {**QUIETLY, "queue": True, "concurrency_limit": None, "preprocess": False}
        self.earlier.upload(self._restore, self.earlier, self.outputs, **aloud)
        self.draw.click(self._edit, content, self.drawing, **aloud)
        self.drawing.input(self._mask, self.drawing, self.mask, trigger_mode="always_last", **QUIETLY)
        content.change(
            lambda: (None, gr.ImageEditor(None, visible=False)),  # the mask was for another photo
            outputs=[self.mask, self.drawing],
            **QUIETLY,
        )

    def _choose(self, preset: str) -> list[Any]:
        """What the presets are about; all else stays as it is."""
        config = PRESETS[preset]
        about = {
            name
            for name in self.controls
            if any(getattr(other, name) != getattr(DEFAULTS, name) for other in PRESETS.values())
        }
        return [self._shown(config, name) if name in about else gr.skip() for name in self.controls]

    async def _restore(self, request: gr.Request, file: Any) -> dict[Any, Any]:
        try:
            config = await self._chores.do(request, restored_config, uploaded(file, "picture"))
        except (RecordError, ImageError) as error:
            raise gr.Error(str(error), print_exception=False) from error
        lowered = [
            f"{name}: here {getattr(self._limits, name)} is the most"
            for name in LIMITED
            if getattr(config, name) > getattr(self._limits, name)
        ]
        but = f", but for {' and '.join(lowered)}" if lowered else ""
        gr.Info(f"Every setting is as it was for that picture{but}.")
        return self.restored(config)

    async def _edit(self, request: gr.Request, photo: Any) -> Any:
        path = uploaded(photo, "photo")
        try:
            pixels = await self._chores.do(request, _to_draw_on, path)
        except ImageError as error:
            raise gr.Error(f"Photo: {error}", print_exception=False) from error
        return gr.ImageEditor({"background": pixels, "layers": [], "composite": None}, visible=True)

    async def _mask(self, request: gr.Request, strokes: npt.NDArray[np.uint8] | None) -> Any:
        return await self._chores.do(request, _drawn_mask, strokes)

    def restored(self, config: TransferConfig) -> dict[Any, Any]:
        """The updates that show every setting as it is in `config`."""
        weights = [*config.style_blend, *[1.0] * MAX_STYLES][:MAX_STYLES]
        controls = {control: self._shown(config, name) for name, control in self.controls.items()}
        return controls | dict(zip(self.weights, weights, strict=True))

    def _shown(self, config: TransferConfig, name: str) -> Any:
        """A setting as its control has it."""
        value = getattr(config, name)
        if name.endswith("_layers"):
            explicit = isinstance(value, dict)
            return [f"{layer}:{value[layer]:g}" for layer in value] if explicit else list(value)
        return min(value, getattr(self._limits, name)) if name in LIMITED else value


def _to_draw_on(photo: Path) -> npt.NDArray[np.uint8]:
    return to_uint8(load_image(photo, long_side=DRAWING_SIDE, enlarge=False))


def _drawn_mask(strokes: npt.NDArray[np.uint8] | None) -> Any:
    """The strokes over black; nothing drawn is no mask."""
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
        info=f"{sentence(name)}. Type block1_conv1:0.5 to give each an explicit weight",
    )
