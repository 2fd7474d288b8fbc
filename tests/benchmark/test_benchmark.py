"""The benchmark, in its smallest form: one pair at 64 pixels, and what its figures mean."""

import json
import math
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from nst.benchmark import references as bench
from nst.benchmark.references import ADAM, PAIRS, SCIPY, UNIT_STEP, Judged, Result, Task, Watch
from nst.config import TransferConfig
from nst.engine.images import resize

REFERENCES = (SCIPY, UNIT_STEP, ADAM)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "nst", "bench", "--size", "64", "--pairs", "1", "--patience", "1"]
    command += ["--objective", "gatys"]
    files = ["--json", folder / "bench.json", "--html", folder / "bench.html"]
    ran = subprocess.run([*command, *files], capture_output=True, text=True, check=True)
    return ran, json.loads((folder / "bench.json").read_text()), (folder / "bench.html").read_text()


def test_it_prints_what_each_procedure_reached_and_when_ours_was_there(measured):
    ran, _, _ = measured
    lines = ran.stdout.splitlines()
    start = lines.index("Objective: gatys")
    named = [line.split("|")[1].strip() for line in lines[start:] if line.startswith("|")]
    assert [name for name in named if name in REFERENCES][:3] == list(REFERENCES)
    assert any(re.fullmatch("ours, (float32|bfloat16)", name) for name in named)
    assert "Traceback" not in ran.stderr
    assert "oneDNN" not in ran.stderr  # the start of TensorFlow in the processes that measure growth


def test_every_procedure_starts_on_the_same_objective_and_lowers_it(measured):
    _, everything, _ = measured
    runs = {run["procedure"]: run for run in everything["runs"]}
    at_the_photo = {runs[name]["rows"][0]["total"] for name in REFERENCES}
    assert max(at_the_photo) == pytest.approx(min(at_the_photo), rel=1e-5)
    for name, run in runs.items():
        assert run["rows"][-1]["total"] < 0.2 * min(at_the_photo), name
        seconds = [row["seconds"] for row in run["rows"]]
        assert seconds == sorted(seconds)
    assert runs[UNIT_STEP]["final"]["evaluations"] == bench.EVALUATIONS
    assert abs(runs[SCIPY]["final"]["evaluations"] - bench.EVALUATIONS) <= 20  # ends its last line search
    ours = next(run for name, run in runs.items() if name.startswith("ours"))
    assert ours["final"]["evaluations"] >= TransferConfig().iterations


def test_growth_is_measured_over_sizes_and_steps(measured):
    _, everything, _ = measured
    grown = {(row["size"], row["iterations"]): row for row in everything["growth"]}
    assert set(grown) == {(128, 80), (64, 20), (64, 40), (64, 80), (64, 160)}
    for row in grown.values():
        assert 0 < row["first_preview"] < row["ready"]
        assert 0 < row["arithmetic"] < 1
        assert 1e8 < row["memory"] < 1e10
    assert grown[128, 80]["evaluation"] > grown[64, 80]["evaluation"]


def test_the_page_of_loss_against_seconds_needs_no_network(measured):
    _, everything, page = measured
    assert not re.search(r'<(script|link)[^>]+(src|href)="http', page)
    for procedure in {run["procedure"] for run in everything["runs"]}:
        assert procedure in page


@pytest.mark.parametrize("arguments", [["--size", "10"], ["--pairs", "0"], ["--json", "run.txt"]])
def test_a_bad_setting_is_one_line(arguments, tmp_path):
    command = [sys.executable, "-m", "nst", "bench", "--html", tmp_path / "bench.html", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert len(ran.stderr.splitlines()) == 1


GOAL = Judged(100.0, 200, total=1.0, content=0.5, style=0.01, held_out_content=0.8, held_out_style=0.02)


def test_quality_allows_three_percent_of_content_and_nothing_of_style():
    assert GOAL.has_loss_of(GOAL)
    assert GOAL.has_quality_of(GOAL)
    assert GOAL._replace(held_out_content=0.82, total=9).has_quality_of(GOAL)
    assert not GOAL._replace(held_out_content=0.83).has_quality_of(GOAL)
    assert not GOAL._replace(held_out_style=0.0201).has_quality_of(GOAL)
    assert not GOAL._replace(total=1.001).has_loss_of(GOAL)


def test_seconds_to_a_goal_are_those_of_the_first_picture_there():
    rows = [GOAL._replace(seconds=float(n), total=2.0 - 0.4 * n) for n in range(5)]
    result = Result("ours", "scaled", "a × b", 1, None, rows[-1], rows)
    assert result.seconds_to(Judged.has_loss_of, GOAL) == 3
    assert result.seconds_to(Judged.has_loss_of, GOAL._replace(total=0.1)) == math.inf
    assert bench._spread([1.0, 2.0, math.inf], "{:.1f}") == "2.0 (1.0 to not reached)"


def test_the_clock_stands_still_while_a_picture_is_judged(backbone, photo, painting):
    content, style = resize(photo, 48, 64), resize(painting, 64, 64)
    watch = Watch(Task(content, style, TransferConfig(size=64, precision="float32"), backbone))
    began = time.perf_counter()
    for evaluations in range(1, 11):
        watch.see(content, evaluations)
    assert len(watch.rows) == 10
    assert watch.seconds < 0.2 * (time.perf_counter() - began)
    assert watch.rows[0].content == pytest.approx(0, abs=1e-3)  # as saved, with 8 bits
    watch.see(tf.zeros([1, 20, 30, 3]), 10, final=True)  # of another size
    assert np.isfinite(watch.rows[-1].total)


def test_gatys_objective_has_the_weights_of_the_paper(backbone):
    config = bench._config(64, "gatys", backbone)
    assert config.content_layers == {"block4_conv2": 1}
    assert list(config.style_layers.values()) == [1000 / c**2 for c in (64, 128, 256, 512, 512)]
    assert (config.content_weight, config.style_weight, config.tv_weight) == (1, 1, 0)


def test_the_pairs_are_among_the_examples():
    names = {example.path.stem for data in bench.load_datasets() for example in data.contents + data.styles}
    assert {name for pair in PAIRS for name in pair} <= names
