"""The page's server: its API, its line, and what it says to bad input. The page itself: tests/browser."""

import inspect
import io
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from served import serving
from test_hostile import MOST_MEMORY, held

from nst.config import TransferConfig
from nst.engine.images import load_image, to_uint8
from nst.presets import PRESETS
from nst.runs.record import restored_config
from nst.serving.limits import Limits
from nst.web import server as app
from nst.web.gradio_patches import HEADERS

EXAMPLES = Path(__file__).parents[2] / "examples"
PHOTO = EXAMPLES / "content" / "chenonceau.jpg"
PAINTING = EXAMPLES / "style" / "hokusai-great-wave.jpg"
OTHER_PAINTING = EXAMPLES / "style" / "munch-the-scream.jpg"
QUICK = {"size": 64, "iterations": 3, "backbone": "vgg16-hed", "api_name": "/stylize"}
API_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(app.Page.stylize).parameters.items()
    if name not in ("self", "request", "content", "style")
}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server():
    with serving() as (_, page):
        yield page.local_url


@pytest.fixture
def client(server, tmp_path):
    return Client(server, verbose=False, download_files=tmp_path)


def paint(client, content=PHOTO, style=PAINTING, **settings):
    return client.predict(handle_file(content), handle_file(style), **{**QUICK, **settings})


def test_stylize_gives_the_picture_and_its_record(client):
    picture, record = paint(client, seed=5)
    assert Image.open(picture).format == "PNG"
    assert Image.open(picture).size == (64, 48)
    assert record["ended"] == "finished"
    assert record["config"]["seed"] == 5
    assert [row["step"] for row in record["history"]] == [1, 2, 3]
    assert record["backbone"]["name"] == "vgg16-hed"


def test_every_setting_has_a_name_in_the_api(client):
    endpoint = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/stylize"]
    names = {parameter["parameter_name"] for parameter in endpoint["parameters"]}
    assert names == {"content", "style", "more_styles", "mask", "start", "preset"} | {*app.SETTINGS}
    assert "run record" in endpoint["description"]


def test_every_setting_reaches_the_run(client):
    settings = {
        "content_weight": 2.0,
        "style_weight": 300.0,
        "tv_weight": 3.0,
        "style_blend": [1.0, 3.0],
        "style_scale": 0.5,
        "colors": "matched",
        "mask_mode": "styles",
        "strength": 0.5,
        "size": 72,
        "iterations": 2,
        "backbone": "vgg16-hed",
        "precision": "float32",
        "pooling": "avg",
        "content_layers": ["block3_conv1"],
        "style_layers": {"block1_conv1": 0.5, "block2_conv1": 2.0},
        "optimizer": "adam",
        "init": "noise",
        "seed": 9,
    }
    assert settings.keys() == app.SETTINGS.keys()
    assert all(value != getattr(app.DEFAULTS, name) for name, value in settings.items())
    _, record = paint(client, more_styles=[handle_file(OTHER_PAINTING)], **settings)
    assert record["config"] == settings
    assert record["precision"] == "float32"


def test_further_images_reach_the_run_and_its_record(client, tmp_path):
    mask = np.zeros((48, 64), np.uint8)
    mask[:, 32:] = 255
    Image.fromarray(mask).save(tmp_path / "half.png")
    start, _ = paint(client, iterations=1)
    picture, record = paint(
        client,
        more_styles=[handle_file(OTHER_PAINTING)],
        mask=handle_file(tmp_path / "half.png"),
        start=handle_file(start),
    )
    photo = np.asarray(to_uint8(load_image(PHOTO, long_side=64)))
    painted = np.asarray(Image.open(picture))
    assert np.array_equal(painted[:, :32], photo[:, :32])
    assert np.abs(painted[:, 32:].astype(int) - photo[:, 32:]).mean() > 5
    images = record["images"]
    assert images["content"]["name"] == PHOTO.name
    assert [entry["name"] for entry in images["styles"]] == [PAINTING.name, OTHER_PAINTING.name]
    assert images["mask"]["name"] == "half.png"
    assert re.fullmatch("[0-9a-f]{64}", images["start"]["sha256"])


def test_a_preset_gives_what_is_not_set(client):
    preset = PRESETS["light-wash"]
    assert preset.style_weight not in (app.DEFAULTS.style_weight, 333)
    assert paint(client, preset="light-wash")[1]["config"]["style_weight"] == preset.style_weight
    _, record = paint(client, preset="light-wash", style_weight=333)
    assert record["config"]["style_weight"] == 333
    _, record = paint(client, preset="detail-keeper")
    assert record["config"]["content_layers"] == [*PRESETS["detail-keeper"].content_layers]


def test_the_picture_holds_its_settings(client):
    picture, record = paint(client, style_weight=50, colors="luminance")
    assert restored_config(picture) == TransferConfig(**record["config"])
    assert restored_config(picture).colors == "luminance"


def test_strength_zero_gives_the_photo(client):
    picture, _ = paint(client, strength=0)
    assert np.array_equal(np.asarray(Image.open(picture)), to_uint8(load_image(PHOTO, long_side=64)))


@pytest.mark.parametrize(("shade", "word"), [(0, "black"), (255, "white")])
def test_a_mask_without_a_use_gets_one_plain_sentence(client, tmp_path, shade, word):
    Image.new("L", (64, 48), shade).save(tmp_path / "flat.png")
    with pytest.raises(AppError) as error:
        paint(
            client,
            mask=handle_file(tmp_path / "flat.png"),
            mask_mode="styles",
            more_styles=[handle_file(OTHER_PAINTING)],
        )
    assert re.fullmatch(rf"The mask is {word} all over: please [^\n<]*\.", str(error.value))


