"""The command `bench`: what it refuses. What it measures is for tests/benchmark."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--size", "10"], "--size to a whole number from 32 to 1024"),
        (["--pairs", "0"], "--pairs to a whole number from 1 to 6"),
        (["--json", "run.txt"], "use the ending .json"),
    ],
)
def test_a_bad_setting_is_one_line(
    arguments: list[str], hint: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert hint in refused("bench", "--html", str(tmp_path / "bench.html"), *arguments)
