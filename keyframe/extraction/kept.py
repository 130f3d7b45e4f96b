"""What keyframes are chosen from, kept in a file: another choice needs no decoding and no model.

`candidates.npy` has a row per scored frame and a column per attribute of `Candidates`, about 3.4 KB in all. It may come
from anywhere, so that it is read as data and checked.
"""

import io
from pathlib import Path

import numpy as np

from keyframe.files import one_line
from keyframe.summary.candidates import Candidates
from keyframe.types import Int64Array, KeyframeError

CANDIDATES = "candidates.npy"
_MOST_BYTES = 2**30
_COLUMNS = ("scores", "seconds", "descriptors", "cells", "sharpness", "brightness", "contrast", "looks")


def write_candidates(directory: Path, frames: Int64Array, candidates: Candidates) -> None:
    """Write the candidates of a video and their numbers (n,) into a folder."""
    columns = {name: getattr(candidates, name) for name in _COLUMNS if getattr(candidates, name) is not None}
    columns |= {"frames": frames, "shot": candidates.shot_of, "duration": np.full(len(frames), candidates.duration)}
    dtype = [(name, column.dtype, column.shape[1:]) for name, column in columns.items()]
    table = np.empty(len(frames), dtype)
    for name, column in columns.items():
        table[name] = column
    content = io.BytesIO()  # numpy's own writing to a file hides why a disk refuses it
    np.save(content, table, allow_pickle=False)
    (directory / CANDIDATES).write_bytes(content.getbuffer())


def read_candidates(directory: Path) -> tuple[Int64Array, Candidates]:
    """The numbers and the candidates that `write_candidates` has written, to the bit; KeyframeError if it has not."""
    path = directory / CANDIDATES
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too large")
        table = np.load(path, mmap_mode="r", allow_pickle=False)  # a mapping has no more than the file
        columns = {name: np.ascontiguousarray(table[name]) for name in table.dtype.names or ()}
        shot, duration, frames = columns.pop("shot"), columns.pop("duration"), columns.pop("frames")
        if frames.dtype != np.int64 or shot.dtype != np.int64 or not set(columns) <= set(_COLUMNS):
            raise ValueError("it has other columns")
        starts = np.flatnonzero(np.diff(shot, prepend=-1))
        shots = np.stack([starts, np.append(starts[1:], len(shot)) - 1], axis=1)
        return frames, Candidates(**columns, shots=shots, duration=float(duration[0]))
    except (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        reason = one_line(str(error))[:200]
        raise KeyframeError(f"{path} holds no candidates ({reason}): extract the video again.") from error
