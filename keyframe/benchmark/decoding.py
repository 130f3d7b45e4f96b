"""Ways from a video file to some of its frames: ours, the limit that FFmpeg sets, and what people write."""

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keyframe.benchmark.resident import resident_mb
from keyframe.data.decord_reader import DecordReader
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.readers import VideoReader
from keyframe.data.sampling import Sampling
from keyframe.errors import KeyframeError
from keyframe.types import Frames

SIDE = 224  # of a picture that a model takes, pixels
READERS: dict[str, type[DecordReader] | type[PyAVReader]] = {"pyav": PyAVReader, "decord": DecordReader}

_HOW_TO_INSTALL = "pip install 'keyframe[benchmark]'"


@dataclass(frozen=True)
class Reading:
    """A video file to the frames that a sampling chooses, at a model's size; the packet index is part of it.

    Attributes:
        path: the file.
        reader: decodes frames.
        sampling: chooses them.
    """

    path: Path
    reader: VideoReader
    sampling: Sampling

    def __call__(self) -> Frames:
        """Read them."""
        index = index_packets(self.path)
        wanted = self.reader.grid(self.sampling.indices(index), index)
        return self.reader.read(self.path, wanted, (SIDE, SIDE), index)

    def memory(self) -> Iterator[float]:
        """What reading adds to this process's resident memory at its peak, MB; for a process that has just started."""
        before = resident_mb()[0]
        self()
        yield resident_mb()[1] - before


@dataclass(frozen=True)
class OpenCVSeeks:
    """What people write: a seek for each frame, then resized; as the sampling chooses them.

    Attributes:
        path: the file.
        sampling: chooses the frames.
        threads: of the decoder.
    """

    path: Path
    sampling: Sampling
    threads: int = 1

    def __call__(self) -> npt.NDArray[np.uint8]:
        """Read them, uint8 RGB (T, 224, 224, 3)."""
        cv2 = import_opencv()
        video = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, self.threads])
        pictures = []
        for number in self.sampling.indices(index_packets(self.path)):
            video.set(cv2.CAP_PROP_POS_FRAMES, int(number))
            found, picture = video.read()
            if not found:
                raise KeyframeError(f"OpenCV cannot read frame {number} of {self.path}: measure on other footage.")
            pictures.append(cv2.cvtColor(cv2.resize(picture, (SIDE, SIDE)), cv2.COLOR_BGR2RGB))
        video.release()
        return np.stack(pictures)


@dataclass(frozen=True)
class FFmpegDecode:
    """The limit: FFmpeg decodes all frames and drops them, `ffmpeg -i FILE -f null -`.

    Attributes:
        path: the file.
        threads: of the decoder; 0 leaves the choice to FFmpeg.
    """

    path: Path
    threads: int = 1

    def __call__(self) -> None:
        """Decode."""
        threads = ["-threads", str(self.threads)] if self.threads else []
        command = [find_ffmpeg(), "-nostdin", "-v", "error", *threads, "-i", str(self.path), "-an", "-f", "null", "-"]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise KeyframeError(f"ffmpeg cannot decode {self.path}: {done.stderr.strip().splitlines()[-1:]}")


@dataclass(frozen=True)
class InWorkers:
    """The same reading by several processes at once.

    Attributes:
        pool: the processes.
        reading: what each does.
        times: how often, all processes together.
    """

    pool: ProcessPoolExecutor
    reading: Reading
    times: int

    def __call__(self) -> None:
        """Read; the frames stay where they are."""
        for done in [self.pool.submit(_read_and_drop, self.reading) for _ in range(self.times)]:
            done.result()


def _read_and_drop(reading: Reading) -> None:
    reading()


def import_opencv() -> Any:
    """OpenCV.

    Raises:
        KeyframeError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise KeyframeError(f"suite=decode is measured against OpenCV, which is missing: {_HOW_TO_INSTALL}.") from error
    return cv2


def find_ffmpeg() -> str:
    """The ffmpeg program: the user's own, else the one that comes with imageio-ffmpeg.

    Raises:
        KeyframeError: there is neither.
    """
    if own := shutil.which("ffmpeg"):
        return own
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise KeyframeError(f"suite=decode is measured against ffmpeg, which is missing: {_HOW_TO_INSTALL}.") from error


def ffmpeg_version() -> str:
    """The version that the program states, such as "7.1.1"."""
    done = subprocess.run([find_ffmpeg(), "-version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout.split()[2] if done.stdout.startswith("ffmpeg version ") else "unknown"
