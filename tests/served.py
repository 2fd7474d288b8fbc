"""A real server of the page, for as long as a test needs it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

import app
from nst.limits import Limits
from nst.line import Line


@contextmanager
def serving(limits: Limits = Limits(), **options: Any) -> Iterator[tuple[Line, gr.Blocks]]:
    """A line of its own, and the page on a free port; `options` are those of Gradio's launch()."""
    line = Line(limits=limits)
    page = app.launch(line, prevent_thread_lock=True, quiet=True, **options)
    try:
        yield line, page
    finally:
        line.close()
        page.close()
