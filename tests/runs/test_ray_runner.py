"""Runs on a worker of a Ray cluster: the same pictures as here, even where the worker is killed."""

import os
import signal
import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from comparison import HALF_A_LEVEL, mean_difference
from ray.cluster_utils import Cluster
from ray_processes import HEAD, ONE_WORKER, end_soon, find_workers, kill_a_worker, seconds_computed

from nst.config import TransferConfig
from nst.engine.images import from_uint8, to_uint8
from nst.errors import ConfigError, LostRunError, RunnerError
from nst.runs.job import Job
from nst.runs.options import Resources
from nst.runs.ray_runner import RayRunner
from nst.runs.recorder import Recorder
from nst.runs.runner import LocalRunner

SMALL = TransferConfig(size=64, iterations=10, backbone="vgg16", precision="float32")
LONG = replace(SMALL, iterations=1000, optimizer="adam")

pytestmark = pytest.mark.usefixtures("alone_with_ray")


@pytest.fixture(scope="module")
def runner():
    """Run on a cluster in which one worker has room."""
    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    with closing(RayRunner(cluster.address, ONE_WORKER)) as runner:
        assert runner.workers == 1
        yield runner
    cluster.shutdown()
    assert end_soon(find_workers)


@pytest.fixture(scope="module")
def job(photo, painting):
    """Make a job of the photo and the painting from a config, and what else it is to have."""
    content, style = to_uint8(photo), to_uint8(painting)
    return lambda config=SMALL, **images: Job(config, content, [style], **images)


def test_steps_and_quality_are_those_of_this_process(runner, job):
    with closing(LocalRunner()) as local:
        ours, theirs = (list(one.stylize(job())) for one in (local, runner))
        assert [replace(one, image=None, seconds=0) for one in ours] == [
            replace(other, image=None, seconds=0) for other in theirs
        ]
        np.testing.assert_array_equal(ours[-1].image, theirs[-1].image)
        np.testing.assert_allclose(ours[0].image, theirs[0].image, atol=0.1)  # a JPEG
        assert runner.evaluate(ours[-1].image, job()) == local.evaluate(ours[-1].image, job())


def test_a_mask_and_a_start_are_sent_along(runner, job, photo, painting):
    mask = np.zeros((48, 64, 3), np.uint8)
    mask[:, :32] = 255
    start = np.ascontiguousarray(to_uint8(photo)[:, ::-1])
    *_, last = runner.stylize(job(replace(SMALL, iterations=1), mask=mask, start=start))
    assert mean_difference(last.image[:, :, 32:], photo[:, :, 32:]) < HALF_A_LEVEL
    begun = from_uint8(start)[:, :, :32]
    assert mean_difference(last.image[:, :, :32], begun) < 0.5 * mean_difference(photo[:, :, :32], begun)


@pytest.mark.parametrize("how", ["close", "stop"])
def test_a_run_that_is_cancelled_frees_its_worker(runner, job, how):
    asked = []
    steps = runner.stylize(job(LONG), stop=lambda: bool(asked))
    next(steps)
    if how == "close":
        steps.close()
    else:
        asked.append("stop")
        assert len(list(steps)) < 500
    assert len(list(runner.stylize(job(replace(SMALL, iterations=3))))) == 3
    (worker,) = find_workers()
    before = seconds_computed(worker)
    time.sleep(1)
    assert seconds_computed(worker) < before + 0.2


def test_a_worker_passes_on_what_it_refuses(runner, job):
    with pytest.raises(ConfigError, match="Please name layers that vgg16 has"):
        list(runner.stylize(job(replace(SMALL, content_layers=("block9_conv1",)))))
    assert len(list(runner.stylize(job()))) == SMALL.iterations


def test_a_recorder_sees_a_lost_run_begin_again(runner, job):
    config = replace(LONG, iterations=100)
    recorder = Recorder(config)
    for progress in recorder.follow(runner.stylize(job(config))):
        if progress.step == 20 and recorder.attempts == 1:
            kill_a_worker()
    assert (recorder.ended, recorder.attempts) == ("finished", 2)
    assert [row["step"] for row in recorder.history] == list(range(1, 101))
    rows = [moment.row for moment in recorder.moments]
    assert rows[-1] == recorder.history[-1]
    assert all(row in recorder.history for row in rows)


def test_a_run_that_kills_its_workers_is_given_up(runner, job):
    def run_and_kill():
        for progress in runner.stylize(job(LONG)):
            if progress.step == 5:
                kill_a_worker()

    with pytest.raises(LostRunError, match=r"was lost 3 times: please use a smaller size\.$"):
        run_and_kill()
    assert len(list(runner.stylize(job()))) == SMALL.iterations


def test_a_worker_that_is_lost_while_idle_is_replaced_without_a_word(runner, job, caplog):
    assert len(list(runner.stylize(job()))) == SMALL.iterations
    for worker in find_workers():
        os.kill(worker, signal.SIGKILL)
    assert len(list(runner.stylize(job()))) == SMALL.iterations
    assert caplog.messages == []


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere.invalid:6379", "ray://127.0.0.1:9", "yonder"])
def test_a_sentence_says_that_there_is_no_cluster(address):
    with pytest.raises(RunnerError, match=f"There is no Ray cluster at {address}: please give the address"):
        RayRunner(address)


def test_negative_resources_are_refused():
    for amount in ({"cpus": -1}, {"gpus": -1}, {"memory": -1}, {"memory": float("inf")}):
        with pytest.raises(RunnerError, match="Please give each worker CPUs"):
            Resources(**amount)
