"""The table, the page and the gallery of a study. How the page looks is for tests/browser."""

import csv
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from nst.engine.quality import QUALITY
from nst.study.datasets import find_dataset
from nst.study.plan import Plan, grid
from nst.study.report import write_gallery, write_report


def test_the_table_has_a_row_for_each_run_and_says_what_failed(dataset, base, make, folder):
    dataset.contents[0].path.write_bytes(b"no image")
    plan = Plan(dataset, grid(base, {"style_weight": [10, 100]}))
    make(plan, folder)
    write_report(plan, folder)
    with (folder.path / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    for row, run in zip(rows, plan, strict=True):
        assert row["content_image"] == run.content.path.name
        assert float(row["style_weight"]) == run.config.style_weight
        failed = run.content is dataset.contents[0]
        assert ("not a readable image" in row["failed"]) == failed
        if not failed:
            record = folder.record(row["id"])
            assert float(row["total"]) == record["history"][-1]["total"]
            assert float(row["edge_ssim"]) == record["measures"]["edge_ssim"]
            bounds = float(row["edge_ssim_of_photo"]), float(row["edge_ssim_of_painting"])
            assert [*bounds] == record["bounds"]["edge_ssim"]
    failures = embedded((folder.path / "index.html").read_text(), "about")["failures"]
    assert len(failures) == 4
    assert failures[0]["run"] == "berlin cathedral × hokusai great wave, β 10"


def embedded(page, name):
    """The value that the page's script has under that name."""
    return json.loads(re.search(rf"const {name} = (.*?);\n\n?const ", page, re.DOTALL)[1])


def test_the_page_holds_every_run_and_asks_for_nothing(dataset, base, make, folder):
    hostile = dataset.contents[0].path
    hostile.rename(hostile.with_name("</script><script>alert(1)</script>{{ 7 * 7 }}.png".replace("/", "∕")))
    folder_of_images = hostile.parents[1].rename(hostile.parents[2] / "<b>views & 'more'")
    plan = Plan(find_dataset(str(folder_of_images)), grid(base, {"style_weight": [10, 100]}))
    make(plan, folder)
    write_report(plan, folder)
    page = (folder.path / "index.html").read_text()
    runs, about = embedded(page, "runs"), embedded(page, "about")
    assert [run["id"] for run in runs] == [folder.run_id(run) for run in plan]
    assert [(run["row"], run["column"]) for run in runs] == [plan.place(run) for run in plan]
    assert all(run["picture"].startswith("data:image/webp;base64,") for run in runs)
    assert runs[0]["curve"][0] == [1, 2]
    assert len(about["tradeOff"]["data"]) == 4
    assert sorted(about["tradeOff"]["data"][0]["text"]) == ["β 10", "β 100"]
    titles = about["rows"][0]["title"] + about["rows"][1]["title"]
    assert "alert(1)" in titles
    assert "{{ 7 * 7 }}" in titles
    assert "<script>alert" not in page
    assert "<title>Study: &lt;b&gt;views &amp; &#39;more&#39;</title>" in page
    own = re.sub(r"<script>/\*\*.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", own.split("<body>")[1])


def test_a_curve_with_a_part_of_the_points_ends_with_the_last_step(dataset, base, make, folder):
    plan = Plan(
        replace(dataset, contents=dataset.contents[:1], styles=dataset.styles[:1]),
        [replace(base, iterations=104)],
    )
    make(plan, folder)
    write_report(plan, folder)
    [run] = embedded((folder.path / "index.html").read_text(), "runs")
    assert run["curve"][0] == [*range(1, 104, 2), 104]


def test_the_page_has_the_bounds_of_each_pair_and_their_medians(made, folder):
    plan, made_folder, _ = made
    shutil.copytree(made_folder.path, folder.path)
    write_report(plan, folder)
    page = (folder.path / "index.html").read_text()
    runs, about = embedded(page, "runs"), embedded(page, "about")
    assert [run["bounds"] for run in runs] == [0, 0, 1, 1, 2, 2, 3, 3]  # each pair with two weights
    place = about["measures"]["color_distance"]
    records = [folder.record(run["id"]) for run in runs]
    for run, record in zip(runs, records, strict=True):
        found = [about["bounds"][run["bounds"]][picture][place] for picture in (0, 1)]
        assert found == pytest.approx(record["bounds"]["color_distance"], rel=1e-3)
    medians = np.median([record["bounds"]["color_distance"] for record in records], axis=0)
    assert [values[place] for values in about["medianBounds"]] == pytest.approx(medians, rel=1e-3)
    assert about["bounded"] == ["the photo unchanged", "the painting itself"]


def test_records_without_bounds_and_with_fewer_measures_are_shown(made, folder):
    plan, made_folder, _ = made
    shutil.copytree(made_folder.path, folder.path)
    for path in folder.path.glob("runs/*/run.json"):
        record = json.loads(path.read_text())
        del record["bounds"], record["measures"]["judged_style"]
        path.write_text(json.dumps(record))
    write_report(plan, folder)
    with (folder.path / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(plan)
    assert all(row["judged_style"] == row["edge_ssim_of_photo"] == row["failed"] == "" for row in rows)
    assert all(float(row["edge_ssim"]) < 1 for row in rows)
    about = embedded((folder.path / "index.html").read_text(), "about")
    assert about["medianBounds"] == [[None] * len(QUALITY)] * 2


def test_a_study_of_one_weight_has_no_trade_off(dataset, base, folder):
    plan = Plan(dataset, grid(base, {"seed": [0, 1]}))
    folder.path.mkdir()
    write_report(plan, folder)
    page = (folder.path / "index.html").read_text()
    assert embedded(page, "runs") == []
    assert embedded(page, "about")["tradeOff"] is None


def test_the_gallery_has_the_picture_and_the_record_of_each_pair(made, tmp_path):
    plan, folder, _ = made
    plan = Plan(plan.dataset, plan.configs[:1])
    write_gallery(plan, folder, tmp_path / "results")
    written = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert written == sorted(f"{run.name}{ending}" for run in plan for ending in (".jpg", ".json"))
    first = next(iter(plan))
    record = json.loads((tmp_path / "results" / f"{first.name}.json").read_text())
    assert record == folder.record(folder.run_id(first))
