"""What a user sees while a command runs, and that text from files cannot harm the terminal that shows it."""

import io
import logging
import sys
import time
from pathlib import Path

import pytest

from keyframe.cli import terminal as progress
from keyframe.cli.terminal import PlainFormatter, VideoProgress, result_lines, show_error

FILM = Path("a\nfilm.mp4")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_a_minute_in_a_log(clock, caplog):
    caplog.set_level(logging.INFO)
    told = VideoProgress()
    for seconds in range(0, 7201, 30):  # 60 times as fast as it plays: two minutes
        clock[0] = 100 + seconds / 60
        told(FILM, float(seconds), 7200.0)
    told(FILM, 0.0, 50.0)
    told(FILM, 50.0, 50.0)
    assert [record.message for record in caplog.records] == [
        "Reading a film.mp4, pass 1: 3600 of 7200 s, 60.0 x real time, about 60 s left"
    ]


def test_a_bar_on_a_terminal(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "_BAR_AFTER", 0)
    told = VideoProgress()
    for path in (FILM, FILM, Path("other.mp4")):
        told(path, 0.0, 7200.0)
        time.sleep(0.11)  # a bar is drawn ten times a second at most
        told(path, 3600.0, 7200.0)
    told.close()
    shown = terminal.getvalue()
    assert "Reading a film.mp4, pass 1:   0%" in shown and "of 7200 s" in shown and "x real time" in shown
    assert "Reading a film.mp4, pass 2" in shown and "Reading other.mp4, pass 1" in shown
    assert not caplog.records


HOSTILE = "a\x1b]0;b\x07\r\nc\u202ed\x9be\udce9"
PLAIN = "a\ufffd]0;b\ufffd c\ufffdd\ufffde\ufffd"


def formatted(message, *arguments):
    return PlainFormatter("%(message)s").format(logging.LogRecord("", 0, "", 0, message, arguments, None))


def test_values_in_a_log_line_are_one_printable_line_each():
    assert (
        formatted("%s: %d of %.1f s, %s", Path(HOSTILE), 3, 1.25, KeyError)
        == f"{PLAIN}: 3 of 1.2 s, <class 'KeyError'>"
    )
    assert formatted("%(name)s is %(size)d", {"name": HOSTILE, "size": 3}) == f"{PLAIN} is 3"
    assert formatted("| a |\n| - |\x1b\n") == "| a |\n| - |\ufffd\n"  # A table is layout.
    assert formatted("100 % of it") == "100 % of it"


def test_last_lines_and_the_traceback_of_a_bug(capsys):
    metrics = {f"data/videos_{split}": 1.0 for split in ("train", "val", "test")}
    lines = result_lines(metrics, {HOSTILE: f"is bad\n{HOSTILE}"}, Path("run"), Path("best")).splitlines()
    assert f"  {PLAIN}: is bad {PLAIN}" in lines
    show_error(ValueError, ValueError(HOSTILE), None)
    assert "ValueError: a\ufffd]0;b\ufffd" in (shown := capsys.readouterr().err)
    assert not set(shown) & set("\x1b\x07\r\u202e\x9b\udce9")
