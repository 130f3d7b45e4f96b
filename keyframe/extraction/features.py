"""A video as the field's feature files have it: encoded at its picks, cut into shots, with what people think of it."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keyframe.data.feature_file import EncodedVideo, GroundTruth
from keyframe.data.labels import check_alignment, sample_labels
from keyframe.data.packets import PacketIndex, index_packets
from keyframe.data.reader import VideoReader
from keyframe.evaluation.keyshot import user_summaries
from keyframe.models.detector import KeyframeDetector
from keyframe.pipeline import encode_video
from keyframe.summary.describe import DESCRIPTOR_SIZE, join, look
from keyframe.summary.shots import segments_to_frames
from keyframe.types import IntArray, Labels

if TYPE_CHECKING:
    from keyframe.extraction.extract import ShotCutter


def features_of(
    name: str,
    path: Path,
    detector: KeyframeDetector,
    reader: VideoReader,
    shots: "ShotCutter",
    size: tuple[int, int],
    step: int = 15,
    labels: Labels | None = None,
    lowest: float = 1.0,
    highest: float = 5.0,
) -> EncodedVideo:
    """Encode every `step`-th frame of a video, from frame 0 on (or I-frames near them: `VideoReader.grid`).

    The video is decoded twice: small, to cut it by a descriptor that no model has a part in, and at the backbone's
    size. Held in memory are the features, not the pixels.

    Args:
        name: the video's id.
        path: its file.
        detector: a model in eval mode; what its backbone says of a picture is kept, its head is not asked.
        reader: decodes frames.
        shots: cuts the video.
        size: (height, width) in pixels that the backbone sees.
        step: frames from one pick to the next, at least 1; 15 in the field's files.
        labels: what people think of the video.
        lowest: the score in the label file that 0 stands for; what an annotator would keep depends on it.
        highest: the score that 1 stands for.

    Raises:
        VideoError: the file cannot be read.
        KeyframeError: its labels do not fit it.
    """
    index = index_packets(path)
    if labels is not None:  # refused before anything is decoded
        check_alignment(len(labels), index.n_frames, index.duration, path)
    picks = reader.grid(np.arange(0, index.n_frames, step, dtype=np.int64), index)
    seen = join(look(part.pixels) for part in reader.stream(path, picks, DESCRIPTOR_SIZE, index))
    ranges = segments_to_frames(shots.of_video(index, picks, seen, reader), picks, index.n_frames)
    truth = None if labels is None else _truth(labels, index, picks, ranges, lowest, highest)
    features = encode_video(index, picks, reader, detector, size)
    return EncodedVideo(name, features.float().cpu().numpy(), picks, index.n_frames, ranges, truth)


def _truth(
    labels: Labels, index: PacketIndex, picks: IntArray, ranges: IntArray, lowest: float, highest: float
) -> GroundTruth:
    """The reference score at the picks, and the keyshot summaries of its track and of each annotator's."""
    seconds = index.timestamps - index.timestamps[0]
    importance, annotators = sample_labels(
        labels, index.n_frames, np.arange(index.n_frames), seconds, index.duration, index.path
    )
    summaries = user_summaries(np.concatenate([importance[None], annotators]), ranges, lowest, highest)
    return GroundTruth(importance[picks], summaries[0, picks], summaries[1:])
