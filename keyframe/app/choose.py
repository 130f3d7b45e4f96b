"""Choosing keyframes from scores that are there, by the selections of `keyframe-extract`; and the export."""

import shlex
import zipfile
from collections import OrderedDict
from collections.abc import Generator, Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from threading import Lock
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from keyframe.app.library import Library, Model, Video
from keyframe.app.web import checked, not_found, read_body
from keyframe.app.workers import Task, extraction
from keyframe.extraction.engines import VideoJob, VideoResult, plan
from keyframe.extraction.extract import ExtractionSpec
from keyframe.extraction.kept import read_candidates
from keyframe.files import atomic_file
from keyframe.summary.candidates import Candidates, Selector
from keyframe.summary.selection import (
    AdaptiveSelection,
    KnapsackSelection,
    TimesSelection,
    TopSelection,
    UniformSelection,
)
from keyframe.types import KeyframeError

METHODS: Mapping[str, type[Any]] = {
    "adaptive": AdaptiveSelection,
    "top": TopSelection,
    "knapsack": KnapsackSelection,
    "uniform": UniformSelection,
    "times": TimesSelection,
}
_OF_CHOICE = ("selection", "cut_lists", "format", "summary_video")  # keys that the page sets
_MOST_KEPT = 2  # videos whose candidates are in memory, 24 MB for an hour of video


def selector_of(method: Any, settings: Any) -> Selector:
    """The selection of a method by its name in `conf/selection`, with settings by name; a KeyframeError if it is none.

    Settings that are left out have the values of the YAML files, which are those of the classes.
    """
    kind = METHODS[checked(method, "method", str, tuple(METHODS))]
    known = {field.name for field in fields(kind)}
    if not isinstance(settings, dict) or not settings.keys() <= known:
        raise KeyframeError(f"selection={method} has the settings {', '.join(sorted(known))}: reload the page.")
    selector: Selector = kind(**settings)
    return selector


class CandidateCache:
    """The candidates of the videos that were looked at last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Path, int], Candidates] = OrderedDict()
        self._lock = Lock()

    def of(self, video: Video, model: Model) -> Candidates:
        """The candidates of a video that a model has scored."""
        directory = video.folders.get(model.id)
        if directory is None:
            raise KeyframeError(f"{video.path.name} is not scored yet: score it first.")
        with self._lock:
            key = directory, directory.stat().st_mtime_ns
            if key not in self._kept:
                self._kept[key] = read_candidates(directory)[1]
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]


def spec_of(model: Model, body: Mapping[str, Any]) -> ExtractionSpec:
    """The extraction that a page asks for: a method with its settings, and the files to write."""
    cut_lists = checked(body.get("cut_lists", []), "cut_lists", list)
    return replace(
        model.spec,
        selector=selector_of(body.get("method"), body.get("settings")),
        format=checked(body.get("format", "jpg"), "format", str),
        summary_video=checked(body.get("summary_video", False), "summary_video", bool),
        cut_lists=tuple(checked(kind, "cut_lists", str) for kind in cut_lists),
    )


def command_of(video: Video, model: Model, spec: ExtractionSpec, method: str) -> str:
    """The command that writes the same files, for a shell."""
    keys = {f"selection.{name}": value for name, value in changed(spec.selector).items()}
    keys |= {"format": spec.format} if spec.format != "jpg" else {}
    keys |= {"summary_video": True} if spec.summary_video else {}
    keys |= {"cut_lists": spec.cut_lists} if spec.cut_lists else {}
    given = [
        one for one in model.arguments if not one.startswith(("selection", "cut_lists", "format", "summary_video"))
    ]
    words = [f"{key}={_value(value)}" for key, value in {"selection": method, **keys}.items()]
    output = model.output.with_name("chosen")
    return shlex.join(["keyframe-extract", str(video.path), *given, *words, f"output={output}"])


def changed(selector: Any) -> dict[str, Any]:
    """The settings of a selection that are not the defaults."""
    return {
        field.name: getattr(selector, field.name)
        for field in fields(selector)
        if getattr(selector, field.name) != field.default
    }


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(map(_value, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def routes(library: Library) -> list[Route]:
    """Selecting, and the export of what was selected."""
    cache, exports = CandidateCache(), library.folder / "exports"

    def choose(video: Video, body: Mapping[str, Any]) -> dict[str, Any]:
        model = library.model(body.get("model"))
        spec, candidates = spec_of(model, body), cache.of(video, model)
        found = spec.selector(candidates)
        keyframes = [
            {
                "seconds": round(float(candidates.seconds[place]), 6),
                "score": round(float(candidates.scores[place]), 6),
                "rank": rank,
            }
            for place, rank in zip(found.keyframes.tolist(), found.ranks.tolist(), strict=True)
        ]
        return {
            "keyframes": keyframes,
            "notes": list(found.notes),
            "command": command_of(video, model, spec, body["method"]),
        }

    async def choice(request: Request) -> Response:
        body = await read_body(request)
        return JSONResponse(await run_in_threadpool(lambda: choose(library.video(request), body)))

    def archive(directory: Path) -> None:
        with atomic_file(directory.with_name(f"{directory.name}.zip")) as draft, zipfile.ZipFile(draft, "w") as file:
            for path in sorted(directory.iterdir()):
                file.write(path, f"{directory.name}/{path.name}")

    async def export(request: Request) -> Response:
        body = await read_body(request)
        return JSONResponse(await run_in_threadpool(lambda: begin(library.video(request), body)))

    def begin(video: Video, body: Mapping[str, Any]) -> dict[str, Any]:
        model = library.model(body.get("model"))
        spec = spec_of(model, body)

        def ended(result: VideoResult) -> None:
            if result.directory is not None:
                archive(result.directory)
                written[video.id] = result.directory

        def run() -> Generator[float]:
            (entry,) = plan([video.path], exports, spec)
            if isinstance(entry, VideoResult):
                if entry.status == "failed":
                    raise KeyframeError(entry.notes)
                ended(entry)
            else:
                job = VideoJob(entry.path, entry.directory, video.folders.get(model.id))
                yield from extraction(spec, job, ended)

        task = library.exports.add(Task(f"{video.id}-export", video.id, f"{video.path.name}: export", run))
        return {"task": task.shown()}

    written: dict[str, Path] = {}

    def download(request: Request) -> Response:
        directory = written.get(library.video(request).id)
        if directory is None:
            raise not_found("export")
        return FileResponse(
            directory.with_name(f"{directory.name}.zip"), filename=f"{directory.name}.zip", media_type="application/zip"
        )

    def place(request: Request) -> Response:
        directory = written.get(library.video(request).id)
        return JSONResponse({"folder": None if directory is None else str(directory)})

    def choices(request: Request) -> Response:
        selector = library.model(None).spec.selector
        method = next((name for name, kind in METHODS.items() if type(selector) is kind), "adaptive")
        start = selector if type(selector) is METHODS[method] else AdaptiveSelection()
        defaults = {
            name: {field.name: None if field.default is MISSING else field.default for field in fields(kind)}
            for name, kind in METHODS.items()
        }
        return JSONResponse({"methods": defaults, "start": {"method": method, "settings": changed(start)}})

    return [
        Route("/api/choices", choices),
        Route("/api/videos/{id}/choice", choice, methods=["POST"]),
        Route("/api/videos/{id}/export", export, methods=["POST"]),
        Route("/api/videos/{id}/export", place),
        Route("/api/videos/{id}/export.zip", download),
    ]
