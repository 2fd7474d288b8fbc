"""The page's texts and templates: what is escaped, and what they say to visitors and to the host."""

import pytest

from nst.config import SETTINGS
from nst.errors import ImageError, WeightsError
from nst.web.components import describe, format_duration, format_durations, render, status
from nst.web.guarded_blocks import plain_error, sentence_for_visitors

pytestmark = pytest.mark.quick

EVIL = "<img src=x onerror=alert('1')>"
ESCAPED = "&lt;img src=x onerror=alert(&#39;1&#39;)&gt;"


def test_the_status_line_is_text_over_a_bar():
    assert "width: 25.0%" in status("Halfway", 0.25)
    assert "width: 0; transition: none" in status("Nothing yet")
    assert f"<p>{ESCAPED}</p>" in status(EVIL)


def test_the_contact_sheet_escapes_names_and_reasons():
    edge = {"title": EVIL, "label": EVIL, "thumbnail": "/tmp/a.jpg"}
    made = {"number": 3, "title": EVIL, "thumbnail": '/tmp/"b.jpg', "failure": None, "running": False}
    failed = {**made, "thumbnail": None, "failure": EVIL}
    running = {**failed, "failure": None, "running": True}
    rows = [{"edge": edge, "cells": [made, failed, running, {**running, "running": False}]}]
    html = render("contact_sheet.html", rows=rows, columns=[edge])
    assert EVIL not in html
    assert '"b.jpg' not in html
    assert html.count(ESCAPED) == 2 * 2 + 3
    assert 'data-run="3"' in html
    assert f'title="Open it: {ESCAPED}"' in html
    assert f'<div class="failed" title="{ESCAPED}">failed</div>' in html
    assert '<div class="running"></div>' in html
    assert '<div class="pending"></div>' in html


def test_an_empty_contact_sheet_says_what_it_is_for():
    assert "The pictures appear here" in render("contact_sheet.html")


def test_the_legend_escapes_names():
    html = render("legend.html", entries=[(EVIL, "#123456")])
    assert html.strip() == (f'<div class="legend"><span style="--color: #123456">{ESCAPED}</span></div>')


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min")])
def test_a_duration_is_told_in_seconds_or_minutes(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (14, 16, "about 15 s"),
        (100, 130, "about 2 min"),
        (8, 31, "8 to 31 s"),
        (0.2, 0.4, "1 to 2 s"),
        (40, 95, "1 to 2 min"),
        (100, 600, "2 to 10 min"),
    ],
)
def test_a_duration_that_is_known_roughly_is_told_as_a_range(low, high, text):
    assert format_durations(low, high) == text


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_described_in_a_sentence(name):
    assert describe(name)[0].isupper() or not describe(name)[0].isalpha()


def test_visitors_read_that_a_network_is_not_available_and_the_host_reads_why(caplog):
    error = WeightsError("VGG-19's weights could not be downloaded (a.host answered 403)", "set NST_WEIGHTS")
    sentence = "This network is not available here: please choose another network."
    assert sentence_for_visitors(error) == plain_error(error).message == sentence
    assert caplog.messages == [str(error)]


def test_other_errors_that_visitors_can_act_on_are_told_as_they_are_and_not_logged(caplog):
    error = ImageError("Photo: This file is not a readable image.")
    assert sentence_for_visitors(error) == plain_error(error).message == str(error)
    assert caplog.messages == []
