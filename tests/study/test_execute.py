"""The executor of studies: what it makes and leaves alone, what fails alone, what ends it, and a kill."""

import dataclasses
import json
import random
import shutil
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nst.engine.objective import Objective
from nst.engine.quality import QUALITY
from nst.errors import RunnerError
from nst.runs.record import restored_config
from nst.runs.recorder import run_job
from nst.runs.runner import LocalRunner
from nst.study.execute import execute
from nst.study.folder import StudyFolder
from nst.study.plan import Plan, grid

ROOT = Path(__file__).parents[2]


def without_times(record):
    """A run record without what differs between two runs of the same settings."""
    if isinstance(record, dict):
        return {key: without_times(value) for key, value in record.items() if key != "seconds"}
    return [without_times(row) for row in record] if isinstance(record, list) else record


# What is made


def test_each_run_lands_with_its_picture_its_record_and_its_quality(made):
    plan, folder, outcomes = made
    assert [outcome.run for outcome in outcomes] == list(plan)
    assert all(outcome.new and outcome.reason is None for outcome in outcomes)
    for run in plan:
        run_id = folder.run_id(run)
        record = folder.record(run_id)
        assert record["id"] == run_id
        assert record["config"] == json.loads(json.dumps(dataclasses.asdict(run.config)))
        assert record["images"]["content"]["name"] == run.content.path.name
        assert len(record["history"]) == 2
        assert record["measures"].keys() == record["bounds"].keys() == QUALITY.keys()
        assert record["bounds"]["held_out_content"][0] == 0 < record["measures"]["held_out_content"]
        assert "attempts" not in record
        with Image.open(folder.picture(run_id)) as picture:
            assert picture.size == (64, 48 if "chenonceau" in run.name else 43)
        assert restored_config(folder.picture(run_id)) == run.config
    assert {path.name for path in folder.path.iterdir()} >= {".lock", "failed", "runs"}
    assert not any((folder.path / "failed").iterdir())
    assert len([*(folder.path / "runs").iterdir()]) == len(plan) == 8


def test_a_study_makes_only_what_is_missing_or_has_other_settings(made, base, make, folder):
    plan, made_folder, _ = made
    shutil.copytree(made_folder.path, folder.path)
    assert [outcome.new for outcome in make(plan, folder)] == [False] * 8
    shutil.rmtree(folder.path / "runs" / folder.run_id(list(plan)[2]))
    assert [outcome.new for outcome in make(plan, folder)] == [False, False, True] + [False] * 5
    wider = Plan(plan.dataset, grid(base, {"style_weight": [10, 100, 1000]}))
    assert [outcome.new for outcome in make(wider, folder)] == [False, False, True] * 4


def test_the_targets_of_a_style_are_computed_once(dataset, base, make, folder, monkeypatch):
    computed = []
    compute = Objective._style_statistics
    monkeypatch.setattr(
        Objective,
        "_style_statistics",
        lambda self, style, guided: computed.append(style.shape) or compute(self, style, guided),
    )
    with closing(LocalRunner()) as runner:
        make(Plan(dataset, grid(base, {"content_weight": [1, 2, 3]})), folder, runner=runner)
    # Once each for the objective, for the layers that are held out, and for the judge.
    assert len(computed) == 3 * len(dataset.styles)


def test_runs_that_share_graphs_give_the_same_pictures(made, tmp_path, make):
    plan, folder, _ = made
    for number, run in enumerate(list(plan)[1::3]):
        alone = StudyFolder(tmp_path / f"alone-{number}")
        pairs = frozenset([(run.content.path, run.style.path)])
        with closing(LocalRunner()) as runner:
            make(Plan(plan.dataset, (run.config,), pairs), alone, runner=runner)
        run_id = folder.run_id(run)
        assert without_times(alone.record(run_id)) == without_times(folder.record(run_id))


def test_each_image_is_decoded_once(dataset, base, make, folder, monkeypatch):
    decoded = []
    module = sys.modules["nst.study.execute"]
    read = module.read_image
    monkeypatch.setattr(module, "read_image", lambda *given: decoded.append(given[0]) or read(*given))
    make(Plan(dataset, grid(base, {"content_weight": [1, 2]})), folder)
    assert sorted(decoded) == sorted(example.path for example in dataset.contents + dataset.styles)


def test_the_page_runs_jobs_in_its_own_way_and_is_told_of_each(dataset, base, make, runner, folder):
    told = []

    def run(job, stop):
        told.append(job.images["content"]["name"])
        recorder, quality = run_job(runner, job, stop)
        recorder.attempts = len(told)
        return recorder, quality

    plan = Plan(dataset, grid(base, {}))
    make(plan, folder, run=run, watch=lambda planned: told.append(planned))
    runs = list(plan)
    assert told[::2] == runs
    assert told[1::2] == [planned.content.path.name for planned in runs]
    attempts = [folder.record(folder.run_id(planned)).get("attempts", 1) for planned in runs]
    assert attempts == [2, 4, 6, 8]


def test_runs_are_in_flight_as_many_at_once_as_the_runner_has_workers(dataset, base, make, folder):
    both = threading.Barrier(2, timeout=60)
    with closing(LocalRunner(workers=2)) as runner:

        def run(job, stop):
            both.wait()
            return run_job(runner, job, stop)

        outcomes = make(Plan(dataset, grid(base, {})), folder, runner=runner, run=run)
        assert [outcome.reason for outcome in outcomes] == [None] * 4

        seen = []
        alone = threading.Lock()

        def run_alone(job, stop):
            assert alone.acquire(blocking=False)
            seen.append(job)
            try:
                return run_job(runner, job, stop)
            finally:
                alone.release()

        make(Plan(dataset, grid(base, {"seed": [1]})), folder, runner=runner, run=run_alone, at_once=1)
        assert len(seen) == 4


