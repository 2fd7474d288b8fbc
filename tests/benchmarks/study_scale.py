"""Measure how a study grows with its pairs: python tests/benchmarks/study_scale.py 100 1000 10000

Tiny crops of the example images are stylized at 32 pixels, one step each. Each number of pairs has a process
of its own, so that its peak memory is its own.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from nst import TransferConfig, load_image, save_image
from nst.runs.runner import LocalRunner
from nst.study.datasets import find_dataset
from nst.study.execute import execute
from nst.study.folder import StudyFolder
from nst.study.plan import Plan, grid
from nst.study.report import write_report

EXAMPLES = Path(__file__).parents[2] / "examples"
SIDE = 32  # pixels


def crops(role: str, number: int, folder: Path) -> None:
    """Write that many different crops of the example images of a role."""
    images = [load_image(path, long_side=256) for path in sorted((EXAMPLES / role).glob("*.jpg"))]
    folder.mkdir(parents=True)
    for place in range(number):
        image = images[place % len(images)]
        top, left = (17 * place) % (image.shape[1] - SIDE), (29 * place) % (image.shape[2] - SIDE)
        save_image(image[:, top : top + SIDE, left : left + SIDE], folder / f"{place:03}.png")


def measured(contents: int, styles: int) -> None:
    """Make, resume and report a study of that many pairs, and print a row of the table."""
    seconds: list[float] = []

    @contextmanager
    def timed() -> Iterator[None]:
        began = time.perf_counter()
        yield
        seconds.append(time.perf_counter() - began)

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        crops("content", contents, root / "views" / "content")
        crops("style", styles, root / "views" / "style")
        configs = grid(TransferConfig(size=SIDE, iterations=1, backbone="vgg16"), {})
        with timed():
            plan = Plan(find_dataset(str(root / "views")), configs)
            assert sum(1 for _ in plan) == contents * styles
        study = StudyFolder(root / "study")
        with study.locked(), closing(LocalRunner()) as runner:
            for _ in range(2):
                with timed():
                    assert all(outcome.reason is None for outcome in execute(plan, study, runner))
            with timed():
                write_report(plan, study)
        page = (study.path / "index.html").stat().st_size / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    planned, made, resumed, reported = seconds
    pairs = contents * styles
    row = [f"{pairs:,}", f"{planned:.2f}", f"{made:.0f}", f"{1000 * made / pairs:.0f}"]
    row += [f"{resumed:.1f}", f"{reported:.1f}", f"{page:.0f}", f"{peak:.2f}"]
    print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    print(
        "| pairs | listed, s | made, s | each, ms | resumed, s | report, s | report, MB | peak memory, GB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for pairs in map(int, sys.argv[1:]):
        styles = max(1, round((4 * pairs) ** 0.5))
        process = multiprocessing.get_context("spawn").Process(
            target=measured, args=(pairs // styles, styles)
        )
        process.start()
        process.join()
