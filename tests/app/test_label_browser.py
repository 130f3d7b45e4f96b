"""Labelling in a real browser: ten shots by keyboard, a reload, a server that is killed, two annotators at once."""

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from keyframe.data.labels import read_labels
from tests.app.conftest import opened, until
from tests.videos import write_video

pytestmark = pytest.mark.full

# The videos of argv[1] with the label file argv[2]; prints where.
SERVER = """
import sys
from pathlib import Path
from tests.app.conftest import serve_folder
page = serve_folder(Path(sys.argv[1]), labels=Path(sys.argv[2]), shot_seconds=0.5)
page.library.look_at(page.library.videos()[0])
print(page.address, page.library.videos()[0].id, flush=True)
page.thread.join()
"""


class Process:
    """A server that can be killed."""

    def __init__(self, folder):
        command = [sys.executable, "-c", SERVER, str(folder / "videos"), str(folder / "labels.tsv")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address, self.id = self.process.stdout.readline().split()
        self.journal = folder / "labels.tsv.journal"

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def ratings(self, annotator):
        entries = map(json.loads, self.journal.read_text().splitlines())
        return [(one["shot"], one["score"]) for one in entries if "score" in one and one["annotator"] == annotator]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("label")
    (folder / "videos").mkdir()
    write_video(folder / "videos" / "a.mp4", frames=125, size=(320, 180))
    return folder


def label(page, server, name):
    """Come to the page, give a name, and watch the video in a hurry."""
    page.goto(f"{server.address}/videos/{server.id}/label")
    page.fill("#name", name)
    page.keyboard.press("Enter")
    until(page, "document.activeElement.id === 'play' || !document.querySelector('#rate').hidden")
    if page.locator("#rate").is_hidden():
        page.evaluate("document.querySelector('video').playbackRate = 8")
        page.keyboard.press("Enter")
    page.wait_for_selector("#rate:not([hidden])")


def rate(page, keys, of=10):
    for key in keys:
        before = int(page.evaluate("document.querySelector('#done').value"))
        page.keyboard.press(key)
        until(page, f"document.querySelector('#done').value === {before + 1} || {before} === {of}")


def test_ten_shots_by_keyboard_with_a_reload_and_a_kill(browser, folder):
    server = Process(folder)
    with opened(browser, SimpleNamespace(address=server.address)) as page:
        label(page, server, "Ann <i>")
        until(page, "!document.querySelector('video').paused || document.querySelector('video').currentTime > 0")
        rate(page, "123")
        page.reload()
        page.wait_for_selector("#rate:not([hidden])")
        assert page.evaluate("document.querySelector('#done').value") == 3
        rate(page, "45")
        page.keyboard.press("ArrowLeft")
        until(page, "document.querySelector('#task').textContent.startsWith('Shot 5 of 10')")
        assert page.get_attribute("#scores button:nth-child(5)", "aria-pressed") == "true"
        page.keyboard.press(" ")
        page.keyboard.press("ArrowRight")
        before = server.ratings("Ann <i>")
        assert [score for _, score in before] == [1, 2, 3, 4, 5]
    server.kill()
    server = Process(folder)
    try:
        with opened(browser, SimpleNamespace(address=server.address)) as page:
            label(page, server, "Ann <i>")
            assert page.evaluate("document.querySelector('#done').value") == 5
            rate(page, "11111")
            until(page, "document.querySelector('#status').textContent.startsWith('All 10 shots have a score')")
        ratings = server.ratings("Ann <i>")
        assert ratings[:5] == before and len({shot for shot, _ in ratings}) == 10
        (labels,) = read_labels(folder / "labels.tsv").values()
        first = [round(12.5 * shot + 0.49) for shot, _ in ratings]  # the first frame of each shot of half a second
        assert [1 + 4 * labels.annotators[0, frame] for frame in first] == [score for _, score in ratings]
    finally:
        server.kill()


def test_two_annotators_at_once_on_narrow_screens_light_and_dark(browser, folder):
    axe = pytest.importorskip("axe_core_python.sync_playwright").Axe()
    server = Process(folder)
    narrow = {"width": 360, "height": 740}
    site = SimpleNamespace(address=server.address)
    try:
        with (
            opened(browser, site, color_scheme="dark", viewport=narrow) as first,
            opened(browser, site, color_scheme="light", viewport=narrow) as second,
        ):
            pages = {"Bo": first, "Cy": second}
            for name, page in pages.items():
                label(page, server, name)
            for key in "1234512345":
                for page in pages.values():
                    rate(page, key)
            for name, page in pages.items():
                assert [score for _, score in server.ratings(name)] == [1, 2, 3, 4, 5] * 2
                for place in (f"/videos/{server.id}/label", "/agreement", "/train", "/reports"):
                    page.goto(server.address + place)
                    page.wait_for_selector("#rate:not([hidden])" if "label" in place else "nav")
                    until(page, "document.readyState === 'complete'")
                    found = axe.run(page)["violations"]
                    assert not [one["id"] for one in found if one["impact"] in ("serious", "critical")], found
                    assert page.evaluate("document.documentElement.scrollWidth") <= 360, place
            first.goto(f"{server.address}/agreement")
            until(first, "document.querySelectorAll('#rows tr').length >= 3")
            names = [row.inner_text() for row in first.locator("#rows th").all()]
            assert names[-3:] == ["Bo", "Cy", "All, mean"]
    finally:
        server.kill()
