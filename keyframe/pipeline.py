"""The straight line: video file -> frames -> backbone features -> temporal head -> a score per frame."""

from pathlib import Path

import torch

from keyframe.data.packets import index_packets
from keyframe.data.readers import VideoReader
from keyframe.data.sampling import Sampling
from keyframe.models.detector import KeyframeDetector
from keyframe.types import Scores


@torch.inference_mode()
def score_video(
    path: Path, detector: KeyframeDetector, reader: VideoReader, sampling: Sampling, size: tuple[int, int]
) -> Scores:
    """Score the sampled frames of one video.

    Args:
        path: a video file.
        detector: a trained model in eval mode (see `keyframe.config.load_detector`).
        reader: decodes frames.
        sampling: chooses frames; the one the model was trained with.
        size: (height, width) of the frames in pixels, as the model was trained with.

    Raises:
        VideoError: the file cannot be read.
    """
    index = index_packets(path)
    frames = reader.read(path, sampling.indices(index), size, index)
    pixels = torch.from_numpy(frames.pixels).permute(0, 3, 1, 2)[None]
    maps = detector.encode_prefix(pixels.to(detector.pixel_mean.device))
    features = detector.encode_tail(maps)
    scores = detector.score(features)[0]
    return Scores(scores.float().cpu().numpy(), frames.timestamps, frames.indices)
