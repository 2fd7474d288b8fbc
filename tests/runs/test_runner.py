"""Runs in this process: the steps of stylize(), with graphs that follow from run to run."""

import argparse
import threading
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from comparison import SHALLOW

from nst.config import TransferConfig
from nst.engine.images import from_uint8, to_uint8
from nst.engine.quality import bounds, evaluate
from nst.engine.stylize import stylize
from nst.engine.weights import load_judge
from nst.errors import ConfigError
from nst.runs import runner as module
from nst.runs.job import Job
from nst.runs.options import Resources, add_runner_options
from nst.runs.ray_runner import runner_from
from nst.runs.runner import LocalRunner

pytestmark = pytest.mark.quick

CONFIG = TransferConfig(size=64, iterations=4, backbone="vgg16", precision="float32", **SHALLOW)


@pytest.fixture(scope="module")
def runner():
    with closing(LocalRunner()) as runner:
        yield runner


@pytest.fixture(scope="module")
def job(photo, painting):
    """Make a job of the photo and the painting from a config, and what else it is to have."""
    content, style = to_uint8(photo), to_uint8(painting)
    return lambda config=CONFIG, **images: Job(config, content, [style], **images)


def test_a_run_has_the_steps_of_stylize(runner, job, photo, painting, backbone, graphs):
    mask = np.zeros((48, 64, 3), np.uint8)
    mask[:, :32] = 255
    start = np.ascontiguousarray(to_uint8(photo)[::-1])
    found = list(runner.stylize(job(mask=mask, start=start)))
    images = {"mask": from_uint8(mask)[..., :1], "start": from_uint8(start)}
    expected = list(stylize(photo, painting, CONFIG, backbone, graphs=graphs, **images))
    assert [replace(one, image=None, seconds=0) for one in found] == [
        replace(one, image=None, seconds=0) for one in expected
    ]
    np.testing.assert_array_equal(found[-1].image, expected[-1].image)


def test_a_picture_is_evaluated_as_it_is_without_a_runner(runner, job, photo, painting, backbone, graphs):
    picture = 0.5 * photo
    given = photo, [painting], CONFIG, backbone, load_judge(), graphs
    found = runner.evaluate(picture, job())
    assert {name: measure.value for name, measure in found.items()} == evaluate(picture, *given)
    assert {name: (measure.photo, measure.painting) for name, measure in found.items()} == bounds(*given)


def test_the_bounds_of_a_pair_are_computed_once_for_a_grid_of_settings(job, photo, monkeypatch):
    computed = []
    monkeypatch.setattr(module, "bounds", lambda *given: computed.append(given) or bounds(*given))
    with closing(LocalRunner()) as runner:
        for weight in (1, 10, 100):
            runner.evaluate(0.5 * photo, job(replace(CONFIG, style_weight=weight)))
        assert len(computed) == 1
        runner.evaluate(0.5 * photo, job(replace(CONFIG, colors="luminance")))
        assert len(computed) == 2
        one = job()
        runner.evaluate(0.5 * photo, replace(one, content=one.content[::-1]))
        runner.evaluate(0.5 * photo, replace(one, styles=[one.content]))
        assert len(computed) == 4
        runner.evaluate(0.5 * photo, one)
        assert len(computed) == 4


def test_a_run_ends_where_it_is_stopped_or_left(runner, job):
    asked = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) > 3

    assert 1 <= len(list(runner.stylize(job(), stop))) < CONFIG.iterations
    steps = runner.stylize(job())
    next(steps)
    steps.close()
    assert len(list(runner.stylize(job()))) == CONFIG.iterations


def test_a_refused_job_leaves_the_runner_in_order(runner, job):
    with pytest.raises(ConfigError, match="Please name layers that vgg16 has"):
        list(runner.stylize(job(replace(CONFIG, content_layers=("block9_conv1",)))))
    assert len(list(runner.stylize(job()))) == CONFIG.iterations


def test_runs_at_the_same_time_do_not_disturb_each_other(job):
    with closing(LocalRunner(2)) as runner:
        assert runner.workers == 2
        configs = [replace(CONFIG, style_weight=weight, iterations=8) for weight in (1, 1000)]
        alone = [list(runner.stylize(job(config)))[-1].image for config in configs]
        together: dict[int, np.ndarray] = {}

        def run(number: int) -> None:
            *_, last = runner.stylize(job(configs[number]))
            together[number] = last.image

        threads = [threading.Thread(target=run, args=[number]) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in (0, 1):
            np.testing.assert_array_equal(together[number], alone[number])
    assert not np.array_equal(alone[0], alone[1])


def test_a_closed_runner_may_be_used_again(job):
    runner = LocalRunner()
    for _ in range(2):
        assert len(list(runner.stylize(job()))) == CONFIG.iterations
        runner.close()


# Options


def parse(*words: str):
    parser = argparse.ArgumentParser()
    add_runner_options(parser)
    return parser.parse_args(words)


def test_runs_happen_in_this_process_unless_a_cluster_is_asked_for():
    with closing(runner_from(parse(), at_once=3)) as runner:
        assert isinstance(runner, LocalRunner)
        assert runner.workers == 3


def test_the_options_have_the_defaults_of_the_resources():
    arguments = parse("--ray")
    assert arguments.ray == ""  # the cluster here
    assert Resources(arguments.ray_cpus, arguments.ray_gpus, arguments.ray_memory) == Resources()
    arguments = parse("--ray", "10.0.0.1:6379", "--ray-cpus", "2", "--ray-gpus", "0.5", "--ray-memory", "4")
    assert arguments.ray == "10.0.0.1:6379"
    assert (arguments.ray_cpus, arguments.ray_gpus, arguments.ray_memory) == (2, 0.5, 4)
