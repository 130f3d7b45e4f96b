"""A document as GitHub-flavoured Markdown."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import assert_never
from urllib.parse import quote

from keyframe.report.characters import one_line, paragraphs, printable
from keyframe.report.document import Block, Document, Gallery, Notes, Picture, Table, Text, require_pictures

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
        parts += [part for block in section.blocks for part in _block(block, directory)]
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


def _block(block: Block, directory: Path) -> Iterator[str]:
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
