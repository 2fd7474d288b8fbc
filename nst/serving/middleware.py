"""ASGI middleware: the requests that a server of runs answers, and how much of them it accepts."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, MutableHeaders
from starlette.formparsers import MultiPartException
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nst.serving.rate_limit import Rate, RateLimiter, Share, visitor_of
from nst.serving.storage import Storage

# The page may be embedded elsewhere, so framing stays allowed; browsers must not guess content types.
HEADERS = {
    "Content-Security-Policy": "object-src 'none'; base-uri 'self'; form-action 'self'",
    "Permissions-Policy": "geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
MOST_BYTES = 200_000  # of a request that uploads nothing
MOST_QUERY = 1000  # bytes
MOST_FILES = 150  # of one form; a study may have as many
MOST_FIELD = 10_000  # bytes of a form's field

UNREADABLE = "This request can't be read: please send it as the API page says."
_ODD = "This request can't be read: please send it in UTF-8."
_TOO_LONG = "This request is too long: please upload the files first, and send only their paths."
_TOO_MANY = "That is too much at once: please wait a minute, and try again."
_TOO_MUCH = (
    "You have reached the upload limit: please use the files that you have uploaded, or come back later."
)
_TOO_MANY_PARTS = "These are too many files or fields at once: please send fewer."
_FULL = "The server's storage is full: please try again in a minute."


def path_of(scope: Scope) -> str:
    """Return the path of a request below the root that the server is mounted at."""
    path: str = scope["path"]
    return path.removeprefix(scope["root_path"])


class SecurityHeaders:
    """Send HEADERS with every answer."""

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
    """Answer 404 to every path that `known` does not match as a whole."""

    def __init__(self, app: ASGIApp, known: re.Pattern[str]) -> None:
        self._app, self._known = app, known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, or with 404."""
        if scope["type"] == "lifespan" or self._known.fullmatch(path_of(scope)):
            await self._app(scope, receive, send)
        else:
            answer = JSONResponse({"error": "There is nothing here: please go to the page."}, 404)
            await answer(scope, receive, send)


@dataclass(frozen=True)
class Uploads:
    """Describe which requests may be long, because their bodies become files.

    Args:
        most: the most bytes of such a request, by its path; math.inf for a form of files.
    """

    most: Mapping[str, float]

    def limit(self, path: str) -> float:
        """Return the most bytes of a request to `path`."""
        return self.most.get(path.rstrip("/"), MOST_BYTES)

    def __contains__(self, path: str) -> bool:
        return path.rstrip("/") in self.most


