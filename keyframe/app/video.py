"""The page of one video: look at it and its curves, choose keyframes from its scores, export them."""

import shlex
import zipfile
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import anyio
import numpy as np
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from keyframe.app.decoder import preview
from keyframe.app.library import Library, Model, Video
from keyframe.app.web import checked, get, not_found, page, post
from keyframe.app.workers import Task, extraction
from keyframe.data.labels import read_video_labels
from keyframe.data.sampling import frame_labels, label_positions
from keyframe.evaluation.metrics import defined_mean, spearman
from keyframe.extraction.engines import VideoJob, VideoResult, plan
from keyframe.extraction.extract import ExtractionSpec
from keyframe.extraction.folder import read_candidates, read_summary
from keyframe.files import atomic_file, read_table
from keyframe.summary.candidates import Candidates, Selector
from keyframe.summary.selection import (
    AdaptiveSelection,
    KnapsackSelection,
    TimesSelection,
    TopSelection,
    UniformSelection,
)
from keyframe.types import KeyframeError, Labels

METHODS: Mapping[str, type[Any]] = {
    "adaptive": AdaptiveSelection,
    "top": TopSelection,
    "knapsack": KnapsackSelection,
    "uniform": UniformSelection,
    "times": TimesSelection,
}
_OF_CHOICE = ("selection", "cut_lists", "format", "summary_video")  # keys of keyframe-extract that the page sets
_HEIGHTS = (90, 180, 360)  # of stills
_STILLS_AT_ONCE = 4  # requests that wait for the decoder in threads of their own
_MOST_POINTS = 4000  # of the annotators' band
_TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".mkv": "video/x-matroska"}
_PREVIEWS = ("mp4", "webm")  # kinds: some browsers do not play H.264


def read_scores(directory: Path) -> dict[str, Any]:
    """The curve in a folder of results, with shots, keyframes and how they were selected; KeyframeError if not ours."""
    summary = read_summary(directory)
    try:
        if summary is None:
            raise ValueError("it has no summary")
        rows = read_table(directory / "scores.csv")
        columns = {key: [float(row[key]) for row in rows] for key in ("frame", "seconds", "score")}
        if not rows or not all(np.isfinite(values).all() for values in columns.values()):
            raise ValueError("it has no scores")
        shots = [{key: float(shot[key]) for key in ("start", "end")} for shot in summary["shots"]]
        keyframes = [{key: float(one[key]) for key in ("rank", "seconds", "score")} for one in summary["keyframes"]]
        facts = {"video": summary["video"], "selection": summary["settings"]["selection"]}
        return {**columns, "shots": shots, "keyframes": keyframes, **facts}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeyframeError(f"{directory} holds no scores ({error}): score the video again.") from error


def labels_of(library: Library, video: Video) -> Labels | None:
    """The labels of a video, one per frame; None if there are none, a KeyframeError while an annotator is at work."""
    if not library.labels.exists():
        return None
    library.annotations.check_shown(video.path.stem)
    labels = _label_file(library.labels, library.labels.stat().st_mtime_ns, *library.scale).get(video.path.stem)
    if labels is None:
        return None
    found: Labels = library.decoder.call(video.path, frame_labels, labels, video.path)
    return found


@lru_cache(maxsize=1)
def _label_file(path: Path, changed: int, lowest: float, highest: float) -> Mapping[str, Any]:
    return read_video_labels(path, lowest, highest, "labels")


def band_of(labels: Labels, seconds: float) -> dict[str, Any]:
    """The annotators' mean and the middle half of them, at few enough times to draw."""
    entries = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), _MOST_POINTS)).astype(np.int64))
    band: dict[str, Any] = {
        "seconds": (entries * (seconds / len(labels))).round(3).tolist(),
        "mean": labels.importance[entries].round(4).tolist(),
        "annotators": len(labels.annotators),
    }
    if len(labels.annotators) > 1:
        low, high = np.quantile(labels.annotators[:, entries], (0.25, 0.75), axis=0)
        band |= {"low": low.round(4).tolist(), "high": high.round(4).tolist()}
    return band


def agreement(scores: Mapping[str, Any], labels: Labels) -> dict[str, float | None]:
    """Spearman's rho of a model's scores with the annotators' mean, and the mean of that with each annotator."""
    video = scores["video"]
    frames, seconds, values = (np.array(scores[key]) for key in ("frame", "seconds", "score"))
    places = label_positions(
        len(labels), int(video["frames"]), frames.astype(np.int64), seconds, float(video["duration"]), video["name"]
    )
    found = {
        "mean": spearman(values, labels.importance[places]),
        "each": defined_mean([spearman(values, one[places]) for one in labels.annotators]),
    }
    return {name: round(value, 4) if np.isfinite(value) else None for name, value in found.items()}


