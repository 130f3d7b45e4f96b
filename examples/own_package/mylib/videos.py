"""A data source, a reader and a selection."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keyframe.data.folder import find_videos
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.reader import VideoReader
from keyframe.summary.candidates import Candidates, Selection
from keyframe.types import Frames, LabelledVideo, Labels


class TextSource:
    """A folder of videos; beside each, in a .txt file, the scores of its frames in [0, 1], one per line."""

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser()

    def prepare(self) -> None:
        """Nothing to make."""

    def videos(self) -> list[LabelledVideo]:
        """All videos with their labels."""
        return [LabelledVideo(name, path, self._labels(path)) for name, path in find_videos(self.root).items()]

    def _labels(self, path: Path) -> Labels:
        scores = np.loadtxt(path.with_suffix(".txt"), dtype=np.float32, ndmin=1)
        return Labels(importance=scores, annotators=scores[None])  # of one annotator


class GreyReader(VideoReader):
    """Reads frames by PyAV and gives them in grey."""

    def _pieces(self, *arguments: Any) -> Iterator[tuple[Frames, ...]]:
        settings = self.threads, self.max_missing, self.exact, self.deinterlace, self.tone_map
        for pieces in PyAVReader(*settings).stream_sizes(*arguments):
            greys = [piece.pixels.mean(-1, keepdims=True).astype(np.uint8).repeat(3, axis=-1) for piece in pieces]
            yield tuple(replace(piece, pixels=grey) for piece, grey in zip(pieces, greys, strict=True))


@dataclass(frozen=True)
class BestOfEach:
    """The best frame of each so many seconds."""

    seconds: float = 10.0

    def __call__(self, candidates: Candidates) -> Selection:
        """Select at least one keyframe."""
        piece = (candidates.seconds / self.seconds).astype(np.int64)
        best_first = np.lexsort((-candidates.scores, piece))
        keyframes = best_first[np.unique(piece[best_first], return_index=True)[1]]
        ranks = np.empty(len(keyframes), np.int64)
        ranks[np.argsort(-candidates.scores[keyframes], kind="stable")] = np.arange(1, len(keyframes) + 1)
        kept = [any(first <= one <= last for one in keyframes) for first, last in candidates.shots]
        return Selection(keyframes, ranks, np.array(kept))
