"""What visitors do, in a real browser: choose, paint, stop, take home, and make mistakes."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import PHONE, WIDE, button, serving
from PIL import Image
from playwright.sync_api import expect

EXAMPLES = Path(__file__).parents[2] / "examples"


def set_number(page, label, value):
    """Type into the number box of a slider."""
    box = page.get_by_role("spinbutton", name=re.compile(label)).first
    box.fill(str(value))
    box.press("Enter")


def quick(page, size=128, iterations=40):
    set_number(page, "Size", size)
    set_number(page, "Iterations", iterations)


def preview(page):
    """The address of the preview, None where there is none at this moment."""
    return page.evaluate("document.querySelector('#picture img')?.src")


def chart_points(page):
    """How many steps each line of the chart shows."""
    return page.evaluate(
        "[...document.querySelectorAll('#chart .js-plotly-plot')].flatMap(p => p.data.map(t => t.x.length))"
    )


def test_a_visitor_picks_an_example_watches_it_being_painted_and_takes_it_home(visit, tmp_path):
    page = visit()
    page.get_by_role("tab", name=re.compile("Large dataset")).click()
    page.locator(".pairs:visible button.thumbnail-item").nth(9).click()
    expect(page.locator("#content img")).to_have_attribute("src", re.compile("mountain-sunset"))
    expect(page.locator("#style img")).to_have_attribute("src", re.compile("munch-the-scream"))

    quick(page, size=256, iterations=150)
    button(page, "Stylize").click()
    expect(page.locator(".status")).to_contain_text("step", timeout=60_000)
    previews, points = set(), []
    while button(page, "Stylize").count() == 0:
        previews.add(preview(page))
        points.append(sum(chart_points(page)))
        page.wait_for_timeout(200)
    assert len(previews - {None}) >= 3
    assert len(set(points)) >= 3
    assert points[-1] > points[0]

    expect(page.locator(".status")).to_contain_text("Done: 150 steps")
    expect(page.locator("#comparison img").nth(1)).to_be_visible()
    page.wait_for_function("document.querySelector('#chart .js-plotly-plot')?.data[0].x.length === 150")
    with page.expect_download() as download:
        page.get_by_role("link", name="Save picture").or_(button(page, "Save picture")).first.click()
    assert download.value.suggested_filename == "mountain-sunset--munch-the-scream.png"
    download.value.save_as(tmp_path / "picture.png")
    assert Image.open(tmp_path / "picture.png").size == (256, 171)
    with page.expect_download() as download:
        page.get_by_role("link", name="Save run record").or_(button(page, "Save run record")).first.click()
    download.value.save_as(tmp_path / "run.json")
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["config"]["iterations"] == len(record["history"]) == 150
    assert record["ended"] == "finished"


def test_stop_keeps_the_picture_so_far(visit, tmp_path):
    page = visit()
    quick(page, size=512, iterations=1000)
    button(page, "Stylize").click()
    expect(page.locator(".status")).to_contain_text("step", timeout=60_000)
    button(page, "Stop").click()
    expect(page.locator(".status")).to_contain_text("Stopped: ", timeout=60_000)
    with page.expect_download() as download:
        page.get_by_role("link", name="Save picture").or_(button(page, "Save picture")).first.click()
    download.value.save_as(tmp_path / "picture.png")
    assert np.asarray(Image.open(tmp_path / "picture.png")).std() > 20
    expect(button(page, "Stylize")).to_be_enabled()


@pytest.mark.parametrize("viewport", [WIDE, PHONE])
def test_once_the_losses_have_levelled_off_the_page_says_so_and_stop_keeps_the_picture(visit, viewport):
    page = visit(viewport)
    quick(page, size=64, iterations=1000)
    place = chart_place(page)
    set_number(page, "Style weight", 0.1)
    page.get_by_text("Advanced").click()
    page.get_by_role("radio", name="Adam").click()
    page.get_by_text("Advanced").click()
    button(page, "Stylize").click()
    expect(page.locator(".status")).to_contain_text("Level 1 of 1 (64 px), step", timeout=60_000)
    flat = re.compile(
        r"^Step \d+ of 1000, .* left\. The losses have levelled off: Stop keeps this picture\.$"
    )
    expect(page.locator(".status p")).to_have_text(flat, timeout=60_000)
    first = page.locator(".status p").inner_text()
    expect(page.locator(".status p")).not_to_have_text(first)
    expect(page.locator(".status p")).to_have_text(flat)  # it stays said
    assert chart_place(page) == place
    button(page, "Stop").click()
    expect(page.locator(".status")).to_contain_text("Stopped: ", timeout=60_000)
    expect(page.locator("#comparison img").nth(1)).to_be_visible()
    expect(page.locator(".status")).not_to_contain_text("levelled")


def test_stop_takes_a_waiting_visitor_out_of_the_line(visit):
    first, second = visit(), visit()
    quick(first, size=512, iterations=1000)
    button(first, "Stylize").click()
    expect(first.locator(".status")).to_contain_text("step", timeout=60_000)
    button(second, "Stylize").click()
    expect(second.locator(".status")).to_contain_text("You are number 2 in the line", timeout=60_000)
    button(second, "Stop").click()
    expect(second.locator(".status")).to_contain_text("Stopped before the first step")
    button(first, "Stop").click()
    expect(first.locator(".status")).to_contain_text("Stopped: ", timeout=60_000)


def test_two_visitors_see_their_own_pictures_one_after_the_other(visit):
    first, second = visit(), visit(PHONE)
    second.locator(".pairs:visible button.thumbnail-item").nth(2).click()
    expect(second.locator("#style img")).to_have_attribute("src", re.compile("great-wave"))
    for page in (first, second):
        quick(page, size=192, iterations=40)
        button(page, "Stylize").click()
    expect(second.locator(".status")).to_contain_text("You are number 2 in the line", timeout=60_000)
    for page in (first, second):
        expect(page.locator(".status")).to_contain_text("Done: 40 steps", timeout=120_000)
    scream, great_wave = (colors(page) for page in (first, second))
    assert scream[0] - scream[2] > great_wave[0] - great_wave[2] + 20  # the one is redder than the other


def colors(page):
    """The mean red, green and blue of the result."""
    return page.evaluate(
        """async () => {
            const image = [...document.querySelectorAll('#comparison img')].at(-1);
            await image.decode();
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
            const mean = (values) => values.reduce((a, b) => a + b) / values.length;
            return [0, 1, 2].map((channel) => mean(data.filter((_, index) => index % 4 === channel)));
        }"""
    )


def test_closing_the_tab_frees_the_place(visit):
    first, second = visit(), visit()
    quick(first, size=512, iterations=1000)
    quick(second)
    button(first, "Stylize").click()
    expect(first.locator(".status")).to_contain_text("step", timeout=60_000)
    button(second, "Stylize").click()
    first.close()
    expect(second.locator(".status")).to_contain_text("Done", timeout=120_000)


def test_a_missing_or_damaged_picture_gets_a_plain_sentence_and_nothing_is_lost(visit, tmp_path):
    page = visit()
    quick(page)
    (tmp_path / "holiday.png").write_bytes(b"<svg></svg>")
    page.locator("#content").get_by_label("Remove Image").click()
    button(page, "Stylize").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("Please add a photo first.")
    page.get_by_test_id("toast-close").click()
    page.locator("#content input[type=file]").set_input_files(tmp_path / "holiday.png")
    page.wait_for_timeout(1000)
    button(page, "Stylize").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("Photo: This file is not a readable image")
    page.locator(".pairs:visible button.thumbnail-item").nth(3).click()
    expect(page.locator("#style img")).to_have_attribute("src", re.compile("kandinsky"))
    button(page, "Stylize").click()
    expect(page.locator(".status")).to_contain_text("Done", timeout=120_000)


def test_the_style_weight_slider_shows_the_weight_itself(visit, tmp_path):
    page = visit()
    quick(page, iterations=5)
    slider = page.get_by_role("slider", name=re.compile("Style weight"))
    slider.focus()
    before = page.get_by_role("spinbutton", name=re.compile("Style weight")).input_value()
    for _ in range(20):
        slider.press("ArrowRight")  # 20 times a twentieth of a decade
    expect(page.get_by_role("spinbutton", name=re.compile("Style weight"))).to_have_value(
        str(10 * int(before))
    )
    button(page, "Stylize").click()
    expect(page.locator(".status")).to_contain_text("Done", timeout=120_000)
    with page.expect_download() as download:
        page.get_by_role("link", name="Save run record").or_(button(page, "Save run record")).first.click()
    download.value.save_as(tmp_path / "run.json")
    assert json.loads((tmp_path / "run.json").read_text())["config"]["style_weight"] == 10 * int(before)


def test_a_run_that_fails_says_why_and_the_next_one_works(visit, monkeypatch):
    monkeypatch.setenv("NST_WEIGHTS", "/nowhere/weights.h5")
    page = visit()
    quick(page, iterations=5)
    page.get_by_text("Advanced").click()
    page.get_by_role("radio", name="VGG-19").click()
    button(page, "Stylize").click()
    expect(page.locator(".status")).to_contain_text("please choose another network", timeout=60_000)
    expect(page.locator("#comparison img").nth(1)).to_be_visible()  # what was there before
    page.get_by_role("radio", name="the bundled VGG-16").click()
    button(page, "Stylize").click()
    expect(page.locator(".status")).to_contain_text("Done", timeout=120_000)


@pytest.mark.parametrize("viewport", [WIDE, PHONE])
def test_nothing_moves_while_a_run_goes_on(visit, viewport):
    page = visit(viewport)
    quick(page, size=192, iterations=60)
    places = {chart_place(page)}
    button(page, "Stylize").click()
    expect(button(page, "Painting …")).to_be_visible()
    while button(page, "Stylize").count() == 0:
        places.add(chart_place(page))
        page.wait_for_timeout(100)
    expect(page.locator(".status")).to_contain_text("Done")
    places.add(chart_place(page))
    assert len(places) == 1


def chart_place(page):
    """How far below the top of the page the chart begins, in pixels."""
    return page.evaluate("document.querySelector('#chart').getBoundingClientRect().top + window.scrollY")


def test_a_phone_shows_the_whole_width_and_the_picture_after_a_tap(visit):
    page = visit(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    quick(page)
    button(page, "Stylize").click()
    expect(page.locator("#picture, #comparison").locator("visible=true").first).to_be_in_viewport()
    expect(button(page, "Stop")).to_be_in_viewport()
    expect(page.locator(".status")).to_contain_text("Done", timeout=120_000)


def test_a_folder_of_ones_own_takes_the_examples_place(chromium, tmp_path, monkeypatch):
    for role, source_file in (("content", "berlin-cathedral.jpg"), ("style", "cassatt-summertime.jpg")):
        (tmp_path / role).mkdir()
        shutil.copy(EXAMPLES / role / source_file, tmp_path / role / f"my-{role}.jpg")
    monkeypatch.setenv("NST_EXAMPLES", str(tmp_path))
    with serving() as server:
        page = chromium.new_page()
        page.goto(server)
        page.locator(".pairs:visible button.thumbnail-item").click()
        expect(page.locator("#style img")).to_have_attribute("src", re.compile("my-style"))
        quick(page, iterations=5)
        button(page, "Stylize").click()
        expect(page.locator(".status")).to_contain_text("Done", timeout=120_000)
