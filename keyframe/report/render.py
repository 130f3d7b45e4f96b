"""Text from anywhere, made safe to print and to save: a file name may hold any character but `/` and NUL.

Rows as aligned text.

A document as plain text, for a terminal or a mail.

A document as GitHub-flavoured Markdown.

A document as one HTML file that needs nothing else: no network, no script, pictures inside.

One document, three files.
"""

import base64
import os
import re
import textwrap
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import assert_never
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from keyframe.files import write_text
from keyframe.report.document import (
    PICTURE_TYPES,
    Block,
    Document,
    Gallery,
    Notes,
    Picture,
    Table,
    Text,
    require_pictures,
)

# Control characters (terminal escapes among them), halves of surrogate pairs (bytes of a file name that are not
# UTF-8), and the marks that turn the reading direction of what follows. A line feed is layout, and stays.
_UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with U+FFFD, the replacement character, for what no reader should meet."""
    return _UNPRINTABLE.sub("\ufffd", text)


def one_line(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def paragraphs(text: str) -> list[str]:
    """Its paragraphs, each as one line; empty lines part them."""
    return [line for part in re.split(r"\n\s*\n", text) if (line := one_line(part))]


def text_table(rows: Sequence[Mapping[str, str]], right: Collection[str] = ()) -> str:
    """Columns in the order of the first row's keys, padded to the widest cell; those in `right` are aligned right."""
    if not rows:
        return ""
    names = list(rows[0])
    widths = {name: max(_width(name), *(_width(row.get(name, "")) for row in rows)) for name in names}

    def cell(line: Mapping[str, str], name: str) -> str:
        text = line.get(name, "")
        blank = " " * (widths[name] - _width(text))
        return blank + text if name in right else text + blank

    lines = [{name: name for name in names}, *rows]
    return "\n".join("  ".join(cell(line, name) for name in names).rstrip() for line in lines)


def _width(text: str) -> int:
    """Columns of a terminal: two for a wide character, none for a mark upon another."""
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


_WIDTH = 100


def render_text(document: Document) -> str:
    """Headings underlined, paragraphs at 100 columns, tables as wide as they are, pictures as `caption: path`.

    Raises:
        FileNotFoundError: a picture is not there.
    """
    require_pictures(document)
    parts = [_underlined(document.title, "="), *map(_wrapped, paragraphs(document.lead))]
    for section in document.sections:
        parts.append(_underlined(section.title, "-"))
        parts += [part for block in section.blocks for part in _block(block)]
    parts += map(_wrapped, paragraphs(document.footer))
    return printable("\n\n".join(parts) + "\n")


def _block(block: Block) -> Iterator[str]:
    match block:
        case Text():
            yield from map(_wrapped, paragraphs(block.text))
        case Notes():
            yield "\n".join(_wrapped(one_line(item), "- ") for item in block.items) or "(none)"
        case Table():
            rows = [{one_line(name): one_line(row.get(name, "")) for name in block.columns} for row in block.rows]
            table = text_table(rows, {one_line(name) for name in block.right}) or "(none)"
            yield f"{_wrapped(one_line(block.caption))}\n{table}" if block.caption else table
        case Picture():
            yield _picture(block)
        case Gallery():
            yield "\n".join(map(_picture, block.pictures)) or "(none)"
        case _:
            assert_never(block)


def _picture(picture: Picture) -> str:
    return f"{one_line(picture.caption or picture.alt)}: {one_line(str(picture.path))}"


def _underlined(title: str, rule: str) -> str:
    line = one_line(title)
    return f"{line}\n{rule * len(line)}"