def selector_of(body: Mapping[str, Any]) -> Selector:
    """The selection of a request's `method`, a name in `conf/selection`, with its `settings` by name.

    Settings that are left out have the values of the YAML files, which are those of the classes.
    """
    method, settings = checked(body, "method", str, tuple(METHODS)), body.get("settings")
    known = {field.name for field in fields(METHODS[method])}
    if not isinstance(settings, dict) or not settings.keys() <= known:
        raise KeyframeError(f"selection={method} has the settings {', '.join(sorted(known))}: reload the page.")
    selector: Selector = METHODS[method](**settings)
    return selector


@lru_cache(maxsize=2)  # 24 MB for an hour of video
def _read(directory: Path, changed: int) -> Candidates:
    return read_candidates(directory)[1]


_reading = Lock()


def candidates_of(directory: Path) -> Candidates:
    """The candidates in a folder of results, with what every choice needs of them, which is found once."""
    with _reading:
        candidates = _read(directory, directory.stat().st_mtime_ns)
        assert candidates.events is not None and candidates.flags is not None and candidates.sketch is not None
    return candidates


def prepare(directory: Path) -> None:
    """Find what choices need, before one is asked for; what is wrong is reported then."""
    with suppress(KeyframeError, OSError):
        candidates_of(directory)


def spec_of(model: Model, body: Mapping[str, Any]) -> ExtractionSpec:
    """The extraction that a page asks for: a method with its settings, and the files to write."""
    cut_lists = checked(body, "cut_lists", list, default=[])
    return replace(
        model.spec,
        selector=selector_of(body),
        format=checked(body, "format", str, default="jpg"),
        summary_video=checked(body, "summary_video", bool, default=False),
        cut_lists=tuple(checked({"cut_lists": kind}, "cut_lists", str) for kind in cut_lists),
    )


def command_of(video: Video, model: Model, spec: ExtractionSpec, method: str) -> str:
    """The command that writes the same files, for a shell."""
    keys = {"selection": method, **{f"selection.{name}": value for name, value in changed(spec.selector).items()}}
    plain = {"format": "jpg", "summary_video": False, "cut_lists": ()}
    keys |= {key: getattr(spec, key) for key, usual in plain.items() if getattr(spec, key) != usual}
    words = [one for one in model.arguments if not one.startswith(_OF_CHOICE)]
    words += [f"{key}={_value(value)}" for key, value in keys.items()]
    return shlex.join(["keyframe-extract", str(video.path), *words, f"output={model.output.with_name('chosen')}"])


