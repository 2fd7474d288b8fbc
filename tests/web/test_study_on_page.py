"""Studies as the page makes them: in the queue, by the same executor as the command line."""

import json
import os
import threading
import time

import httpx
from served import join, serving, study

from nst.engine.quality import QUALITY
from nst.errors import RunnerError
from nst.runs.runner import LocalRunner
from nst.serving.limits import Limits

LOST = "The Ray cluster is gone: please start it again."


class LostRunner(LocalRunner):
    """A cluster that is gone after its first runs."""

    def __init__(self, runs: int) -> None:
        super().__init__()
        self.left, self.tried = runs, 0

    def stylize(self, job, stop=lambda: False):
        self.tried += 1
        if self.tried > self.left:
            raise RunnerError(LOST)
        yield from super().stylize(job, stop)


class RestartingRunner(LocalRunner):
    """A cluster that loses the worker of every run after its first step."""

    def stylize(self, job, stop=lambda: False):
        yield next(super().stylize(job, stop))
        yield from super().stylize(job, stop)


def test_a_lost_cluster_stops_a_study_with_its_sentence():
    runner = LostRunner(2)  # the warm-up, and one run of the study's four
    with serving(runner=runner) as (queue, page):
        queue.warm_up.future.result()
        config = httpx.get(f"{page.local_url}config").json()
        answer = join(page.local_url, study(config, "student", 2))
        assert not answer["success"]
        assert answer["output"]["error"] == LOST
        assert runner.tried == 3
        again = join(page.local_url, study(config, "student", 2))
        assert again["output"]["error"] == LOST
        assert runner.tried == 4


class WaitingRunner(LocalRunner):
    """A cluster on which every run waits until it is stopped, or `free`."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()
        self.free.set()

    def stylize(self, job, stop=lambda: False):
        while not self.free.wait(0.05) and not stop():
            pass
        yield from super().stylize(job, stop)


def test_many_studies_leave_threads_for_everything_else():
    """With as many as asyncio has threads, the plans of two more are still made, in those threads."""
    number = min(32, (os.cpu_count() or 1) + 4) + 2
    runner = WaitingRunner()
    with serving(Limits(places=2 * number), runner) as (queue, page), httpx.Client() as client:
        queue.warm_up.future.result()
        runner.free.clear()
        config = client.get(f"{page.local_url}config").json()
        for one in range(number):
            body = study(config, f"student{one}", 2)
            client.post(f"{page.local_url}gradio_api/queue/join", json=body).raise_for_status()
        patience = time.monotonic() + 60
        while len(queue.runs) < number:
            assert time.monotonic() < patience
            time.sleep(0.05)
        runner.free.set()


def test_attempts_and_quality_are_in_the_records_of_a_study(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with serving(runner=RestartingRunner()) as (_, page):
        config = httpx.get(f"{page.local_url}config").json()
        assert join(page.local_url, study(config, "student", 3))["success"]
    files = tmp_path.glob("runs/*/runs/*/run.json")
    records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    assert len(records) == 4
    for record in records:
        assert record["attempts"] == 2
        assert [row["step"] for row in record["history"]] == [1, 2, 3]
        assert record["measures"].keys() == QUALITY.keys()
        assert record["ended"] == "finished"
