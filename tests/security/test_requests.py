"""Hostile requests: what they can't reach, what they don't make the server do, and what they are told."""

import io
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from gradio.utils import get_upload_folder
from memory import MOST_MEMORY, count_again, held
from PIL import Image
from served import EXAMPLES, JSON, PHOTO, called, raw_error, serving

from nst.serving.middleware import HEADERS

QUICK = {"size": 64, "iterations": 3, "backbone": "vgg16"}


@pytest.fixture(scope="module")
def server():
    with serving() as (_, page):
        yield page.local_url


@pytest.mark.parametrize("meta", [{}, {"meta": {"_type": "gradio.FileData"}}])
def test_no_other_file_of_the_server_can_be_named(server, meta):
    """Not even an image: only what a visitor has uploaded."""
    image = {"path": str(EXAMPLES / "page.jpg"), **meta}
    assert re.fullmatch(
        r"(This did not work|Please send the photo)[^\n<]*\.", raw_error(server, QUICK, "", [image, image])
    )


@pytest.mark.parametrize("given", [("path",), ("path", "url"), ("url",)])
def test_an_address_in_place_of_a_file_is_never_fetched(server, given):
    """Not even one outside the own network, which Gradio would fetch."""
    asked = []

    class Listening(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)

    for address in ("http://127.0.0.1:PORT/photo.jpg", "http://example.com/photo.jpg"):
        with HTTPServer(("127.0.0.1", 0), Listening) as listening:
            threading.Thread(target=listening.serve_forever, daemon=True).start()
            address = address.replace("PORT", str(listening.server_port))
            image = {name: address for name in given} | {"meta": {"_type": "gradio.FileData"}}
            sentence = raw_error(server, QUICK, "", [image, image])
            listening.shutdown()
        assert re.fullmatch(r"Please send [^\n<]*\.", sentence)
    assert asked == []


def test_every_answer_has_the_security_headers(server):
    for path in ("", "config", "health", "gradio_api/file=/etc/passwd"):
        headers = httpx.get(f"{server}{path}").headers
        assert {name: headers[name] for name in HEADERS} == HEADERS


@pytest.mark.parametrize("length", [1_000_001, 20_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_that_is_no_upload_is_short(server, length, chunked):
    """A picture as a `data:` address would get past the limit of uploads."""
    body = b'{"data": [{"path": "data:image/png;base64,' + b"A" * length + b'"}]}'
    before = count_again()
    try:
        sent = (body[at : at + 65536] for at in range(0, len(body), 65536)) if chunked else body
        answer = httpx.post(f"{server}gradio_api/call/stylize", content=sent, headers=JSON, timeout=60)
        assert answer.status_code >= 400
        assert chunked or re.fullmatch(r"This request is too long: please [^\n<]*\.", answer.json()["error"])
    except (httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):
        pass  # hung up before all of it was sent
    assert held("VmHWM") - before < MOST_MEMORY


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/deep_link?session_hash=somebody",
        "gradio_api/proxy=http://127.0.0.1:1/",
        "gradio_api/stream/somebody/1/1/playlist.m3u8",
        "gradio_api/run-history/buckets",
        "gradio_api/runs",
        "gradio_api/queue/status",
        "monitoring",
        "docs",
        "app.py",
        "assets/../../app.py",
        "gradio_api/file=app.py",
        "gradio_api/file=/proc/self/environ",
        "gradio_api/file=../../../../etc/passwd",
        "gradio_api/file=http://127.0.0.1:1/",
        "static/..%2F..%2Fapp.py",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_is_served_but_the_page_and_what_it_needs(server, path, method):
    answer = httpx.request(method, f"{server}{path}")
    assert answer.status_code in (403, 404, 405)
    assert "root:" not in answer.text


LEFT = []  # where connections went while a test looked, and what names were looked up


def _listen(event, arguments):
    where = {"socket.connect": lambda: arguments[1], "socket.getaddrinfo": lambda: arguments}.get(event)
    if where and isinstance(where(), tuple):
        LEFT.append(where()[0])


sys.addaudithook(_listen)


def test_no_request_leaves_the_server_when_the_page_is_opened_and_a_picture_is_painted(server):
    httpx.get(called(server, QUICK), timeout=60)  # the first run waits for the network's weights
    LEFT.clear()
    assert httpx.get(server).status_code == 200
    assert "event: complete" in httpx.get(called(server, QUICK), timeout=60).text
    assert LEFT
    assert {*LEFT} <= {"127.0.0.1"}


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]:7860/",
        "http://localhost/",
        "http://0x7f000001/",
        "https://example.com/photo.jpg",
        "ftp://127.0.0.1/photo.jpg",
        "file:///etc/passwd",
        "//127.0.0.1/photo.jpg",
        "\\\\127.0.0.1\\photo.jpg",
        "gopher://127.0.0.1:25/",
        "data:image/png;base64,iVBORw0KGgo=",
        "data:text/html,<script>alert(1)</script>",
        "/gradio_api/file=http://127.0.0.1/",
    ],
)
@pytest.mark.parametrize("name", ["path", "url"])
def test_whatever_kind_of_address_is_sent_gets_a_sentence_and_is_not_followed(server, address, name):
    image = {name: address, "meta": {"_type": "gradio.FileData"}}
    LEFT.clear()
    sentence = raw_error(server, QUICK, "", [image, image])
    assert re.fullmatch(r"(Please send|This did not work)[^\n<]*\.", sentence)
    assert {*LEFT} <= {"127.0.0.1"}


@pytest.mark.parametrize(
    "name",
    [
        "../../../../tmp/escaped.png",
        "..",
        ".",
        "",
        "/etc/passwd",
        "a/../../b.png",
        "..\\..\\escaped.png",
        "%2e%2e%2fescaped.png",
        "nul\0l.png",
        "line\r\nbreak.png",
        "<img src=x onerror=alert(1)>.png",
        "'; rm -rf ~; '.png",
        "\u202egnp.exe",
        "CON",
        "photo.svg",
        "x" * 5000 + ".png",
    ],
)
def test_a_file_of_any_name_stays_where_uploads_are(server, name):
    file = io.BytesIO()
    Image.open(PHOTO).resize((64, 48)).save(file, "PNG")
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    body = head.encode() + file.getvalue() + b"\r\n--x--\r\n"
    answer = httpx.post(f"{server}gradio_api/upload", content=body, headers=headers)
    if answer.status_code != 200:
        assert answer.status_code in (400, 413, 422)
        return
    for path in answer.json():  # none, where it was no file
        assert Path(path).resolve().parent.parent == Path(get_upload_folder()).resolve()
        image = {"path": path, "meta": {"_type": "gradio.FileData"}}
        answered = httpx.get(called(server, QUICK, "", [image, image]), timeout=60).text
        assert re.match(r'event: complete|event: error\ndata: {"error": "[A-Z][^\n<]*\."', answered)
