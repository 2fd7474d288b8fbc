"""What the page allows: from flags and the environment, and what a visitor is told at the end of it."""

import argparse
import re
from dataclasses import fields
from pathlib import Path

import pytest
import requests
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from served import serving
from test_page import PAINTING, PHOTO

from nst.config import ConfigError, TransferConfig
from nst.runs.runner import Job
from nst.serving.limits import PUBLIC, Limits, add_options, limits_of
from nst.serving.queue import BusyError, Line, Run

NOBODY = {"painted": 0, "waiting": 0, "places": 3}
LONG = TransferConfig(size=64, iterations=1000, optimizer="adam", backbone="vgg16-hed")
QUICK = TransferConfig(size=32, iterations=1, backbone="vgg16-hed")


def limits(*flags, **environment):
    parser = argparse.ArgumentParser()
    add_options(parser)
    return limits_of(parser.parse_args(flags), environment)


def test_options_come_before_the_environment_and_that_before_the_defaults():
    assert limits() == Limits()
    assert limits("--public") == limits(NST_PUBLIC="1") == PUBLIC != Limits()
    assert limits(NST_PUBLIC="0") == Limits()
    assert limits("--public", "--max-size", "768", NST_MAX_SIZE="512", NST_MAX_PLACES="3").size == 768
    assert limits("--public", "--max-size", "768", NST_MAX_SIZE="512", NST_MAX_PLACES="3").places == 3


@pytest.mark.parametrize("given", ["0", "-1", "many", "1.5", "4097", "²"])
def test_a_limit_out_of_range_gets_one_plain_sentence(given):
    with pytest.raises(ConfigError, match=r"^Please set --max-size to a whole number from 32 to 4,096\.$"):
        limits("--max-size=" + given)
    with pytest.raises(ConfigError, match=r"^Please set --max-size to"):
        limits(NST_MAX_SIZE=given)


def test_the_readme_lists_every_limit_as_it_is():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for limit in fields(Limits):
        own, public = (getattr(limits, limit.name) for limits in (Limits(), PUBLIC))
        flag = f"--max-{limit.name.replace('_', '-')}"
        assert f"| `{flag}` | {limit.metadata['help']} | {own:,} | {public:,} |" in readme


def test_one_visitor_in_a_hurry_waits_and_another_does_not(photo, painting):
    line = Line(limits=Limits(per_minute=2, per_visitor=1))
    try:
        for _ in range(2):
            line.admit("here")
        with pytest.raises(
            BusyError, match=r"^That was quick: please wait a minute before the next picture\.$"
        ):
            line.admit("here")
        line.join(Run(Job(photo, [painting], LONG)), "here")
        line.join(Run(Job(photo, [painting], LONG)), "there")
        line.admit(None)
        with pytest.raises(BusyError, match=r"^Your other pictures are still in the line: please wait"):
            line.admit("there")
    finally:
        line.close()


def test_what_is_refused_counts_as_asked():
    """Whoever sends rubbish again and again is soon told to wait, before any of it is read."""
    with serving(Limits(per_minute=2)) as (_, page):
        client = Client(page.local_url, verbose=False)
        sentences = []
        for _ in range(3):
            with pytest.raises(AppError) as error:
                client.predict(handle_file(PHOTO), handle_file(PAINTING), size=0, api_name="/stylize")
            sentences.append(str(error.value))
        assert sentences[0] == sentences[1]
        assert sentences[0].startswith("Please set the size")
        assert sentences[2].startswith("That was quick")


@pytest.mark.parametrize("name", ["size", "iterations"])
def test_a_public_page_refuses_what_is_too_much_for_it(name):
    with serving(PUBLIC) as (_, page):
        most = getattr(PUBLIC, name)
        sliders = [
            component["props"]
            for component in page.config["components"]
            if component["type"] == "slider" and component["props"]["label"].lower() == name
        ]
        assert [slider["maximum"] for slider in sliders] == [most, most]
        client = Client(page.local_url, verbose=False)
        with pytest.raises(AppError, match=re.escape(f"Please set {name} to {most} at most")):
            client.predict(handle_file(PHOTO), handle_file(PAINTING), **{name: most + 1}, api_name="/stylize")


def test_health_says_how_long_the_line_is(photo, painting):
    with serving(Limits(places=3)) as (line, page):

        def health():
            return requests.get(f"{page.local_url}health").json()

        assert health() in ({"state": state, **NOBODY} for state in ("starting", "ready"))
        line.warm_up.future.result()
        assert health() == {"state": "ready", **NOBODY}
        runs = [line.join(Run(Job(photo, [painting], config))) for config in (LONG, QUICK)]
        assert health() == {"state": "busy", "painted": 1, "waiting": 1, "places": 3}
        runs[0].stop()
        runs[1].future.result()
        while line.ahead(runs[1]) or health()["state"] == "busy":
            pass
        assert health() == {"state": "ready", **NOBODY}


def test_with_a_password_nobody_gets_in_without_it():
    with serving(auth=("painter", "blue")) as (_, page):
        assert requests.get(f"{page.local_url}config").status_code == 401
        with pytest.raises(ValueError, match="Could not login"):
            Client(page.local_url, verbose=False, auth=("painter", "red"))
        client = Client(page.local_url, verbose=False, auth=("painter", "blue"))
        files = handle_file(PHOTO), handle_file(PAINTING)
        _, record = client.predict(*files, size=32, iterations=1, api_name="/stylize")
        assert record["ended"] == "finished"


def test_metrics_count_runs_and_refusals_and_are_there_only_where_asked_for(photo, painting):
    with serving() as (_, page):
        assert "nst_" not in requests.get(f"{page.local_url}metrics").text
    with serving(Limits(per_visitor=1), metrics=True) as (line, page):
        line.warm_up.future.result()
        line.join(Run(Job(photo, [painting], QUICK))).future.result()
        line.join(Run(Job(photo, [painting], LONG)), "10.0.0.7")
        with pytest.raises(BusyError):
            line.admit("10.0.0.7")
        answer = requests.get(f"{page.local_url}metrics")
        values = {
            name: float(value)
            for name, value in (text.rsplit(" ", 1) for text in answer.text.splitlines() if text[0] != "#")
        }
        assert values['nst_runs_total{ended="finished"}'] == 2
        assert values["nst_refused_total"] == values["nst_painted"] == 1
        assert values["nst_waiting"] == 0
        assert values["nst_wait_seconds_count"] >= values["nst_run_seconds_count"] == 2
        assert values["process_resident_memory_bytes"] > 1e8
        assert "10.0.0.7" not in answer.text
