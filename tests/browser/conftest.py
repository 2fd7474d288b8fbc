"""A real Chromium before a real server."""

import os
import shutil

import pytest
from browsing import WIDE, ready
from playwright.sync_api import expect, sync_playwright
from served import serving

ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"]

expect.set_options(timeout=120_000)  # a busy machine is no fault of the page


@pytest.fixture(scope="session")
def chromium():
    """Debian's Chromium; where there is none the tests are skipped, or fail if NST_REQUIRE_BROWSER is set."""
    path = shutil.which("chromium")
    if path is None:
        message = "no chromium on the PATH (apt-get install chromium)"
        pytest.fail(message) if os.environ.get("NST_REQUIRE_BROWSER") else pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served():
    """A server for all tests that share one, as its URL and its queue."""
    with serving() as (queue, page):
        queue.warm_up.future.result()
        yield page.local_url, queue


@pytest.fixture(scope="session")
def server(served):
    return served[0]


@pytest.fixture
def visit(chromium, server):
    """Open the page as a new visitor; afterwards, check that it asked nobody else and logged no error."""
    contexts, foreign, errors = [], [], []

    def open_page(viewport=WIDE):
        context = chromium.new_context(viewport=viewport, accept_downloads=True)
        context.set_default_timeout(120_000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: foreign.append(request.url) if is_foreign(request.url) else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(server)
        ready(page)
        return page

    def is_foreign(url):
        return not url.startswith((server, "data:", "blob:"))

    yield open_page
    for context in contexts:
        context.close()
    assert foreign == []
    assert errors == []