def _wrapped(line: str, bullet: str = "") -> str:
    """A long word, a path say, is left whole."""
    indent = " " * len(bullet)
    return textwrap.fill(
        line, _WIDTH, initial_indent=bullet, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


_GRID = 3


def render_markdown(document: Document, directory: Path) -> str:
    """The document with its pictures as links that hold from `directory`, where the file will lie.

    Raises:
        FileNotFoundError: a picture is not there.
    """
    require_pictures(document)
    parts = [f"# {escape(document.title)}", *map(escape, paragraphs(document.lead))]
    for section in document.sections:
        parts.append(f"## {escape(section.title)}")
        parts += [part for block in section.blocks for part in _markdown_block(block, directory)]
    if footer := [escape(paragraph) for paragraph in paragraphs(document.footer)]:
        parts += ["---", *footer]
    return printable("\n\n".join(parts) + "\n")


def escape(text: str) -> str:
    """One line of text in which Markdown finds no markup.

    Marks that mean something only at an end of a line, or only beside others, are left alone elsewhere, so that
    names and numbers stay readable in the source.
    """
    line = re.sub(r"[\\`*\[\]<|~$]", r"\\\g<0>", one_line(text))
    line = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", line)
    line = re.sub(r"&(?=[#A-Za-z])", r"\\&", line)
    line = re.sub(r"^(\d*)(?=[-+.)](\s|$)|--|>|#{1,6}(\s|$))", r"\1\\", line)
    return re.sub(r"(?<=\s)#(?=#*$)", r"\\#", line)


def _markdown_block(block: Block, directory: Path) -> Iterator[str]:
    match block:
        case Text():
            yield from map(escape, paragraphs(block.text))
        case Notes():
            yield "\n".join(f"- {escape(item)}" for item in block.items) or "(none)"
        case Table():
            if block.caption:
                yield escape(block.caption)
            rows = [[escape(row.get(name, "")) for name in block.columns] for row in block.rows]
            rules = ["---:" if name in block.right else "---" for name in block.columns]
            yield _table([escape(name) for name in block.columns], rules, rows) if rows else "(none)"
        case Picture():
            yield _link(block, directory)
            if block.caption:
                yield escape(block.caption)
        case Gallery():
            yield _grid(block.pictures, directory) if block.pictures else "(none)"
        case _:
            assert_never(block)


def _grid(pictures: Sequence[Picture], directory: Path) -> str:
    """A table whose rows hold, in turn, pictures and their captions: Markdown has no other grid."""
    columns = min(_GRID, len(pictures))
    rows = []
    for start in range(0, len(pictures), columns):
        row = pictures[start : start + columns]
        blank = [""] * (columns - len(row))
        rows.append([_link(picture, directory) for picture in row] + blank)
        rows.append([escape(picture.caption) for picture in row] + blank)
    return _table(rows[0], [":---:"] * columns, rows[1:])


def _table(header: Sequence[str], rules: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rules, *rows))


def _link(picture: Picture, directory: Path) -> str:
    path = Path(os.path.relpath(picture.path, directory)).as_posix()
    return f"![{escape(picture.alt)}]({quote(os.fsencode(path))})"


def render_html(document: Document) -> str:
    """The whole page; every text in it is escaped.

    Raises:
        FileNotFoundError: a picture is not there.
    """
    return printable(_template().render(document=document))


@cache
def _template() -> Template:
    page = Path(__file__).with_name("page.html")
    environment = Environment(
        loader=FileSystemLoader(page.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"paragraphs": paragraphs, "data_uri": _data_uri}
    for kind in (Text, Notes, Table, Picture, Gallery):
        environment.tests[kind.__name__.lower()] = lambda block, kind=kind: isinstance(block, kind)
    return environment.get_template(page.name)


def _data_uri(path: Path) -> str:
    return f"data:{PICTURE_TYPES[path.suffix.lower()]};base64,{base64.b64encode(path.read_bytes()).decode()}"


__all__ = ["render_html", "render_markdown", "render_text", "write_report"]


def write_report(
    document: Document, directory: Path, forms: Sequence[str] = ("txt", "md", "html"), name: str = "report"
) -> list[Path]:
    """Write `<name>.txt`, `<name>.md` and `<name>.html`; each appears whole, and none before all are rendered.

    Args:
        document: the report.
        directory: made where it is missing.
        forms: which of txt, md and html.
        name: the files' name without its suffix.

    Returns:
        The files, in the order of `forms`.

    Raises:
        ValueError: a form is none of the three.
        FileNotFoundError: a picture is not there.
    """
    renderings = {
        "txt": render_text,
        "md": lambda document: render_markdown(document, directory),
        "html": render_html,
    }
    if unknown := set(forms) - set(renderings):
        raise ValueError(f"a report is written as {', '.join(renderings)}, not as {', '.join(sorted(unknown))}")
    pages = {directory / f"{name}.{form}": renderings[form](document) for form in forms}
    directory.mkdir(parents=True, exist_ok=True)
    for path, page in pages.items():
        write_text(path, page)
    return list(pages)
