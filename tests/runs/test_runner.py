"""Runs on a RayRunner cluster of several nodes: the same pictures as here, whatever is killed meanwhile."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import tensorflow as tf
from ray.cluster_utils import Cluster

from nst.config import TransferConfig
from nst.engine.images import load_image
from nst.errors import ConfigError, LostRunError, RunnerError
from nst.runs.job import Job
from nst.runs.options import Resources
from nst.runs.ray_runner import RayRunner
from nst.runs.runner import LocalRunner
from nst.serving.queue import Run, RunQueue
from nst.study.datasets import Dataset, load_datasets
from nst.study.execute import execute
from nst.study.folder import StudyFolder
from nst.study.plan import Plan, grid

ROOT = Path(__file__).parents[2]
SMALL = TransferConfig(size=96, iterations=30, backbone="vgg16-hed", precision="float32")
LONG = replace(SMALL, iterations=1000, optimizer="adam")
CORES = len(os.sched_getaffinity(0))  # other numbers of threads round differently
LITTLE = Resources(cpus=CORES, memory=0.5)


@pytest.fixture
def cluster():
    """A head, where one worker has room."""
    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
    head = {"num_cpus": CORES, "include_dashboard": False, "_system_config": soon}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    assert gone(painters)


@pytest.fixture
def runner(cluster):
    """One worker on it."""
    with closing(RayRunner(cluster.address, LITTLE)) as runner:
        assert runner.workers == 1
        yield runner


@pytest.fixture
def plan():
    """Two photos like four paintings under two weights."""
    dataset = next(dataset for dataset in load_datasets() if dataset.name == "large")
    dataset = Dataset("views", dataset.contents, dataset.styles[:4])
    return Plan(dataset, grid(replace(SMALL, iterations=20), {"style_weight": [10, 100]}))


def processes(named):
    """Those whose program has that in its name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            program, *_ = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:  # it has just ended
            continue
        if named in program:
            found.append(int(process.name))
    return found


def painters(doing=""):
    """The processes of workers, or of those that do that at this moment."""
    return processes(f"ray::_Painter{doing}")


def gone(which):
    """Whether there are none of those processes any more, or soon will be."""
    for _ in range(600):
        if not which():
            return True
        time.sleep(0.1)
    return False


