"""Studies as the page makes them: in the queue, by the same executor as the command line."""

import json

import httpx
from served import join, serving, study

from nst.engine.quality import QUALITY
from nst.errors import RunnerError
from nst.runs.runner import LocalRunner

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
