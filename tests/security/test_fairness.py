"""One visitor's share, on a real server: whoever wants more gets a sentence, and the others get theirs."""

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from hostile_files import saved
from memory import MOST_MEMORY, count_again, held
from served import JSON, PHOTO, join, opened, press, pressed, serving, study, uploaded

from nst.serving.limits import Limits
from nst.serving.storage import Storage
from nst.web.server import clear_files

MANY = 10


def test_who_sends_too_many_requests_is_told_to_wait():
    with serving(Limits(requests=MANY)) as (_, page):
        sent = [httpx.post(f"{page.local_url}gradio_api/cancel", json={}) for _ in range(MANY + 1)]
        assert sent[0].status_code == 422
        assert sent[-1].status_code == 429
        assert sent[-1].json()["error"] == "That is too much at once: please wait a minute, and try again."
        assert httpx.get(f"{page.local_url}health").status_code == 200


def test_who_holds_streams_open_gets_no_more_until_they_are_closed():
    with serving(Limits(connections=MANY)) as (_, page):
        with ExitStack() as held_open:
            for number in range(MANY):
                held_open.enter_context(opened(page.local_url, f"/gradio_api/heartbeat/{number}"))
            while (answer := httpx.get(f"{page.local_url}health")).status_code == 200:
                pass
            assert answer.status_code == 429
        while httpx.get(f"{page.local_url}health").status_code != 200:
            pass