def seconds_computed(process):
    """The processor time that a process has had."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def kill_a_painter():
    while not (painting := painters(".paint")):
        time.sleep(0.01)
    os.kill(painting[0], signal.SIGKILL)


def records(plan, folder):
    """What the runs were and made, by their ids."""
    found = {}
    for planned in plan:
        record = folder.record(folder.id_of(planned))
        for row in (record, *record["history"]):
            del row["seconds"]
        attempts = record.pop("attempts", 1)
        assert 1 <= attempts <= 3
        found[record["id"]] = record
    return found


def pictures(plan, folder):
    return [load_image(folder.picture(folder.id_of(planned))).numpy() for planned in plan]


def test_a_study_that_loses_a_worker_and_a_node_is_that_of_one_machine(cluster, plan, tmp_path, caplog):
    nodes = [cluster.add_node(num_cpus=CORES) for _ in range(2)]
    here, there = StudyFolder(tmp_path / "here"), StudyFolder(tmp_path / "there")
    outcomes = []
    with there.locked(), closing(RayRunner(cluster.address, LITTLE)) as runner:
        assert runner.workers == 3
        for outcome in execute(plan, there, runner):
            outcomes.append(outcome)
            if len(outcomes) == 2:  # meanwhile others are begun, or there may be none to kill
                threading.Thread(target=kill_a_painter).start()
            if len(outcomes) == 5:
                cluster.remove_node(nodes[0], allow_graceful=False)
    assert [outcome.reason for outcome in outcomes] == [None] * len(plan) == [None] * 16
    assert "A worker was lost: its run begins anew (1 of 2)." in caplog.messages
    with here.locked(), closing(LocalRunner()) as runner:
        assert len(list(execute(plan, here, runner))) == len(plan)
    assert records(plan, here) == records(plan, there)
    for one, other in zip(pictures(plan, here), pictures(plan, there), strict=True):
        np.testing.assert_array_equal(one, other)


def test_steps_and_measures_are_those_of_this_process(runner, photo, painting):
    with closing(LocalRunner()) as local:
        ours = list(local.paint(Job(photo, [painting], SMALL)))
        theirs = list(runner.paint(Job(photo, [painting], SMALL)))
        assert [replace(one, image=None, seconds=0) for one in ours] == [
            replace(other, image=None, seconds=0) for other in theirs
        ]
        np.testing.assert_array_equal(ours[-1].image, theirs[-1].image)
        np.testing.assert_allclose(ours[0].image, theirs[0].image, atol=0.1)  # a JPEG
        arguments = ours[-1].image, Job(photo, [painting], SMALL)
        assert runner.measure(*arguments) == local.measure(*arguments)


def test_a_mask_and_a_start_go_along(runner, photo, painting):
    mask = np.zeros((1, 48, 64, 1), np.float32)
    mask[:, :, :32] = 1
    *_, last = runner.paint(Job(photo, [painting], replace(SMALL, size=64), tf.constant(mask), photo))
    painted = np.abs(last.image - photo).mean(axis=(0, 1, 3))
    assert painted[:32].mean() > 0.05
    assert painted[34:].max() < 0.01


@pytest.mark.parametrize("how", ["close", "stop"])
def test_a_run_that_is_cancelled_frees_its_worker(runner, photo, painting, how):
    asked = []
    steps = runner.paint(Job(photo, [painting], LONG), stop=lambda: bool(asked))
    next(steps)
    if how == "close":
        steps.close()
    else:
        asked.append("stop")
        assert len(list(steps)) < 500
    assert len(list(runner.paint(Job(photo, [painting], replace(SMALL, iterations=3))))) == 3
    (painter,) = painters()
    before = seconds_computed(painter)
    time.sleep(1)
    assert seconds_computed(painter) < before + 0.2


def test_a_run_that_kills_its_workers_is_given_up(runner, photo, painting):
    def killed():
        for progress in runner.paint(Job(photo, [painting], LONG)):
            if progress.step == 5:
                kill_a_painter()

    with pytest.raises(LostRunError, match=r"was lost 3 times: please use a smaller size\.$"):
        killed()
    assert len(list(runner.paint(Job(photo, [painting], SMALL)))) == 30


def test_a_worker_that_is_lost_while_idle_is_replaced_without_a_word(runner, photo, painting, caplog):
    job = Job(photo, [painting], SMALL)
    assert len(list(runner.paint(job))) == 30
    for painter in painters():
        os.kill(painter, signal.SIGKILL)
    assert len(list(runner.paint(job))) == 30
    assert caplog.messages == []


def test_what_a_worker_refuses_is_refused_here(runner, photo, painting):
    with pytest.raises(ConfigError, match="Please name layers that vgg16-hed has"):
        list(runner.paint(Job(photo, [painting], replace(SMALL, content_layers=("block9_conv1",)))))
    assert len(list(runner.paint(Job(photo, [painting], SMALL)))) == 30


def test_a_visitor_sees_a_lost_run_begin_anew(runner, photo, painting):
    line = RunQueue(runner)
    try:
        run = line.join(Run(Job(photo, [painting], replace(SMALL, iterations=200))))
        while run.progress is None or run.progress.step < 50:
            time.sleep(0.01)
        kill_a_painter()
        run.future.result()
        assert (run.ended, run.attempts) == ("finished", 2)
        assert [row["step"] for row in run.history] == list(range(1, 201))
        rows = [moment.row for moment in run.snapshots.moments]
        assert rows[-1] == run.history[-1]
        assert all(row in run.history for row in rows)
    finally:
        line.close()


def study(cluster, out):
    """A study's command on that cluster, on its way."""
    command = [sys.executable, "-m", "nst", "study", "small", "--out", out, "--ray", cluster.address]
    settings = f"--ray-cpus {CORES} --ray-memory 0.5 --sizes 96 --iterations 400 --backbones vgg16-hed"
    weights = ["--style-weight", "1", "10", "100"]
    process = subprocess.Popen(
        [*command, *settings.split(), *weights],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(out.glob("runs/[0-9a-f]*")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    return process


def test_a_driver_that_is_killed_leaves_no_work_running(cluster, tmp_path):
    process = study(cluster, tmp_path / "study")
    assert painters()
    process.kill()
    process.communicate()
    assert gone(painters)


def test_a_study_without_its_head_ends_in_a_sentence_with_what_is_finished(cluster, tmp_path):
    out = tmp_path / "study"
    process = study(cluster, out)
    (head,) = processes("gcs_server")
    os.kill(head, signal.SIGKILL)
    _, said = process.communicate()
    sentence = (
        f"{out}: The Ray cluster is gone: please start it again. What had been made is there, and the same "
        "command goes on."
    )
    assert sentence in said.splitlines()  # RayRunner has its own to say as well
    assert "Traceback" not in said
    assert process.returncode == 1
    made = list(out.glob("runs/*/run.json"))
    assert made
    assert all(json.loads(path.read_text())["ended"] == "finished" for path in made)


def test_where_there_is_no_cluster_or_no_room_a_sentence_says_so(cluster):
    with pytest.raises(
        RunnerError, match=r"No worker fits into the Ray cluster: please ask for fewer CPUs"
    ):
        RayRunner(cluster.address, Resources(cpus=100))
    with pytest.raises(RunnerError, match="Please give each worker CPUs"):
        Resources(cpus=-1)
    cluster.shutdown()
    for address in ("127.0.0.1:9", "nowhere.invalid:6379", "ray://127.0.0.1:9", "yonder"):
        with pytest.raises(
            RunnerError, match=f"There is no Ray cluster at {address}: please give the address"
        ):
            RayRunner(address)
