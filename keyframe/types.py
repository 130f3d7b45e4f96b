"""The errors that a user can correct, and the values that travel along the pipeline, checked when they are made."""

import math
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt


class KeyframeError(Exception):
    """Bad input, bad configuration or a missing file.

    The message is one sentence that names the file or key and the remedy. Commands print it without a traceback and
    exit with status 1; any other exception is a bug in keyframe.
    """


class VideoError(KeyframeError):
    """One video cannot be opened or decoded; other videos are not affected."""


def check_number(
    key: str,
    value: object,
    lowest: float,
    highest: float = math.inf,
    *,
    whole: bool = True,
    above: bool = False,
    optional: bool = False,
) -> None:
    """Refuse the value of a configuration key, such as `head.window`, that is not a finite number in its range.

    `lowest` may be -inf; `above` refuses it too. `whole` takes whole numbers alone, `optional` takes None.
    """
    if value is None and optional:
        return
    number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    in_range = number and math.isfinite(value) and lowest <= value <= highest  # type: ignore[arg-type, operator]
    if not in_range or (above and value == lowest):
        kind = "a whole number" if whole else "a number"
        limit = f" from {lowest:g} to {highest:g}" if math.isfinite(highest) else f" from {lowest:g} on"
        if above:
            limit = f" above {lowest:g}" if highest == math.inf else f" above {lowest:g}, up to {highest:g}"
        if lowest == -math.inf:
            limit = ""
        raise KeyframeError(f"{key}={value} must be {kind}{limit}{', or null' if optional else ''}.")


FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]
Float64Array = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]
UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
AnyArray = npt.NDArray[Any]

# The inputs of a batch, and so where it enters `encode_prefix -> encode_tail -> score`.
InputKind = Literal["pixels", "prefix", "features"]


@dataclass(frozen=True)
class Region:
    """A rectangle of a frame as a player shows it: its left and top edge, width and height."""

    left: float
    top: float
    width: float
    height: float
    percent: bool = False  # of the frame's width and height; else pixels

    def __post_init__(self) -> None:
        if not (self.left >= 0 and self.top >= 0 and min(self.width, self.height) > 0):
            raise KeyframeError("region has no size or begins outside of the frame: give left,top,width,height.")

    def spans(self, height: int, width: int) -> tuple[slice, slice]:
        """Its rows and columns of a frame of that size; they may reach beyond it."""
        rows, columns = (side / 100 if self.percent else 1.0 for side in (height, width))
        across = slice(round(self.left * columns), round((self.left + self.width) * columns))
        return slice(round(self.top * rows), round((self.top + self.height) * rows)), across

    def of(self, image: UInt8Array) -> UInt8Array:
        """What an image (height, width, 3) has of it."""
        height, width = image.shape[:2]
        found = image[self.spans(height, width)]
        if not found.size:
            raise VideoError(f"region lies outside of a frame of {width}x{height} pixels: change it.")
        return found


@dataclass(frozen=True)
class Frames:
    """Frames of one video and their times; a ValueError if shapes or dtypes disagree."""

    pixels: UInt8Array  # RGB, (T, H, W, 3)
    timestamps: Float64Array  # presentation time of each frame in seconds, not decreasing, (T,)
    indices: Int64Array  # number of each frame in presentation order, (T,)

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.shape[-1] != 3 or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels must be uint8 (T, H, W, 3), not {self.pixels.dtype} {self.pixels.shape}")
        expected = (len(self.pixels),)
        if self.timestamps.shape != expected or self.indices.shape != expected:
            raise ValueError(
                f"{len(self.pixels)} frames need as many timestamps and indices, "
                f"not {self.timestamps.shape} and {self.indices.shape}"
            )
        if np.any(np.diff(self.timestamps) < 0):
            raise ValueError("timestamps must not decrease")

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Labels:
    """Importance labels of one video, one column per frame; a ValueError if a value lies outside [0, 1]."""

    importance: Float32Array  # the annotators' mean, or without annotators the file's own track, (L,)
    annotators: Float32Array  # each annotator's scores, (A, L); A may be 0
    category: str = ""  # of the video, if the label file names one
    selections: bool = False  # whether annotators' scores are their summaries: 1 for each frame that they keep, else 0

    def __post_init__(self) -> None:
        if self.importance.ndim != 1 or self.annotators.ndim != 2:
            shapes = f"{self.importance.shape} and {self.annotators.shape}"
            raise ValueError(f"importance must be (L,) and annotators (A, L), not {shapes}")
        if self.annotators.shape[1] != len(self.importance):
            raise ValueError(f"annotators label {self.annotators.shape[1]} frames, importance {len(self.importance)}")
        for name, values in (("importance", self.importance), ("annotators", self.annotators)):
            if values.size and not (values.min() >= 0 and values.max() <= 1):  # False for NaN
                raise ValueError(f"{name} must lie in [0, 1], not [{values.min()}, {values.max()}]")

    def __len__(self) -> int:
        return len(self.importance)


@dataclass(frozen=True)
class LabelledVideo:
    """A video file and its labels; `folder` tells the folders of a data set that has several apart, else it is ""."""

    id: str
    path: Path
    labels: Labels
    folder: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        for name, kind in (("id", str), ("path", Path), ("labels", Labels)):
            if not isinstance(value := getattr(self, name), kind):
                raise ValueError(f"{name} of a video must be a {kind.__name__}, not a {type(value).__name__}")

    @property
    def category(self) -> str:
        """What folds are stratified by; "" if it is not known."""
        return f"{self.folder}/{self.labels.category}" if self.folder else self.labels.category
