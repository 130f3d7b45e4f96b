"""The videos under the given paths, the models that score them, and how far each video is."""

import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from keyframe.app.annotations import Annotations
from keyframe.app.decoder import Decoder
from keyframe.app.web import checked, get, not_found, page, post
from keyframe.app.workers import Lane, Task, extraction
from keyframe.data.folder import VIDEO_SUFFIXES
from keyframe.extraction.engines import VideoResult, plan
from keyframe.extraction.extract import ExtractionSpec
from keyframe.extraction.folder import folder_name
from keyframe.files import FileState, atomic_file, make_folder
from keyframe.system import lock_folder
from keyframe.types import KeyframeError, VideoError

log = logging.getLogger(__name__)


def short_hash(text: str) -> str:
    """An id for a path: 16 hexadecimal digits."""
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


@dataclass(frozen=True)
class Model:
    """What scores videos, as `keyframe-extract` would, and where it keeps the results.

    Attributes:
        id: names it in the API.
        name: for the page.
        spec: of the extraction.
        output: a folder of results of `keyframe-extract`.
        arguments: of `keyframe-extract`, besides the videos, that give the same results.
    """

    id: str
    name: str
    spec: ExtractionSpec
    output: Path
    arguments: tuple[str, ...]


@dataclass
class Video:
    """A video of the library."""

    id: str
    path: Path
    facts: dict[str, Any] = field(default_factory=dict)  # of `Decoder.facts`; empty if it is not known yet
    fault: str = ""  # why it cannot be read
    state: FileState | None = None  # of the file that the facts are of
    folders: dict[str, Path] = field(default_factory=dict)  # of the models that have scored it


class Library:
    """What all pages share: videos, models and the workers.

    Args:
        find: finds the videos; called again to find new ones.
        models: at least one, the first being the one that is shown first.
        folder: where the page keeps what is its own, such as uploads and previews.
        labels: the label file; by default `labels.tsv` in `folder`.
        scale: lowest and highest score in the label file.
        shot_seconds: length of the shots that annotators score.
        make_model: makes a trained run a model; the second argument is how many there are already.
        runs: where runs are looked for.
        training: settings of `keyframe-train`, besides the videos and labels.
    """

    def __init__(
        self,
        find: Callable[[], Sequence[Path]],
        models: Sequence[Model],
        folder: Path,
        labels: Path | None = None,
        scale: tuple[float, float] = (1.0, 5.0),
        shot_seconds: float = 2.0,
        make_model: Callable[[Path, int], Model] | None = None,
        runs: Path = Path("outputs"),
        training: Sequence[str] = (),
    ) -> None:
        self.find, self.folder, self.labels, self.scale = find, folder, labels or folder / "labels.tsv", scale
        self.shot_seconds, self.make_model, self.runs, self.training = shot_seconds, make_model, runs, training
        self.annotations = Annotations(self.labels, scale)
        self.models = {model.id: model for model in models}
        self.uploads, self.previews = folder / "uploads", folder / "previews"
        self.decoder, self.scoring, self.exports = Decoder(), Lane("scoring"), Lane("exports")
        self._videos: dict[str, Video] = {}
        # of each model how many videos there were, and when its output had changed, as results were looked for last
        self._seen: dict[str, tuple[int, int]] = {}
        self._surveying = threading.Lock()
        self._closing = False

    def start(self) -> None:
        """Find the videos, and look at them in the background; KeyframeError if another page has the folder."""
        make_folder(self.folder)
        self._lock = lock_folder(self.folder, "choose another folder")
        for left in (*self.uploads.glob(".*"), *self.previews.glob(".*")):  # by a page that was killed
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()
        try:
            self.annotations.open(new=False)
        except KeyframeError as error:
            log.warning("%s", error)
        self.refresh()

    def close(self) -> None:
        """Stop all work."""
        self._closing = True
        for lane in (self.scoring, self.exports):
            lane.close()
        self.decoder.close()
        self.annotations.close()
        self._lock.close()

    def videos(self) -> list[Video]:
        """All videos, in the order in which they were found."""
        return list(self._videos.values())

    def video(self, request: Request) -> Video:
        """The video that a request names by `id`, if its file is there."""
        video = self._videos.get(request.path_params["id"])
        if video is None or not video.path.is_file():
            raise not_found("video")
        return video

    def model(self, id: Any) -> Model:
        """A model by its id; the first for None."""
        if id is None:
            return next(iter(self.models.values()))
        if id not in self.models:
            raise KeyframeError(f"there is no model {id}: reload the page.")
        return self.models[id]

    def refresh(self) -> None:
        """Find new videos, and what has been done to them since, in the background; at once if that is going on."""
        if self._surveying.acquire(blocking=False):
            try:
                uploads = sorted(self.uploads.iterdir()) if self.uploads.is_dir() else []
                for path in [*self.find(), *(path for path in uploads if not path.name.startswith("."))]:
                    id = short_hash(os.path.realpath(path))
                    self._videos.setdefault(id, Video(id, path))
                threading.Thread(target=self._survey, name="survey", daemon=True).start()
            except BaseException:
                self._surveying.release()
                raise

    def _survey(self) -> None:
        try:
            for model in list(self.models.values()):
                self._find_results(model)
            for video in self.videos():
                if self._closing:
                    return
                self.look_at(video)
        except Exception:
            log.exception("The videos could not be listed")
        finally:
            self._surveying.release()

    def _find_results(self, model: Model) -> None:
        """Find out which videos are done, unless there is nothing new."""
        make_folder(model.output)
        videos = self.videos()
        if self._seen.get(model.id) == (len(videos), model.output.stat().st_mtime_ns):
            return
        for video, entry in zip(
            videos, plan([one.path for one in videos], model.output, model.spec, analysis=True), strict=True
        ):
            if isinstance(entry, VideoResult) and entry.status == "skipped" and entry.directory is not None:
                video.folders[model.id] = entry.directory
            else:
                video.folders.pop(model.id, None)
        self._seen[model.id] = len(videos), model.output.stat().st_mtime_ns

    def look_at(self, video: Video) -> None:
        """Find out about the file, unless it is as it was."""
        try:
            found = video.path.stat()
            state = FileState(found.st_size, found.st_mtime_ns, found.st_ino)
            if state != video.state:
                video.facts, video.fault, video.state = self.decoder.facts(video.path), "", state
        except (OSError, VideoError) as error:
            video.fault = str(error)

    def score(self, video: Video, model: Model) -> Task:
        """Have a video scored by a model, into the folder where `keyframe-extract` would put it."""

        def ended(result: VideoResult) -> None:
            if result.directory is not None:
                video.folders[model.id] = result.directory

        def run() -> Generator[float]:
            (planned,) = plan([video.path], model.output, model.spec, analysis=True)
            yield from extraction(model.spec, planned, ended)

        return self.scoring.add(Task(f"{video.id}-{model.id}", video.id, f"{video.path.name}: {model.name}", run))