def changed(selector: Any) -> dict[str, Any]:
    """The settings of a selection that are not the defaults."""
    values = {field: getattr(selector, field.name) for field in fields(selector)}
    return {field.name: value for field, value in values.items() if value != field.default}


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(map(_value, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def routes(library: Library) -> list[Route]:
    """The page of one video, to look and to choose."""
    stills = anyio.CapacityLimiter(_STILLS_AT_ONCE)
    exports, written = library.folder / "exports", dict[str, Path]()

    def curves(request: Request) -> Any:
        video = library.video(request)
        labels, note = None, ""
        try:
            labels = labels_of(library, video)
        except KeyframeError as error:
            note = str(error)
        found = []
        for id, directory in list(video.folders.items()):
            model, curve = library.models[id], read_scores(directory)
            curve |= {"model": id, "name": model.name}
            # The keyframes that are there are those that the page chooses first: it shows them at once.
            curve["chosen"] = curve.pop("selection") == model.spec.settings["selection"]
            Thread(target=prepare, args=(directory,), daemon=True).start()
            if labels is not None:
                curve["spearman"] = agreement(curve, labels)
            found.append(curve)
        band = None if labels is None else band_of(labels, float(video.facts.get("seconds", 0)))
        return {"curves": found, "labels": band, "note": note}

    def file(request: Request) -> Response:
        video = library.video(request)
        return FileResponse(video.path, media_type=_TYPES.get(video.path.suffix.lower(), "video/mp4"))

    def place_of_preview(video: Video, kind: str) -> Path:
        return library.previews / f"{video.id}-{video.path.stat().st_mtime_ns}.{kind}"

    def watch_preview(request: Request) -> Response:
        kind = request.path_params["kind"]
        place = place_of_preview(library.video(request), kind) if kind in _PREVIEWS else None
        if place is None or not place.is_file():
            raise not_found("preview")
        return FileResponse(place, media_type=_TYPES[place.suffix])

    def make_preview(request: Request, body: Mapping[str, Any]) -> Any:
        video, kind = library.video(request), checked(body, "kind", str, _PREVIEWS)
        place = place_of_preview(video, kind)
        if place.is_file():
            return {"ready": True}
        name = f"{video.path.name}: preview"
        task = Task(f"{video.id}-preview-{kind}", video.id, name, lambda: preview(video.path, place))
        return {"ready": False, "task": library.exports.add(task).shown()}

    async def still(request: Request) -> Response:
        video = await run_sync(library.video, request)
        try:
            seconds = float(request.query_params.get("at", 0))
            height = int(request.query_params.get("height", 180))
        except ValueError as error:
            raise not_found("still") from error
        if height not in _HEIGHTS or not 0 <= seconds < 1e7:
            raise not_found("still")
        content = await run_sync(library.decoder.still, video.path, seconds, height, limiter=stills)
        # The address has the time at which the file has changed in it.
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})

    def choices(request: Request) -> Any:
        """The methods with their usual settings, and what to begin with."""
        selector = library.model(None).spec.selector
        method = next((name for name, kind in METHODS.items() if type(selector) is kind), None)
        start = {"method": method or "adaptive", "settings": changed(selector) if method else {}}
        usual = {
            name: {field.name: None if field.default is MISSING else field.default for field in fields(kind)}
            for name, kind in METHODS.items()
        }
        return {"methods": usual, "start": start}

    def choose(request: Request, body: Mapping[str, Any]) -> Any:
        video, model = library.video(request), library.model(body.get("model"))
        spec, directory = spec_of(model, body), video.folders.get(model.id)
        if directory is None:
            raise KeyframeError(f"{video.path.name} is not scored yet: score it first.")
        candidates = candidates_of(directory)
        found = spec.selector(candidates)
        columns = candidates.seconds[found.keyframes], candidates.scores[found.keyframes], found.ranks
        keyframes = [
            {"seconds": round(seconds, 6), "score": round(score, 6), "rank": rank}
            for seconds, score, rank in zip(*(column.tolist() for column in columns), strict=True)
        ]
        command = command_of(video, model, spec, body["method"])
        return {"keyframes": keyframes, "notes": list(found.notes), "command": command}

    def export(request: Request, body: Mapping[str, Any]) -> Any:
        video, model = library.video(request), library.model(body.get("model"))
        spec = spec_of(model, body)

        def ended(result: VideoResult) -> None:
            if (directory := result.directory) is not None:
                with atomic_file(_archive(directory)) as draft, zipfile.ZipFile(draft, "w") as archive:
                    for path in sorted(directory.iterdir()):
                        archive.write(path, f"{directory.name}/{path.name}")
                written[video.id] = directory

        def run() -> Generator[float]:
            (entry,) = plan([video.path], exports, spec)
            if isinstance(entry, VideoJob):
                entry = replace(entry, kept=video.folders.get(model.id))
            yield from extraction(spec, entry, ended)

        return {
            "task": library.exports.add(Task(f"{video.id}-export", video.id, f"{video.path.name}: export", run)).shown()
        }

    def exported(request: Request) -> Any:
        directory = written.get(library.video(request).id)
        return {"folder": None if directory is None else str(directory)}

    def download(request: Request) -> Response:
        directory = written.get(library.video(request).id)
        if directory is None:
            raise not_found("export")
        place = _archive(directory)
        return FileResponse(place, filename=place.name, media_type="application/zip")

    return [
        page("/videos/{id}", "video", "Video"),
        get("/api/videos/{id}/curves", curves),
        Route("/api/videos/{id}/file", file),
        Route("/api/videos/{id}/preview.{kind}", watch_preview),
        post("/api/videos/{id}/preview", make_preview),
        Route("/api/videos/{id}/still", still),
        get("/api/choices", choices),
        post("/api/videos/{id}/choice", choose),
        post("/api/videos/{id}/export", export),
        get("/api/videos/{id}/export", exported),
        Route("/api/videos/{id}/export.zip", download),
    ]


def _archive(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.zip")