def upload(server: str, data: bytes | int) -> httpx.Response:
    """Of some bytes, or of so many in pieces of unknown length."""
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = (
        head + data + b"\r\n--x--\r\n"
        if isinstance(data, bytes)
        else (bytes(1000) for _ in range(data // 1000))
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    return httpx.post(f"{server}gradio_api/upload", content=body, headers=headers, timeout=60)


def test_who_uploads_too_much_is_told_so():
    with serving(Limits(uploads=1)) as (_, page):
        assert upload(page.local_url, bytes(900_000)).status_code == 200
        refused = upload(page.local_url, bytes(200_000))
        assert refused.status_code == 429
        assert refused.text == (
            "You have reached the upload limit: "
            "please use the files that you have uploaded, or come back later."
        )
        with pytest.raises(httpx.HTTPError):
            upload(page.local_url, 20_000_000).raise_for_status()
        assert upload(page.local_url, bytes(1000)).status_code in (200, 429)


def test_a_full_server_takes_nothing_until_the_oldest_is_deleted():
    with serving(Limits(storage=2, kept=60)) as (_, page):  # it looks every six seconds
        first, _, third = (upload(page.local_url, bytes([n]) * 700_000).json()[0] for n in range(3))
        refused = upload(page.local_url, bytes(1000))
        assert (refused.status_code, refused.text) == (
            507,
            "The server's storage is full: please try again in a minute.",
        )
        while (answer := upload(page.local_url, bytes(1000))).status_code == 507:
            time.sleep(0.1)
        assert answer.status_code == 200
        assert not Path(first).exists()
        assert Path(third).exists()


def test_what_came_to_nothing_is_deleted_too(monkeypatch, tmp_path):
    """Gradio leaves the part of an upload that arrived before its sender hung up."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with serving(Limits()) as (_, page):
        where = urlsplit(page.local_url)
        with socket.create_connection((where.hostname, where.port)) as connection:
            head = b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
            head += b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
            connection.sendall(head + part + bytes(500_000))
            while not [path for path in tmp_path.glob("*") if path.is_file()]:
                pass
        uploaded(page.local_url, PHOTO)
        own = next(one["props"]["value"]["path"] for one in page.config["components"] if of_examples(one))
        time.sleep(1.1)
        clear_files(Storage(tmp_path, kept=2, most=1000), page)
        assert not [path for path in tmp_path.glob("*") if path.is_file()]
        assert not [path for path in tmp_path.rglob(PHOTO.name)]
        assert httpx.get(f"{page.local_url}gradio_api/file={own}").status_code == 200


def of_examples(component: dict) -> bool:
    """Whether it saves the picture that the page shows at first."""
    return component["type"] == "downloadbutton" and bool(component["props"].get("value"))


def test_background_tasks_of_one_visitor_are_few_at_a_time():
    """Who asks for many files at once gets some of them, and is told to wait for the rest."""
    with serving(Limits(per_visitor=1)) as (_, page):
        photo = uploaded(page.local_url, PHOTO)

        def ask(number):
            return press(page.local_url, f"visit{number}", "Draw on the photo", **{"photo (content)": photo})

        with ThreadPoolExecutor(MANY) as threads:
            answers = [*threads.map(ask, range(MANY))]
        refused = [one["output"]["error"] for one in answers if not one["success"]]
        assert set(refused) == {"Please wait until your previous request is done."}
        assert len(refused) < MANY
        assert ask(MANY)["success"]


DRAWING = {"id": "one", "type": "layer", "index": 0}


def send_blob(server: str, data: bytes, **other) -> httpx.Response:
    """What the page's editor sends of a drawing, with `other` fields than it would."""
    components = httpx.get(f"{server}config").json()["components"]
    (editor,) = (one["id"] for one in components if one["type"] == "imageeditor")
    fields = {"component_id": editor, "fn_name": "accept_blobs", "session_hash": "drawer"}
    files = [(name, (None, str(value))) for name, value in (DRAWING | fields | other).items()]
    files.append(("file", ("layer.png", data)))
    return httpx.post(f"{server}gradio_api/component_server", files=files, timeout=60)


@pytest.fixture(scope="module")
def server():
    with serving() as (_, page):
        yield page.local_url


@pytest.mark.parametrize("index", ["0", "1000000000", "null", "x"])
def test_a_drawing_of_many_layers_takes_no_memory(server, index):
    """Gradio would make room for as many as the browser says."""
    before = count_again()
    send_blob(server, saved(mode="RGBA", format="PNG"), index=index)
    assert held("VmHWM") - before < MOST_MEMORY


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "This drawing can't be read: please draw it again."),
        (saved(mode="RGBA", format="TIFF"), "This drawing can't be read: please draw it again."),
        (saved(mode="RGBA", format="PNG")[:60], "This drawing can't be read: please draw it again."),
        (saved((20_000, 20_000), "1", format="PNG"), "This drawing can't be read: please draw it again."),
        (saved((12_000, 12_000), "1", format="PNG"), "This drawing is too large: please draw it again."),
    ],
    ids=["nothing", "tiff", "cut off", "a bomb", "too large"],
)
def test_what_is_no_drawing_gets_a_sentence(server, data, sentence):
    before = count_again()
    assert send_blob(server, data).status_code == 200
    config = httpx.get(f"{server}config").json()
    (editor,) = (one["id"] for one in config["components"] if one["type"] == "imageeditor")
    event = next(one for one in config["dependencies"] if [editor, "input"] in one["targets"])
    body = {"data": [{"id": "one", "layers": []}], "fn_index": event["id"], "session_hash": "drawer"}
    answer = httpx.post(f"{server}gradio_api/run/predict", json=body)
    assert answer.json()["error"] == sentence
    assert held("VmHWM") - before < MOST_MEMORY


def test_a_visitors_studies_are_few_and_free_their_place_when_nobody_follows_them():
    with serving(Limits(per_visitor=1)) as (queue, page):
        queue.warm_up.future.result()
        url = page.local_url
        config = httpx.get(f"{url}config").json()
        body = study(config, "first", 300)
        httpx.post(f"{url}gradio_api/queue/join", json=body).raise_for_status()
        with httpx.stream("GET", f"{url}gradio_api/queue/data?session_hash=first", timeout=60) as answer:
            lines = answer.iter_lines()
            while "process_generating" not in next(lines):
                pass
            refused = press(url, "second", "Start")
            sentence = "Your other studies are running: please wait for one of them."
            assert refused["output"]["error"] == sentence
        while not (ended := join(url, study(config, "third", 1)))["success"]:
            assert ended["output"] == refused["output"]


