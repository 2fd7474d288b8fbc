"""PyTorch, where it is installed, computes in one thread."""

from importlib.util import find_spec

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Its threads busily wait for each other, which takes minutes where other tests have the cores."""
    if find_spec("torch"):
        import torch

        torch.set_num_threads(1)
