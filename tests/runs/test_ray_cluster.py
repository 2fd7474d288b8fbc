"""Studies on a Ray cluster of several nodes that lose workers, nodes, their driver, or their head."""

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
from ray.cluster_utils import Cluster
from ray_processes import CORES, HEAD, ONE_WORKER, end_soon, find_processes, find_workers, kill_a_worker

from nst.config import TransferConfig
from nst.engine.images import load_image, to_uint8
from nst.errors import RunnerError
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
SMALL = TransferConfig(size=64, iterations=15, backbone="vgg16", precision="float32")

pytestmark = pytest.mark.usefixtures("alone_with_ray")


@pytest.fixture(scope="module")
def cluster():
    """Start a head, where one worker has room. The last test of this module kills it."""
    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    assert end_soon(find_workers)


@pytest.fixture
def plan():
    """Plan two photos in the style of three paintings at two weights."""
    dataset = next(dataset for dataset in load_datasets() if dataset.name == "large")
    dataset = Dataset("views", dataset.contents[:2], dataset.styles[:3])
    return Plan(dataset, grid(SMALL, {"style_weight": [10, 100]}))


def records(plan, folder):
    """Return the records of all runs by their ids, without what differs from time to time."""
    found = {}
    for planned in plan:
        record = folder.record(folder.run_id(planned))
        for row in (record, *record["history"]):
            del row["seconds"]
        attempts = record.pop("attempts", 1)
        assert 1 <= attempts <= 3
        found[record["id"]] = record
    return found


def pictures(plan, folder):
    return [load_image(folder.picture(folder.run_id(planned))).numpy() for planned in plan]


def test_a_study_that_loses_a_worker_and_a_node_is_that_of_one_machine(cluster, plan, tmp_path, caplog):
    nodes = [cluster.add_node(num_cpus=CORES) for _ in range(2)]
    here, there = StudyFolder(tmp_path / "here"), StudyFolder(tmp_path / "there")
    outcomes = []
    with there.locked(), closing(RayRunner(cluster.address, ONE_WORKER)) as runner:
        assert runner.workers == 3
        for outcome in execute(plan, there, runner):
            outcomes.append(outcome)
            if len(outcomes) == 2:  # meanwhile others are begun, or there may be none to kill
                threading.Thread(target=kill_a_worker).start()
            if len(outcomes) == 5:
                cluster.remove_node(nodes[0], allow_graceful=False)
    cluster.remove_node(nodes[1], allow_graceful=False)
    assert [outcome.reason for outcome in outcomes] == [None] * len(plan) == [None] * 12
    assert "A worker was lost: its run begins again (1 of 2)." in caplog.messages
    with here.locked(), closing(LocalRunner()) as runner:
        assert len(list(execute(plan, here, runner))) == len(plan)
    assert records(plan, here) == records(plan, there)
    for one, other in zip(pictures(plan, here), pictures(plan, there), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_visitor_sees_a_lost_run_begin_again(cluster, photo, painting):
    queue = RunQueue(RayRunner(cluster.address, ONE_WORKER))
    try:
        config = replace(SMALL, iterations=150)
        run = queue.join(Run(Job(config, to_uint8(photo), [to_uint8(painting)])))
        recorder = run.recorder
        while recorder.progress is None or recorder.progress.step < 30:
            time.sleep(0.01)
        kill_a_worker()
        run.future.result()
        assert (recorder.ended, recorder.attempts) == ("finished", 2)
        assert [row["step"] for row in recorder.history] == list(range(1, 151))
        assert recorder.moments[-1].row == recorder.history[-1]
    finally:
        queue.close()


def test_a_sentence_says_that_no_worker_fits_into_the_cluster(cluster):
    with pytest.raises(RunnerError, match=r"No worker fits into the Ray cluster: please ask for fewer CPUs"):
        RayRunner(cluster.address, Resources(cpus=100))


def begin_study(cluster, out):
    """Begin a study from the command line on that cluster, and wait for its first picture."""
    command = [sys.executable, "-m", "nst", "study", "small", "--out", out, "--ray", cluster.address]
    settings = f"--ray-cpus {CORES} --ray-memory 0.5 --sizes 96 --iterations 200 --backbones vgg16"
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
    process = begin_study(cluster, tmp_path / "study")
    assert find_workers()
    process.kill()
    process.communicate()
    assert end_soon(find_workers)


def test_a_study_without_its_head_ends_in_a_sentence_with_what_is_finished(cluster, tmp_path):
    out = tmp_path / "study"
    process = begin_study(cluster, out)
    (head,) = find_processes("gcs_server")
    os.kill(head, signal.SIGKILL)
    _, output = process.communicate()
    sentence = (
        f"{out}: The Ray cluster is gone: please start it again. Finished runs are kept: run the same "
        "command again to continue."
    )
    assert sentence in output.splitlines()  # Ray prints lines of its own
    assert "Traceback" not in output
    assert process.returncode == 1
    finished = list(out.glob("runs/*/run.json"))
    assert finished
    assert all(json.loads(path.read_text())["ended"] == "finished" for path in finished)