ANYTHING = [
    None,
    3,
    "<b>",
    ["<b>"],
    {"path": "/etc/passwd"},
    [{"path": "/etc/passwd"}],
    [[]],
    {},
    1e308,
    "NaN",
]


STUDY_INPUTS = (
    "dataset",
    "photos",
    "paintings",
    "content weights α",
    "style weights β",
    "size",
    "iterations",
)


@pytest.mark.parametrize("label", STUDY_INPUTS)
@pytest.mark.parametrize("value", ANYTHING, ids=str)
def test_a_study_of_anything_gets_a_sentence_or_is_made(server, label, value):
    config = httpx.get(f"{server}config").json()
    own = {"dataset": "My own images"} if label in ("photos", "paintings") else {}
    answer = join(server, study(config, "studious", 1, **own, **{label: value}))
    assert answer["success"] or re.fullmatch(r"[A-Z][^\n<>]*\.", answer["output"]["error"])


def test_only_an_upload_may_be_long(server):
    """Whatever the last part of its path is called."""
    body = b'{"data": [' + b"[]," * 100_000 + b"[]]}"
    for path in ("run/upload", "call/upload", "call/stylize", "queue/join", "api/upload"):
        answer = httpx.post(f"{server}gradio_api/{path}", content=body, headers=JSON)
        assert answer.status_code == 413
        assert re.fullmatch(r"This request is too long: please [^\n<]*\.", answer.json()["error"])
    assert httpx.get(f"{server}gradio_api/upload_progress?upload_id={'x' * 2000}").status_code == 413


@pytest.mark.parametrize("path", ["gradio_api/upload", "gradio_api/component_server", "login"])
def test_a_form_is_read_as_utf_8_or_not_at_all(server, path):
    """To decode punycode takes minutes."""
    form = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"b" * 150_000 + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x; charset=punycode"}
    assert httpx.post(f"{server}{path}", content=form, headers=headers).status_code == 415


def test_a_form_has_few_files_and_short_fields(server):
    part = '--x\r\nContent-Disposition: form-data; name="files"{}\r\n\r\n{}\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    forms = {
        "many files": part.format('; filename="a.png"', "a") * 200,
        "a long field": part.format("", "a" * 50_000),
    }
    for form in forms.values():
        content = (form + "--x--\r\n").encode()
        answer = httpx.post(f"{server}gradio_api/upload", content=content, headers=headers)
        assert (answer.status_code, answer.text) == (
            400,
            "These are too many files or fields at once: please send fewer.",
        )


@pytest.mark.parametrize("session", ["x" * 100, "a<gradio-sep>b", "", "a/b"])
def test_a_session_has_a_name_as_browsers_give_it(server, session):
    config = httpx.get(f"{server}config").json()
    body = pressed(config, "Start", session)
    answer = httpx.post(f"{server}gradio_api/queue/join", json=body)
    assert answer.status_code >= 400
    assert "<" not in answer.text


def test_what_is_sent_is_not_kept_with_the_session():
    """Gradio would keep every value in memory, for links to the page's state."""
    with serving() as (_, page):
        press(page.local_url, "sender", "Start", **{"content weights α": "7" * 100_000})
        state = page.app.state_holder["sender"]
        assert "7" * 100 not in repr(state.config_values)


def test_events_of_the_queue_that_do_not_belong_there_keep_nobody_out(server):
    """Gradio takes any event into its queue, where one at a time would keep it full."""
    config = httpx.get(f"{server}config").json()
    slow = next(number for number, event in enumerate(config["dependencies"]) if not event["queue"])
    with httpx.Client() as client:
        for number in range(110):  # the queue has 100 places
            event = config["dependencies"][slow]["id"]
            body = {"data": [], "fn_index": event, "session_hash": f"flood{number}"}
            assert client.post(f"{server}gradio_api/queue/join", json=body).status_code != 503
