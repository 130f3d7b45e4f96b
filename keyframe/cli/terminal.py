"""What a user sees while a command runs: log lines, progress and the last lines; and Ctrl-C."""

import copy
import logging
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from numbers import Number
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TypeVar

from tqdm import tqdm

from keyframe.files import one_line, printable
from keyframe.report import Document, render_text, text_table

Item = TypeVar("Item")

log = logging.getLogger(__name__)

# Seconds between two lines, and before showing a bar.
_LINE_EVERY = 60.0
_BAR_AFTER = 0.5
_BAR = "{desc}: {percentage:3.0f}% |{bar}| {n:.0f} of {total:.0f} s, {remaining} left{postfix}"
_ROWS = (
    ("Spearman, annotators' mean", "spearman"),
    ("Kendall, annotators' mean", "kendall"),
    ("Spearman, each annotator", "annotator_spearman"),
    ("Kendall, each annotator", "annotator_kendall"),
    ("MSE", "mse"),
    ("MAE", "mae"),
    ("precision@15 %", "precision_at_15"),
    ("Spearman with the teacher", "teacher_spearman"),
)
_asked = False


class PlainFormatter(logging.Formatter):
    """A formatter of log lines that text from files cannot harm.

    Each value in a message becomes one printable line. The message itself is layout, such as a table, and keeps its
    line feeds.
    """

    def format(self, record: logging.LogRecord) -> str:
        record = copy.copy(record)
        if isinstance(record.args, Mapping):
            record.args = {name: _printable_value(value) for name, value in record.args.items()}
        elif record.args:
            record.args = tuple(map(_printable_value, record.args))
        return printable(super().format(record))


def _printable_value(value: object) -> object:
    return value if isinstance(value, Number) else one_line(str(value))


def show_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a bug, whose message may hold text from files."""
    print(printable("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def listen() -> None:
    """Let SIGTERM end a command as Ctrl-C does, so that what was begun is removed, and remember both."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have set it to be ignored
        signal.signal(signal.SIGINT, _interrupt)


def stop_if_asked() -> None:
    """Raise KeyboardInterrupt if one was raised before and got lost in a callback of C code; called between steps."""
    if _asked:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt


def bar(items: Iterable[Item], title: str, total: int, unit: str = "video") -> Iterator[Item]:
    """The items, with a bar on stderr that shows a rate and the time left; on a terminal, for more than one."""
    for item in tqdm(items, title, total, unit=unit, disable=None if total > 1 else True, leave=False):
        stop_if_asked()
        yield item


class VideoProgress:
    """Shows how far each reading of a video is, by a bar or, if stderr is no terminal, by one line per minute."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._path: Path | None = None
        self._pass = 0
        self._start = self._latest_line = 0.0
        self._bar: Any = None

    def __call__(self, path: Path, seconds: float, of: float) -> None:
        """Show that so many seconds of the video are read."""
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
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    @property
    def _title(self) -> str:
        assert self._path is not None
        return f"Reading {one_line(self._path.name)}, pass {self._pass}"

    def _begin(self, path: Path, of: float, now: float) -> None:
        self.close()  # the bar of a video that has failed in the middle
        self._pass = self._pass + 1 if path == self._path else 1
        self._path = path
        self._start = self._latest_line = now
        if self._on_terminal:
            self._bar = tqdm(desc=self._title, total=of, bar_format=_BAR, delay=_BAR_AFTER, leave=False)


def result_lines(metrics: Mapping[str, float], skipped: Mapping[str, str], run_dir: Path, best: Path) -> str:
    """Validation and test metrics, mean +- standard deviation over videos, then paths."""

    def cell(split: str, name: str) -> str:
        if f"{split}/{name}" not in metrics:
            return "-"
        spread = metrics.get(f"{split}/{name}_std")
        value = f"{metrics[f'{split}/{name}']:.3f}"
        return value if spread is None else f"{value} +- {spread:.3f}"

    rows = [
        {"metric": label, "validation": cell("val", name), "test": cell("test", name)}
        for label, name in _ROWS
        if name != "teacher_spearman" or "val/teacher_spearman" in metrics
    ]
    counts = ", ".join(f"{metrics[f'data/videos_{split}']:.0f} {split}" for split in ("train", "val", "test"))
    lines = [f"Videos: {counts}; sampled frames of each", "", text_table(rows), ""]
    if undefined := int(metrics.get("test/undefined", 0)):
        lines.append(f"{undefined} test videos have no rank correlation (constant scores or labels).")
    if skipped:
        lines.append(f"{len(skipped)} videos were left out:")
        lines += [f"  {one_line(f'{video}: {reason}')}" for video, reason in skipped.items()]
    run_dir = from_here(run_dir)
    lines += [
        f"Best checkpoint: {from_here(best)}",
        f"Metrics:         {run_dir / 'metrics.json'}, {run_dir / 'per_video.csv'}",
        f"Curves:          {run_dir / 'curves'}",
        f"Run directory:   {run_dir}",
    ]
    return "\n".join(lines)


def short_text(document: Document, sections: int) -> str:
    """The first sections of a report, for the terminal."""
    return render_text(replace(document, sections=document.sections[:sections]))


def report_lines(run_dir: Path, figures: Path | None = None) -> list[str]:
    """Where the results of an evaluation are."""
    run_dir = from_here(run_dir)
    lines = [
        f"Metrics:       {run_dir / 'metrics.json'}, {run_dir / 'per_video.csv'}",
        f"Report:        {run_dir / 'report.html'} (also .md, .txt)",
    ]
    if figures is not None:
        lines.append(f"Figures:       {from_here(figures)}")
    return [*lines, f"Run directory: {run_dir}"]


def from_here(path: Path) -> Path:
    """The path as a user would type it from the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
