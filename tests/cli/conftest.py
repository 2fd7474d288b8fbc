"""Files to write, and commands that are refused, for all tests of the command line."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nst.cli.main import main


@pytest.fixture(autouse=True)
def _ctrl_c_heeded() -> Iterator[None]:
    """Let Ctrl-C interrupt, as on a terminal, even where the tests run in a script's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "picture.png"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "run.json"


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Run a command that has to end with that exit code, one line on stderr, and nothing written."""

    def run(*command: str, exit_code: int = 2) -> str:
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        assert main(command) == exit_code
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert said.err.endswith("\n")
        assert len(said.err) > 20
        assert sorted(tmp_path.rglob("*")) == before
        return said.err

    return run
