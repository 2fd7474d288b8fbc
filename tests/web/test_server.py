"""The server of the page: its health, its telemetry, its limits, and its password."""

import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from served import PAINTING, PHOTO, job, serving

from nst.config import TransferConfig
from nst.errors import BusyError
from nst.serving.limits import PUBLIC, Limits
from nst.serving.queue import Run

NOBODY = {"painted": 0, "waiting": 0, "places": 3}
LONG = TransferConfig(size=64, iterations=1000, optimizer="adam", backbone="vgg16")
QUICK = TransferConfig(size=32, iterations=1, backbone="vgg16")


def refused(url: str, **settings) -> str:
    """The sentence with which the API refuses those settings."""
    client = Client(url, verbose=False)
    with pytest.raises(AppError) as error:
        client.predict(handle_file(PHOTO), handle_file(PAINTING), **settings, api_name="/stylize")
    return str(error.value)


def test_what_is_refused_counts_as_asked():
    """Whoever sends rubbish again and again is soon told to wait, before any of it is read."""
    with serving(Limits(per_minute=2)) as (_, page):
        sentences = [refused(page.local_url, size=0) for _ in range(3)]
        assert sentences[0] == sentences[1]
        assert sentences[0].startswith("Please set the size")
        assert sentences[2].startswith("That was quick")


def test_a_public_page_refuses_what_is_too_much_for_it():
    with serving(PUBLIC) as (_, page):
        for name in ("size", "iterations"):
            most = getattr(PUBLIC, name)
            sliders = [
                component["props"]
                for component in page.config["components"]
                if component["type"] == "slider" and component["props"]["label"].lower() == name
            ]
            assert [slider["maximum"] for slider in sliders] == [most, most]
            sentence = f"Please set {name} to {most} at most"
            assert re.match(re.escape(sentence), refused(page.local_url, **{name: most + 1}))


def test_health_says_how_long_the_queue_is_and_telemetry_counts_runs_and_refusals():
    with serving(Limits(places=3, per_visitor=1), metrics=True) as (queue, page):

        def health():
            return httpx.get(f"{page.local_url}health").json()

        assert health() in ({"state": state, **NOBODY} for state in ("starting", "ready"))
        queue.warm_up.future.result()
        assert health() == {"state": "ready", **NOBODY}
        runs = [queue.join(Run(job(config))) for config in (LONG, QUICK)]
        assert health() == {"state": "busy", "painted": 1, "waiting": 1, "places": 3}
        runs[0].stop()
        runs[1].future.result()
        while queue.ahead(runs[1]) or health()["state"] == "busy":
            pass
        assert health() == {"state": "ready", **NOBODY}

        queue.join(Run(job(replace(LONG, seed=1))), "10.0.0.7")
        with pytest.raises(BusyError):
            queue.admit("10.0.0.7")
        answer = httpx.get(f"{page.local_url}metrics")
        values = {
            name: float(value)
            for name, value in (text.rsplit(" ", 1) for text in answer.text.splitlines() if text[0] != "#")
        }
        assert values['nst_runs_total{ended="finished"}'] == 2
        assert values['nst_runs_total{ended="stopped"}'] == 1
        assert values["nst_refused_total"] == values["nst_painted"] == 1
        assert values["nst_waiting"] == 0
        assert values["nst_wait_seconds_count"] >= values["nst_run_seconds_count"] == 3
        assert values["process_resident_memory_bytes"] > 1e8
        assert "10.0.0.7" not in answer.text


def test_with_a_password_nobody_gets_in_without_it_and_there_is_no_telemetry_unless_asked_for():
    with serving(auth=("painter", "blue")) as (_, page):
        assert httpx.get(f"{page.local_url}config").status_code == 401
        assert "nst_" not in httpx.get(f"{page.local_url}metrics").text
        with pytest.raises(ValueError, match="Could not login"):
            Client(page.local_url, verbose=False, auth=("painter", "red"))
        client = Client(page.local_url, verbose=False, auth=("painter", "blue"))
        files = handle_file(PHOTO), handle_file(PAINTING)
        _, record = client.predict(*files, size=32, iterations=1, api_name="/stylize")
        assert record["ended"] == "finished"


def test_a_port_that_is_asked_for_and_taken_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        server = subprocess.run(
            [sys.executable, "app.py"],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "GRADIO_SERVER_PORT": port, "NST_WEIGHTS": ""},
            capture_output=True,
            text=True,
        )
    assert server.returncode == 1
    last = server.stderr.strip().splitlines()[-1]
    assert last == (
        f"Port {port} is taken, or may not be used here: please free it, or set "
        "GRADIO_SERVER_PORT to another one."
    )
    assert "Traceback" not in server.stderr