def test_the_example_images_are_turned_scaled_and_kept_apart(client):
    """Two visitors at once get their own pictures."""
    pictures = {}

    def visit(name, content):
        pictures[name] = paint(client, content=content)[0]

    contents = {"castle": PHOTO, "sunset": EXAMPLES / "content" / "mountain-sunset.jpg"}
    visits = [threading.Thread(target=visit, args=item) for item in contents.items()]
    for visit_ in visits:
        visit_.start()
    for visit_ in visits:
        visit_.join()
    assert Image.open(pictures["castle"]).size == (64, 48)
    assert Image.open(pictures["sunset"]).size == (64, 43)


BAD_SETTINGS = [
    ("size", -1),
    ("size", 10**9),
    ("size", "large"),
    ("size", 100.5),
    ("iterations", 0),
    ("content_weight", -0.5),
    ("content_weight", "NaN"),
    ("style_weight", 1e300),
    ("style_weight", [100]),
    ("tv_weight", {"a": 1}),
    ("backbone", "resnet"),
    ("optimizer", 3),
    ("precision", "float64"),
    ("init", "<b>photo</b>"),
    ("seed", 2**40),
    ("style_layers", []),
    ("style_layers", ["block9_conv9"]),
    ("style_layers", ["block1_conv1"] * 2),
    ("content_layers", {"block4_conv2": -1}),
    ("content_layers", "block4_conv2"),
    ("size", Limits().size + 1),
    ("style_blend", [1, 2]),
    ("style_blend", [0]),
    ("style_blend", [-1]),
    ("style_blend", "1,2"),
    ("style_scale", 3),
    ("colors", "sepia"),
    ("mask_mode", None),
    ("strength", 1.5),
    ("preset", "masterpiece"),
    ("preset", ["poster"]),
    ("more_styles", "many"),
    ("more_styles", [handle_file(OTHER_PAINTING)] * 4),
]


@pytest.mark.parametrize(("name", "value"), BAD_SETTINGS)
def test_a_bad_setting_gets_one_plain_sentence(client, name, value):
    with pytest.raises(AppError) as error:
        paint(client, **{name: value})
    sentence = str(error.value)
    assert sentence.startswith("Please ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "<" not in sentence


@pytest.mark.parametrize("value", ["null", "NaN", "-Infinity", '"<b>many</b>"'])
@pytest.mark.parametrize("name", ["size", "style_weight", "backbone", "style_layers"])
def test_what_python_would_not_send_gets_one_plain_sentence(server, name, value):
    sentence = raw_error(server, {**QUICK, name: "VALUE"}, value)
    assert re.fullmatch(r"Please [^\n<]*\.", sentence)


def uploaded(server: str, path: Path) -> dict:
    with path.open("rb") as file:
        answer = httpx.post(f"{server}gradio_api/upload", files={"files": file}).json()
    return {"path": answer[0], "meta": {"_type": "gradio.FileData"}}


def called(server: str, settings: dict, value: str = "", files: list | None = None) -> str:
    """Where the answer will be to a request whose JSON has `value` where `settings` say VALUE."""
    sent = files or [uploaded(server, path) for path in (PHOTO, PAINTING)]
    arguments = [settings.get(name, default) for name, default in API_DEFAULTS.items()]
    body = json.dumps({"data": [*sent, *arguments]}).replace('"VALUE"', value)
    event = httpx.post(f"{server}gradio_api/call/stylize", content=body, headers=JSON).json()["event_id"]
    return f"{server}gradio_api/call/stylize/{event}"


def raw_error(*given) -> str:
    """What the server answers to a bad request, as for called()."""
    lines = httpx.get(called(*given), timeout=60).text.strip().splitlines()
    assert lines[0] == "event: error"
    return json.loads(lines[1].removeprefix("data: "))["error"]


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.png"
    whole = PHOTO.read_bytes()
    contents = {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "text": b"not an image",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"></svg>',
        "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    }
    if kind in contents:
        path.write_bytes(contents[kind])
    else:
        sizes = {"tiny": (31, 31), "narrow": (900, 100), "oversized": (8000, 7000)}
        Image.new("1", sizes[kind]).save(path)
    return path


@pytest.mark.parametrize("kind", ["empty", "truncated", "text", "svg", "pdf", "tiny", "narrow", "oversized"])
def test_a_bad_image_gets_one_plain_sentence_and_the_next_run_works(client, tmp_path, kind):
    with pytest.raises(AppError) as error:
        paint(client, content=bad_file(tmp_path, kind))
    sentence = str(error.value)
    assert sentence.startswith("Photo: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert kind + ".png" not in sentence
    assert paint(client)[1]["ended"] == "finished"


def test_an_animated_gif_is_painted_by_its_first_frame(client, tmp_path):
    first = Image.open(PHOTO).resize((96, 72))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (96, 72))])
    picture, _ = paint(client, content=tmp_path / "a.gif")
    assert np.asarray(Image.open(picture)).std() > 20


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
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
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
        painted = httpx.get(called(server, QUICK, "", [image, image]), timeout=60).text
        assert re.match(r'event: complete|event: error\ndata: {"error": "[A-Z][^\n<]*\."', painted)
