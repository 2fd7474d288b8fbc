"""Datasets of content and style images, with their credits."""

import json
import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path

BUNDLED = Path(__file__).parents[2] / "examples"
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


class CatalogError(ValueError):
    """A folder of images can't be used as a dataset; one plain sentence that says what it needs."""


@dataclass(frozen=True)
class Example:
    """An image file, what it is called, and where it comes from ("" where nobody said)."""

    path: Path
    title: str
    credit: str = ""


@dataclass(frozen=True)
class Dataset:
    """Content images, each to be painted in each of the styles."""

    name: str
    contents: tuple[Example, ...]
    styles: tuple[Example, ...]

    @property
    def pairs(self) -> tuple[tuple[Example, Example], ...]:
        """Every content image with every style image."""
        return tuple(product(self.contents, self.styles))


def made_beforehand(content: Example, style: Example) -> tuple[Path, Path] | None:
    """The picture and the run record of this pair in the results/ beside its folders, where they are."""
    picture = content.path.parent.parent / "results" / f"{content.path.stem}--{style.path.stem}.jpg"
    record = picture.with_suffix(".json")
    return (picture, record) if picture.is_file() and record.is_file() else None


def load_datasets(folder: Path | str | None = None) -> tuple[Dataset, ...]:
    """The datasets in `folder`, or in the one that NST_EXAMPLES names, or else the bundled ones.

    A folder's datasets.json says which images belong together; without one, all images in its content/ and
    style/ are one dataset under the folder's name. Raises CatalogError.
    """
    root = Path(folder or os.environ.get("NST_EXAMPLES") or BUNDLED).expanduser().resolve()
    return _listed(root) if (root / "datasets.json").is_file() else (_all_of(root),)


def find_dataset(name: str) -> Dataset:
    """That one of load_datasets(), or else all images in content/ and style/ of the folder of that name.

    Raises CatalogError.
    """
    datasets = load_datasets()
    for dataset in datasets:
        if dataset.name == name:
            return dataset
    if not Path(name).is_dir():
        known = ", ".join(dataset.name for dataset in datasets)
        raise CatalogError(f"Please name a dataset ({known}) or a folder with content/ and style/ in it.")
    return _all_of(Path(name).resolve())


def _all_of(root: Path) -> Dataset:
    contents, styles = (_images(root / role) for role in ("content", "style"))
    if not contents or not styles:
        raise CatalogError(
            f"Please put at least one image each into {root / 'content'} and {root / 'style'}."
        )
    return Dataset(root.name, contents, styles)


def _images(folder: Path) -> tuple[Example, ...]:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return tuple(
        Example(file, file.stem.replace("-", " ").replace("_", " "))
        for file in files
        if file.suffix.lower() in _ENDINGS and not file.name.startswith(".") and file.is_file()
    )


def _listed(root: Path) -> tuple[Dataset, ...]:
    try:
        listing = json.loads((root / "datasets.json").read_text(encoding="utf-8"))
        examples = {name: Example(root / name, **about) for name, about in listing["images"].items()}
        datasets = tuple(
            Dataset(
                dataset["name"],
                tuple(examples[name] for name in dataset["content"]),
                tuple(examples[name] for name in dataset["style"]),
            )
            for dataset in listing["datasets"]
        )
        if not datasets or not all(dataset.pairs for dataset in datasets):
            raise ValueError("there is no pair of images in a dataset")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CatalogError(
            f"Please correct {root / 'datasets.json'}, which is not laid out as the bundled one."
        ) from error
    missing = [example.path for example in examples.values() if not example.path.is_file()]
    if missing:
        raise CatalogError(f"Please add {missing[0]}, which {root / 'datasets.json'} lists.")
    return datasets
