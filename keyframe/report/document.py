"""A report as data: a title, the sentence that matters most, and sections of blocks. It knows no file format."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

IMAGE_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
NOT_AVAILABLE = "not available"


@dataclass(frozen=True)
class Text:
    """Paragraphs of plain text, separated by empty lines; nothing in it is markup."""

    text: str


@dataclass(frozen=True)
class Notes:
    """A bullet list of plain sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows with shared columns, column name -> cell; the first names the row, a missing one is an empty cell.

    `numeric` are the columns to align right; by default those whose cells look like numbers.
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
        return frozenset(name for name in self.columns if _are_numbers([row.get(name, "") for row in self.rows]))


@dataclass(frozen=True)
class ImageFile:
    """A PNG or JPEG file; `alt` says what it shows, for readers who cannot see it."""

    path: Path
    alt: str
    caption: str = ""

    def __post_init__(self) -> None:
        if self.path.suffix.lower() not in IMAGE_TYPES:
            raise ValueError(f"{self.path}: a report takes {', '.join(IMAGE_TYPES)} images only")
        if not self.path.is_file():
            raise FileNotFoundError(f"the report's image {self.path} does not exist")


@dataclass(frozen=True)
class Gallery:
    """Small images in a grid, each with its caption."""

    images: Sequence[ImageFile]


Block: TypeAlias = Text | Notes | Table | ImageFile | Gallery


@dataclass(frozen=True)
class Section:
    """A heading and the blocks under it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """A whole report; the lead is the sentence that matters most, the footer says what made the report, and when."""

    title: str
    lead: str
    sections: Sequence[Section]
    footer: str = ""


def format_number(value: float, digits: int = 3) -> str:
    """A number with so many decimals; NaN is not available."""
    return NOT_AVAILABLE if math.isnan(value) else f"{value:z.{digits}f}"


def format_interval(lo: float, hi: float) -> str:
    """An interval, such as "0.120 to 0.340"."""
    return NOT_AVAILABLE if math.isnan(lo) else f"{lo:z.3f} to {hi:z.3f}"


def format_mean(metrics: Mapping[str, float], key: str, spread: bool = False) -> str:
    """A mean in one cell, such as "0.340 ± 0.120 [0.290, 0.390]", from `<key>`, `<key>_std`, `<key>_lo`, `<key>_hi`.

    The standard deviation (`spread`) and the interval are left out if they are NaN.
    """
    text = format_number(metrics[key])
    if text == NOT_AVAILABLE:
        return text
    if spread and not math.isnan(metrics[f"{key}_std"]):
        text += f" ± {metrics[f'{key}_std']:.3f}"
    if not math.isnan(metrics[f"{key}_lo"]):
        text += f" [{metrics[f'{key}_lo']:z.3f}, {metrics[f'{key}_hi']:z.3f}]"
    return text


_EMPTY_CELLS = {"", "-", "–", "—", "nan", "n/a"}
_SIGNS = "<>≤≥≈~+-−±×([ "


def _are_numbers(cells: Sequence[str]) -> bool:
    """Whether all cells are numbers, with at most a short unit (`3.1 MB`, `0.52 ± 0.03`), or mark a missing number."""
    present = [cell.strip() for cell in cells if cell.strip().lower() not in _EMPTY_CELLS]
    return bool(present) and all(
        re.match(r"\.?\d", cell.lstrip(_SIGNS))
        and len(words := re.findall(r"[^\W\d_]+", cell)) <= 2
        and all(len(word) <= 3 for word in words)
        for cell in present
    )
