"""The benchmark in a small form, one pair at 64 pixels, as the command runs it."""

import io
import json
import os
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from importlib.util import find_spec

import pytest
from comparison import EXAMPLES

from nst.benchmark import references
from nst.benchmark.measure import PAIRS, compare, default_pairs, growing_configs, objective_config
from nst.benchmark.references import ADAM, NEURAL_STYLE_PT, SCIPY, UNIT_STEP
from nst.cli import bench
from nst.cli.main import main
from nst.config import TransferConfig
from nst.engine.images import decode_image

EVALUATIONS = 60  # instead of 200: enough to see each procedure lower the loss
REFERENCES = (SCIPY, UNIT_STEP, ADAM, *([NEURAL_STYLE_PT] if find_spec("torch") else []))
CONTENT, STYLE = PAIRS[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder that the command writes into."""
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def measured(folder):
    """The command's output, errors, JSON and page; it measures fewer evaluations and two growing runs."""
    pairs = folder / "pairs.csv"
    pairs.write_text(f"{CONTENT},{STYLE}\n", encoding="utf-8")
    command = ["bench", str(EXAMPLES), "--pairs", str(pairs), "--size", "64", "--patience", "1"]
    command += ["--objective", "gatys", "--pictures", str(folder / "pictures")]
    files = ["--json", str(folder / "bench.json"), "--html", str(folder / "bench.html")]
    default = TransferConfig(backbone="vgg16", iterations=4)
    configs = [replace(default, size=size) for size in (64, 128)]
    stderr = os.dup(2)
    with (
        pytest.MonkeyPatch.context() as patch,
        (folder / "stderr").open("w+") as errors,
        redirect_stderr(errors),
        redirect_stdout(io.StringIO()) as output,
    ):
        patch.setattr(references, "EVALUATIONS", EVALUATIONS)
        patch.setattr(bench, "growing_configs", lambda size: configs)
        os.dup2(errors.fileno(), 2)  # which the processes that measure growth inherit
        try:
            assert main([*command, *files]) == 0
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    everything = json.loads((folder / "bench.json").read_text())
    return output.getvalue(), (folder / "stderr").read_text(), everything, (folder / "bench.html").read_text()


def test_it_prints_what_each_procedure_reached_and_when_ours_was_there(measured):
    output, errors, _, _ = measured
    lines = output.splitlines()
    start = lines.index("Objective: gatys")
    named = [line.split("|")[1].strip() for line in lines[start:] if line.startswith("|")]
    assert [name for name in named if name in REFERENCES][: len(REFERENCES)] == list(REFERENCES)
    assert any(re.fullmatch("ours, (float32|bfloat16)", name) for name in named)
    assert "Traceback" not in errors
    assert "oneDNN" not in errors  # the start of TensorFlow in the processes that measure growth


def test_every_procedure_starts_on_the_same_objective_and_lowers_it(measured):
    _, _, everything, _ = measured
    runs = {run["procedure"]: run for run in everything["runs"]}
    at_the_photo = {runs[name]["rows"][0]["total"] for name in REFERENCES}
    assert max(at_the_photo) == pytest.approx(min(at_the_photo), rel=1e-5)
    for name, run in runs.items():
        if name != NEURAL_STYLE_PT:  # it lowers another objective
            assert run["rows"][-1]["total"] < 0.2 * min(at_the_photo), name
        seconds = [row["seconds"] for row in run["rows"]]
        assert seconds == sorted(seconds)
    assert runs[UNIT_STEP]["final"]["evaluations"] == EVALUATIONS
    assert abs(runs[SCIPY]["final"]["evaluations"] - EVALUATIONS) <= 20  # ends its last line search
    ours = next(run for name, run in runs.items() if name.startswith("ours"))
    assert ours["final"]["evaluations"] >= TransferConfig().iterations


def test_each_picture_is_saved_by_the_names_of_its_pair_objective_and_procedure(measured, folder):
    _, _, everything, _ = measured
    assert {run["pair"] for run in everything["runs"]} == {f"{CONTENT} × {STYLE}"}
    pictures = {path.name: decode_image(path) for path in (folder / "pictures").iterdir()}
    assert len(pictures) == len(everything["runs"])
    assert f"{CONTENT}--{STYLE}--gatys--1-l-bfgs-b-scipy.png" in pictures
    assert f"{CONTENT}--{STYLE}--gatys--ours-float32.png" in pictures
    assert {picture.shape for picture in pictures.values()} == {(43, 64, 3)}
    assert len({picture.tobytes() for picture in pictures.values()}) == len(pictures)


def test_a_file_of_pairs_needs_its_dataset(tmp_path, capsys):
    files = ["--pairs", str(tmp_path / "pairs.csv"), "--html", str(tmp_path / "bench.html")]
    assert main(["bench", *files]) == 2
    assert "name the dataset" in capsys.readouterr().err
    assert main(["bench", str(EXAMPLES), *files]) == 2
    assert "pairs.csv cannot be read" in capsys.readouterr().err


def test_without_pytorch_a_line_says_what_is_left_out_and_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    lines = []
    assert list(compare(64, [], 1, 1, (), lines.append)) == []
    assert len(lines) == 1
    assert NEURAL_STYLE_PT in lines[0]
    assert "pip install" in lines[0]


def test_growth_is_measured_in_processes_of_their_own(measured):
    _, _, everything, _ = measured
    small, large = everything["growth"]
    assert [(row["size"], row["iterations"]) for row in (small, large)] == [(64, 4), (128, 4)]
    for row in (small, large):
        assert 0 < row["first_preview"] < row["ready"]
        assert 0 < row["arithmetic"] < 1
        assert 1e8 < row["memory"] < 1e10
    assert large["evaluation"] > small["evaluation"]


def test_growth_is_measured_over_sizes_and_steps():
    configs = [(config.size, config.iterations) for config in growing_configs(64)]
    assert sorted(configs) == [(64, 20), (64, 40), (64, 80), (64, 160), (128, 80)]
    assert {config.size for config in growing_configs(512)} == {128, 256, 512, 1024}


def test_the_page_of_loss_against_seconds_needs_no_network(measured):
    _, _, everything, page = measured
    assert not re.search(r'<(script|link)[^>]+(src|href)="http', page)
    for procedure in {run["procedure"] for run in everything["runs"]}:
        assert procedure in page


def test_gatys_objective_has_the_weights_of_the_paper(backbone):
    config = objective_config(64, "gatys", backbone)
    assert config.content_layers == {"block4_conv2": 1}
    assert list(config.style_layers.values()) == [1000 / c**2 for c in (64, 128, 256, 512, 512)]
    assert (config.content_weight, config.style_weight, config.tv_weight) == (1, 1, 0)


def test_the_pairs_are_among_the_examples():
    names = [(content.path.stem, style.path.stem) for content, style in default_pairs()]
    assert names == list(PAIRS)
