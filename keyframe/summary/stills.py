"""Keyframes as JPEG files."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from keyframe.data.packets import index_packets
from keyframe.data.readers import VideoReader
from keyframe.summary.shown_size import shown_size
from keyframe.types import IntArray


@dataclass(frozen=True)
class Still:
    """One keyframe on disk.

    Attributes:
        path: the JPEG file.
        frame: number of the picture in presentation order, from 0.
        seconds: when a player shows it, where its clock says 0 at the first presented frame.
        rank: 1 for the best keyframe.
    """

    path: Path
    frame: int
    seconds: float
    rank: int


def save_stills(
    path: Path, frames: IntArray, ranks: IntArray, directory: Path, reader: VideoReader, quality: int = 92
) -> list[Still]:
    """Save frames of a video as JPEG files, at full resolution and as a player shows them.

    Rotation and non-square pixels are applied; colours are converted from the video's own matrix and range (BT.601
    where it names none, as FFmpeg has it) to the full range BT.601 of JFIF. High dynamic range is not tone-mapped.
    Files are called `keyframe_<rank>_<time>.jpg`, such as `keyframe_01_00h01m23.456s.jpg`, so that they sort by
    rank. All appear together at the end, or none. One picture is in memory at a time.

    Args:
        path: a video file.
        frames: frame numbers in presentation order, from 0, increasing, shape (k,).
        ranks: rank of each frame, from 1, no two alike, shape (k,).
        directory: where the files go; made where it is missing. Files of the same name are replaced.
        reader: decodes frames.
        quality: of the JPEG, 1 to 95.

    Returns:
        One still a frame, in order of time. Where a frame does not decode, its neighbour that the reader gave
        instead, under the neighbour's own number and time.

    Raises:
        VideoError: the video cannot be opened, or too many of the frames do not decode.
        ValueError: an argument is out of range, or frames and ranks disagree in shape.
    """
    frames, ranks = np.asarray(frames), np.asarray(ranks)
    if frames.ndim != 1 or frames.shape != ranks.shape:
        raise ValueError(f"frames and ranks must be rows of one length, not {frames.shape} and {ranks.shape}")
    if np.any(frames[1:] <= frames[:-1]):
        raise ValueError("frames must increase")
    if np.any(ranks < 1) or len(np.unique(ranks)) < len(ranks):
        raise ValueError("ranks must be 1 or more, no two alike")
    if not 1 <= quality <= 95:
        raise ValueError(f"quality must be 1 to 95, not {quality}")
    index = index_packets(path)
    pictures = reader.stream(path, frames, shown_size(index), index, chunk=1)
    digits = max(2, len(str(ranks.max(initial=1))))
    directory.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".stills-", dir=directory) as drafts:
        stills = []
        for picture, rank in zip(pictures, ranks.tolist(), strict=True):
            seconds = float(picture.timestamps[0] - index.timestamps[0])
            file = directory / f"keyframe_{rank:0{digits}}_{_clock(seconds)}.jpg"
            Image.fromarray(picture.pixels[0]).save(Path(drafts) / file.name, quality=quality)
            stills.append(Still(file, int(picture.indices[0]), seconds, rank))
        for still in stills:
            (Path(drafts) / still.path.name).replace(still.path)
    return stills


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds to the millisecond, such as "00h01m23.456s"."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}h{minutes % 60:02}m{milliseconds / 1000:06.3f}s"
