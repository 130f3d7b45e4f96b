"""A report as data, and its renderings: padded Markdown, plain or escaped, and HTML with its images inside."""

import base64
import math
import os
import re
import textwrap
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, assert_never
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from keyframe.files import one_line, printable, write_text

IMAGE_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
NOT_AVAILABLE = "not available"
_LINE_WIDTH = 100


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
    """Rows with shared columns, column name -> cell; the first names the row, a missing one is an empty cell."""

    rows: Sequence[Mapping[str, str]]
    caption: str = ""
    numeric: Sequence[str] | None = None  # columns to align right; by default those whose cells look like numbers

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


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text, each as one line; empty lines separate them."""
    return [line for part in re.split(r"\n\s*\n", text) if (line := one_line(part))]


def text_table(rows: Sequence[Mapping[str, str]], right: Collection[str] = ()) -> str:
    """A Markdown table, padded to its widest cells: the first row's keys are columns, those in `right` align right."""
    if not rows:
        return ""
    rows = [{name: one_line(row.get(name, "")) for name in rows[0]} for row in rows]
    widths = {name: max(3, _terminal_width(name), *(_terminal_width(row[name]) for row in rows)) for name in rows[0]}
    last = list(widths)[-1]
    if last not in right and sum(widths.values()) + 3 * len(widths) + 1 > _LINE_WIDTH:
        # a long last column ends where its text does: padded, every row would wrap
        widths[last] = max(3, _terminal_width(last))

    def line(row: Mapping[str, str]) -> str:
        blanks = {name: " " * (width - _terminal_width(row[name])) for name, width in widths.items()}
        cells = [blank + row[name] if name in right else row[name] + blank for name, blank in blanks.items()]
        return f"| {' | '.join(cells)} |"

    rule = {name: "-" * (width - 1) + (":" if name in right else "-") for name, width in widths.items()}
    return "\n".join(map(line, [{name: name for name in widths}, rule, *rows]))


def _terminal_width(text: str) -> int:
    """Columns of a terminal: two for a wide character, none for a combining mark."""
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def render_text(document: Document, directory: Path | None = None) -> str:
    """The document as Markdown for a file in `directory`: marks are escaped, and images are links relative to it.

    Without a directory it is for a terminal: nothing is escaped, lines end at 100 columns, images are `caption: path`.
    """
    line = one_line if directory is None else escape
    parts = [f"# {line(document.title)}", *_wrapped_lines(document.lead, directory)]
    for section in document.sections:
        parts.append(f"## {line(section.title)}")
        parts += [part for block in section.blocks for part in _block(block, directory)]
    if footer := _wrapped_lines(document.footer, directory):
        parts += ["---", *footer]
    return printable("\n\n".join(parts) + "\n")


def _wrapped_line(text: str, directory: Path | None, bullet: str = "") -> str:
    if directory is not None:
        return bullet + escape(text)
    wrapper = textwrap.TextWrapper(_LINE_WIDTH, bullet, " " * len(bullet), break_long_words=False)
    wrapper.break_on_hyphens = False
    return wrapper.fill(one_line(text))


def _wrapped_lines(text: str, directory: Path | None) -> list[str]:
    return [_wrapped_line(paragraph, directory) for paragraph in paragraphs(text)]


def _block(block: Block, directory: Path | None) -> Iterator[str]:
    match block:
        case Text():
            yield from _wrapped_lines(block.text, directory)
        case Notes():
            yield "\n".join(_wrapped_line(item, directory, "- ") for item in block.items) or "(none)"
        case Table():
            if block.caption:
                yield _wrapped_line(block.caption, directory)
            cell = one_line if directory is None else escape
            rows = [{cell(name): cell(row.get(name, "")) for name in block.columns} for row in block.rows]
            yield text_table(rows, {cell(name) for name in block.right}) or "(none)"
        case ImageFile():
            if directory is None:
                yield f"{one_line(block.caption or block.alt)}: {one_line(str(block.path))}"
            else:
                path = quote(os.fsencode(Path(os.path.relpath(block.path, directory)).as_posix()))
                yield from filter(None, [f"![{escape(block.alt)}]({path})", escape(block.caption)])
        case Gallery():  # Markdown has no grid
            for image in block.images:
                yield from _block(image, directory)
            if not block.images:
                yield "(none)"
        case _:
            assert_never(block)


def escape(text: str) -> str:
    """One line of text in which Markdown finds no markup; marks that are harmless where they stand are left alone."""
    line = re.sub(r"[\\`*\[\]<|~$]", r"\\\g<0>", one_line(text))
    line = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", line)
    line = re.sub(r"&(?=[#A-Za-z])", r"\\&", line)
    line = re.sub(r"^(\d*)(?=[-+.)](\s|$)|--|>|#{1,6}(\s|$))", r"\1\\", line)
    return re.sub(r"(?<=\s)#(?=#*$)", r"\\#", line)


def render_html(document: Document) -> str:
    """The whole page; every text in it is escaped."""
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters |= {"paragraphs": paragraphs, "data_uri": _data_uri}
    for kind in (Text, Notes, Table, ImageFile, Gallery):
        environment.tests[kind.__name__.lower()] = lambda block, kind=kind: isinstance(block, kind)
    return printable(environment.get_template("page.html").render(document=document))


def _data_uri(path: Path) -> str:
    return f"data:{IMAGE_TYPES[path.suffix.lower()]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def write_report(
    document: Document, directory: Path, forms: Sequence[str] = ("txt", "md", "html"), name: str = "report"
) -> list[Path]:
    """Write `<name>.txt|md|html`, return the files in the order of `forms`; none is written before all are rendered."""
    renderings = {"txt": render_text, "md": lambda document: render_text(document, directory), "html": render_html}
    pages = {directory / f"{name}.{form}": renderings[form](document) for form in forms}
    directory.mkdir(parents=True, exist_ok=True)
    for path, page in pages.items():
        write_text(path, page)
    return list(pages)
