"""Whoever stops, reloads or closes the page: looked at on the processor, and what stays of their picture."""

import json
import re
from pathlib import Path

import pytest
from browsing import button, quick, result, stylize
from playwright.sync_api import expect
from served import MOST_SECONDS, has_begun, spent_until_free


@pytest.mark.parametrize("leave", ["stops", "reloads", "closes the tab"])
def test_whoever_leaves_the_page_frees_the_processor(chromium, served, leave):
    server, queue = served
    page = chromium.new_page()
    page.goto(server)
    button(page, "Stylize").wait_for()
    quick(page, size=256, iterations=1000)
    button(page, "Stylize").click()
    has_begun(queue)
    {"stops": button(page, "Stop").click, "reloads": page.reload, "closes the tab": page.close}[leave]()
    assert spent_until_free(queue) < MOST_SECONDS
    page.close()


def test_a_reload_during_a_run_does_not_lose_the_picture_before(visit):
    page = visit()
    page.locator(".pairs:visible button.thumbnail-item").nth(2).click()
    expect(page.locator("#style img")).to_have_attribute("src", re.compile("great-wave"))
    quick(page, size=96, iterations=7)
    button(page, "Stylize").click()
    expect(page.locator(".status").first).to_contain_text("Done: 7 steps")
    picture = page.locator("#comparison img").nth(1).get_attribute("src")
    quick(page, size=256, iterations=1000)
    button(page, "Stylize").click()
    expect(page.locator(".status").first).to_contain_text("step")
    page.reload()
    expect(page.locator(".status").first).to_contain_text("Here is your last picture again.")
    expect(page.locator("#comparison img").nth(1)).to_have_attribute("src", picture)
    expect(page.locator("#style img")).to_have_attribute("src", re.compile("great-wave"))
    expect(page.get_by_role("spinbutton", name="Iterations").first).to_have_value("7")
    button(page, "Stylize").click()
    expect(page.locator(".status").first).to_contain_text("Done: 7 steps")


def test_a_reload_says_what_has_changed_since_an_earlier_version_made_the_picture(visit):
    page = visit()
    stylize(page, iterations=3)
    kept = Path(result(page).partition("file=")[2]).with_name("finished.json")
    values = json.loads(kept.read_text(encoding="utf-8"))
    values["record"]["config"]["backbone"] = "vgg16-hed"
    del values["record"]["versions"]["nst"]
    kept.write_text(json.dumps(values), encoding="utf-8")
    page.reload()
    expect(page.locator(".status").first).to_have_text(
        "Here is your last picture again. An earlier version made this picture with another network and "
        "other scales of the weights: a new run will look different."
    )
    expect(page.get_by_role("spinbutton", name="Iterations").first).to_have_value("3")
    page.get_by_text("Advanced").click()
    expect(page.get_by_role("radio", name="VGG-16")).to_be_checked()
