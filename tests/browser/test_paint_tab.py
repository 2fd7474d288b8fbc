"""What visitors do, in a real browser: choose, paint, stop, take home, and make mistakes."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from browsing import (
    PHONE,
    WIDE,
    button,
    chart_place,
    chart_points,
    colors,
    preview,
    quick,
    result,
    save,
    set_number,
    set_range,
    stylize,
)
from PIL import Image
from playwright.sync_api import expect
from served import EXAMPLES, serving

EARLIER = Path(__file__).parents[1] / "study" / "earlier" / "study" / "runs"  # pictures of an earlier version


def test_a_visitor_picks_an_example_watches_it_being_painted_and_takes_it_home(visit, tmp_path):
    page = visit()
    page.get_by_role("tab", name=re.compile("Large dataset")).click()
    page.locator(".pairs:visible button.thumbnail-item").nth(9).click()
    expect(page.locator("#content img")).to_have_attribute("src", re.compile("mountain-sunset"))
    expect(page.locator("#style img")).to_have_attribute("src", re.compile("munch-the-scream"))

    quick(page, size=192, iterations=100)
    button(page, "Stylize").click()
    expect(page.locator(".status")).to_contain_text("step")
    previews, points = set(), []
    while button(page, "Stylize").count() == 0:
        previews.add(preview(page))
        points.append(sum(chart_points(page)))
        page.wait_for_timeout(200)
    assert len(previews - {None}) >= 3
    assert len(set(points)) >= 3
    assert points[-1] > points[0]

    expect(page.locator(".status")).to_contain_text("Done: 100 steps")
    expect(page.locator("#comparison img").nth(1)).to_be_visible()
    page.wait_for_function("document.querySelector('#chart .js-plotly-plot')?.data[0].x.length === 100")
    assert save(page, tmp_path / "picture.png") == "mountain-sunset--munch-the-scream.png"
    assert Image.open(tmp_path / "picture.png").size == (192, 128)
    save(page, tmp_path / "run.json", "The run record (JSON)")
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["config"]["iterations"] == len(record["history"]) == 100
    assert record["ended"] == "finished"


def test_stop_keeps_the_picture_so_far(visit, tmp_path):
    page = visit()
    quick(page, size=512, iterations=1000)
    button(page, "Stylize").click()
    expect(page.locator(".status")).to_contain_text("step")
    button(page, "Stop").click()
    expect(page.locator(".status")).to_contain_text("Stopped: ")
    save(page, tmp_path / "picture.png")
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
    expect(page.locator(".status")).to_contain_text("Level 1 of 1 (64 px), step")
    flat = re.compile(
        r"^Step \d+ of 1000, .* left\. The losses have levelled off: Stop keeps this picture\.$"
    )
    expect(page.locator(".status p")).to_have_text(flat)
    first = page.locator(".status p").inner_text()
    expect(page.locator(".status p")).not_to_have_text(first)
    expect(page.locator(".status p")).to_have_text(flat)  # it stays said
    assert chart_place(page) == place
    button(page, "Stop").click()
    expect(page.locator(".status")).to_contain_text("Stopped: ")
    expect(page.locator("#comparison img").nth(1)).to_be_visible()
    expect(page.locator(".status")).not_to_contain_text("levelled")


def test_stop_takes_a_waiting_visitor_out_of_the_queue(visit):
    first, second = visit(), visit()
    quick(first, size=512, iterations=1000)
    button(first, "Stylize").click()
    expect(first.locator(".status")).to_contain_text("step")
    button(second, "Stylize").click()
    expect(second.locator(".status")).to_contain_text("Your picture is number 2 of 2 in the queue")
    button(second, "Stop").click()
    expect(second.locator(".status")).to_contain_text("Stopped before the first step")
    button(first, "Stop").click()
    expect(first.locator(".status")).to_contain_text("Stopped: ")


def test_two_visitors_see_their_own_pictures_one_after_the_other(visit):
    first, second = visit(), visit(PHONE)
    second.locator(".pairs:visible button.thumbnail-item").nth(2).click()
    expect(second.locator("#style img")).to_have_attribute("src", re.compile("great-wave"))
    for page in (first, second):
        quick(page, size=128, iterations=30)
        button(page, "Stylize").click()
    expect(second.locator(".status")).to_contain_text("Your picture is number 2 of 2 in the queue")
    for page in (first, second):
        expect(page.locator(".status")).to_contain_text("Done: 30 steps")
    scream, great_wave = (colors(page) for page in (first, second))
    assert scream[0] - scream[2] > great_wave[0] - great_wave[2] + 20  # the one is redder than the other


def test_closing_the_tab_frees_the_place(visit):
    first, second = visit(), visit()
    quick(first, size=512, iterations=1000)
    quick(second)
    button(first, "Stylize").click()
    expect(first.locator(".status")).to_contain_text("step")
    button(second, "Stylize").click()
    first.close()
    expect(second.locator(".status")).to_contain_text("Done")


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
    expect(page.locator(".status")).to_contain_text("Done")


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
    expect(page.locator(".status")).to_contain_text("Done")
    save(page, tmp_path / "run.json", "The run record (JSON)")
    assert json.loads((tmp_path / "run.json").read_text())["config"]["style_weight"] == 10 * int(before)
    page.locator(".log-slider").get_by_role("button", name="Reset to default value").click()
    expect(page.get_by_role("spinbutton", name=re.compile("Style weight"))).to_have_value("10")
    quick(page, size=64, iterations=2)
    button(page, "Stylize").click()
    expect(page.locator(".status")).to_contain_text("Done: 2 steps")
    save(page, tmp_path / "reset.json", "The run record (JSON)")
    assert json.loads((tmp_path / "reset.json").read_text())["config"]["style_weight"] == 10


def test_a_run_that_fails_says_why_and_the_next_one_works(visit, monkeypatch):
    monkeypatch.setenv("NST_WEIGHTS", "/nowhere/weights.h5")
    page = visit()
    quick(page, iterations=5)
    page.get_by_text("Advanced").click()
    page.get_by_role("radio", name="VGG-19").click()
    button(page, "Stylize").click()
    sentence = "This network is not available here: please choose another network."
    expect(page.locator(".status")).to_have_text(sentence)
    expect(page.locator("#backbone p")).to_have_text(re.compile(r"^Read by VGG-1[69]\.$"))
    expect(page.locator("#comparison img").nth(1)).to_be_visible()  # what was there before
    for name in ("Go on from here", "Save"):
        expect(button(page, name)).to_be_enabled()
    page.get_by_role("radio", name="VGG-16").click()
    button(page, "Stylize").click()
    expect(page.locator(".status")).to_contain_text("Done")
    expect(page.locator("#backbone p")).to_have_text("Read by VGG-16.")


@pytest.mark.parametrize("viewport", [WIDE, PHONE])
def test_nothing_moves_while_a_run_goes_on(visit, viewport):
    page = visit(viewport)
    quick(page, size=192, iterations=40)
    places = {chart_place(page)}
    text = "Takes about 36 s here. With 2 in the queue now, it would begin in about 20 s."
    page.locator("#time p").evaluate("(line, text) => { line.innerText = text; }", text)
    places.add(chart_place(page))
    button(page, "Stylize").click()
    expect(button(page, "Painting …")).to_be_visible()
    while button(page, "Stylize").count() == 0:
        places.add(chart_place(page))
        page.wait_for_timeout(100)
    expect(page.locator(".status")).to_contain_text("Done")
    places.add(chart_place(page))
    assert len(places) == 1


def test_a_phone_shows_the_whole_width_and_the_picture_after_a_tap(visit):
    page = visit(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    quick(page)
    button(page, "Stylize").click()
    expect(page.locator("#picture, #comparison").locator("visible=true").first).to_be_in_viewport()
    expect(button(page, "Stop")).to_be_in_viewport()
    expect(page.locator(".status")).to_contain_text("Done")


def test_a_folder_of_ones_own_takes_the_examples_place(chromium, tmp_path, monkeypatch):
    for role, source_file in (("content", "berlin-cathedral.jpg"), ("style", "cassatt-summertime.jpg")):
        (tmp_path / role).mkdir()
        shutil.copy(EXAMPLES / role / source_file, tmp_path / role / f"my-{role}.jpg")
    monkeypatch.setenv("NST_EXAMPLES", str(tmp_path))
    with serving() as (_, served):
        page = chromium.new_page()
        page.goto(served.local_url)
        page.locator(".pairs:visible button.thumbnail-item").click()
        expect(page.locator("#style img")).to_have_attribute("src", re.compile("my-style"))
        quick(page, iterations=5)
        button(page, "Stylize").click()
        expect(page.locator(".status")).to_contain_text("Done")


def test_a_moment_of_the_run_is_shown_marked_saved_and_gone_on_from(visit, tmp_path):
    page = visit()
    stylize(page, size=128, iterations=40)
    end = result(page)
    set_range(page, "Moment", 3)
    expect(page.locator(".status")).to_contain_text(re.compile(r"^Step \d+ of 40, 128 px: content"))
    page.wait_for_function(
        "(end) => [...document.querySelectorAll('#comparison img')].at(-1).src !== end", arg=end
    )
    page.wait_for_function("document.querySelector('#chart .js-plotly-plot')?.layout.shapes?.length === 1")
    step = int(re.search(r"Step (\d+)", page.locator(".status").inner_text())[1])
    assert f"--step-{step}.png" in save(page, tmp_path / "moment.png")
    assert Image.open(tmp_path / "moment.png").size == (128, 96)

    set_number(page, "Style weight", 1000)
    quick(page, iterations=5)
    button(page, "Go on from here").click()
    expect(page.locator(".status")).to_contain_text("Done: 5 steps")
    save(page, tmp_path / "run.json", "The run record (JSON)")
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["config"]["style_weight"] == 1000
    assert record["images"]["start"]["name"] == f"step {step} of the run before"


def upload(page, pane, file):
    """Put another image into a pane."""
    page.locator(pane).get_by_label("Remove Image").click()
    page.locator(f"{pane} input[type=file]").set_input_files(file)
    expect(page.locator(f"{pane} img")).to_be_visible()


def test_another_photo_leaves_the_results_of_others_behind_and_the_own_one_to_be_saved(visit, tmp_path):
    page = visit()
    upload(page, "#style", EXAMPLES / "style" / "renoir-moulin-de-la-galette.jpg")
    expect(page.locator(".status").first).to_have_text("Press Stylize to start.")
    expect(page.locator("#comparison")).to_be_hidden()
    for name in ("Go on from here", "Save"):
        expect(button(page, name)).to_be_disabled()
    stylize(page, size=96, iterations=5)
    upload(page, "#content", EXAMPLES / "content" / "mountain-sunset.jpg")
    expect(page.locator(".status").first).to_contain_text("Press Stylize to paint the new photo.")
    expect(button(page, "Go on from here")).to_be_disabled()
    assert save(page, tmp_path / "own.png") == "chenonceau--renoir-moulin-de-la-galette.png"
    stylize(page, size=96, iterations=6)
    button(page, "Go on from here").click()
    expect(page.locator(".status").first).to_contain_text("Done: 6 steps")


def test_going_on_with_another_photo_than_the_pictures_own_is_refused(visit):
    page = visit()
    quick(page, size=256, iterations=300)
    button(page, "Stylize").click()
    expect(page.locator(".status").first).to_contain_text("step")
    upload(page, "#content", EXAMPLES / "content" / "mountain-sunset.jpg")  # while it is painted
    button(page, "Stop").click()
    expect(page.locator(".status").first).to_contain_text("Stopped: ")
    button(page, "Go on from here").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("This picture is of another photo")


def test_strength_changes_the_picture_without_a_new_run(visit, tmp_path):
    page = visit()
    stylize(page, iterations=20)
    end = result(page)
    save(page, tmp_path / "full.png")
    set_range(page, "Strength", 0)
    page.wait_for_function(
        "(end) => [...document.querySelectorAll('#comparison img')].at(-1).src !== end", arg=end
    )
    expect(page.locator(".status")).to_contain_text("Done")
    page.wait_for_timeout(500)
    save(page, tmp_path / "none.png")
    full, none = (np.asarray(Image.open(tmp_path / f"{name}.png"), float) for name in ("full", "none"))
    photo = np.asarray(Image.open(EXAMPLES / "content" / "chenonceau.jpg").resize((128, 96)), float)
    assert np.abs(none - photo).mean() < 5 < np.abs(full - photo).mean()


@pytest.mark.parametrize(
    ("form", "ending", "kind"),
    [
        ("JPEG", "jpg", b"\xff\xd8"),
        ("WebP", "webp", b"RIFF"),
        ("The run as a film (MP4)", "mp4", b"ftyp"),
        ("The run as an animation (WebP)", "webp", b"ANIM"),
        ("The losses (CSV)", "csv", b"step,level,size"),
    ],
)
def test_a_run_is_taken_home_in_many_forms(visit, tmp_path, form, ending, kind):
    page = visit()
    stylize(page, iterations=10)
    assert save(page, tmp_path / "file", form).endswith(f"--munch-the-scream.{ending}")
    assert kind in (tmp_path / "file").read_bytes()[:1000]


def test_dropping_a_saved_picture_restores_its_settings(visit, tmp_path):
    page = visit()
    page.get_by_text("Strokes and colours").click()
    page.get_by_role("radio", name="matched").click()
    set_number(page, "Style scale", 0.5)
    set_number(page, "Content weight", 3.5)
    stylize(page, iterations=4)
    save(page, tmp_path / "picture.png")

    other = visit()
    other.get_by_text("Settings of an earlier picture").click()
    other.locator("#earlier input[type=file]").set_input_files(tmp_path / "picture.png")
    expect(other.get_by_test_id("toast-body")).to_contain_text("All settings were restored.")
    expect(other.get_by_test_id("toast-body")).not_to_contain_text("are not all here")
    expect(other.get_by_role("spinbutton", name=re.compile("Content weight")).first).to_have_value("3.5")
    expect(other.get_by_role("spinbutton", name=re.compile("Size")).first).to_have_value("128")
    other.get_by_text("Strokes and colours").click()
    expect(other.get_by_role("radio", name="matched")).to_be_checked()

    Image.open(EXAMPLES / "content" / "chenonceau.jpg").resize((64, 48)).save(tmp_path / "none.png")
    third = visit()
    third.get_by_text("Settings of an earlier picture").click()
    third.locator("#earlier input[type=file]").set_input_files(tmp_path / "none.png")
    expect(third.get_by_test_id("toast-body")).to_contain_text("This picture holds no record of a run")


def test_dropping_a_saved_picture_names_the_images_that_are_not_there(visit, tmp_path):
    page = visit()
    page.get_by_text("More paintings").click()
    page.locator("#style2 input[type=file]").set_input_files(EXAMPLES / "style" / "hokusai-great-wave.jpg")
    expect(page.locator("#style2 img")).to_be_visible()
    page.get_by_text("Paint only a part").click()
    Image.new("L", (64, 48), 255).save(tmp_path / "my <b>mask.png")
    page.locator("#mask input[type=file]").set_input_files(tmp_path / "my <b>mask.png")
    expect(page.locator("#mask img")).to_be_visible()
    stylize(page, size=64, iterations=2)
    save(page, tmp_path / "picture.png")

    other = visit()
    other.get_by_text("Settings of an earlier picture").click()
    other.locator("#earlier input[type=file]").set_input_files(tmp_path / "picture.png")
    expect(other.get_by_test_id("toast-body")).to_contain_text(
        re.compile(r"please add its painting 2 \(hokusai-great-wave.jpg\) and mask \(my .*mask\.png\)\.")
    )


def test_dropping_a_picture_of_an_earlier_version_says_what_has_changed(visit):
    page = visit()
    page.get_by_text("Settings of an earlier picture").click()
    page.locator("#earlier input[type=file]").set_input_files(sorted(EARLIER.glob("*/result.png"))[0])
    expect(page.get_by_test_id("toast-body")).to_contain_text(
        "All settings were restored. An earlier version made this picture with another network and other "
        "scales of the weights: a new run will look different. Its images are not all here"
    )
    page.get_by_text("Advanced").click()
    expect(page.get_by_role("radio", name="VGG-16")).to_be_checked()
    expect(page.get_by_role("spinbutton", name=re.compile("Size")).first).to_have_value("64")
    button(page, "Stylize").click()
    expect(page.locator(".status")).to_contain_text("Done: 2 steps")


def test_a_preset_sets_the_controls(visit):
    page = visit()
    page.get_by_label("Preset").click()
    page.get_by_role("option", name="Light wash").click()
    expect(page.get_by_role("spinbutton", name=re.compile("Style weight"))).not_to_have_value("100")
    expect(page.get_by_role("spinbutton", name=re.compile("Size")).first).to_have_value("512")


def test_a_second_painting_is_blended_in(visit, tmp_path):
    page = visit()
    page.get_by_text("More paintings").click()
    page.locator("#style2 input[type=file]").set_input_files(EXAMPLES / "style" / "hokusai-great-wave.jpg")
    expect(page.locator("#style2 img")).to_be_visible()
    set_number(page, "Weight 2", 3)
    stylize(page, iterations=4)
    save(page, tmp_path / "run.json", "The run record (JSON)")
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["config"]["style_blend"] == [1, 3]
    assert [entry["name"] for entry in record["images"]["styles"]] == [
        "munch-the-scream.jpg",
        "hokusai-great-wave.jpg",
    ]


def test_only_what_is_drawn_on_the_photo_is_painted(visit, tmp_path):
    page = visit()
    page.get_by_text("Paint only a part").click()
    button(page, "Draw on the photo").click()
    canvas = page.locator("#drawing canvas").first
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(1500)
    box = canvas.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle[0] - 60, middle[1])
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1], steps=5)
    page.mouse.up()
    expect(page.locator("#mask img")).to_be_visible()
    stylize(page, iterations=8)
    save(page, tmp_path / "picture.png")
    picture = np.asarray(Image.open(tmp_path / "picture.png"), float)
    photo = np.asarray(Image.open(EXAMPLES / "content" / "chenonceau.jpg").resize((128, 96)), float)
    change = np.abs(picture - photo).mean(axis=2)
    assert change[:8].mean() < 6 < change[44:52, 50:78].mean()
