"""Score the features of any number of frames with a model that was trained on windows; see `keyframe.data.sampling`.

The straight line: video file -> frames -> backbone features -> temporal head -> a score per frame.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from keyframe.data.packets import PacketIndex, index_packets
from keyframe.data.reader import VideoReader
from keyframe.data.sampling import SPAN, average_windows
from keyframe.models.detector import KeyframeDetector
from keyframe.types import FloatArray, IntArray, Scores


def score_windows(
    score: Callable[[Tensor], Tensor], features: Tensor, length: int | None = None, span: int = SPAN, batch: int = 16
) -> npt.NDArray[np.float32]:
    """A score for every frame: the windows' scores, averaged by weight.

    Args:
        score: features of windows (B, T, width) -> scores in [0, 1], (B, T); e.g. `KeyframeDetector.score`.
        features: backbone features of all frames, (N, width), on the model's device.
        length: frames a window holds, see `keyframe.data.sampling.windows`.
        span: most frames of a section.
        batch: windows scored at once.

    Returns:
        Scores in [0, 1], float32 (N,).
    """

    @torch.inference_mode()
    def score_frames(places: npt.NDArray[np.int64]) -> FloatArray:
        scores: FloatArray = score(features[torch.from_numpy(places).to(features.device)]).float().cpu().numpy()
        return scores

    return average_windows(score_frames, len(features), length, span, batch)


def score_video(
    path: Path,
    detector: KeyframeDetector,
    reader: VideoReader,
    indices: IntArray,
    size: tuple[int, int],
    window: int | None = None,
    index: PacketIndex | None = None,
) -> Scores:
    """Score frames of one video, in memory that pixels do not fill however long it is.

    Args:
        path: a video file.
        detector: a trained model in eval mode (see `keyframe.runs.load_detector`).
        reader: decodes frames.
        indices: the frames to score, in presentation order, (T,), T >= 1.
        size: (height, width) of the frames in pixels, as the model was trained with.
        window: how many frames the model was trained to see at once; None for any number. See
            `keyframe.data.sampling` for how more frames than that are scored.
        index: what `index_packets(path)` gave, where the caller has it already.

    Raises:
        VideoError: the file cannot be read.
    """
    features, timestamps, shown = encode_video(path, detector, reader, indices, size, index)
    return Scores(score_windows(detector.score, features, window), timestamps, shown)


def encode_video(
    path: Path,
    detector: KeyframeDetector,
    reader: VideoReader,
    indices: IntArray,
    size: tuple[int, int],
    index: PacketIndex | None = None,
) -> tuple[Tensor, npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The line up to the backbone's features; for the arguments and what is raised see `score_video`.

    Returns:
        Features (T, width) on the detector's device, and the time in seconds and the number of the frame that each
        really shows, (T,).
    """
    index = index or index_packets(path)
    parts: list[Tensor] = []
    timestamps, shown = [], []
    for frames in reader.stream(path, indices, size, index):
        parts.append(_encode(detector, frames.pixels))
        timestamps.append(frames.timestamps)
        shown.append(frames.indices)
    return torch.cat(parts), np.concatenate(timestamps), np.concatenate(shown)


@torch.inference_mode()
def _encode(detector: KeyframeDetector, pixels: np.ndarray) -> Tensor:
    """Pictures (T, H, W, 3) -> backbone features (T, width)."""
    frames = torch.from_numpy(pixels).permute(0, 3, 1, 2)[None].to(detector.pixel_mean.device)
    return detector.encode("pixels", frames)[0]
