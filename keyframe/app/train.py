"""The pages that train on the labels, in a process of its own, and that list runs with their figures and reports.

A training outlives the server: it is stopped by its button, and a server that starts later finds it again. What there
is to know about it is in its folder, below `train/` of the page's folder: a lock while it runs, its status, its log.
"""

import math
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from keyframe.app.library import Library, short_hash
from keyframe.app.web import get, not_found, page, post
from keyframe.config import quote
from keyframe.files import make_folder, new_folder, printable, read_json
from keyframe.system import LOCK, lock_file
from keyframe.types import KeyframeError

_TAIL = 2**14  # bytes of a log that a page shows
_LINES = 14
_EPOCH = re.compile(r"epoch (\d+)/(\d+)")
_LARGEST = 2**20  # bytes of a file of figures
_MOST_FIGURES = 300
_MOST_FOLDERS, _MOST_RUNS, _DEEPEST = 5000, 300, 5
# Folders that hold no runs, and may hold much else.
_NO_RUNS = {"cache", "data", "checkpoints", "curves", "extract", "previews", "uploads", "logs"}
# A report is someone's HTML: it may show itself, and do nothing.
_SANDBOX = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"


class Training:
    """Runs of `keyframe-train` that the page has started, below `folder`, one at a time."""

    def __init__(self, library: Library) -> None:
        self.library, self.folder = library, library.folder / "train"
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self.adopt()

    def command(self) -> list[str]:
        """The arguments of `keyframe-train` for the videos that have labels; none if there are none."""
        labels, annotations = self.library.labels, self.library.annotations
        if not labels.exists():
            return []
        named = {*annotations.before, *(name for name in annotations.shots if annotations.complete(name))}
        videos = [video.path for video in self.library.videos() if not named or video.path.stem in named]
        roots = sorted({quote(str(path.parent.resolve())) for path in videos})
        if not roots:
            return []
        files = [quote(str(labels.resolve()))] * len(roots)
        root, file = (values[0] if len(roots) == 1 else f"[{','.join(values)}]" for values in (roots, files))
        own = [f"data.root={root}", f"data.labels={file}", "data.allow_missing=true"]
        return ["data=labelled", *own, *self.library.training]

    def start(self) -> None:
        """Start a run."""
        arguments = self.command()
        if not arguments:
            raise KeyframeError("no video is labelled: label some first.")
        if any(run["state"] in ("starting", "running") for run in self.runs()):
            raise KeyframeError("a run is being trained already: stop it, or wait until it has ended.")
        make_folder(self.folder)
        run = new_folder(self.folder / f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
        arguments.append(f"hydra.run.dir={quote(str(run.resolve()))}")
        with (run / "page.log").open("wb") as output:
            self._started[run.name] = subprocess.Popen(
                [sys.executable, "-m", "keyframe.cli.train", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, name: Any) -> None:
        """Ask a run to stop as Ctrl-C does: it keeps its checkpoints and may be resumed."""
        run = next((run for run in self._folders() if run.name == name), None)
        number = None if run is None else self._process_of(run)
        if number is None:
            raise not_found("run that is being trained")
        with suppress(ProcessLookupError):
            os.killpg(number, signal.SIGINT)

    def runs(self) -> list[dict[str, Any]]:
        """What a page shows of each run, the newest first."""
        return [self._shown(run) for run in self._folders()]

    def adopt(self) -> None:
        """Make finished runs models of the library."""
        for run in self._folders():
            if self._state(run) == "completed" and self.library.make_model is not None:
                with suppress(KeyframeError):
                    use(self.library, run)

    def _folders(self) -> list[Path]:
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((run for run in found if (run / "page.log").is_file()), reverse=True)[:_MOST_RUNS]

    def _process_of(self, run: Path) -> int | None:
        """The process that trains a run, which leads a group of its own; None if it has ended."""
        mine = self._started.get(run.name)
        if mine is not None:
            return mine.pid if mine.poll() is None else None
        with suppress(OSError), (run / LOCK).open("rb") as lock:
            if lock_file(lock):
                return None
            owner = re.match(r"process (\d+) on (\S+) ", lock.read(200).decode("utf-8", "replace"))
            if owner is not None and owner[2] == socket.gethostname() and os.getpgid(int(owner[1])) == int(owner[1]):
                return int(owner[1])
        return None

    def _state(self, run: Path) -> str:
        with suppress(KeyframeError):
            status = read_json(run / "status.json", _LARGEST)
            state = str(status.get("state")) if isinstance(status, dict) else ""
            return "stopped" if state == "running" and self._process_of(run) is None else state
        return "failed" if self._process_of(run) is None else "starting"

    def _shown(self, run: Path) -> dict[str, Any]:
        with (run / "page.log").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            text = printable(file.read(_TAIL).decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n"))
        state = self._state(run)
        epochs = _EPOCH.findall(text)
        done = (int(epochs[-1][0]) + 1) / (int(epochs[-1][1]) + 1) if epochs else 0.0
        lines = [line for line in text.split("\n") if line.strip()]
        return {"name": run.name, "state": state, "done": min(1.0, done), "lines": lines[-_LINES:], "run": str(run)}


def use(library: Library, run: Path) -> None:
    """Make a run a model of the library, unless it is one."""
    if library.make_model is None:
        raise KeyframeError("models cannot be added here: start keyframe-app with run=.")
    model = library.make_model(run, len(library.models))
    if all(model.spec.checkpoint != one.spec.checkpoint for one in library.models.values()):
        library.models[model.id] = model
        library.refresh()


def find_runs(folder: Path) -> Iterator[Path]:
    """Folders below one that hold figures; bounded, whatever is in it."""
    found = 0
    for place, folders, files in islice(os.walk(folder), _MOST_FOLDERS):
        if found == _MOST_RUNS:
            return
        depth = len(Path(place).relative_to(folder).parts)
        kept = [name for name in folders if name not in _NO_RUNS and not name.startswith(".") and depth < _DEEPEST]
        folders[:] = sorted(kept, reverse=True)  # names are times: the newest first
        if "metrics.json" in files:
            found += 1
            yield Path(place)


def figures_of(run: Path) -> dict[str, float]:
    """The finite numbers of a run's `metrics.json`; KeyframeError if it is none."""
    content = read_json(run / "metrics.json", _LARGEST)
    if not isinstance(content, dict):
        raise KeyframeError(f"{run / 'metrics.json'} holds no figures: make it again.")
    numbers = {key: value for key, value in content.items() if type(value) in (int, float) and math.isfinite(value)}
    return dict(list(numbers.items())[:_MOST_FIGURES])


def routes(library: Library) -> list[Route]:
    """The pages of training and of runs."""
    training = Training(library)
    listed: dict[str, Path] = {}

    def trained(request: Request) -> Any:
        runs = training.runs()
        training.adopt()  # after it: what is shown as completed is a model
        arguments = training.command()
        return {"command": shlex.join(["keyframe-train", *arguments]) if arguments else None, "runs": runs}

    def change(request: Request, body: Mapping[str, Any]) -> Any:
        if body.get("start") is True:
            training.start()
        else:
            training.stop(body.get("stop"))
        return {}

    def runs(request: Request) -> Any:
        listed.update({short_hash(os.path.realpath(run)): run for run in find_runs(library.runs)})
        return {"folder": str(library.runs), "runs": [shown(id, run) for id, run in listed.items()]}

    def shown(id: str, run: Path) -> dict[str, Any]:
        figures, fault = {}, ""
        try:
            figures = figures_of(run)
        except KeyframeError as error:
            fault = str(error)
        name, model = os.path.relpath(run, library.runs), (run / "checkpoints" / "best.ckpt").is_file()
        reports = [path.name for path in pages_of(run)]
        return {"id": id, "name": name, "figures": figures, "fault": fault, "model": model, "reports": reports}

    def pages_of(run: Path) -> list[Path]:
        return sorted(path for path in run.glob("*.html") if path.is_file() and not path.is_symlink())

    def report(request: Request) -> Response:
        run, number = listed.get(request.path_params["id"]), request.path_params["number"]
        pages = [] if run is None else pages_of(run)
        if number >= len(pages):
            raise not_found("report")
        return FileResponse(pages[number], media_type="text/html", headers={"Content-Security-Policy": _SANDBOX})

    def use_run(request: Request, body: Mapping[str, Any]) -> Any:
        run = listed.get(str(body.get("run")))
        if run is None:
            raise not_found("run")
        use(library, run)
        return {}

    return [
        page("/train", "train", "Train on the labels"),
        page("/reports", "reports", "Runs and their reports"),
        get("/api/training", trained),
        post("/api/training", change),
        get("/api/runs", runs),
        Route("/api/runs/{id}/reports/{number:int}", report),
        post("/api/models", use_run),
    ]
