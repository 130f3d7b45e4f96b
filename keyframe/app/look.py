"""The page of one video: its file or a preview of it, stills, and the curves of models and annotators."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from keyframe.app.decoder import preview
from keyframe.app.library import Library, Video
from keyframe.app.web import not_found, page
from keyframe.app.workers import Task
from keyframe.data.labels import read_video_labels
from keyframe.data.sampling import frame_labels, label_positions
from keyframe.evaluation.metrics import defined_mean, spearman
from keyframe.extraction.folder import read_summary
from keyframe.files import read_table
from keyframe.types import KeyframeError, Labels

_HEIGHTS = (90, 180, 360)  # of stills
_STILLS_AT_ONCE = 4  # requests that wait for the decoder in threads of their own
_MOST_POINTS = 4000  # of the annotators' band
_TYPES = {".webm": "video/webm", ".mkv": "video/x-matroska"}


def read_scores(directory: Path) -> dict[str, Any]:
    """The curve in a folder of results: times, scores, shots and keyframes; KeyframeError if it is not ours."""
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
        return {**columns, "shots": shots, "keyframes": keyframes, "scorer": str(summary["scorer"]["name"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeyframeError(f"{directory} holds no scores ({error}): score the video again.") from error


class LabelFile:
    """The label file, read again once it has changed."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._read: tuple[Any, Mapping[str, Any]] | None = None

    def of(self, video: Video) -> Labels | None:
        """The labels of a video, one per frame; None if there are none."""
        path = self._library.labels
        if path is None or not path.exists():
            return None
        self._library.annotations.check_shown(video.path.stem)
        state = path.stat().st_mtime_ns
        if self._read is None or self._read[0] != state:
            self._read = state, read_video_labels(path, *self._library.scale, "labels")
        labels = self._read[1].get(video.path.stem)
        if labels is None:
            return None
        found: Labels = self._library.decoder.call(_per_frame, video.path, labels)
        return found


def _per_frame(path: Path, labels: Any) -> Labels:
    return frame_labels(labels, path)


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


def agreement(scores: Mapping[str, Any], labels: Labels, video: Mapping[str, Any]) -> dict[str, float | None]:
    """Spearman's rho of a model's scores with the annotators' mean, and the mean of that with each annotator.

    `video` is that of the summary.
    """
    frames, seconds, values = (np.array(scores[key]) for key in ("frame", "seconds", "score"))
    places = label_positions(
        len(labels), int(video["frames"]), frames.astype(np.int64), seconds, float(video["duration"]), video["name"]
    )
    found = {
        "mean": spearman(values, labels.importance[places]),
        "each": defined_mean([spearman(values, one[places]) for one in labels.annotators]),
    }
    return {name: round(value, 4) if np.isfinite(value) else None for name, value in found.items()}


def routes(library: Library) -> list[Route]:
    """The page of one video."""
    label_file = LabelFile(library)
    stills = anyio.CapacityLimiter(_STILLS_AT_ONCE)

    def curves(request: Request) -> Response:
        video = library.video(request)
        labels, note = None, ""
        try:
            labels = label_file.of(video)
        except KeyframeError as error:
            note = str(error)
        found = []
        for id, directory in list(video.folders.items()):
            scores = read_scores(directory)
            curve = {**scores, "model": id, "name": library.models[id].name}
            if labels is not None:
                summary = read_summary(directory)
                assert summary is not None
                curve["spearman"] = agreement(scores, labels, summary["video"])
            found.append(curve)
        band = None if labels is None else band_of(labels, float(video.facts.get("seconds", 0)))
        return JSONResponse({"curves": found, "labels": band, "note": note})

    def file(request: Request) -> Response:
        video = library.video(request)
        return FileResponse(video.path, media_type=_TYPES.get(video.path.suffix.lower(), "video/mp4"))

    def place_of_preview(video: Video) -> Path:
        changed = video.path.stat().st_mtime_ns
        return library.previews / f"{video.id}-{changed}.mp4"

    def watch_preview(request: Request) -> Response:
        place = place_of_preview(library.video(request))
        if not place.is_file():
            raise not_found("preview")
        return FileResponse(place, media_type="video/mp4")

    def make_preview(request: Request) -> Response:
        video = library.video(request)
        place = place_of_preview(video)
        if place.is_file():
            return JSONResponse({"ready": True})
        task = Task(f"{video.id}-preview", video.id, f"{video.path.name}: preview", lambda: preview(video.path, place))
        return JSONResponse({"ready": False, "task": library.exports.add(task).shown()})

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

    return [
        page("/videos/{id}", "video.html"),
        Route("/api/videos/{id}/curves", curves),
        Route("/api/videos/{id}/file", file),
        Route("/api/videos/{id}/preview", watch_preview),
        Route("/api/videos/{id}/preview", make_preview, methods=["POST"]),
        Route("/api/videos/{id}/still", still),
    ]
