"""A bar on a terminal for what takes a while; nothing in a log."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def bar(items: Iterable[Item], title: str, total: int, unit: str = "video") -> Iterator[Item]:
    """The items, with a bar on stderr that shows a rate and the time left."""
    yield from tqdm(items, title, total, unit=unit, disable=None, leave=False)
