"""A page that serves a few videos, and requests to it."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from keyframe.app.library import Library, Model
from keyframe.app.server import build
from keyframe.data.pyav_reader import PyAVReader
from keyframe.extraction.extract import ExtractionSpec
from keyframe.summary.selection import AdaptiveSelection
from keyframe.summary.shots import KtsShots
from tests.videos import write_video

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TOKEN = "the-token"
RULE = Model(
    "rule", "without a model", ExtractionSpec(KtsShots(), AdaptiveSelection(), PyAVReader()), Path("extract"), ()
)


class Served:
    """A library that is served in a thread, and requests as a page sends them."""

    def __init__(self, library: Library) -> None:
        self.library = library
        library.start()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        config = uvicorn.Config(build(library, TOKEN, self.port), log_config=None, timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],))
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join()

    def ask(self, path, body=None, method=None, **headers):
        """Status, headers and content of an answer; `body` is sent as JSON, unless it is bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"Cookie": f"keyframe-{self.port}={TOKEN}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method or ("GET" if body is None else "POST"), path, content, sent)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    def json(self, path, body=None):
        status, _, content = self.ask(f"/api/{path}", body)
        assert status == 200, content
        return json.loads(content)

    def finish(self) -> list[dict]:
        """Wait until no task is left, and return them all."""
        while True:
            tasks = self.json("tasks")["tasks"]
            if all(task["state"] in ("done", "failed", "cancelled") for task in tasks):
                return tasks
            time.sleep(0.05)


def serve_folder(folder: Path, **settings) -> Served:
    """Serve the videos of a folder; outputs go beside it."""
    spec = settings.pop("spec", RULE.spec)
    model = Model(RULE.id, RULE.name, spec, folder.parent / "extract", (f"output={folder.parent / 'extract'}",))
    models = [model, *settings.pop("models", ())]
    return Served(Library(lambda: sorted(folder.iterdir()), models, folder.parent / "app", **settings))


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Iterator[Served]:
    """Three videos: two that browsers play, and one that they do not."""
    folder = tmp_path_factory.mktemp("page") / "videos"
    folder.mkdir()
    write_video(folder / "a.mp4", frames=200, size=(320, 180))
    write_video(folder / "b.webm", frames=50, codec="libvpx")
    write_video(folder / "c <b>bold.avi", frames=50, codec="mpeg4")
    page = serve_folder(folder)
    yield page
    page.close()


@contextmanager
def opened(browser: "Browser", served: Served, **look: Any) -> Iterator["Page"]:
    """A page that is let in, and that must report no error, blocked script or style, nor ask another machine."""
    page = browser.new_page(**look)
    page.set_default_timeout(120_000)
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda one: None if one.url.startswith(served.address) else troubles.append(one.url))
    page.goto(f"{served.address}/?token={TOKEN}")
    page.wait_for_selector(".card")
    yield page
    page.close()
    assert not troubles


def until(page: "Page", expression: str) -> None:
    """Wait until something is so; Playwright's own way needs `eval`, which the page forbids."""
    end = time.monotonic() + 120
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"never: {expression}"
        page.wait_for_timeout(30)


def video_id(served: Served, name: str) -> str:
    return next(video["id"] for video in served.json("library")["videos"] if video["name"].startswith(name))
