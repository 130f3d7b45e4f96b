"""Frames of a video as people take them with OpenCV: the baseline of decoding in the suite `train`."""

from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt

from keyframe.errors import KeyframeError, VideoError

# Wanted frames by which the two ways are compared.
_TRIED = 5


def require_opencv() -> None:
    """Check that OpenCV is there.

    Raises:
        KeyframeError: it is not.
    """
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise KeyframeError("This suite measures against OpenCV: pip install 'keyframe[benchmark]'.") from error


def read_plainly(
    path: Path, frames: int, size: tuple[int, int], seek: bool, first: int | None = None
) -> npt.NDArray[np.uint8]:
    """Uniformly spaced frames, resized.

    Args:
        path: a video file.
        frames: T, spread as `keyframe.data.sampling.UniformSampling` spreads them.
        size: (height, width) of the answer in pixels.
        seek: jump to each wanted frame, instead of decoding all up to it and converting the wanted ones only.
        first: read the first so many of the wanted frames; None reads all.

    Returns:
        uint8 RGB (T, height, width, 3).

    Raises:
        VideoError: OpenCV cannot read a wanted frame.
    """
    import cv2

    capture = cv2.VideoCapture(str(path))
    try:
        count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        wanted = (2 * np.arange(frames) + 1) * count // (2 * frames)
        pictures = np.empty((len(wanted[:first]), *size, 3), np.uint8)
        position = 0
        for row, number in enumerate(wanted[:first]):
            if seek:
                capture.set(cv2.CAP_PROP_POS_FRAMES, int(number))
                position = int(number)
            while position <= number and capture.grab():
                position += 1
            good, picture = capture.retrieve()
            if position <= number or not good:
                raise VideoError(f"OpenCV does not give frame {number} of {path}: generate it again.")
            cv2.cvtColor(cv2.resize(picture, size[::-1]), cv2.COLOR_BGR2RGB, dst=pictures[row])
    finally:
        capture.release()
    return pictures


def seconds_of_ways(path: Path, frames: int, size: tuple[int, int]) -> dict[str, float]:
    """Seconds for a few of a video's frames, `sequential` and with a `seek` a frame."""
    seconds = {}
    for way in ("sequential", "seek"):
        start = perf_counter()
        read_plainly(path, frames, size, way == "seek", min(frames, _TRIED))
        seconds[way] = perf_counter() - start
    return seconds
