import io
import logging
import sys
import time
from pathlib import Path

import pytest

from keyframe.cli import terminal as progress
from keyframe.cli.terminal import VideoProgress

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
