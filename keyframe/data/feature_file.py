"""Eccv16-style h5 files (`keyframe.data.hdf5`), in which the field shares features of TVSum, SumMe and more."""

import io
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from keyframe.data import hdf5
from keyframe.data.folder import few
from keyframe.data.hdf5 import Hdf5File, open_hdf5
from keyframe.data.labels import read_labels
from keyframe.data.sampling import sample_labels
from keyframe.files import FileState, atomic_file, make_folder, one_line, unchanged
from keyframe.types import AnyArray, BoolArray, Float32Array, FloatArray, Int64Array, IntArray, KeyframeError, Labels

log = logging.getLogger(__name__)

_OPTION = "data.path"
_SUMMARIES = ("gt_summary", "gtsummary")
_COMPRESSED = ("features", "user_summary")
# Features that are held in memory, in bytes, of all files together; beyond it each video's are read when they are used.
_MOST_HELD = 2**28


@dataclass(frozen=True)
class FeatureVideo:
    """One video of a feature file: no pixels, a backbone feature at every pick."""

    id: str
    path: Path  # of its file
    state: FileState | None  # of the file when it was read, since which it must not have changed
    key: str  # its group in the file, `video_N`
    category: str  # "" if it is not known
    width: int  # channels of a feature, d
    held: Float32Array | None  # the features in memory, (n, d); None reads them from the file each time
    picks: Int64Array  # frame number of each feature, rising, (n,)
    n_frames: int  # of the video
    rate: float  # frames per second
    importance: Float32Array  # the reference score at each pick in [0, 1], (n,)
    annotators: Float32Array  # each annotator's score at each pick in [0, 1], (A, n); A may be 0
    change_points: Int64Array | None  # first and last frame of each shot, inclusive, covering the video, (m, 2)
    user_summaries: BoolArray | None  # the frames that each annotator would keep, (U, n_frames)
    selections: bool = False  # whether these are the labels as they are, see `Labels`
    folder: str = ""  # the name of its file, if there are several, as `LabelledVideo` has it

    @property
    def seconds(self) -> FloatArray:
        """The time of each pick, (n,)."""
        return self.picks / self.rate

    @property
    def features(self) -> Float32Array:
        """A feature per pick, float32 (n, d)."""
        if self.held is not None:
            return self.held
        return _read_again(self.path, self.state, self.key, _OPTION)


