"""Datasets of content and style images, with their credits."""

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from nst.errors import DatasetError

BUNDLED = Path(__file__).parents[2] / "examples"
_ENDINGS = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


@dataclass(frozen=True)
class Example:
    """Describe an image file of a dataset.

    Args:
        path: the file.
        title: what the image is called.
        credit: where it comes from; "" where the dataset does not say.
        name: what the files of its results are named after; "" for the name of the file without its ending.
    """

    path: Path
    title: str
    credit: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.path.stem)


@dataclass(frozen=True)
class Dataset:
    """Hold content images, and the style images that each of them is stylized with.

    Args:
        name: of the dataset.
        contents: the content images.
        styles: the style images.
    """

    name: str
    contents: tuple[Example, ...]
    styles: tuple[Example, ...]

    @property
    def pairs(self) -> tuple[tuple[Example, Example], ...]:
        """List every content image with every style image."""
        return tuple(product(self.contents, self.styles))


def premade(content: Example, style: Example) -> tuple[Path, Path] | None:
    """Find the picture of a pair that its dataset already has, in results/ next to content/ and style/.

    Returns:
        The picture and its run record; None where either is missing.
    """
    picture = content.path.parent.parent / "results" / f"{content.name}--{style.name}.jpg"
    record = picture.with_suffix(".json")
    return (picture, record) if picture.is_file() and record.is_file() else None


def load_datasets(folder: Path | str | None = None) -> tuple[Dataset, ...]:
    """List the datasets in a folder, by default the one that NST_EXAMPLES names, or else the bundled ones.

    A datasets.json in the folder says which images belong together. Without one, all images in content/ and
    style/ are one dataset, named after the folder.

    Raises:
        DatasetError: where there are no images of both kinds, or the datasets.json cannot be used.
    """
    root = Path(folder or os.environ.get("NST_EXAMPLES") or BUNDLED).expanduser().resolve()
    if root == BUNDLED and not root.is_dir():  # an installed package has no examples
        raise DatasetError(
            "There are no examples here: please let NST_EXAMPLES name a folder with content/ and style/."
        )
    return _read_listing(root) if (root / "datasets.json").is_file() else (_read_folder(root),)


def find_dataset(name: str) -> Dataset:
    """Find a dataset by its name among `load_datasets()`, or else read the folder of that name.

    Raises:
        DatasetError: where there is neither, or it cannot be used.
    """
    try:
        datasets = load_datasets()
    except DatasetError:
        if not Path(name).is_dir():
            raise
        datasets = ()  # a folder needs no examples
    for dataset in datasets:
        if dataset.name == name:
            return dataset
    if not Path(name).is_dir():
        known = ", ".join(dataset.name for dataset in datasets)
        raise DatasetError(f"Please name a dataset ({known}) or a folder with content/ and style/ in it.")
    return _read_folder(Path(name).resolve())


def _read_folder(root: Path) -> Dataset:
    contents, styles = (_list_images(root / role) for role in ("content", "style"))
    if not contents or not styles:
        raise DatasetError(
            f"Please put at least one image each into {root / 'content'} and {root / 'style'}."
        )
    return Dataset(root.name, contents, styles)


def _list_images(folder: Path) -> tuple[Example, ...]:
    files = [
        file
        for file in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if file.suffix.lower() in _ENDINGS and not file.name.startswith(".") and file.is_file()
    ]
    return tuple(
        Example(file, name.replace("-", " ").replace("_", " "), name=name)
        for file, name in _name_apart(files).items()
    )


def _name_apart(files: Iterable[Path]) -> dict[Path, str]:
    """Name files without their endings, but for those that would then have the name of another one."""
    files = list(files)
    number = Counter((file.parent, file.stem.casefold()) for file in files)
    return {
        file: file.stem if number[file.parent, file.stem.casefold()] == 1 else file.name for file in files
    }


def _read_listing(root: Path) -> tuple[Dataset, ...]:
    try:
        listing = json.loads((root / "datasets.json").read_text(encoding="utf-8"))
        names = _name_apart(root / name for name in listing["images"])
        examples = {
            name: Example(root / name, **about, name=names[root / name])
            for name, about in listing["images"].items()
        }
        datasets = tuple(
            Dataset(
                dataset["name"],
                tuple(examples[name] for name in dataset["content"]),
                tuple(examples[name] for name in dataset["style"]),
            )
            for dataset in listing["datasets"]
        )
        if not datasets or not all(dataset.pairs for dataset in datasets):
            raise ValueError("a dataset has no pair of images")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"Please correct {root / 'datasets.json'}, which is not laid out as the bundled one."
        ) from error
    missing = [example.path for example in examples.values() if not example.path.is_file()]
    if missing:
        raise DatasetError(f"Please add {missing[0]}, which {root / 'datasets.json'} lists.")
    return datasets