# What fails


def test_a_broken_image_fails_alone_and_is_made_once_it_is_mended(dataset, base, make, folder):
    broken = dataset.contents[0].path
    whole = broken.read_bytes()
    broken.write_bytes(whole[:500])
    plan = Plan(dataset, grid(base, {}))
    outcomes = make(plan, folder)
    reason = "berlin-cathedral.png: The image is damaged or incomplete: please export or download it again."
    assert [outcome.reason for outcome in outcomes] == [reason, None, reason, None]
    first = next(iter(plan))
    assert folder.failure(folder.run_id(first)) == reason
    assert folder.record(folder.run_id(first)) is None
    assert [outcome.new for outcome in make(plan, folder)] == [True, False, True, False]

    broken.write_bytes(whole)
    folder = StudyFolder(folder.path)
    assert [outcome.reason for outcome in make(plan, folder)] == [None] * 4
    assert folder.failure(folder.run_id(first)) is None


def test_an_image_that_cannot_be_opened_fails_alone(dataset, base, make, folder):
    dataset.styles[0].path.unlink()
    outcomes = make(Plan(dataset, grid(base, {})), folder)
    assert [outcome.reason is None for outcome in outcomes] == [False, False, True, True]
    assert "cannot be opened" in outcomes[0].reason


def test_a_run_that_ends_early_fails_with_how_it_ended(dataset, base, make, runner, folder):
    def run(job, stop):
        recorder, quality = run_job(runner, job, stop)
        recorder.ended = "out of time"
        return recorder, quality

    outcomes = make(Plan(dataset, grid(base, {})), folder, run=run)
    assert [outcome.reason for outcome in outcomes] == ["The run ended early (out of time)."] * 4


@pytest.mark.parametrize("lost", ["stylize", "evaluate"])
def test_a_lost_cluster_ends_the_study(lost, dataset, base, make, folder):
    asked = []

    class Lost(LocalRunner):
        def stylize(self, job, stop=lambda: False):
            asked.append("stylize")
            if lost == "stylize" and len(asked) > 1:
                raise RunnerError("The cluster is gone.")
            return super().stylize(job, stop)

        def evaluate(self, picture, job):
            if lost == "evaluate" and len(asked) > 1:
                raise RunnerError("The cluster is gone.")
            return super().evaluate(picture, job)

    with closing(Lost()) as runner, pytest.raises(RunnerError, match="The cluster is gone"):
        make(Plan(dataset, grid(base, {})), folder, runner=runner)
    assert len(asked) == 2
    assert len([*folder.path.glob("runs/*/run.json")]) == 1
    assert not any((folder.path / "failed").iterdir())


# What ends it


def test_a_stopped_study_loses_no_more_than_the_run_in_flight(dataset, base, make, folder):
    plan, asked = Plan(dataset, grid(base, {})), []

    def stop():
        asked.extend((folder.path / "runs").glob("[0-9a-f]*"))
        return len(asked) > 3  # in the midst of the second run

    assert len(make(plan, folder, stop=stop)) == 1
    assert len(list((folder.path / "runs").iterdir())) == 1
    assert [outcome.new for outcome in make(plan, folder)] == [False, True, True, True]


def test_a_study_that_is_left_stops_the_run_in_flight(dataset, base, folder):
    started, stopped = [], []

    def run(job, stop):
        started.append(job)
        while job is not started[0] and not stop():
            time.sleep(0.01)
        if job is not started[0]:
            stopped.append(job)
        return run_job(runner, job, stop)

    with folder.locked(), closing(LocalRunner(workers=2)) as runner:
        outcomes = execute(Plan(dataset, grid(base, {})), folder, runner, run=run)
        assert next(outcomes).new
        outcomes.close()
    assert len([*folder.path.glob("runs/*/run.json")]) == len(stopped) == 1
    assert not any((folder.path / "failed").iterdir())


def test_a_study_that_is_killed_three_times_ends_like_one_that_ran_through(
    dataset, base, make, folder, tmp_path
):
    config = dataclasses.replace(base, iterations=6)
    plan = Plan(dataset, grid(config, {"style_weight": [10, 100, 1000]}))
    through = StudyFolder(tmp_path / "through")
    make(plan, through)
    command = [sys.executable, "-m", "nst", "study", "--backbones", "vgg16", "--sizes", "64"]
    command += ["--iterations", "6", "--style-weight", "10", "100", "1000", "--precision", "float32"]
    command += [str(dataset.contents[0].path.parents[1]), "--out", str(folder.path)]
    chance = random.Random(5)
    for wanted in (1, 4, 8):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        while len([*folder.path.glob("runs/[0-9a-f]*")]) < wanted and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.wait()
    assert 8 <= len([*folder.path.glob("runs/[0-9a-f]*")]) < 12
    make(plan, folder)

    runs = [path.parent.name for path in folder.path.glob("runs/*/run.json")]
    assert len(runs) == 12
    assert not [path for path in folder.path.rglob(".*") if path.name != ".lock"]
    for name in runs:
        assert without_times(folder.record(name)) == without_times(through.record(name))
        pictures = [Image.open(one.picture(name)) for one in (folder, through)]
        assert np.array_equal(*map(np.asarray, pictures))
