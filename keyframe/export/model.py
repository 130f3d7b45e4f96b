"""An exported file as a model that scores videos; with an ONNX file no torch is imported."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from keyframe.data.packets import PacketIndex
from keyframe.data.readers import VideoReader
from keyframe.errors import KeyframeError
from keyframe.export.card import Card, read_card
from keyframe.export.load import Program, load_program
from keyframe.types import Frames, IntArray, Scores
from keyframe.windows import average_windows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportedModel:
    """An exported file; made by `load_exported`.

    Attributes:
        path: the file.
        card: what is known of it.
        program: what it computes, frames uint8 (N, T, 3, H, W) -> scores float32 (N, T).
    """

    path: Path
    card: Card
    program: Program

    @property
    def name(self) -> str:
        """Its backbone and its format."""
        return f"{self.card.backbone} ({self.card.format})"

    def score_frames(self, path: Path, frames: IntArray, reader: VideoReader, index: PacketIndex) -> Scores:
        """Score frames of one video.

        Unlike a run's model, which encodes each frame once, a program takes whole windows: where they overlap, a frame
        is encoded more than once. The pictures of one section (see `keyframe.windows`) are held at once, 1200 at most.

        Args:
            path: the video.
            frames: numbers in presentation order, not decreasing, (T,), T >= 1.
            reader: decodes them.
            index: of the video's packets.

        Raises:
            VideoError: the file cannot be read.
        """
        pictures = _Rolling(reader.stream(path, frames, self.card.size, index))
        scores = average_windows(lambda places: self.program(pictures.take(places)), len(frames), self.card.window)
        pictures.finish()
        return Scores(scores, np.concatenate(pictures.timestamps), np.concatenate(pictures.indices))


def load_exported(path: Path, device: str = "auto", threads: int = 0) -> ExportedModel:
    """Load an exported file with the card beside it.

    Args:
        path: the file.
        device: "auto" or "cpu".
        threads: as of `load_program`.

    Raises:
        KeyframeError: as `read_card` and `load_program`, or another device was asked for.
    """
    require_cpu(path, device)
    card = read_card(path)
    if not card.format.startswith("onnx"):
        log.warning(
            "%s is a program that torch runs: load it only if you trust who made it (ONNX files are data)", path
        )
    return ExportedModel(path, card, load_program(path, card.format, threads))


def require_cpu(path: Path, device: str) -> None:
    """Refuse another device.

    Raises:
        KeyframeError: naming it.
    """
    if device not in ("auto", "cpu"):
        raise KeyframeError(f"device={device}: the exported model {path} computes on the CPU; leave device out.")


class _Rolling:
    """The pictures that windows ask for, from a stream; those before the latest window's first are let go."""

    def __init__(self, stream: Iterator[Frames]) -> None:
        self._stream = stream
        self._pieces: list[npt.NDArray[np.uint8]] = []
        self._first = self._next = 0
        self.timestamps: list[npt.NDArray[np.float64]] = []
        self.indices: list[npt.NDArray[np.int64]] = []

    def take(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Pictures of windows by their places in the stream, (B, T) -> (B, T, 3, H, W)."""
        while self._next <= places.max():
            self._read(next(self._stream))
        while self._first + len(self._pieces[0]) <= places.min():
            self._first += len(self._pieces.pop(0))
        starts = self._first + np.cumsum([0, *(len(piece) for piece in self._pieces)])
        owners = np.searchsorted(starts, places.ravel(), side="right") - 1
        pictures = [
            self._pieces[owner][place - starts[owner]] for owner, place in zip(owners, places.ravel(), strict=True)
        ]
        stacked = np.stack(pictures).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(stacked).reshape(*places.shape, *stacked.shape[1:])

    def finish(self) -> None:
        """Let the reader end."""
        for frames in self._stream:
            self._read(frames)

    def _read(self, frames: Frames) -> None:
        self._pieces.append(frames.pixels)
        self._next += len(frames)
        self.timestamps.append(frames.timestamps)
        self.indices.append(frames.indices)
