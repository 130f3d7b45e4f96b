"""The shots of a video that annotators score, in seconds and in entries of the label file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keyframe.data.packets import index_packets
from keyframe.data.sampling import labelled_frames

_MOST_ENTRIES = 2**25  # in a row of the label file


@dataclass(frozen=True)
class Shots:
    """The shots of a video that its annotators score, the same for all of them.

    Attributes:
        frames: number of frames of the video.
        seconds: its length.
        entries: number of scores in a row of the label file.
        starts: of each shot, seconds from the first frame, the first 0.
        first: the first entry of each shot, the first 0.
        kind: "even" or "own", those of the video.
    """

    frames: int
    seconds: float
    entries: int
    starts: tuple[float, ...]
    first: tuple[int, ...]
    kind: str

    def __post_init__(self) -> None:
        rising = all(
            values[0] == 0 and all(a < b for a, b in zip(values, [*values[1:], end], strict=True))
            for values, end in ((self.starts, self.seconds), (self.first, self.entries))
        )
        whole = all(isinstance(value, int) for value in (self.frames, self.entries, *self.first))
        if not (whole and rising and len(self.starts) == len(self.first) and 0 < self.entries <= _MOST_ENTRIES):
            raise ValueError("its shots do not follow each other")

    def per_entry(self, scores: Mapping[int, int]) -> list[int]:
        """The score of each entry."""
        lengths = np.diff([*self.first, self.entries])
        return [int(score) for score in np.repeat([scores[shot] for shot in range(len(self.first))], lengths)]


def find_shots(path: Path, seconds: float, own: list[float] | None = None, entries: int | None = None) -> Shots:
    """The shots of a video that annotators score.

    Args:
        path: of the video.
        seconds: length of each shot; a rest shorter than a quarter of it belongs to the last.
        own: starts of the video's own shots, to score in place of these.
        entries: number of scores in a row of the label file; None: the number of frames.
    """
    index = index_packets(path)
    entries = entries or index.n_frames
    starts = (
        np.arange(0, max(index.duration - seconds / 4, seconds / 4), seconds) if own is None else np.unique([0, *own])
    )
    times = index.timestamps[labelled_frames(entries, np.arange(entries), index)] - index.zero
    used, first = np.unique(np.searchsorted(starts[1:], times + 1e-6, side="right"), return_index=True)
    return Shots(
        frames=index.n_frames,
        seconds=round(index.duration, 3),
        entries=entries,
        starts=(0.0, *starts[used[1:]].round(3).tolist()),
        first=tuple(first.tolist()),
        kind="even" if own is None else "own",
    )
