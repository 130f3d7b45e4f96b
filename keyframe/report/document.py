"""A report as data: a title, the sentence that matters most, and sections of blocks. It knows no format."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

PICTURE_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


@dataclass(frozen=True)
class Text:
    """Paragraphs of plain text, an empty line between two; nothing in it is markup."""

    text: str


@dataclass(frozen=True)
class Notes:
    """A bullet list of plain sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows that share columns; the first column says what a row is.

    Args:
        rows: column name -> cell; a column that a row lacks is empty there.
        caption: one plain sentence.
        numeric: the columns that are aligned right; without it, those whose cells look like numbers.

    Raises:
        ValueError: `numeric` names a column that no row has.
    """

    rows: Sequence[Mapping[str, str]]
    caption: str = ""
    numeric: Sequence[str] | None = None

    def __post_init__(self) -> None:
        unknown = set(self.numeric or ()) - set(self.columns)
        if self.rows and unknown:
            raise ValueError(f"a table of the columns {self.columns} has no numeric columns {sorted(unknown)}")

    @property
    def columns(self) -> list[str]:
        """All columns, in the order of their first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    @property
    def right(self) -> frozenset[str]:
        """The columns that are aligned right."""
        if self.numeric is not None:
            return frozenset(self.numeric)
        return frozenset(name for name in self.columns if _numbers([row.get(name, "") for row in self.rows]))


@dataclass(frozen=True)
class Picture:
    """A PNG or JPEG file.

    Args:
        path: the file; it has to exist when the document is rendered.
        alt: what it shows, for those who cannot see it.
        caption: one plain sentence.

    Raises:
        ValueError: the suffix is another one.
    """

    path: Path
    alt: str
    caption: str = ""

    def __post_init__(self) -> None:
        if self.path.suffix.lower() not in PICTURE_TYPES:
            raise ValueError(f"{self.path}: a report takes {', '.join(PICTURE_TYPES)} pictures only")


@dataclass(frozen=True)
class Gallery:
    """Small pictures in a grid, each with its caption."""

    pictures: Sequence[Picture]


Block: TypeAlias = Text | Notes | Table | Picture | Gallery


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """A whole report.

    Args:
        title: a line.
        lead: one paragraph, the plain sentence that matters most.
        sections: in reading order.
        footer: one paragraph: what made this report, and when.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    footer: str = ""


def require_pictures(document: Document) -> None:
    """Check that every picture is there.

    Raises:
        FileNotFoundError: one is not; it is named.
    """
    blocks = [block for section in document.sections for block in section.blocks]
    pictures = [block for block in blocks if isinstance(block, Picture)]
    pictures += [picture for block in blocks if isinstance(block, Gallery) for picture in block.pictures]
    for picture in pictures:
        if not picture.path.is_file():
            raise FileNotFoundError(f"the report's picture {picture.path} is not there")


_ABSENT = {"", "-", "–", "—", "nan", "n/a"}
_SIGNS = "<>≤≥≈~+-−±×([ "


def _numbers(cells: Sequence[str]) -> bool:
    """Whether all cells are numbers, with at most a short unit (`3.1 MB`, `0.52 ± 0.03`), or say that there is none."""
    present = [cell.strip() for cell in cells if cell.strip().lower() not in _ABSENT]
    return bool(present) and all(
        re.match(r"\.?\d", cell.lstrip(_SIGNS))
        and len(words := re.findall(r"[^\W\d_]+", cell)) <= 2
        and all(len(word) <= 3 for word in words)
        for cell in present
    )


NONE = "not available"


def number(value: float, digits: int = 3) -> str:
    """A number to so many decimals; says so where there is none."""
    return NONE if math.isnan(value) else f"{value:z.{digits}f}"


def span(metrics: Mapping[str, float], key: str) -> str:
    """The interval of a metric."""
    lo, hi = metrics[f"{key}_lo"], metrics[f"{key}_hi"]
    return NONE if math.isnan(lo) else f"{lo:z.3f} to {hi:z.3f}"


def with_span(metrics: Mapping[str, float], key: str) -> str:
    """A metric and its interval in one cell."""
    value, lo, hi = metrics[key], metrics[f"{key}_lo"], metrics[f"{key}_hi"]
    if math.isnan(value):
        return NONE
    return f"{value:z.3f}" if math.isnan(lo) else f"{value:z.3f} [{lo:z.3f}, {hi:z.3f}]"


def with_spread(metrics: Mapping[str, float], key: str) -> str:
    """A metric and its standard deviation over videos in one cell."""
    value, spread = metrics[key], metrics[f"{key}_std"]
    if math.isnan(value):
        return NONE
    return f"{value:z.3f}" if math.isnan(spread) else f"{value:z.3f} ± {spread:.3f}"
