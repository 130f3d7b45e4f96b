"""What takes a while says so: a bar on a terminal, a line now and then in a log."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from keyframe.cli.interruption import stop_if_asked
from keyframe.report.characters import one_line, printable

Item = TypeVar("Item")

log = logging.getLogger(__name__)

# Seconds between two lines, and before a bar is worth to be shown.
_LINE_EVERY = 60.0
_BAR_AFTER = 0.5
_BAR = "{desc}: {percentage:3.0f}% |{bar}| {n:.0f} of {total:.0f} s, {remaining} left{postfix}"


def bar(items: Iterable[Item], title: str, total: int, unit: str = "video") -> Iterator[Item]:
    """The items, with a bar on stderr that shows a rate and the time left; on a terminal, for more than one.

    Raises:
        KeyboardInterrupt: Ctrl-C came, though a library has swallowed it.
    """
    for item in tqdm(items, title, total, unit=unit, disable=None if total > 1 else True, leave=False):
        stop_if_asked()
        yield item


class VideoProgress:
    """How far the readings of one video after the other have come; see `keyframe.data.watched_reader`.

    A video is read several times: to look at it, for a model, for the keyframes. Each is a bar of its own over the
    video's seconds or, where stderr is no terminal, a line a minute.
    """

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._path: Path | None = None
        self._pass = 0
        self._start = self._latest_line = 0.0
        self._bar: Any = None

    def __call__(self, path: Path, seconds: float, of: float) -> None:
        """Note that so many seconds of the video, of so many, are read."""
        stop_if_asked()
        now = time.monotonic()
        if seconds == 0:
            self._begin(path, of, now)
            return
        speed = seconds / max(now - self._start, 1e-3)
        if self._bar is not None:
            self._bar.set_postfix_str(f"{speed:.1f} x real time", refresh=False)
            self._bar.update(seconds - self._bar.n)
        elif not self._on_terminal and now - self._latest_line >= _LINE_EVERY and seconds < of:
            self._latest_line = now
            left = (of - seconds) / speed
            log.info("%s: %.0f of %.0f s, %.1f x real time, about %.0f s left", self._title, seconds, of, speed, left)
        if seconds >= of:
            self.close()

    def close(self) -> None:
        """Remove the bar, if there is one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    @property
    def _title(self) -> str:
        assert self._path is not None
        return f"Reading {printable(one_line(self._path.name))}, pass {self._pass}"

    def _begin(self, path: Path, of: float, now: float) -> None:
        self.close()  # Of a video that has failed in the middle.
        self._pass = self._pass + 1 if path == self._path else 1
        self._path = path
        self._start = self._latest_line = now
        if self._on_terminal:
            self._bar = tqdm(desc=self._title, total=of, bar_format=_BAR, delay=_BAR_AFTER, leave=False)
