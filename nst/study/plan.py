"""The plan of a study: pairs of a dataset, each with every combination of the settings that are varied."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from nst.config import AXES, TransferConfig
from nst.engine.inputs import check_layers, check_styles
from nst.engine.pyramid import config_cost
from nst.engine.weights import load_backbone
from nst.errors import StudyError
from nst.study.datasets import Dataset, Example

# The style weight is varied along the columns of the contact sheet, next to the styles; every other setting
# is varied along its rows.
_COLUMN_AXES = ("style_weight",)


@dataclass(frozen=True)
class StudyRun:
    """Describe one run of a study.

    Args:
        content: the content image.
        style: the style image.
        config: its settings; the backbone is named, never "auto".
    """

    content: Example
    style: Example
    config: TransferConfig

    @property
    def name(self) -> str:
        """Name the run's picture file, without the ending."""
        return f"{self.content.name}--{self.style.name}"

    @property
    def cost(self) -> float:
        """Estimate the run's cost, roughly proportional to its seconds (see engine.pyramid.run_cost)."""
        return config_cost(self.config)


class Edge(NamedTuple):
    """Describe a row or a column of the contact sheet by what all its runs have in common.

    Args:
        example: the content image of a row, the style image of a column.
        settings: names and values of the varied settings.
    """

    example: Example
    settings: tuple[tuple[str, Any], ...]

    @property
    def label(self) -> str:
        """Describe the settings in a few words; "" where none is varied."""
        return ", ".join(AXES[name].format(value) for name, value in self.settings)


@dataclass(frozen=True)
class Plan:
    """Describe the runs of a study.

    Args:
        dataset: the images.
        configs: the settings; every pair is made with each of them.
        pairs: paths of the content and style images to combine; None for all pairs of the dataset.
    """

    dataset: Dataset
    configs: tuple[TransferConfig, ...]
    pairs: frozenset[tuple[Path, Path]] | None = None

    def __iter__(self) -> Iterator[StudyRun]:
        """Go through the runs style by style, so that the targets of a style serve all its runs."""
        for style, content in product(self.dataset.styles, self.dataset.contents):
            if self.pairs is None or (content.path, style.path) in self.pairs:
                for config in self.configs:
                    yield StudyRun(content, style, config)

    def __len__(self) -> int:
        all_pairs = len(self.dataset.contents) * len(self.dataset.styles)
        return len(self.configs) * (all_pairs if self.pairs is None else len(self.pairs))

    @cached_property
    def cost(self) -> float:
        """Estimate the cost of all runs together, roughly proportional to their seconds."""
        return sum(map(config_cost, self.configs)) * len(self) / len(self.configs)

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """Name the settings that differ between the configs."""
        return tuple(name for name in AXES if len({getattr(config, name) for config in self.configs}) > 1)

    @cached_property
    def rows(self) -> dict[Edge, int]:
        """Number the rows of the contact sheet."""
        return self._number_edges(self._row, self.dataset.contents)

    @cached_property
    def columns(self) -> dict[Edge, int]:
        """Number the columns of the contact sheet."""
        return self._number_edges(self._column, self.dataset.styles)

    def place(self, run: StudyRun) -> tuple[int, int]:
        """Find the row and the column of a run in the contact sheet."""
        return (
            self.rows[self._row(run.content, run.config)],
            self.columns[self._column(run.style, run.config)],
        )

    def title(self, run: StudyRun) -> str:
        """Describe a run by its pair and by the settings that tell it from the others."""
        edges = self._row(run.content, run.config), self._column(run.style, run.config)
        pair = " × ".join(edge.example.title for edge in edges)
        return ", ".join([pair, *(edge.label for edge in edges if edge.label)])

    def _row(self, content: Example, config: TransferConfig) -> Edge:
        names = [name for name in self.varied if name not in _COLUMN_AXES]
        return Edge(content, tuple((name, getattr(config, name)) for name in names))

    def _column(self, style: Example, config: TransferConfig) -> Edge:
        names = [name for name in self.varied if name in _COLUMN_AXES]
        return Edge(style, tuple((name, getattr(config, name)) for name in names))

    def _number_edges(
        self, edge: Callable[[Example, TransferConfig], Edge], examples: Sequence[Example]
    ) -> dict[Edge, int]:
        used = None if self.pairs is None else {path for pair in self.pairs for path in pair}
        edges = dict.fromkeys(
            edge(example, config)
            for example in examples
            if used is None or example.path in used
            for config in self.configs
        )
        return {edge: number for number, edge in enumerate(edges)}


def grid(base: TransferConfig, axes: Mapping[str, Sequence[Any]]) -> tuple[TransferConfig, ...]:
    """Combine every value of each axis with every value of the others.

    Args:
        base: the settings that are not varied.
        axes: the values of each setting that is varied, by its name.

    Returns:
        The configs, each once. The backbone "auto" is replaced by the network that it stands for here.

    Raises:
        ConfigError: for a config that cannot be used.
        WeightsError: for a backbone whose weights are not available.
    """
    configs = []
    for values in product(*axes.values()):
        config = replace(base, **dict(zip(axes, values, strict=True)))
        backbone = load_backbone(config.backbone)
        check_layers(config, backbone)
        check_styles(1, config, None)
        configs.append(replace(config, backbone=backbone.name))
    return tuple({repr(config): config for config in configs}.values())  # a mapping of layers has no hash


def read_pairs(path: Path, dataset: Dataset) -> frozenset[tuple[Path, Path]]:
    """Read the pairs of a study from a CSV file: a content image and a style image on each line.

    Images are named by their files; the endings may be left out where that leaves one image. A heading
    "content,style" is skipped, and semicolons may stand for the commas.

    Raises:
        StudyError: for a line that does not name a pair of the dataset, or a file without any.
        OSError: where the file cannot be read.
    """
    contents, styles = _paths_by_name(dataset.contents), _paths_by_name(dataset.styles)
    pairs = set()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
            delimiter = ";" if text.count(";") > text.count(",") else ","
            for number, row in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), start=1):
                names = [name.strip() for name in row]
                if not row or [name.lower() for name in names] == ["content", "style"]:
                    continue
                if len(names) != 2 or names[0] not in contents or names[1] not in styles:
                    raise StudyError(
                        f"Please correct line {number} of {path}: it should name a content image and a style "
                        "image of the dataset, with a comma between them."
                    )
                pairs.add((contents[names[0]], styles[names[1]]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise StudyError(f"Please save {path} as a CSV file in UTF-8.") from error
    if not pairs:
        raise StudyError(f"Please name at least one pair in {path}.")
    return frozenset(pairs)


def _paths_by_name(examples: Sequence[Example]) -> dict[str, Path]:
    named = {example.name: example.path for example in examples}
    return named | {example.path.name: example.path for example in examples}
