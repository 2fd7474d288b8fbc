"""What keeps the page from telling or fetching what it should not."""

import logging
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

import gradio as gr
import gradio.queueing
import gradio.routes
import gradio.utils
from gradio.queueing import Queue
from gradio.route_utils import GradioMultiPartParser
from gradio.state_holder import SessionState
from starlette.datastructures import MutableHeaders
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nst.web.mask_editor import harden_editor

# A page made to be embedded can't forbid that; what it serves is never another type than it says.
HEADERS = {
    "Content-Security-Policy": "object-src 'none'; base-uri 'self'; form-action 'self'",
    "Permissions-Policy": "geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

# All that the page and its API need. Gradio answers to much else: it stores states behind links, converts
# recordings, keeps histories elsewhere.
PATHS = re.compile(
    "/(|config/?|theme.css|favicon.ico|manifest.json|robots.txt|openapi.json|log(in|out)/?|health|metrics"
    "|(assets|static|svelte)/.*"
    "|gradio_api/(info/?|openapi.json|upload|upload_progress|queue/(join|data)|cancel|reset/?|component_server/?"
    "|(login_check|token|user|app_id)/?|startup-events|file=.*|(run|call|api|heartbeat)/.*))"
)

MOST_FILES = 150  # of one request; a study may have as many
MOST_FIELD = 10_000  # bytes

_UNREADABLE = "This request can't be read: please send it as the API page says."

logger = logging.getLogger("nst")

_ERROR_PAYLOAD = gradio.utils.error_payload


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


class KnownPaths:
    """ASGI middleware: 404 for all that is not among PATHS."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, or with 404."""
        if scope["type"] == "lifespan" or PATHS.fullmatch(scope["path"].removeprefix(scope["root_path"])):
            await self._app(scope, receive, send)
        else:
            await JSONResponse({"error": "There is nothing here: please go to the page."}, 404)(
                scope, receive, send
            )


def harden() -> None:
    """Replace what Gradio does with what visitors send: addresses in place of files, forms, names, drawings.

    It would fetch or keep them. Of errors it would print what was sent, and tell the visitor nothing.
    """
    harden_editor()
    gr.processing_utils.async_ssrf_protected_download = _refuse_address
    logging.getLogger("uvicorn.error").addFilter(_without_words)
    SessionState._update_value_in_config = lambda *_: None  # type: ignore[method-assign]  # for links, closed
    Queue.push = _push  # type: ignore[assignment, method-assign]
    for name, step in _STEPS.items():
        setattr(GradioMultiPartParser, name, _bounded(step))
    for module in (gradio.utils, gradio.queueing):
        module.error_payload = _told  # type: ignore[attr-defined]
    for module in (gradio.queueing, gradio.routes):
        module.traceback = _Logged  # type: ignore[attr-defined]


_PUSH = Queue.push
_STEPS = {name: getattr(GradioMultiPartParser, name) for name in ("on_headers_finished", "on_part_data")}


async def _push(queue: Queue, body: Any, request: Any, username: str | None) -> Any:
    """As Gradio's own, for sessions that are named as browsers do: the name is kept in many places."""
    if body.session_hash is None or re.fullmatch(r"[\w-]{1,64}", body.session_hash):
        return await _PUSH(queue, body, request, username)
    return False, _UNREADABLE, "error"


def _bounded(step: Callable[..., None]) -> Callable[..., None]:
    """That step of reading a form, with few files, which are open at once, and short fields, in memory."""

    def bounded(parser: Any, *arguments: Any) -> None:
        step(parser, *arguments)
        part = parser._current_part
        if parser._current_files > MOST_FILES or (part.file is None and len(part.data) > MOST_FIELD):
            raise MultiPartException("These are too many files or fields at once: please send fewer.")

    return bounded


def _told(error: BaseException | None, show_error: bool) -> dict[str, Any]:
    """What the visitor gets to know of an error, as Gradio's own function has it."""
    if isinstance(error, gr.Error) and not error.print_exception:  # Gradio's own repeat what was sent
        return _ERROR_PAYLOAD(error, show_error)
    return _ERROR_PAYLOAD(
        gr.Error("This did not work: please check what was sent, and try again."), show_error
    )


async def refuse_unreadable(request: Request, error: Exception) -> JSONResponse:
    """In place of an answer that repeats what was sent, or fails where JSON has no word for it."""
    return JSONResponse({"error": _UNREADABLE}, 422)


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
