"""What keeps the page from being used against its host or its visitors."""

import time
from collections.abc import Callable

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A page made to be embedded can't forbid that; what it serves is never another type than it says.
HEADERS = {
    "Content-Security-Policy": "object-src 'none'; base-uri 'self'; form-action 'self'",
    "Permissions-Policy": "geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


UNREAD_SECONDS = 15  # after which nobody is reading what they are sent


class SecurityHeaders:
    """ASGI middleware: HEADERS with every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, with the headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def awaiting(request: gr.Request) -> Callable[[], bool]:
    """A function that says, asked now and then, whether the visitor still reads what they are sent.

    By itself Gradio ends only generators, and these only once the connection is cut.
    """
    queue, session = request.request.app.get_blocks()._queue, request.session_hash
    read = time.monotonic()

    def awaited() -> bool:
        nonlocal read
        messages = queue.pending_messages_per_session.get(session)
        if messages is None or messages.empty():
            read = time.monotonic()
        events = (event for job in queue.active_jobs for event in job or ())
        alive = any(event.alive for event in events if event.session_hash == session)
        return alive and time.monotonic() < read + UNREAD_SECONDS

    return awaited


def fetch_nothing() -> None:
    """Refuse addresses that visitors send in place of files, which Gradio would fetch."""
    gr.processing_utils.async_ssrf_protected_download = _refuse_address


async def _refuse_address(url: str, cache_dir: str) -> str:
    raise gr.Error("Please send pictures as files: this server fetches none.", print_exception=False)