class FairShare:
    """Keep every visitor within their limits of requests, uploads and open connections.

    Args:
        rate_limiter: counts requests, uploads and open connections.
        storage: is told of uploads, and refuses them where it is full.
        uploads: the requests that may be long.
        free: paths (matched at their beginning) whose requests are cheap and not counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        rate_limiter: RateLimiter,
        storage: Storage,
        uploads: Uploads,
        free: re.Pattern[str],
    ) -> None:
        self._app, self._rate_limiter, self._storage = app, rate_limiter, storage
        self._uploads, self._free = uploads, free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, or with a sentence."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visitor = visitor_of(scope["client"][0]) if scope["client"] else None
        path = path_of(scope)
        left, becomes_file = self._uploads.limit(path), path in self._uploads
        with self._rate_limiter.holding(Share.CONNECTIONS, visitor) as connected:
            refusal = self._refusal(scope, path, visitor, connected)
            if refusal:
                status, sentence = refusal
                # The page shows the whole answer to an upload, so that is plain text.
                plain = PlainTextResponse(sentence, status) if left == math.inf else None
                await (plain or JSONResponse({"error": sentence}, status))(scope, receive, send)
                return

            async def receive_some() -> Message:
                nonlocal left
                message = await receive()
                length = len(message.get("body", b""))
                left -= length
                fair = left >= 0
                if becomes_file:
                    fair = fair and self._rate_limiter.use(Rate.UPLOADS, visitor, length)
                    self._storage.held += length
                return message if fair else {"type": "http.disconnect"}

            await self._app(scope, receive_some, send)

    def _refusal(
        self, scope: Scope, path: str, visitor: str | None, connected: bool
    ) -> tuple[int, str] | None:
        """Return the status and the sentence for a request that is too much, or None."""
        headers = Headers(scope=scope)
        length, kind = headers.get("content-length", "0"), headers.get("content-type", "")
        if not length.isdecimal() or int(length) > self._uploads.limit(path):
            return 413, _TOO_LONG
        if len(scope["query_string"]) > MOST_QUERY:
            return 413, _TOO_LONG
        if kind.startswith("multipart") and "charset" in kind.lower():  # some take minutes to decode
            return 415, _ODD
        if not connected:
            return 429, _TOO_MANY
        if not self._free.match(path) and not self._rate_limiter.use(Rate.REQUESTS, visitor):
            return 429, _TOO_MANY
        if path in self._uploads and not self._rate_limiter.allows(Rate.UPLOADS, visitor, int(length)):
            return 429, _TOO_MUCH
        if path in self._uploads and self._storage.is_full():
            return 507, _FULL
        return None


class FormLimits:
    """Refuse a form of more than MOST_FILES files, or with long fields.

    It is answered as a form that can't be read is: the app's parser gets starlette's MultiPartException, and
    where the app has none for forms, the answer is 400. Without this, the app's parser would have opened all
    the files by then, or would hold the whole field in memory.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does; it gets to read no more of a form than it may have."""
        kind = Headers(scope=scope).get("content-type", "") if scope["type"] == "http" else ""
        if not kind.startswith("multipart"):
            await self._app(scope, receive, send)
            return
        boundary = parse_options_header(kind)[1].get(b"boundary")
        counter = _FormCounter(boundary) if boundary else None

        has_answered = False

        async def receive_counted() -> Message:
            message = await receive()
            if counter:
                counter.count(message.get("body", b""))
            return message

        async def send_noted(message: Message) -> None:
            nonlocal has_answered
            has_answered = True
            await send(message)

        try:
            await self._app(scope, receive_counted, send_noted)
        except MultiPartException as error:
            if has_answered:
                raise
            await JSONResponse({"error": error.message}, 400)(scope, receive, send)


class _FormCounter:
    """Read a form along with the app, and count its files and the bytes of its fields."""

    def __init__(self, boundary: bytes) -> None:
        self._files, self._field, self._is_file = 0, 0, False
        self._name, self._value = b"", b""
        self._parser: MultipartParser | None = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_name,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_part_data": self._add_data,
            },
        )

    def count(self, data: bytes) -> None:
        if self._parser is None:
            return
        try:
            self._parser.write(data)
        except MultipartParseError:
            self._parser = None  # the app's parser is the same, and says so

    def _begin_part(self) -> None:
        self._field, self._is_file = 0, False

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]  # of a few kilobytes at most, as the parser sees to

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._is_file = b"filename" in parse_options_header(self._value)[1]
            self._files += self._is_file
            if self._files > MOST_FILES:
                raise MultiPartException(_TOO_MANY_PARTS)
        self._name, self._value = b"", b""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self._field += end - start
            if self._field > MOST_FIELD:
                raise MultiPartException(_TOO_MANY_PARTS)


class SessionNames:
    """Refuse a session that is not named as browsers name it, because the name is kept in many places."""

    def __init__(self, app: ASGIApp, uploads: Uploads) -> None:
        self._app, self._uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, or with 422 where the body's "session_hash" is no such name."""
        if scope["type"] != "http" or scope["method"] != "POST" or path_of(scope) in self._uploads:
            await self._app(scope, receive, send)
            return
        body = b""
        while (message := await receive())["type"] == "http.request":  # of MOST_BYTES at most
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        if not _named_well(body):
            await JSONResponse({"error": UNREADABLE}, 422)(scope, receive, send)
            return
        if message["type"] == "http.request":
            message["body"] = body
        messages = [message]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, replay, send)


def _named_well(body: bytes) -> bool:
    """Check that the session in a JSON body, if there is one, is letters, digits, _ and -."""
    try:
        session = json.loads(body)["session_hash"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return True  # there is none; what else may be wrong, the app says
    return session is None or (isinstance(session, str) and re.fullmatch(r"[\w-]{1,64}", session) is not None)
