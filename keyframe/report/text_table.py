"""Rows as aligned text."""

import unicodedata
from collections.abc import Collection, Mapping, Sequence


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
