"""A document as plain text, for a terminal or a mail."""

import textwrap
from collections.abc import Iterator
from typing import assert_never

from keyframe.report.characters import one_line, paragraphs, printable
from keyframe.report.document import Block, Document, Gallery, Notes, Picture, Table, Text, require_pictures
from keyframe.report.text_table import text_table

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
