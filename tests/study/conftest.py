"""Small studies: a dataset of two contents and two styles, a runner, and a study that was made."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nst import TransferConfig, load_image, save_image
from nst.runs.runner import LocalRunner, Runner
from nst.study.datasets import Dataset, find_dataset
from nst.study.execute import Outcome, execute
from nst.study.folder import StudyFolder
from nst.study.plan import Plan, grid

EXAMPLES = Path(__file__).parents[2] / "examples"
IMAGES = {
    "content": ("chenonceau", "berlin-cathedral"),
    "style": ("hokusai-great-wave", "munch-the-scream"),
}
Make = Callable[..., list[Outcome]]


@pytest.fixture(scope="session")
def base() -> TransferConfig:
    """Settings of a run that takes a fraction of a second and repeats to the last bit."""
    return TransferConfig(size=64, iterations=2, backbone="vgg16", precision="float32")


@pytest.fixture(scope="session")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with content/ and style/, which no test changes."""
    folder = tmp_path_factory.mktemp("dataset") / "views"
    for role, names in IMAGES.items():
        (folder / role).mkdir(parents=True)
        for name in names:
            image = load_image(EXAMPLES / role / f"{name}.jpg", long_side=64)
            save_image(image, folder / role / f"{name}.png")
    return folder


@pytest.fixture
def dataset(views: Path, tmp_path: Path) -> Dataset:
    """A copy of the images that a test may change."""
    shutil.copytree(views, tmp_path / "views")
    return find_dataset(str(tmp_path / "views"))


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A study folder that is not there yet."""
    return StudyFolder(tmp_path / "study")


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    """The runner of this process, which keeps its graphs from test to test."""
    with closing(LocalRunner()) as runner:
        yield runner


@pytest.fixture(scope="session")
def make(runner: Runner) -> Make:
    """Execute a plan in a folder, and return its outcomes."""

    def make(plan: Plan, folder: StudyFolder, **options) -> list[Outcome]:
        with folder.locked():
            return list(execute(plan, folder, options.pop("runner", runner), **options))

    return make


@pytest.fixture(scope="session")
def made(
    views: Path, base: TransferConfig, make: Make, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Plan, StudyFolder, list[Outcome]]:
    """A study of 2 contents, 2 styles and 2 style weights that was made; no test changes it."""
    plan = Plan(find_dataset(str(views)), grid(base, {"style_weight": [10, 100]}))
    folder = StudyFolder(tmp_path_factory.mktemp("made") / "study")
    return plan, folder, make(plan, folder)
