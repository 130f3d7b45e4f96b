"""The shots of a video by what changes from one frame to the next, as PySceneDetect sees it."""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keyframe.data.packets import PacketIndex
from keyframe.data.readers import VideoReader
from keyframe.errors import KeyframeError
from keyframe.summary.descriptor import Look
from keyframe.summary.segment import Segments
from keyframe.types import FloatArray, IntArray

# Width that PySceneDetect itself scales pictures to (`scene_manager.DEFAULT_MIN_WIDTH`).
_WIDTH = 256


@dataclass(frozen=True)
class ContentShots:
    """Cuts a video at hard cuts: PySceneDetect's `ContentDetector` on all its frames, read by our own reader.

    It sees every frame, where `KtsShots` sees those that were looked at, and so takes a pass of its own over the video.
    It finds cuts, not slow changes: a video in one take is one shot.

    Attributes:
        threshold: mean change of hue, saturation and value, 0 to 255, from which on it is a cut; > 0.
        min_length: seconds that a shot lasts at least, >= 0; nearer cuts are merged.

    Raises:
        KeyframeError: PySceneDetect is not installed.
        ValueError: if an attribute is outside its range.
    """

    libraries: ClassVar[Sequence[str]] = (
        *("scenedetect", "scenedetect-headless"),
        *("opencv-python", "opencv-python-headless"),
    )

    threshold: float = 27.0
    min_length: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 255:
            raise ValueError(f"threshold must be a number above 0, 255 at most, not {self.threshold}")
        if not (self.min_length >= 0 and np.isfinite(self.min_length)):
            raise ValueError(f"min_length must be a finite number that is not negative, not {self.min_length}")
        if importlib.util.find_spec("scenedetect") is None:
            raise KeyframeError("shots=content needs PySceneDetect: pip install 'keyframe[shots]', or use shots=kts.")

    def __call__(self, descriptors: FloatArray, seconds: FloatArray) -> Segments:
        """Refuse: descriptors of a few frames are not what it cuts by.

        Raises:
            KeyframeError: always.
        """
        raise KeyframeError("shots=content needs every frame of a video, which only keyframe-extract gives: use kts.")

    def of_video(self, index: PacketIndex, frames: IntArray, look: Look, reader: VideoReader) -> Segments:
        """Cut a video; all its frames are decoded.

        Args:
            index: of the video.
            frames: numbers of the frames that were looked at, increasing, (n,).
            look: not used here.
            reader: decodes frames.

        Returns:
            First and last of these frames of each shot, inclusive, (m, 2), covering 0 ... n - 1 in order.

        Raises:
            VideoError: the file cannot be read.
        """
        starts = np.unique(np.searchsorted(frames, [0, *self._cuts(index, reader)]))
        starts = starts[starts < len(frames)]
        return np.stack([starts, np.append(starts[1:], len(frames)) - 1], axis=1)

    def _cuts(self, index: PacketIndex, reader: VideoReader) -> Iterator[int]:
        """Numbers of the frames that begin a shot, but for the first."""
        from scenedetect import ContentDetector, FrameTimecode

        detector = ContentDetector(self.threshold, min_scene_len=float(self.min_length))
        height, width = index.upright_size
        size = (max(1, round(_WIDTH * height / width)), _WIDTH) if width > _WIDTH else (height, width)
        number = 0
        for piece in reader.stream(index.path, np.arange(index.n_frames), size, index):
            for pixels in piece.pixels:
                bgr = np.ascontiguousarray(pixels[..., ::-1])
                yield from (cut.frame_num for cut in detector.process_frame(FrameTimecode(number, index.fps), bgr))
                number += 1
        yield from (cut.frame_num for cut in detector.post_process(FrameTimecode(number - 1, index.fps)))
