"""How the page looks: Gradio's default theme in orange on stone, readable for everybody."""

from pathlib import Path

import gradio as gr

STATIC = Path(__file__).with_name("static")
CSS = STATIC / "page.css"

_FONT = gr.themes.LocalFont("Source Sans Pro", weights=(400, 700))  # its 600 lacks most letters
THEME = gr.themes.Default(
    primary_hue="orange", neutral_hue="stone", font=[_FONT, "system-ui", "sans-serif"]
).set(
    body_text_color_subdued="*neutral_600",
    block_info_text_color="*neutral_600",
    # White on the default orange and red is hard to read.
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_800",
    button_cancel_background_fill="#b91c1c",
    button_cancel_background_fill_hover="#991b1b",
    button_cancel_background_fill_dark="#b91c1c",
    button_cancel_background_fill_hover_dark="#991b1b",
)
