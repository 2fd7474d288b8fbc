"""Studies in a real browser: the tab of the page, and the index that the command writes."""

import json
import re
import zipfile
from contextlib import closing

import pytest
from browsing import PHONE, WIDE, button, set_number
from playwright.sync_api import expect
from served import EXAMPLES

from nst.config import TransferConfig
from nst.runs.runner import LocalRunner
from nst.study.datasets import Dataset, load_datasets
from nst.study.execute import execute
from nst.study.folder import StudyFolder
from nst.study.plan import Plan, grid
from nst.study.report import write_report


def open_study(page, styles="10, 100", size=64, iterations=4):
    page.get_by_role("tab", name="Study").click()
    page.get_by_label("Style weights").fill(styles)
    set_number(page, "Size", size)
    set_number(page, "Iterations", iterations)


def cells(page, kind="button"):
    return page.locator(f"#sheet td {kind}")


def test_the_sheet_fills_and_one_click_opens_a_run_in_the_first_tab(visit, tmp_path):
    page = visit()
    open_study(page)
    expect(page.locator("#extent")).to_contain_text(re.compile(r"8 runs, about \d+ s\."))
    button(page, "Start").click()
    expect(page.locator("#sheet thead th")).to_have_count(8)
    expect(page.locator(".status:visible")).to_contain_text("Done: 8 of 8 runs")
    expect(cells(page)).to_have_count(8)
    page.wait_for_function(
        "[...document.querySelectorAll('#sheet img')].every(image => image.naturalWidth > 0)"
    )
    page.wait_for_function("document.querySelector('#study-chart .js-plotly-plot')?.data.length === 16")
    expect(page.locator(".legend span")).to_have_count(8)

    with page.expect_download() as download:
        button(page, "Save the study (ZIP)").click()
    download.value.save_as(tmp_path / "study.zip")
    names = zipfile.ZipFile(tmp_path / "study.zip").namelist()
    assert {"index.html", "runs.csv"} <= {*names}
    assert sum(name.endswith("result.png") for name in names) == 8

    cells(page).nth(2).click()  # the first row's third: the second style with the first weight
    expect(page.locator("#comparison img").nth(1)).to_be_visible()
    expect(page.locator(".status:visible")).to_contain_text("From the study:")
    expect(page.locator(".status:visible")).to_contain_text("β 10.")
    expect(page.get_by_role("spinbutton", name="Style weight")).to_have_value("10")
    expect(page.get_by_role("spinbutton", name=re.compile("Size")).locator("visible=true")).to_have_value(
        "64"
    )
    page.wait_for_function("document.querySelector('#chart .js-plotly-plot')?.data[0].x.length === 4")
    button(page, "Stylize").click()
    expect(page.locator(".status:visible")).to_contain_text("Done: 4 steps")


def test_a_stopped_study_goes_on_where_it_was(visit):
    page = visit(PHONE)
    open_study(page, styles="1 10 100", size=96, iterations=60)
    button(page, "Start").click()
    expect(cells(page)).not_to_have_count(0)
    page.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
    stopped = re.compile(r"Stopped: (\d+) of 12 runs finished\. Press Start to continue\.")
    expect(page.locator(".status:visible")).to_contain_text(stopped)
    made = cells(page).count()
    assert 1 <= made < 12
    sources = cells(page, "img").evaluate_all("images => images.map(image => image.src)")
    open_study(page, styles="1 10 100", size=96, iterations=60)
    button(page, "Start").click()
    expect(cells(page)).not_to_have_count(made)
    page.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
    expect(page.locator(".status:visible")).to_contain_text("Stopped: ")
    assert {*sources} <= {*cells(page, "img").evaluate_all("images => images.map(image => image.src)")}
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) <= PHONE["width"]


def test_a_visitors_own_images_make_a_study(visit, tmp_path):
    page = visit()
    open_study(page, styles="100")
    page.get_by_role("radio", name="My own images").click()
    expect(page.locator("#extent")).to_contain_text("Please add at least one photo and one painting.")
    (tmp_path / "torn.png").write_bytes(b"no image")
    photos = [EXAMPLES / "content" / "chenonceau.jpg", tmp_path / "torn.png"]
    page.locator("#study-contents input[type=file]").set_input_files(photos)
    page.locator("#study-styles input[type=file]").set_input_files(
        EXAMPLES / "style" / "munch-the-scream.jpg"
    )
    expect(page.locator("#extent")).to_contain_text("2 runs")
    button(page, "Start").click()
    expect(page.locator(".status:visible")).to_contain_text("Done: 1 of 2 runs finished. 1 failed.")
    expect(cells(page, ".failed")).to_have_attribute("title", re.compile("not a readable image"))


