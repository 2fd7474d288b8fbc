"""Whoever leaves, however they leave, the processor is free again: looked at on the processor itself."""

import time

import httpx
import pytest
from gradio_client import Client, handle_file
from served import (
    MOST_SECONDS,
    PAINTING,
    PHOTO,
    called,
    has_begun,
    images_of,
    pressed,
    serving,
    spent_until_free,
    uploaded,
)

from nst.web import visitor_runs

UNREAD_SECONDS = 4
LONG = {"size": 256, "iterations": 1000, "backbone": "vgg16"}


@pytest.fixture(scope="module")
def served():
    with serving() as (queue, page):
        queue.warm_up.future.result()
        yield page.local_url, queue


def cancelled(server, queue):
    client = Client(server, verbose=False)
    job = client.submit(handle_file(PHOTO), handle_file(PAINTING), **LONG, api_name="/stylize")
    has_begun(queue)
    job.cancel()


def cut_off(server, queue):
    """The connection is closed in the middle of the answer."""
    with httpx.stream("GET", called(server, LONG), timeout=60):
        has_begun(queue)


def gone(server, queue):
    """The page's connection is cut, and nothing says so: no beacon, no heartbeat."""
    images = [uploaded(server, path) for path in (PHOTO, PAINTING)]
    settings = {"size": LONG["size"], "iterations": LONG["iterations"]}
    config = httpx.get(f"{server}config").json()
    body = pressed(config, "Stylize", "somebody", **images_of(*images), **settings)
    httpx.post(f"{server}gradio_api/queue/join", json=body).raise_for_status()
    with httpx.stream("GET", f"{server}gradio_api/queue/data?session_hash=somebody", timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        has_begun(queue)


def never_read(server, queue):
    """The answer is asked for, and nobody comes for it."""
    called(server, LONG)
    time.sleep(UNREAD_SECONDS)
    assert queue.runs[0].recorder.history


@pytest.mark.parametrize("leave", [cancelled, cut_off, gone, never_read])
def test_whoever_leaves_frees_the_processor(served, leave, monkeypatch):
    monkeypatch.setattr(visitor_runs, "UNREAD_SECONDS", UNREAD_SECONDS)
    server, queue = served
    leave(server, queue)
    assert spent_until_free(queue) < MOST_SECONDS
