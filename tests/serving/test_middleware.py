"""The middleware on its own, around an app that says what it was given."""

import json
import re

import httpx
import pytest
from loops import run_in_loop
from starlette.applications import Starlette
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from nst.serving.limits import Limits
from nst.serving.middleware import (
    HEADERS,
    MOST_BYTES,
    MOST_FIELD,
    MOST_FILES,
    FairShare,
    FormLimits,
    KnownPaths,
    SecurityHeaders,
    SessionNames,
    Uploads,
)
from nst.serving.rate_limit import RateLimiter
from nst.serving.storage import Storage

pytestmark = pytest.mark.quick

UPLOADS = Uploads({"/upload": float("inf"), "/drawing": 1000})
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


async def tell_length(request: Request) -> JSONResponse:
    try:
        return JSONResponse(len(await request.body()))
    except MultiPartException as error:
        return JSONResponse({"error": error.message}, 400)


def ask(layer, *, path="/", method="POST", **request) -> httpx.Response:
    """Send a request through one layer of middleware."""
    app = layer(Starlette(routes=[Route("/{path:path}", tell_length, methods=["GET", "POST"])]))

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.request(method, path, **request)

    return run_in_loop(send())


def fair_share(tmp_path, **limits):
    limiter = RateLimiter(Limits(**limits))
    storage = Storage(tmp_path, kept=60, most=1)
    free = re.compile("/free")
    return lambda app: FairShare(app, limiter, storage, UPLOADS, free)


def part(name: str, length: int, more: str = "") -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + bytes(length) + b"\r\n"


def test_every_answer_has_the_headers():
    answer = ask(SecurityHeaders)
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_other_paths_are_not_found():
    def layer(app):
        return KnownPaths(app, re.compile("/|/known"))

    assert ask(layer, path="/known").status_code == 200
    assert ask(layer, path="/known/more").status_code == 404


def test_only_uploads_may_be_long(tmp_path):
    layer = fair_share(tmp_path)
    assert ask(layer, path="/call", content=bytes(MOST_BYTES)).json() == MOST_BYTES
    assert ask(layer, path="/call", content=bytes(MOST_BYTES + 1)).status_code == 413
    assert ask(layer, path="/drawing", content=bytes(1001)).status_code == 413
    assert ask(layer, path="/upload", content=bytes(MOST_BYTES + 1)).json() == MOST_BYTES + 1
    assert ask(layer, path="/call", params={"q": "x" * 2000}).status_code == 413


def test_requests_are_counted_unless_they_are_cheap(tmp_path):
    layer = fair_share(tmp_path, requests=2)
    assert [ask(layer, path="/call").status_code for _ in range(3)] == [200, 200, 429]
    assert ask(layer, path="/free/file").status_code == 200


def test_a_full_storage_takes_no_more(tmp_path):
    layer = fair_share(tmp_path)
    assert ask(layer, path="/upload", content=bytes(1_000_000)).status_code == 200
    full = ask(layer, path="/upload", content=b"more")
    assert (full.status_code, full.text) == (
        507,
        "The server's storage is full: please try again in a minute.",
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (part("files", 9, '; filename="a.png"') * MOST_FILES, 200),
        (part("files", 9, '; filename="a.png"') * (MOST_FILES + 1), 400),
        (part("field", MOST_FIELD), 200),
        (part("field", MOST_FIELD + 1), 400),
        (part("field", MOST_FIELD) * 3, 200),
        (part("files", MOST_FIELD + 1, '; filename="a.png"'), 200),
        (b"no form at all", 200),
    ],
    ids=[
        "files",
        "too many files",
        "a field",
        "a long field",
        "several fields",
        "a file",
        "no form",
    ],
)
def test_a_form_has_few_files_and_short_fields(body, status):
    answer = ask(FormLimits, content=body + b"--x--\r\n", headers=FORM)
    assert answer.status_code == status
    if status == 400:
        sentence = "These are too many files or fields at once: please send fewer."
        assert answer.json()["error"] == sentence


def test_a_form_where_none_is_expected_gets_a_sentence_as_well():
    async def reads(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await PlainTextResponse("read")(scope, receive, send)

    body = part("files", 9, '; filename="a.png"') * (MOST_FILES + 1)
    answer = ask(lambda _: FormLimits(reads), content=body + b"--x--\r\n", headers=FORM)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"session_hash": "abc-_1"}, 200),
        ({"session_hash": None}, 200),
        ({}, 200),
        ([1], 200),
        ({"session_hash": "x" * 65}, 422),
        ({"session_hash": ""}, 422),
        ({"session_hash": "a/b"}, 422),
        ({"session_hash": ["a"]}, 422),
    ],
    ids=str,
)
def test_a_session_has_a_name_as_browsers_give_it(body, status):
    text = json.dumps(body)
    answer = ask(lambda app: SessionNames(app, UPLOADS), path="/queue/join", content=text)
    assert answer.status_code == status
    if status == 200:
        assert answer.json() == len(text)
