"""A real server of the page for tests, and what a visitor sends to it."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
import httpx
import numpy as np

from nst.config import SETTINGS, TransferConfig
from nst.engine.images import decode_image
from nst.runs.job import Job
from nst.runs.runner import Runner
from nst.serving.limits import Limits
from nst.serving.queue import RunQueue
from nst.web import server

EXAMPLES = Path(__file__).parents[1] / "examples"
PHOTO = EXAMPLES / "content" / "chenonceau.jpg"
PAINTING = EXAMPLES / "style" / "hokusai-great-wave.jpg"
OTHER_PAINTING = EXAMPLES / "style" / "munch-the-scream.jpg"
API_PARAMETERS = (*SETTINGS, "more_styles", "mask", "start", "preset")  # after "content" and "style"
JSON = {"Content-Type": "application/json"}
MOST_SECONDS = 2  # of the processor, from the moment somebody leaves


@contextmanager
def serving(
    limits: Limits = Limits(), runner: Runner | None = None, **options: Any
) -> Iterator[tuple[RunQueue, gr.Blocks]]:
    """Serve the page on a free port, with a queue of its own; `options` are those of Gradio's launch()."""
    queue = RunQueue(runner, limits)
    page = server.launch(queue, prevent_thread_lock=True, quiet=True, **options)
    try:
        yield queue, page
    finally:
        queue.close()
        page.close()


def job(config: TransferConfig) -> Job:
    """Make a small job with two examples."""
    photo, painting = _small_images()
    return Job(config, photo, [painting])


@cache
def _small_images() -> list[np.ndarray]:
    return [decode_image(path, long_side=64) for path in (PHOTO, PAINTING)]


# What a program sends.


def uploaded(url: str, path: Path) -> dict[str, Any]:
    """Upload a file to the server, and return what names it in a request."""
    with path.open("rb") as file:
        answer = httpx.post(f"{url}gradio_api/upload", files={"files": file}).json()
    return {"path": answer[0], "meta": {"_type": "gradio.FileData"}}


def called(url: str, settings: dict[str, Any], value: str = "", files: list[Any] | None = None) -> str:
    """Ask the API for a picture.

    Args:
        url: of the server.
        settings: by name; the others are not given.
        value: JSON that takes the place of VALUE in them.
        files: content and style; by default two examples.

    Returns:
        Where the answer will be.
    """
    sent = files or [uploaded(url, path) for path in (PHOTO, PAINTING)]
    arguments = [settings.get(name) for name in API_PARAMETERS]
    body = json.dumps({"data": [*sent, *arguments]}).replace('"VALUE"', value)
    event = httpx.post(f"{url}gradio_api/call/stylize", content=body, headers=JSON).json()["event_id"]
    return f"{url}gradio_api/call/stylize/{event}"


def raw_error(*given: Any) -> str:
    """Return what the server answers to a bad request, as for called()."""
    lines = httpx.get(called(*given), timeout=60).text.strip().splitlines()
    assert lines[0] == "event: error"
    error: str = json.loads(lines[1].removeprefix("data: "))["error"]
    return error


# What the page sends.


def pressed(config: dict[str, Any], label: str, session: str, **given: Any) -> dict[str, Any]:
    """Build the body that the page sends where the first button of that label is pressed.

    Args:
        config: of the page.
        label: of the button.
        session: the name of the visitor's session.
        **given: values of components, by their labels in small letters.
    """
    props = {component["id"]: component["props"] for component in config["components"]}
    button = next(number for number in props if props[number].get("value") == label)
    event = next(event for event in config["dependencies"] if [button, "click"] in event["targets"])
    sent = (props[number] for number in event["inputs"])
    data = [given.get(str(one.get("label")).lower(), one.get("value")) for one in sent]
    return {"data": data, "fn_index": event["id"], "session_hash": session}


def images_of(photo: Any, painting: Any) -> dict[str, Any]:
    """Name the two images as `pressed` takes them."""
    return {"photo (content)": photo, "painting (style)": painting}


def press(url: str, session: str, label: str, **given: Any) -> dict[str, Any]:
    """Press a button of the page, and return the last message of its event."""
    return join(url, pressed(httpx.get(f"{url}config").json(), label, session, **given))


def join(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """Put an event into Gradio's queue, and return its last message."""
    httpx.post(f"{url}gradio_api/queue/join", json=body).raise_for_status()
    messages = httpx.get(f"{url}gradio_api/queue/data?session_hash={body['session_hash']}", timeout=60).text
    return next(
        message
        for line in messages.splitlines()
        if line.startswith("data: ") and (message := json.loads(line[6:]))["msg"] == "process_completed"
    )


def study(config: dict[str, Any], session: str, steps: int, **given: Any) -> dict[str, Any]:
    """Build the body with which "Start" begins a study of the page's smallest dataset."""
    small = {"style weights β": "10", "size": 32, "iterations": steps}
    return pressed(config, "Start", session, **{**small, **given})


def free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def opened(url: str, path: str, address: str = "127.0.0.1") -> socket.socket:
    """Open a connection as a visitor from that address, and send a request whose answer is not read."""
    where = urlsplit(url)
    connection = socket.create_connection((where.hostname, where.port))
    head = f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\nX-Forwarded-For: {address}\r\n\r\n"
    connection.sendall(head.encode())
    return connection


# What the server does meanwhile.


def has_begun(queue: RunQueue) -> None:
    """Wait until a run of the queue has made a few steps."""
    while not ((runs := queue.runs) and len(runs[0].recorder.history) > 2):
        time.sleep(0.02)


def spent_until_free(queue: RunQueue) -> float:
    """Return the seconds of the processor until nothing runs; after that hardly any are spent."""
    before = time.process_time()
    while queue.runs:
        time.sleep(0.02)
    spent = time.process_time() - before
    idle = time.process_time()
    time.sleep(1)
    assert time.process_time() - idle < 0.5
    return spent