def read_feature_files(
    paths: str | Path | Sequence[str | Path], labels: str | Path | None = None, option: str = _OPTION
) -> dict[str, FeatureVideo]:
    """Read every video of eccv16-style feature files: video id -> video, file by file in the order of N.

    Each `video_N` needs `features` (n_steps, d) and `gtscore` (n_steps,), of any dtype, and may have `picks`
    (n_steps,), `n_frames`, `video_name`, `change_points` (m, 2) and `user_summary` (U, n_frames), or Mr.HiSum's
    `gt_summary` (n_steps,). `read_scores` says what stands for missing picks. Of change points only the starts count: a
    shot lasts until the next one begins.

    Features of more than 256 MB in all stay in the files (`FeatureVideo.held`). Several files must be of one width. In
    a list of files a video without a name is called `ovp/video_N` by the data set that the file's name contains, or by
    the file's name: the ids stay if a file is moved, or alone in the list.

    `labels` is the .mat or .tsv with each annotator's scores; without it there are no annotators. Of several files,
    those of which it has no video go without. The importance is the file's gtscore either way, because published
    systems train on that. Selections replace `user_summary`. `option` is the key by which the user names the files.
    """
    several = not isinstance(paths, str | Path)
    listed = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not listed or len({path.stem for path in listed}) < len(listed):
        raise KeyframeError(f"{option}={few(map(str, listed))} must name one file or several, each of another name")
    of_annotators = None if labels is None else read_labels(labels)
    videos: dict[str, FeatureVideo] = {}
    labelled = 0
    for path in listed:
        found = _read_feature_file(path, several, of_annotators, str(labels), option, _MOST_HELD // len(listed))
        if twice := found.keys() & videos.keys():
            other = videos[min(twice)].path.name
            raise KeyframeError(f"{path} and {other} both have the video {one_line(min(twice))}: leave one file out")
        labelled += any(len(video.annotators) for video in found.values())
        videos |= found
    if of_annotators is not None and not labelled:
        raise KeyframeError(
            f"{labels} has labels of {few(of_annotators)}, but of no video of {option} ({few(videos)}): "
            "give the labels of that data set"
        )
    widths = {video.width: video for video in videos.values()}
    if len(widths) > 1:
        named = {
            width: f"{one.key} of {one.path.name}" if len(listed) > 1 else one.key for width, one in widths.items()
        }
        each = ", ".join(f"{width} in {name}" for width, name in sorted(named.items()))
        raise KeyframeError(f"{few(map(str, listed))}: features of several widths ({each}): use files of one backbone")
    return videos


def each_features(path: Path, option: str) -> Iterator[Float32Array]:
    """The features of each video of a file, with labels or without, float32 (n, d), one after the other."""
    with unchanged(path) as state, open_hdf5(path, option) as file:
        names = hdf5.named_videos(file)
        for key in names:
            file.claim_later(f"{key}/features", 4 * math.prod(_features_shape(file, key)))
    for key in names:
        yield _read_again(path, state, key, option)


def _read_again(path: Path, state: FileState | None, key: str, option: str) -> Float32Array:
    """The features of one video of a file that was checked before; none of them stay in memory."""
    with unchanged(path, state), open_hdf5(path, option, checked=True) as file:
        return _features(file, key)


def _read_feature_file(
    path: Path, several: bool, of_annotators: Mapping[str, Labels] | None, labels: str, option: str, most: int
) -> dict[str, FeatureVideo]:
    videos: dict[str, FeatureVideo] = {}
    corrected: list[str] = []
    with unchanged(path) as state, open_hdf5(path, option) as file:
        names = hdf5.named_videos(file)
        sizes = accumulate(4 * math.prod(_features_shape(file, key)) for key in names)
        hold = all(size <= most for size in sizes)
        if several and of_annotators is not None and not of_annotators.keys() & set(names.values()):
            of_annotators = None
        for key, name in names.items():
            track = hdf5.read_scores(file, key)
            shots, regular = _change_points(file, key, track.n_frames)
            if not regular:
                corrected.append(key)
            annotators = np.empty((0, len(track.picks)), np.float32)
            users, selections = _user_summaries(file, key, track.n_frames), False
            if of_annotators is not None:
                where = f"{path}: {name}"
                known = _labels_of_video(of_annotators, labels, name, path)
                annotators = _annotators(known, track.picks, track.n_frames, where)
                selections = known.selections
                if selections:
                    users = _annotators(known, np.arange(track.n_frames), track.n_frames, where) > 0
            shape = _features_shape(file, key)
            if shape[0] != len(track.picks):
                raise KeyframeError(
                    f"{path}: {key} has features {shape} and {len(track.picks)} picks: it needs one row per pick"
                )
            if not hold:
                file.claim_later(f"{key}/features", 4 * math.prod(shape))
            id_ = f"{hdf5.data_set_named(path.stem) or path.stem}/{key}" if several and name == key else name
            videos[id_] = FeatureVideo(
                id=id_,
                path=path,
                state=state,
                key=key,
                category=hdf5.TVSUM_CATEGORIES.get(name, ""),
                width=shape[1],
                held=_features(file, key) if hold else None,
                picks=track.picks,
                n_frames=track.n_frames,
                rate=track.rate,
                importance=track.scores.astype(np.float32),
                annotators=annotators,
                change_points=shots,
                user_summaries=users,
                selections=selections,
                folder=path.name if several else "",
            )
    if corrected:
        message = "%s: shots of %d videos (first %s) left gaps, overlapped or began late: each lasts until the next"
        log.warning(message, path, len(corrected), corrected[0])
    return videos


def _features_shape(file: Hdf5File, key: str) -> tuple[int, int]:
    shape = file.shape(f"{key}/features")
    if len(shape) != 2 or not shape[1]:
        raise KeyframeError(f"{file.path}: {key} has features {shape}: it needs one row of numbers per pick")
    return shape[0], shape[1]


def _features(file: Hdf5File, key: str) -> Float32Array:
    features = file.numbers(f"{key}/features", np.float32)
    if not np.isfinite(features).all():
        raise KeyframeError(f"{file.path}: {key} has features of NaN or infinity: compute them again")
    return features


def _change_points(file: Hdf5File, key: str, n_frames: int) -> tuple[Int64Array | None, bool]:
    """The shots, and whether the file has them in order, but for the end of the last."""
    if f"{key}/change_points" not in file:
        return None, True
    where, given = f"{file.path}: {key}", file.numbers(f"{key}/change_points", np.int64)
    if given.ndim != 2 or given.shape[1] != 2 or not len(given) or (np.diff(given[:, 0]) <= 0).any() or given[0, 0] < 0:
        raise KeyframeError(
            f"{where} has change_points that are not (shots, 2) with rising starts: correct them, or delete the array"
        )
    starts = given[given[:, 0] < n_frames, 0]
    if not len(starts):
        raise KeyframeError(f"{where} has change_points that begin after its {n_frames} frames: correct the file")
    starts[0] = 0
    shots = np.stack([starts, np.append(starts[1:] - 1, n_frames - 1)], axis=1)
    if len(shots) < len(given) or given[0, 0]:
        return shots, False
    # Many published files count one frame more or less at the very end; Mr.HiSum's shots all end with the next start.
    late = given[:, 1] - shots[:, 1]
    return shots, bool((not late[:-1].any() and abs(late[-1]) <= 1) or (late == 1).all())


def _user_summaries(file: Hdf5File, key: str, n_frames: int) -> BoolArray | None:
    place = f"{key}/user_summary"
    if place not in file:
        # Mr.HiSum's reference summary has one entry per second, its frame; an eccv16 gtsummary one per pick.
        place = next((other for name in _SUMMARIES if (other := f"{key}/{name}") in file), "")
        if not place or file.shape(place) != (n_frames,):
            return None
    shape = file.shape(place)
    if len(shape) not in (1, 2) or shape[-1] != n_frames:
        raise KeyframeError(f"{file.path}: {key} has user_summary {shape}, not (annotators, {n_frames}): correct it")
    return np.atleast_2d(file.numbers(place, np.float32)) > 0


def _labels_of_video(labels: Mapping[str, Labels], file: str, name: str, path: Path) -> Labels:
    """The labels of one video, which must have annotators."""
    if name not in labels:
        raise KeyframeError(f"{file} has no labels of {name}, which {path} has: give the labels of that data set")
    if not len(labels[name].annotators):
        raise KeyframeError(f"{file} holds no annotators: data.labels must name the data set's .mat or .tsv")
    return labels[name]


def _annotators(labels: Labels, frames: Int64Array, n_frames: int, where: str) -> Float32Array:
    """Each annotator's scores at these frames (n,) of a video, (A, n)."""
    # Times are shares of the whole video, because the file holds no others.
    return sample_labels(labels, n_frames, frames, frames / n_frames, 1.0, where)[1]


def video_numbers(names: Iterable[str], labelled: Iterable[str] = ()) -> dict[str, int]:
    """The N of each video's `video_N`, by N.

    Published splits and systems name TVSum's videos by the official order, and those of another label file by its
    order, `labelled`. Videos without labels follow, in the order given.
    """
    names = dict.fromkeys(names)
    order = hdf5.TVSUM_IDS if names.keys() <= set(hdf5.TVSUM_IDS) else dict.fromkeys([*labelled, *names])
    return {name: number for number, name in enumerate(order, start=1) if name in names}


@dataclass(frozen=True)
class GroundTruth:
    """The annotators' view of one video, as the field's files hold it."""

    gtscore: FloatArray  # the reference score at each pick in [0, 1], (n,)
    gtsummary: BoolArray  # whether the summary that the reference track makes keeps each pick, (n,)
    user_summary: BoolArray  # whether each annotator's summary keeps each frame, (A, n_frames); A may be 0


@dataclass(frozen=True)
class EncodedVideo:
    """One video to write into a feature file, with arrays as of `FeatureVideo`; `truth` is None without labels."""

    name: str
    features: Float32Array
    picks: IntArray
    n_frames: int
    change_points: IntArray
    truth: GroundTruth | None = None


class FeatureFile:
    """An eccv16-style file that is written video by video, and appears under its name at the end of the `with`.

    Each video is a group `video_N` with what published systems read: float32 features (n_steps, d), gtscore and
    gtsummary (n_steps,) and user_summary (A, n_frames), the last two of 0 and 1; int32 picks (n_steps,), change_points
    (m, 2), n_frame_per_seg (m,), n_frames and n_steps; and video_name. Without labels the arrays of labels are left
    out. An error inside the `with` leaves no file. `about` becomes the attributes of the file: what the features were
    made with.
    """

    def __init__(self, path: Path, about: Mapping[str, str | int]) -> None:
        self.path, self.about = path, about

    def __enter__(self) -> "FeatureFile":
        with ExitStack() as stack:
            try:
                make_folder(self.path.parent)
                self._disk = stack.enter_context(_Disk(stack.enter_context(atomic_file(self.path)), "r+"))
            except OSError as error:
                raise self._unwritable(error) from error
            self._file = h5py.File(self._disk, "w")
            self._file.attrs.update(self.about)
            self._draft = stack.pop_all()
        return self

    def add(self, number: int, video: EncodedVideo) -> None:
        """Write a video as `video_<number>`."""
        shots = video.change_points.astype(np.int32)
        arrays: dict[str, AnyArray | np.int32] = {
            "features": video.features.astype(np.float32),
            "picks": video.picks.astype(np.int32),
            "n_frames": np.int32(video.n_frames),
            "n_steps": np.int32(len(video.picks)),
            "change_points": shots,
            "n_frame_per_seg": shots[:, 1] - shots[:, 0] + 1,
        }
        if video.truth is not None:
            arrays |= {name: track.astype(np.float32) for name, track in vars(video.truth).items() if len(track)}
        group = self._file.create_group(f"video_{number}")
        group.create_dataset("video_name", data=video.name, dtype=h5py.string_dtype("utf-8"))
        for name, values in arrays.items():
            group.create_dataset(name, data=values, compression="gzip" if name in _COMPRESSED else None)
        self._file.flush()
        self._check()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            with suppress(OSError, RuntimeError):  # HDF5 may miss what a full disk has lost.
                self._file.close()
            self._draft.__exit__(kind, error, trace)
            return
        try:
            with self._draft:
                self._file.close()
                self._check()
        except OSError as reason:
            raise self._unwritable(reason) from reason

    def _check(self) -> None:
        if self._disk.error is not None:
            raise self._unwritable(self._disk.error)

    def _unwritable(self, error: OSError) -> KeyframeError:
        return KeyframeError(f"{self.path} cannot be written ({error.strerror or error}): make room, or name another.")


class _Disk(io.FileIO):
    """A file that keeps errors of writing to itself: HDF5 crashes the process if it closes after one."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        rest = memoryview(data).cast("B")
        while len(rest) and self.error is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0
