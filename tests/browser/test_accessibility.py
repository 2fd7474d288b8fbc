"""The page for everybody: axe-core's rules, in every state of it; and no controls but with a name."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import PHONE, WIDE, button
from playwright.sync_api import expect
from test_page import quick


def serious(page):
    """What axe finds that keeps somebody from using the page."""
    page.wait_for_timeout(1500)  # while something fades in, its colours are others
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
    button(page, "Stylize").wait_for()
    assert serious(page) == []
    quick(page, size=256, iterations=1000)
    button(page, "Stylize").click()
    expect(page.locator("#picture img")).to_be_visible(timeout=60_000)
    assert serious(page) == []
    button(page, "Stop").click()
    expect(page.locator(".status")).to_contain_text("Stopped", timeout=60_000)
    assert serious(page) == []
    page.locator("#content").get_by_label("Remove Image").click()
    button(page, "Stylize").click()
    expect(page.get_by_test_id("toast-body")).to_be_visible()
    assert serious(page) == []
    page.get_by_test_id("toast-close").click()
    page.get_by_role("tab", name="Study").click()
    assert serious(page) == []
