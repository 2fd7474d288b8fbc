"""Whoever leaves, however they leave, the processor is free again: looked at on the processor itself."""

import time

import httpx
import pytest
from gradio_client import Client, handle_file
from served import pressed, serving
from test_page import PAINTING, PHOTO, called, uploaded

from nst.config import TransferConfig
from nst.runs.runner import Job
from nst.serving.limits import Limits
from nst.serving.middleware import UNREAD_SECONDS
from nst.serving.queue import Line, Run

LONG = {"size": 256, "iterations": 1000, "backbone": "vgg16-hed"}
MOST_SECONDS = 2  # of the processor, from the moment somebody leaves


@pytest.fixture(scope="module")
def served():
    with serving() as (line, page):
        line.warm_up.future.result()
        yield page.local_url, line


def painted(line: Line) -> None:
    """Wait until a run of `line` has made a few steps."""
    while not (line._runs and len(line._runs[0].history) > 2):
        time.sleep(0.02)


def spent_until_free(line: Line) -> float:
    """Seconds of the processor until nothing is painted; after that hardly any are spent."""
    before = time.process_time()
    while line._runs:
        time.sleep(0.02)
    spent = time.process_time() - before
    idle = time.process_time()
    time.sleep(1)
    assert time.process_time() - idle < 0.5
    return spent


def cancelled(server: str, line: Line) -> None:
    client = Client(server, verbose=False)
    job = client.submit(handle_file(PHOTO), handle_file(PAINTING), **LONG, api_name="/stylize")
    painted(line)
    job.cancel()


def cut_off(server: str, line: Line) -> None:
    """The connection is closed in the middle of the answer."""
    with httpx.stream("GET", called(server, LONG), timeout=60):
        painted(line)


def gone(server: str, line: Line) -> None:
    """The page's connection is cut, and nothing says so: no beacon, no heartbeat."""
    images = [uploaded(server, path) for path in (PHOTO, PAINTING)]
    settings = {"size": LONG["size"], "iterations": LONG["iterations"]}
    config = httpx.get(f"{server}config").json()
    body = pressed(config, "Stylize", "somebody", images, **settings)
    httpx.post(f"{server}gradio_api/queue/join", json=body).raise_for_status()
    with httpx.stream("GET", f"{server}gradio_api/queue/data?session_hash=somebody", timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        painted(line)


def never_read(server: str, line: Line) -> None:
    """The answer is asked for, and nobody comes for it."""
    called(server, LONG)
    time.sleep(UNREAD_SECONDS)
    assert line._runs[0].history


@pytest.mark.parametrize("leave", [cancelled, cut_off, gone, never_read])
def test_whoever_leaves_frees_the_processor(served, leave):
    server, line = served
    leave(server, line)
    assert spent_until_free(line) < MOST_SECONDS


def test_a_run_over_its_time_frees_the_processor(photo, painting):
    line = Line(limits=Limits(seconds=1))
    line.warm_up.future.result()
    joined = time.monotonic()
    run = line.join(Run(Job(photo, [painting], TransferConfig(**LONG))))
    painted(line)
    time.sleep(max(0, joined + 1 - time.monotonic()))
    assert spent_until_free(line) < MOST_SECONDS
    assert run.ended == "out of time"
    line.close()