def test_a_study_that_is_too_large_or_has_no_weights_is_refused_in_a_sentence(visit):
    page = visit()
    open_study(page, styles="many")
    expect(page.locator("#extent")).to_have_text(
        "Please give one to 40 style weights, numbers with commas between them."
    )
    open_study(page, styles=", ".join(map(str, range(1, 40))), size=512, iterations=80)
    expect(page.locator("#extent")).to_contain_text("Please make the study smaller")
    button(page, "Start").click()
    expect(page.locator(".toast-body")).to_contain_text("Please make the study smaller")
    expect(button(page, "Start")).to_be_enabled()


def test_choosing_an_example_shows_its_premade_picture(visit):
    page = visit()
    page.get_by_role("tab", name=re.compile("Large dataset")).click()
    page.locator(".pairs:visible button.thumbnail-item").nth(9).click()
    said = "already painted like The Scream. Press Stylize to see it happen"
    expect(page.locator(".status:visible")).to_contain_text(f"Sunset over mountains, {said}")
    expect(page.locator("#comparison img").nth(1)).to_have_attribute(
        "src", re.compile("mountain-sunset--munch")
    )
    record = json.loads((EXAMPLES / "results" / "mountain-sunset--munch-the-scream.json").read_text())
    page.wait_for_function(
        f"document.querySelector('#chart .js-plotly-plot')?.data[0].x.length === {len(record['history'])}"
    )
    expect(button(page, "Save")).to_be_enabled()


# The index


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of 2 contents, 3 styles and 2 weights, of which one content's file has gone."""
    dataset = next(dataset for dataset in load_datasets() if dataset.name == "large")
    gone = dataset.contents[0].__class__(EXAMPLES / "content" / "gone.jpg", "Gone")
    dataset = Dataset("views", (dataset.contents[0], gone), dataset.styles[:3])
    base = TransferConfig(size=64, iterations=3, backbone="vgg16")
    plan = Plan(dataset, grid(base, {"style_weight": [10, 100]}))
    folder = StudyFolder(tmp_path_factory.mktemp("study"))
    with folder.locked(), closing(LocalRunner()) as runner:
        for _ in execute(plan, folder, runner):
            pass
        write_report(plan, folder)
    return folder


@pytest.fixture
def index(chromium, study):
    """The page as a file, offline."""
    errors = []

    def open_index(viewport=WIDE):
        context = chromium.new_context(viewport=viewport, offline=True)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((study.path / "index.html").as_uri())
        return page

    yield open_index
    assert errors == []


@pytest.mark.parametrize("viewport", [WIDE, PHONE])
def test_the_index_shows_every_run_from_the_file_system(index, viewport):
    page = index(viewport)
    expect(page.locator("#count")).to_have_text("6 of 12 runs made, 6 failed.")
    expect(page.locator("#sheet thead th")).to_have_count(6)
    expect(page.locator("#sheet td img")).to_have_count(6)
    assert page.evaluate("document.querySelector('#losses').data.length") == 12
    assert page.evaluate("document.querySelector('#trade-off').data.length") == 3
    expect(page.locator("#failures dt")).to_have_count(6)
    titles = page.locator("#trade-off .modebar-btn").evaluate_all("all => all.map(one => one.dataset.title)")
    assert "Zoom" in titles
    assert not any("Share" in title for title in titles)  # which would offer to upload the chart
    assert page.locator("#trade-off .xtick").count() >= 1
    assert page.locator("#trade-off .ytick").count() >= 1
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_the_index_sorts_compares_and_opens_runs(index):
    page = index()
    column = page.locator("#runs tbody td:nth-child(4)")  # the total loss
    numbers = [float(text) for text in column.all_inner_texts()]
    button(page, "total").click()
    assert [float(text) for text in column.all_inner_texts()] == sorted(numbers)
    button(page, "total ↑").click()
    assert [float(text) for text in column.all_inner_texts()] == sorted(numbers, reverse=True)

    bounds = page.locator("#runs thead tr")
    expect(bounds).to_have_text([re.compile("^run"), re.compile("^the photo"), re.compile("^the painting")])
    page.locator("#sheet thead th button").nth(1).click()
    assert page.evaluate("document.querySelector('#losses').data.length") == 2
    expect(page.locator("#curves-of")).to_contain_text("β 100")

    page.locator("#sheet td button").first.click()
    expect(page.locator("#one-title")).to_contain_text("β 10")
    page.wait_for_function("document.querySelector('#one-picture').naturalWidth === 64")
    expect(page.locator("#one-settings")).to_contain_text("vgg16")
    expect(page.locator("#one-numbers")).to_contain_text(
        re.compile(r"held out content0\.\d+ \(photo 0, painting")
    )
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#one")).to_be_hidden()
