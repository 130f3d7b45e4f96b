"""Nested values, as configurations are, laid flat."""

from collections.abc import Iterator, Mapping
from typing import Any


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as pairs of dotted key and value."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from flat(child, f"{key}.{name}" if key else str(name))
    else:
        yield key, value
