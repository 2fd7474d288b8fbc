"""A real server of the page, for as long as a test needs it."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import gradio as gr

from nst.serving.limits import Limits
from nst.serving.queue import Line
from nst.web import server as app


@contextmanager
def serving(limits: Limits = Limits(), **options: Any) -> Iterator[tuple[Line, gr.Blocks]]:
    """A line of its own, and the page on a free port; `options` are those of Gradio's launch()."""
    line = Line(limits=limits)
    page = app.launch(line, prevent_thread_lock=True, quiet=True, **options)
    try:
        yield line, page
    finally:
        line.close()
        page.close()


def pressed(
    config: dict[str, Any], label: str, session: str, images: Sequence[Any] = (), **settings: Any
) -> dict[str, Any]:
    """What the page of that config sends where the first button of that label is pressed.

    `settings` go by their labels in small letters.
    """
    props = {component["id"]: component["props"] for component in config["components"]}
    button = next(number for number in props if props[number].get("value") == label)
    event = next(event for event in config["dependencies"] if [button, "click"] in event["targets"])
    given = [props[number] for number in event["inputs"]]
    data = [settings.get(str(one.get("label")).lower(), one.get("value")) for one in given]
    data[1 : 1 + len(images)] = images  # the first is the page's state
    return {"data": data, "fn_index": event["id"], "session_hash": session}


def opened(server: str, path: str, address: str = "127.0.0.1") -> socket.socket:
    """A connection of a visitor from that address, on which a request was sent; its answer is not read."""
    where = urlsplit(server)
    connection = socket.create_connection((where.hostname, where.port))
    head = f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\nX-Forwarded-For: {address}\r\n\r\n"
    connection.sendall(head.encode())
    return connection
