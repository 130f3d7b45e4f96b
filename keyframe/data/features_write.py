"""Write the eccv16-style h5 files in which the field shares features; `keyframe.data.features_h5` reads them."""

import contextlib
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from keyframe.data.tvsum_ids import TVSUM_VIDEOS
from keyframe.errors import KeyframeError
from keyframe.types import FloatArray, IntArray

# Worth compressing.
_LARGE = ("features", "user_summary")


@dataclass(frozen=True)
class GroundTruth:
    """What people think of one video, as the field's files hold it.

    Attributes:
        gtscore: the reference score at each pick in [0, 1], (n,).
        gtsummary: whether the summary that the reference track makes keeps each pick, bool (n,).
        user_summary: whether each annotator's summary keeps each frame, bool (A, n_frames); A may be 0.
    """

    gtscore: FloatArray
    gtsummary: npt.NDArray[np.bool_]
    user_summary: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class EncodedVideo:
    """One video of a feature file.

    Attributes:
        name: its id.
        features: of each pick, (n, d).
        picks: their frame numbers, rising, (n,).
        n_frames: frames of the video.
        change_points: first and last frame of each shot, both inclusive, covering the video, (m, 2).
        truth: None where the video has no labels.

    Raises:
        ValueError: if shapes disagree.
    """

    name: str
    features: npt.NDArray[np.float32]
    picks: IntArray
    n_frames: int
    change_points: IntArray
    truth: GroundTruth | None = None

    def __post_init__(self) -> None:
        count = self.picks.shape
        fit = [self.features.ndim == 2, self.features.shape[:1] == count, self.change_points.shape[1:] == (2,)]
        if self.truth is not None:
            fit += [self.truth.gtscore.shape == count, self.truth.gtsummary.shape == count]
            fit.append(self.truth.user_summary.shape[1:] == (self.n_frames,))
        if not all(fit):
            raise ValueError(f"{self.name}: the arrays do not fit {count} picks of {self.n_frames} frames")


class FeatureFile:
    """An eccv16-style file that grows by a video at a time, and appears under its name at the end of the `with`.

    Each video is a group `video_N` with what published systems read (Zhang et al., ECCV 2016, as spread by Zhou et al.,
    AAAI 2018): float32 features (n_steps, d), gtscore and gtsummary (n_steps,) and user_summary (A, n_frames), the last
    two of 0 and 1; int32 picks (n_steps,), change_points (m, 2), n_frame_per_seg (m,), n_frames and n_steps; and
    video_name. Features and user_summary are compressed with gzip. Where there are no labels the arrays of labels are
    left out. An error inside the `with` leaves neither the file nor a part of it.

    Args:
        path: the file; one that is there is replaced.
        about: attributes of the file: what the features were made with.

    Raises:
        KeyframeError: on entering, in `add` or at the end: the file cannot be written.
    """

    def __init__(self, path: Path, about: Mapping[str, str | int]) -> None:
        self.path = path
        self.about = about

    def __enter__(self) -> "FeatureFile":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(prefix=f".{self.path.name}-", dir=self.path.parent)
        except OSError as error:
            raise self._unwritable(error) from error
        self._draft = Path(draft)
        self._disk = _Disk(handle, "r+")
        self._file = h5py.File(self._disk, "w")
        self._file.attrs.update(self.about)
        return self

    def add(self, number: int, video: EncodedVideo) -> None:
        """Write a video as `video_<number>`."""
        shots = video.change_points.astype(np.int32)
        arrays: dict[str, npt.NDArray[Any] | np.int32] = {
            "features": video.features.astype(np.float32),
            "picks": video.picks.astype(np.int32),
            "n_frames": np.int32(video.n_frames),
            "n_steps": np.int32(len(video.picks)),
            "change_points": shots,
            "n_frame_per_seg": shots[:, 1] - shots[:, 0] + 1,
        }
        if video.truth is not None:
            arrays["gtscore"] = video.truth.gtscore.astype(np.float32)
            arrays["gtsummary"] = video.truth.gtsummary.astype(np.float32)
            if len(video.truth.user_summary):
                arrays["user_summary"] = video.truth.user_summary.astype(np.float32)
        group = self._file.create_group(f"video_{number}")
        group.create_dataset("video_name", data=video.name, dtype=h5py.string_dtype("utf-8"))
        for name, values in arrays.items():
            group.create_dataset(name, data=values, compression="gzip" if name in _LARGE else None)
        self._file.flush()
        self._check()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # what a full disk has lost may be missed here
            with contextlib.suppress(OSError, RuntimeError) if kind is not None else contextlib.nullcontext():
                self._file.close()
            self._disk.close()
            if kind is None:
                self._check()
                self._draft.chmod(0o644)
                self._draft.replace(self.path)
        except OSError as reason:
            raise self._unwritable(reason) from reason
        finally:
            self._draft.unlink(missing_ok=True)

    def _check(self) -> None:
        if self._disk.error is not None:
            raise self._unwritable(self._disk.error)

    def _unwritable(self, error: OSError) -> KeyframeError:
        return KeyframeError(
            f"{self.path} cannot be written ({error.strerror or error}): make room or choose another file."
        )


class _Disk(io.FileIO):
    """A file that keeps what goes wrong in writing to itself: HDF5 crashes the process when it closes after that."""

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


def video_numbers(names: list[str]) -> dict[str, int]:
    """The N of each video's `video_N`: TVSum's own where all are TVSum's, else 1, 2, 3 ... in the order given.

    Published splits name TVSum's videos by these numbers, so that another count would test on videos trained on.

    Args:
        names: ids, none twice.
    """
    official = {name: number for number, (name, _) in enumerate(TVSUM_VIDEOS, start=1)}
    if all(name in official for name in names):
        return {name: official[name] for name in sorted(names, key=official.__getitem__)}
    return {name: number for number, name in enumerate(names, start=1)}
