"""All that this page needs of Gradio beyond its documented interface, used or at least checked in one place.

Each function here says why it is needed and names what it relies on; `check_gradio` fails loudly, before the
page is served, where Gradio no longer has it. So it does for the methods that `GuardedBlocks` and
`MaskEditor` override: where nothing calls them any more, they would protect nobody.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
import gradio.component_meta
import gradio.queueing
from gradio.state_holder import SessionState

_OVERRIDDEN = {gr.Blocks: ("process_api", "preprocess_data"), gr.ImageEditor: ("accept_blobs", "preprocess")}
_QUEUE_NAMES = ("pending_messages_per_session", "active_jobs")
_EVENT_NAMES = ("alive", "session_hash")


def check_gradio(page: gr.Blocks) -> None:
    """Check that Gradio has every name that the page relies on.

    Raises:
        RuntimeError: one is missing in this version of Gradio.
    """
    for owner, names in _OVERRIDDEN.items():
        for name in names:
            _require(owner, name, f"gr.{owner.__name__}")
    _require(SessionState(page), "config_values", "gradio.state_holder.SessionState")
    _require(page, "temp_file_sets", "gr.Blocks")
    _require(next(iter(page.blocks.values())), "keep_in_cache", "gr.Block")
    queue = _require(page, "_queue", "gr.Blocks")
    for name in _QUEUE_NAMES:
        _require(queue, name, "gradio.queueing.Queue")
    event = gradio.queueing.Event("session", next(iter(page.fns.values())), None, None)  # type: ignore[arg-type]
    for name in _EVENT_NAMES:
        _require(event, name, "gradio.queueing.Event")


def _require(owner: Any, name: str, label: str) -> Any:
    if not hasattr(owner, name):
        raise RuntimeError(
            f"Gradio {gr.__version__} has no {label}.{name}, which nst/web/gradio_patches.py relies on: "
            "please install the version in constraints.txt, or adapt that file."
        )
    return getattr(owner, name)


@contextmanager
def without_stub_file() -> Iterator[None]:
    """Define a component without leaving a file: for each subclass Gradio writes a .pyi beside its source.

    Relies on `gradio.component_meta.create_or_modify_pyi`, which the metaclass of components calls.
    """
    module: Any = gradio.component_meta
    original = _require(module, "create_or_modify_pyi", "component_meta")
    module.create_or_modify_pyi = lambda *_: None
    try:
        yield
    finally:
        module.create_or_modify_pyi = original


def is_followed(request: gr.Request) -> tuple[bool, bool]:
    """Return whether the visitor's event is still wanted, and whether they have read all its messages.

    Gradio tells a handler neither: it leaves a generator where it is, and lets all else run to its end. This
    relies on `Blocks._queue`, `Queue.pending_messages_per_session`, `Queue.active_jobs`, `Event.alive` and
    `Event.session_hash`.

    Returns:
        Whether an event of the session is alive, and whether the visitor has read all messages so far.
    """
    assert request.request is not None
    queue = request.request.app.get_blocks()._queue
    messages: asyncio.Queue[Any] | None = queue.pending_messages_per_session.get(request.session_hash)
    events = (event for job in queue.active_jobs for event in job or ())
    alive = any(event.alive for event in events if event.session_hash == request.session_hash)
    return alive, messages is None or messages.empty()
