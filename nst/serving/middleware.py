"""What keeps one visitor from taking the server away from the others."""

import asyncio
import ipaddress
import math
import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import gradio as gr
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nst.serving.limits import Allowance, Limits
from nst.serving.storage import Storage

MEGABYTE = 1_000_000
MOST_BYTES = {"/gradio_api/upload": math.inf, "/gradio_api/component_server": MEGABYTE}  # a drawing is short
MOST_BYTES_ELSEWHERE = 200_000
MOST_QUERY = 1000  # bytes
UNREAD_SECONDS = 15  # after which nobody is reading what they are sent

_FREE = re.compile("/(health|metrics|((assets|static|svelte)/|gradio_api/file=).*)$")  # each request is cheap

_ODD = "This request can't be read: please send it in UTF-8."
_TOO_LONG = "This request is too long: please upload files, and send no more than where they are."
_TOO_MANY = "That is too much at once: please wait a minute, and try again."
_TOO_MUCH = "You have uploaded a lot: please go on with what is there, or come back later."
_FULL = "The server is full: please try again in a minute."


def address(request: gr.Request) -> str | None:
    """Where a visitor comes from, as the limits tell them apart."""
    return _visitor(request.client.host) if request.client else None


def _visitor(host: str) -> str:
    """The network of an IPv6 address: whoever has one there has 2**64."""
    try:
        numbered = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not isinstance(numbered, ipaddress.IPv6Address) or numbered.ipv4_mapped:
        return host
    return str(ipaddress.ip_network((numbered, 64), strict=False))


class FairShare:
    """ASGI middleware: no visitor sends, uploads, or holds open more than the limits say.

    No request but an upload is long: of `data:` addresses in place of files Gradio would hold all in memory.
    """

    def __init__(self, app: ASGIApp, limits: Limits, storage: Storage) -> None:
        self._app, self._limits, self._storage = app, limits, storage
        self._open: Counter[str | None] = Counter()
        self._requests = Allowance(limits.requests, 60)
        self._uploads = Allowance(limits.uploads * MEGABYTE, limits.kept)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, or with a sentence."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visitor = _visitor(scope["client"][0]) if scope["client"] else None
        path = scope["path"].removeprefix(scope["root_path"])
        most = MOST_BYTES.get(path.rstrip("/"), MOST_BYTES_ELSEWHERE)
        kept = path.rstrip("/") in MOST_BYTES  # what is sent becomes a file
        if refusal := await self._refusal(scope, path, visitor, most, kept):
            status, sentence = refusal
            # The page shows all of what an upload is answered.
            plain = PlainTextResponse(sentence, status) if most == math.inf else None
            await (plain or JSONResponse({"error": sentence}, status))(scope, receive, send)
            return

        async def receive_some() -> Message:
            nonlocal most
            message = await receive()
            length = len(message.get("body", b""))
            most -= length
            fair = most >= 0 and (not kept or self._uploads.take(visitor, length))
            self._storage.held += length if kept else 0
            return message if fair else {"type": "http.disconnect"}

        self._open[visitor] += 1
        try:
            await self._app(scope, receive_some, send)
        finally:
            self._open[visitor] -= 1
            if not self._open[visitor]:
                del self._open[visitor]

    async def _refusal(
        self, scope: Scope, path: str, visitor: str | None, most: float, kept: bool
    ) -> tuple[int, str] | None:
        """The status and the sentence for a request that is too much."""
        headers = Headers(scope=scope)
        length, kind = headers.get("content-length", "0"), headers.get("content-type", "")
        if not length.isdecimal() or max(int(length) / most, len(scope["query_string"]) / MOST_QUERY) > 1:
            return 413, _TOO_LONG
        if kind.startswith("multipart") and "charset" in kind.lower():  # some take minutes to decode
            return 415, _ODD
        if visitor is not None and self._open[visitor] >= self._limits.connections:
            return 429, _TOO_MANY
        if not _FREE.match(path) and not self._requests.take(visitor):
            return 429, _TOO_MANY
        if kept and not self._uploads.has(visitor, int(length)):
            return 429, _TOO_MUCH
        if kept and self._storage.is_full():
            return 507, _FULL
        return None


class Chores:
    """What is done for visitors beside painting: two things at once, and the others wait.

    Each takes a processor for up to some seconds, and up to half a gigabyte.
    """

    AT_ONCE = 2

    def __init__(self, most: int) -> None:
        """Of one visitor, `most` are done or wait."""
        self._most = most
        self._threads = ThreadPoolExecutor(self.AT_ONCE)  # a cancelled chore keeps its thread to its end
        self._asked: Counter[str | None] = Counter()

    async def do(self, request: gr.Request, work: Callable[..., Any], *arguments: Any) -> Any:
        """What `work` returns, in a thread. Raises gr.Error for a visitor who asks for too many of them."""
        visitor = address(request)
        if visitor is not None and self._asked[visitor] >= self._most:
            raise gr.Error("Please wait until what you asked for before is done.", print_exception=False)
        self._asked[visitor] += 1
        try:
            return await self.do_admitted(work, *arguments)
        finally:
            self._asked[visitor] -= 1
            if not self._asked[visitor]:
                del self._asked[visitor]

    async def do_admitted(self, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """The same, for a run or a study, whose number is limited elsewhere."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(work, *arguments, **named))


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
