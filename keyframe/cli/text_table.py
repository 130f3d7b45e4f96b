"""Rows as aligned text."""

from collections.abc import Mapping, Sequence


def text_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Columns in the order of the first row's keys, padded to the widest cell."""
    if not rows:
        return ""
    names = list(rows[0])
    widths = {name: max(len(name), *(len(row.get(name, "")) for row in rows)) for name in names}
    lines = ["  ".join(name.ljust(widths[name]) for name in names)]
    lines += ["  ".join(row.get(name, "").ljust(widths[name]) for name in names) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
