"""Score files: what any system predicts for videos, in the forms in which scores are shared.

A file names videos by id and gives each a list of scores: `.json` (one object, id -> list), `.npz` (an array per id),
`.h5` (an array per id, or a group with `scores` or `score`) or `.csv` (columns `video` and `score`, in order).
"""

import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from keyframe.data.folder import few
from keyframe.data.hdf5 import checked_id, open_hdf5
from keyframe.evaluation.video import EvalVideo
from keyframe.files import read_json, read_table, reading, table_text, unchanged, write_bytes
from keyframe.types import Float64Array, FloatArray, KeyframeError, VideoError

_OPTION = "scores"  # the key by which a user names the file
_MAX_TEXT = 2**25  # bytes of a text: TVSum's 352,815 frames take 8 MB at 20 digits each
_MAX_ARRAYS = 2**26  # bytes of all arrays of an .npz
_FRAME_RATES = (20, 65)  # of videos whose scores may be one per second, frames per second


@dataclass(frozen=True)
class ScoreFile:
    """The scores of a file as they are, by the videos' names in it; see `read_scores_file`."""

    path: Path
    scores: Mapping[str, Any]
    others: Sequence[str] = ()  # names of videos in the file that are not measured, see `of`

    @property
    def name(self) -> str:
        """Of the system, in tables."""
        return self.path.stem

    @property
    def label(self) -> str:
        """What tells several files of one system apart."""
        return self.path.name

    def of(self, videos: Mapping[str, str]) -> "ScoreFile":
        """The scores of those of the videos that the file has, by id.

        `videos` are those to be measured, id -> another name that a file may have for the video, such as `video_1`.
        """
        names = {id_: name for id_, other in videos.items() for name in (other, id_) if name in self.scores}
        if not names:
            raise KeyframeError(
                f"{self.path} has scores of {few(self.scores)}, and of none of the {len(videos)} videos to be measured "
                f"({few(videos)}): name the videos as the labels do."
            )
        others = [name for name in self.scores if name not in set(names.values())]
        return ScoreFile(self.path, {id_: self.scores[name] for id_, name in names.items()}, others)

    def at(self, video: EvalVideo) -> Float64Array:
        """The scores of a video at its entries, (n,); `VideoError` if they are not finite, or too few or too many."""
        try:
            values = np.asarray(self.scores[video.video], dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            values = np.empty(0)
        if not values.size or values.size != max(values.shape, default=1):
            raise VideoError(f"{self.path} has no list of numbers as scores of {video.video}: correct it.")
        values = values.ravel()
        finite = np.isfinite(values)
        if not finite.all():
            raise VideoError(f"{self.path}: score {np.argmin(finite)} of {video.video} is not finite: correct it.")
        match self._kind(len(values), video):
            case "pick":
                return values
            case "frame":
                return values[video.entries]
            case "second":
                return values[video.entries * len(values) // video.n_frames]
        raise VideoError(
            f"{self.path} has {len(values)} scores of {video.video}, which has {video.n_frames} frames and "
            f"{len(video.entries)} picks: give a score per frame, per pick (every 15th frame) or per second."
        )

    def note(self, videos: Iterable[EvalVideo]) -> str:
        """What the file has a score for each of, and of how many of the videos."""
        kinds = Counter(self._kind(np.size(self.scores[one.video]), one) for one in videos if one.video in self.scores)
        listed = ", ".join(f"per {kind} ({count} video{'s' if count > 1 else ''})" for kind, count in kinds.items())
        seconds = " A score per second stands for an equal share of the frames." if kinds["second"] else ""
        return f"{self.path} has a score {listed}. Every pick is measured.{seconds}"

    @staticmethod
    def _kind(count: int, video: EvalVideo) -> str:
        """What so many scores are one for each of: `pick`, `frame` or `second`; "" if they do not fit the video."""
        # labels and feature files hold no duration, and a wrong number of picks or frames is no frame rate
        low, high = _FRAME_RATES
        fits = {
            "pick": count == len(video.entries),
            "frame": count == video.n_frames,
            "second": low * count <= video.n_frames <= high * count,
        }
        return next((kind for kind, fit in fits.items() if fit), "")


def read_scores_file(path: str | Path) -> ScoreFile:
    """Read a score file by its suffix; anyone may have made it, so its values are checked when they are used."""
    path = Path(path).expanduser()
    read, _ = _score_form(path)
    if not path.is_file():
        raise KeyframeError(f"there is no file {path}: set {_OPTION} to the file with the scores.")
    with unchanged(path):
        scores = read(path)
    if not scores:
        raise KeyframeError(f"{path} holds no scores: give another file as {_OPTION}.")
    for name in scores:
        checked_id(name, str(path))
    return ScoreFile(path, scores)


def check_new(path: Path) -> None:
    """Refuse a place for a score file before anything is computed for it."""
    _score_form(path)
    if path.exists() or path.is_symlink():
        raise KeyframeError(f"{path} exists already: remove it, or name another file as write_scores.")
    if not path.parent.is_dir():
        raise KeyframeError(f"there is no folder {path.parent}: make it, or name another file as write_scores.")


def write_scores_file(path: Path, scores: Mapping[str, FloatArray]) -> None:
    """Write scores, id -> (n,), in the form of the suffix, as an atomic file; reading gives the same numbers."""
    _, write = _score_form(path)
    write_bytes(path, write({name: np.asarray(values, np.float64) for name, values in scores.items()}))


def _read_json(path: Path) -> Mapping[str, Any]:
    content = read_json(path, _MAX_TEXT)
    if not isinstance(content, dict):
        raise KeyframeError(f"{path} is not a JSON object of video ids with lists of scores: correct it.")
    return content


def _read_csv(path: Path) -> Mapping[str, Any]:
    scores: dict[str, list[str]] = {}
    with reading(path, "CSV"):
        rows = read_table(path, _MAX_TEXT)
    for row in rows:
        if row.keys() != {"video", "score"}:
            raise KeyframeError(f"{path} has the columns {few(row)}: it needs video and score, a row per score.")
        scores.setdefault(row["video"], []).append(row["score"])
    return scores


def _read_npz(path: Path) -> Mapping[str, Any]:
    scores: dict[str, Any] = {}
    with reading(path, ".npz", "make or copy it again, without pickled objects"), zipfile.ZipFile(path) as file:
        members = file.infolist()
        if sum(member.file_size for member in members) > _MAX_ARRAYS:
            raise ValueError(f"its arrays are larger than {_MAX_ARRAYS >> 20} MiB")
        for member in members:
            values = np.lib.format.read_array(io.BytesIO(file.read(member)), allow_pickle=False)
            if values.dtype.kind not in "biuf":
                raise ValueError(f"it holds {values.dtype}, not numbers")
            scores[member.filename.removesuffix(".npy")] = values
    return scores


def _read_h5(path: Path) -> Mapping[str, Any]:
    with open_hdf5(path, _OPTION) as file:
        places = {name: [f"{name}/scores", f"{name}/score"] for name in file}
        found = {name: next((one for one in within if one in file), name) for name, within in places.items()}
        return {name: file.numbers(place, np.float64) for name, place in found.items()}


def _json(scores: Mapping[str, Float64Array]) -> bytes:
    return (json.dumps({name: values.tolist() for name, values in scores.items()}) + "\n").encode()


def _csv(scores: Mapping[str, Float64Array]) -> bytes:
    return table_text(
        [{"video": name, "score": score} for name, values in scores.items() for score in values.tolist()]
    ).encode()


def _npz(scores: Mapping[str, Float64Array]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:  # np.savez takes no id that is called "file"
        for name, values in scores.items():
            with file.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, values, allow_pickle=False)
    return content.getvalue()


def _h5(scores: Mapping[str, Float64Array]) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, values in scores.items():
            if "/" in name or name == ".":
                raise KeyframeError(f"write_scores: an .h5 file cannot hold the id {name}: name a .json file.")
            file[name] = values
    return content.getvalue()


_Form = tuple[Callable[[Path], Mapping[str, Any]], Callable[[Mapping[str, Float64Array]], bytes]]
_FORMS: dict[str, _Form] = {
    ".json": (_read_json, _json),
    ".csv": (_read_csv, _csv),
    ".npz": (_read_npz, _npz),
    ".h5": (_read_h5, _h5),
}


def _score_form(path: Path) -> _Form:
    """How a score file of that suffix is read and written."""
    if path.suffix.lower() not in _FORMS:
        raise KeyframeError(f"{path} is not a score file: name a {', '.join(_FORMS)} file.")
    return _FORMS[path.suffix.lower()]
