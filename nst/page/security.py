"""What keeps the page from being used against its host or its visitors."""

import asyncio
import logging
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import gradio as gr
import gradio.queueing
import gradio.routes
import gradio.utils
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A page made to be embedded can't forbid that; what it serves is never another type than it says.
HEADERS = {
    "Content-Security-Policy": "object-src 'none'; base-uri 'self'; form-action 'self'",
    "Permissions-Policy": "geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

logger = logging.getLogger("nst")

_ERROR_PAYLOAD = gradio.utils.error_payload
MOST_BYTES = 1_000_000  # of a request that is no upload
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


class SmallRequests:
    """ASGI middleware: no request but an upload is longer than MOST_BYTES.

    Files belong into uploads, whose size Gradio limits; of `data:` addresses it would hold all in memory.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, or with 413."""
        if scope["type"] != "http" or scope["path"].endswith("/upload"):
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            sentence = "This request is too long: please upload files, and send no more than where they are."
            await JSONResponse({"error": sentence}, 413)(scope, receive, send)
            return
        left = MOST_BYTES

        async def receive_some() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            return message if left >= 0 else {"type": "http.disconnect"}

        await self._app(scope, receive_some, send)


def address(request: gr.Request) -> str | None:
    """Where a visitor comes from, as the limits tell them apart."""
    return request.client.host if request.client else None


async def stop_unread(request: gr.Request, ended: Callable[[], bool], stop: Callable[[], None]) -> None:
    """Call `stop` once nobody reads what the visitor is sent, unless it has `ended` before.

    By itself Gradio only leaves a generator where it is, and lets all else run to its end.
    """
    assert request.request is not None
    queue, session = request.request.app.get_blocks()._queue, request.session_hash
    read = time.monotonic()
    while not ended():
        await asyncio.sleep(0.2)
        messages = queue.pending_messages_per_session.get(session)
        if messages is None or messages.empty():
            read = time.monotonic()
        events = (event for job in queue.active_jobs for event in job or ())
        alive = any(event.alive for event in events if event.session_hash == session)
        if not alive or time.monotonic() > read + UNREAD_SECONDS:
            stop()
            return


def harden() -> None:
    """Replace what Gradio does with addresses in place of files, which is to fetch them, and with errors.

    Of those it would print what was sent, and tell the visitor nothing.
    """
    gr.processing_utils.async_ssrf_protected_download = _refuse_address
    logging.getLogger("uvicorn.error").addFilter(_without_words)
    for module in (gradio.utils, gradio.queueing):
        module.error_payload = _told  # type: ignore[attr-defined]
    for module in (gradio.queueing, gradio.routes):
        module.traceback = _Logged  # type: ignore[attr-defined]


def _told(error: BaseException | None, show_error: bool) -> dict[str, Any]:
    """What the visitor gets to know of an error, as Gradio's own function has it."""
    if isinstance(error, gr.Error):
        return _ERROR_PAYLOAD(error, show_error)
    return _ERROR_PAYLOAD(
        gr.Error("This did not work: please check what was sent, and try again."), show_error
    )


async def refuse_unreadable(request: Request, error: Exception) -> JSONResponse:
    """In place of an answer that repeats what was sent, or fails where JSON has no word for it."""
    return JSONResponse({"error": "This request can't be read: please send it as the API page says."}, 422)


def _without_words(record: logging.LogRecord) -> bool:
    if record.exc_info and record.exc_info[1]:
        record.msg, record.args, record.exc_info = _kind_of(record.exc_info[1]), (), None
    return True


def _kind_of(error: BaseException) -> str:
    """What kind of error it was and where, without its words, which may be the visitor's."""
    *_, last = traceback.walk_tb(error.__traceback__)
    return f"a request failed: {type(error).__name__} in {last[0].f_code.co_qualname}"


class _Logged:
    """In place of the module `traceback`."""

    @staticmethod
    def print_exc() -> None:
        """Log the error that is being handled."""
        error = sys.exception()
        assert error is not None
        logger.warning(_kind_of(error))


async def _refuse_address(url: str, cache_dir: str) -> str:
    raise gr.Error("Please send pictures as files: this server fetches none.", print_exception=False)
