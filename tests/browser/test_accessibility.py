"""The page for everybody: axe-core's rules in every state of it; by keyboard alone, read out, and at rest."""

import re
from contextlib import suppress

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import PHONE, TABLET, WIDE, button, quick, ready
from playwright.sync_api import TimeoutError, expect

STILL = """() => document.getAnimations().every((one) => one.playState !== 'running'
    || one.effect.getComputedTiming().iterations === Infinity)"""


def serious(page):
    """What axe finds that keeps somebody from using the page."""
    page.wait_for_timeout(300)
    with suppress(TimeoutError):  # while something fades in, its colours are others; a bar may go on for ever
        page.wait_for_function(STILL, timeout=1200)
    violations = Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in violations
        for node in violation["nodes"]
        if violation["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("viewport", [WIDE, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_idle_running_done_and_after_an_error(visit, viewport, scheme):
    page = visit(viewport)
    page.emulate_media(color_scheme=scheme)
    page.reload()
    ready(page)  # an empty pane has a label that Gradio's <div> may not have
    assert serious(page) == []
    quick(page, size=256, iterations=1000)
    button(page, "Stylize").click()
    expect(page.locator("#picture img")).to_be_visible()
    assert serious(page) == []
    button(page, "Stop").click()
    expect(page.locator(".status")).to_contain_text("Stopped")
    assert serious(page) == []
    quick(page, size=64, iterations=2)
    button(page, "Stylize").click()
    expect(page.locator(".status")).to_contain_text("Done")
    assert serious(page) == []
    page.locator("#content").get_by_label("Remove Image").click()
    button(page, "Stylize").click()
    expect(page.get_by_test_id("toast-body")).to_be_visible()
    assert serious(page) == []
    page.get_by_test_id("toast-close").click()
    page.get_by_role("tab", name="Study").click()
    assert serious(page) == []


def focused(page):
    """What has the keyboard's focus, as it would be named."""
    return page.evaluate(
        """() => {
            const here = document.activeElement;
            const label = here.labels?.[0]?.textContent ?? here.closest('label')?.textContent;
            return (here.ariaLabel || here.textContent || label || here.placeholder || here.tagName).trim();
        }"""
    )


def tab_to(page, name, most=150):
    """Press Tab until the focus is where `name` is; what it has met on the way."""
    met = []
    while not met or not re.match(name, met[-1]):
        assert len(met) < most, met
        page.keyboard.press("Tab")
        met.append(focused(page))
    return met


def test_with_the_keyboard_alone_a_picture_is_chosen_painted_stopped_and_saved(visit, tmp_path):
    page = visit()
    quick(page, size=256, iterations=1000)
    page.evaluate("document.activeElement.blur()")
    tab_to(page, "Stylize")
    tab_to(page, r"The Great Wave|Thumbnail 3")
    page.keyboard.press("Enter")
    expect(page.locator("#style img")).to_have_attribute("src", re.compile("great-wave"))
    met = tab_to(page, "Save$")
    for name in (
        "Preset",
        "Content weight",
        "Style weight",
        "Iterations",
        "Size",
        "Strength",
        "Save as",
    ):
        assert any(name in one for one in met), (name, met)
    page.keyboard.press("Control+Home")
    button(page, "Stylize").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#picture img")).to_be_visible()
    button(page, "Stop").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".status").first).to_contain_text("Stopped")
    expect(button(page, "Save")).to_be_enabled()
    button(page, "Save").focus()
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename.endswith(".png")


def test_changes_are_read_out_and_steps_are_not_counted_aloud(visit):
    page = visit()
    page.locator("#aloud").wait_for(state="attached")
    page.evaluate(
        """() => {
            window.heard = [];
            const aloud = document.querySelector('#aloud');
            const listener = new MutationObserver(() => window.heard.push(aloud.textContent));
            listener.observe(aloud, {childList: true});
        }"""
    )
    quick(page, size=160, iterations=60)
    button(page, "Stylize").click()
    expect(page.locator(".status").first).to_contain_text("Done")
    page.wait_for_timeout(300)
    heard = page.evaluate("window.heard")
    assert heard[-1].startswith("Done: 60 steps")
    assert any("step" in text for text in heard[:-1])
    assert len(heard) < 8, heard


def test_nothing_moves_where_less_motion_is_asked_for(visit):
    page = visit(PHONE)
    page.emulate_media(reduced_motion="reduce")
    quick(page, size=256, iterations=1000)
    button(page, "Stylize").click()
    expect(page.locator("#picture img")).to_be_visible()
    still = "document.getAnimations().every((one) => one.playState !== 'running')"
    page.wait_for_function(still, timeout=5_000)  # what turns, pulses or slides for as long as it is painted
    button(page, "Stop").click()


@pytest.mark.parametrize("viewport", [WIDE, TABLET, PHONE])
def test_the_layout_does_not_shift_while_a_picture_is_painted(visit, viewport):
    page = visit(viewport)
    cut_off = """[...document.querySelectorAll('.pairs')].filter((one) => one.offsetParent
        && one.querySelector('.grid-wrap').scrollWidth > one.clientWidth).length"""
    assert page.evaluate(cut_off) == 0
    quick(page, size=160, iterations=60)
    button(page, "Stylize").click()
    expect(page.locator("#picture img")).to_be_visible()
    page.wait_for_timeout(500)  # a phone scrolls to the picture
    page.evaluate(
        """() => {
            window.shift = 0;
            const add = (entry) => { window.shift += entry.value; };
            new PerformanceObserver((list) => list.getEntries().forEach(add)).observe({type: 'layout-shift'});
        }"""
    )
    expect(page.locator(".status").first).to_contain_text("Done")
    page.wait_for_timeout(500)
    assert page.evaluate("window.shift") < 0.1  # what counts as good for a whole page
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