_MOST_UPLOAD = 4 * 2**30  # bytes
_ROOM_LEFT = 2**30  # bytes that an upload leaves on the disk


def routes(library: Library) -> list[Route]:
    """The page of all videos, their states, scoring, uploads."""

    def shown(video: Video) -> dict[str, Any]:
        labelled = library.annotations.shares(video.path.stem)
        return {
            "id": video.id,
            "name": video.path.name,
            "folder": video.path.parent.name,
            "bytes": 0 if video.state is None else video.state.size,
            "changed": "" if video.state is None else str(video.state.changed),
            "fault": video.fault,
            "scored": list(video.folders),
            "labelled": [{"annotator": name, "share": share} for name, share in labelled.items()],
            **video.facts,
        }

    def models() -> list[dict[str, str]]:
        return [{"id": model.id, "name": model.name} for model in library.models.values()]

    def tasks(request: Request) -> Any:
        return {"tasks": [task.shown() for lane in (library.scoring, library.exports) for task in lane.tasks()]}

    def listed(request: Request) -> Any:
        if request.query_params.get("refresh"):
            library.refresh()
        return {"models": models(), "videos": [shown(video) for video in library.videos()], **tasks(request)}

    def one(request: Request) -> Any:
        video = library.video(request)
        library.look_at(video)
        return {**shown(video), "models": models()}

    def score(request: Request, body: Mapping[str, Any]) -> Any:
        model, ids = library.model(body.get("model")), checked(body, "videos", list)
        videos = [video for video in library.videos() if video.id in ids and model.id not in video.folders]
        return {"tasks": [library.score(video, model).shown() for video in videos]}

    def cancel(request: Request, body: Mapping[str, Any]) -> Any:
        id = checked(body, "task", str)
        return {"cancelled": library.scoring.cancel(id) or library.exports.cancel(id)}

    async def upload(request: Request) -> Response:
        given = Path(request.query_params.get("name", ""))
        if given.suffix.lower() not in VIDEO_SUFFIXES:
            raise KeyframeError(f"{given.name or 'the file'} has no video suffix, such as .mp4: rename it.")
        make_folder(library.uploads)
        room = min(_MOST_UPLOAD, shutil.disk_usage(library.uploads).free - _ROOM_LEFT)
        place = library.uploads / f"{folder_name(given)}{given.suffix.lower()}"
        while place.exists():
            place = place.with_stem(f"{place.stem} (new)")
        size = 0
        with atomic_file(place) as draft, draft.open("wb") as file:
            async for piece in request.stream():
                size += len(piece)
                if size > room:
                    raise KeyframeError(
                        f"{place.name} is larger than {max(0, room) / 1e9:.1f} GB, the room for it: start keyframe-app "
                        "with its path instead."
                    )
                await run_sync(file.write, piece)
        await run_sync(library.refresh)
        return JSONResponse({"id": short_hash(os.path.realpath(place))})

    return [
        page("/", "library", "Videos"),
        get("/api/library", listed),
        get("/api/tasks", tasks),
        get("/api/videos/{id}", one),
        post("/api/score", score),
        post("/api/cancel", cancel),
        Route("/api/uploads", upload, methods=["POST"]),
    ]
