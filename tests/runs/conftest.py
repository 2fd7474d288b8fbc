"""What the tests of runs share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest


@pytest.fixture(scope="module")
def alone_with_ray() -> Iterator[None]:
    """Keep other test processes from Ray meanwhile: workers are found, and killed, by their name."""
    with filelock.FileLock(Path(tempfile.gettempdir(), "nst-ray-tests.lock")):
        yield
