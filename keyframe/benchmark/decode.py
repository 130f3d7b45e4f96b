"""Ways from a video file to some of its frames: ours, the limit that FFmpeg sets, and what people write.

The suite `decode`: what it costs to get the frames of a video that a model sees.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keyframe.benchmark.footage import Footage
from keyframe.benchmark.report import Bar, Measured, SuiteResult, ratio
from keyframe.data.decord_reader import DecordReader
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.reader import VideoReader
from keyframe.data.sampling import FpsSampling, Sampling, UniformSampling
from keyframe.system import in_child, resident_mb
from keyframe.timing import in_turns
from keyframe.types import Frames, KeyframeError

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


Seconds = dict[str, list[float]]

_LONG, _SHORT = 250, 50  # frames from one I-frame to the next: x264's own choice, and 2 s at 25 a second


@dataclass(frozen=True)
class DecodeSuite:
    """Times every reader against FFmpeg decoding the whole file and against a seek for each frame with OpenCV.

    Args:
        footage: where the videos lie that are measured on; made where they are missing.
        sizes: (width, height) of the videos in pixels; the figures without a size are of the first.
        seconds: their length, a multiple of 40.
        frames: evenly spaced frames that are read of each.
        rate: and, apart from that, frames a second.
        seed: of the videos.
        repeats: rounds of each figure.
        budget_s: seconds that all rounds of one call may take: less of them where it is slow, one at least.

    Raises:
        KeyframeError: a length that cannot be made.
    """

    footage: str
    sizes: Sequence[Sequence[int]] = ((640, 360), (1280, 720))
    seconds: int = 240
    frames: int = 60
    rate: float = 2.0
    seed: int = 0
    repeats: int = 3
    budget_s: float = 30.0

    def __post_init__(self) -> None:
        if self.seconds % 40:
            raise KeyframeError(f"decode.seconds={self.seconds} must be a multiple of 40.")
        even = all(len(size) == 2 and all(side > 0 and side % 2 == 0 for side in size) for size in self.sizes)
        if not self.sizes or not even or len(set(map(_named, self.sizes))) < len(self.sizes):
            raise KeyframeError(
                f"decode.sizes={list(self.sizes)} must be pairs [width, height] of even numbers, each height once."
            )

    def __call__(self, bar: Bar) -> SuiteResult:
        """Measure; `bar` shows progress."""
        import_opencv()
        find_ffmpeg()
        tasks: list[Callable[[], list[Measured]]] = []
        for width, height in self.sizes:
            tasks.append(partial(self._against_baselines, width, height))
        tasks += [self._snapped, self._memory, self._workers]
        figures = [figure for task in bar(tasks, "Decoding", len(tasks)) for figure in task()]
        first = _named(self.sizes[0])
        by_key = {figure.key: figure for figure in figures}
        headlines = {
            "ratio_to_ffmpeg": f"ratio_to_ffmpeg_pyav_{self.frames}_{first}",
            "ratio_to_opencv_seek": f"ratio_to_opencv_seek_pyav_{self.frames}_{first}",
            "snap_speedup": f"snap_speedup_pyav_{first}_gop{_SHORT}",
        }
        chosen = [
            Measured(f"decode/{key}", by_key[f"decode/{one}"].values, "", by_key[f"decode/{one}"].meaning)
            for key, one in headlines.items()
        ]
        bars = {
            figure.key.removeprefix("decode/seconds_").removesuffix(f"_{first}"): figure.value
            for figure in figures
            if figure.key.startswith("decode/seconds_") and figure.key.endswith(first)
        }
        return SuiteResult("decode", self._summary(chosen, first), [*chosen, *figures], bars, self._notes())

    def _summary(self, headlines: Sequence[Measured], size: str) -> str:
        to_ffmpeg, to_opencv, speedup = (figure.value for figure in headlines)
        return (
            f"Reading {self.frames} frames of {self.seconds} s at {size} takes {to_ffmpeg:.2f} of the time in which "
            f"FFmpeg decodes the file and {to_opencv:.2f} of a seek for each with OpenCV; moved to I-frames that come "
            f"every {_SHORT / 25:g} s it is {speedup:.1f} times as fast."
        )

    def _notes(self) -> list[str]:
        return [
            f"H.264 with B-frames at 25 frames a second, generated; I-frames every {_LONG} frames unless a figure says "
            f"gop{_SHORT}. They take a tenth to a seventh of a byte a pixel, as in ordinary clips.",
            "A reading opens the file, makes the packet index, and gives frames at 224x224, each reader in one thread "
            "unless a figure says otherwise.",
            f"FFmpeg {ffmpeg_version()} decodes every frame and drops it: `ffmpeg -threads 1 -i FILE -an -f null -`; "
            "ratios are to one decoding thread, as the readers have, and seconds are given for its own choice too.",
            "OpenCV sets CAP_PROP_POS_FRAMES for each frame, in one thread, and resizes. A seek costs it the same "
            f"wherever the last one was, so its time for {self.rate:g} frames a second is that of {self.frames} frames "
            "multiplied.",
            f"Snapping is measured on {self.frames + 1} frames of the first size: a round number may lie on I-frames "
            "by itself. So they stand anywhere between two of these, as in any video.",
            "Calls take turns; ratios are taken in each round. Ratios of seconds below 1 are faster than the "
            "baseline; a speedup is the other way round.",
        ]

    def _video(self, width: int, height: int, key_every: int) -> Path:
        footage = Footage(self.seconds, width, height, key_every=key_every, seed=self.seed)
        return footage.write(Path(self.footage).expanduser())

    def _turns(self, calls: dict[str, Callable[[], object]]) -> Seconds:
        return in_turns(calls, self.repeats, self.budget_s, warm_up=False)

    def _against_baselines(self, width: int, height: int) -> list[Measured]:
        """Exact reading of evenly spaced frames, and of some a second."""
        path, size = self._video(width, height, _LONG), _named((width, height))
        few, rate = f"{self.frames}_{size}", f"{self.rate:g}fps_{size}"
        samplings: dict[str, Sampling] = {few: UniformSampling(self.frames), rate: FpsSampling(self.rate)}
        calls: dict[str, Callable[[], object]] = {
            f"ffmpeg_{size}": FFmpegDecode(path),
            f"ffmpeg_own_threads_{size}": FFmpegDecode(path, threads=0),
            f"opencv_seek_{few}": OpenCVSeeks(path, samplings[few]),
        }
        for reader, kind in READERS.items():
            calls |= {f"{reader}_{grid}": Reading(path, kind(), sampling) for grid, sampling in samplings.items()}
        seconds = self._turns(calls)
        seeks = self.seconds * self.rate / self.frames
        seconds[f"opencv_seek_{rate}"] = [seeks * one for one in seconds[f"opencv_seek_{few}"]]
        figures = [_seconds(name, taken) for name, taken in seconds.items()]
        for reader in READERS:
            for grid in samplings:
                name, baseline = f"{reader}_{grid}", f"opencv_seek_{grid}"
                figures += [
                    ratio(
                        f"decode/ratio_to_ffmpeg_{name}",
                        seconds[name],
                        seconds[f"ffmpeg_{size}"],
                        "exact reading, over FFmpeg decoding the whole file to null in one thread",
                    ),
                    ratio(
                        f"decode/ratio_to_opencv_seek_{name}",
                        seconds[name],
                        seconds[baseline],
                        "exact reading, over a seek for each frame with OpenCV in one thread",
                    ),
                ]
        return figures

    def _snapped(self) -> list[Measured]:
        """Reading near I-frames against exact reading, where they are close and where not; of the first size."""
        figures = []
        (width, height), size = self.sizes[0], _named(self.sizes[0])
        sampling = UniformSampling(self.frames + 1)
        for key_every in (_SHORT, _LONG):
            path = self._video(width, height, key_every)
            exact = {reader: f"{reader}_{self.frames + 1}_gop{key_every}_{size}" for reader in READERS}
            snapped = {reader: f"{reader}_{self.frames + 1}_gop{key_every}_snapped_{size}" for reader in READERS}
            readings: dict[str, Callable[[], object]] = {}
            for reader, kind in READERS.items():
                readings[exact[reader]] = Reading(path, kind(), sampling)
                readings[snapped[reader]] = Reading(path, kind(exact=False), sampling)
            seconds = self._turns(readings)
            figures += [_seconds(name, taken) for name, taken in seconds.items()]
            for reader in READERS:
                figures.append(
                    ratio(
                        f"decode/snap_speedup_{reader}_{size}_gop{key_every}",
                        seconds[exact[reader]],
                        seconds[snapped[reader]],
                        f"exact reading over reading near I-frames, these every {key_every} frames",
                    )
                )
        return figures

    def _memory(self) -> list[Measured]:
        width, height = max(self.sizes, key=lambda size: size[0] * size[1])
        path, size = self._video(width, height, _LONG), _named((width, height))
        figures = []
        for reader, kind in READERS.items():
            (peak,) = in_child(Reading(path, kind(), UniformSampling(self.frames)).memory, "decoding")
            key = f"decode/peak_mb_{size}" if reader == "pyav" else f"decode/peak_mb_{reader}_{size}"
            meaning = f"what reading {self.frames} frames with {reader} adds to a fresh process's memory at its peak"
            figures.append(Measured(key, (peak,), "MB", meaning))
        return figures

    def _workers(self) -> list[Measured]:
        """Two processes with a thread each against one with two."""
        (width, height), size = self.sizes[0], _named(self.sizes[0])
        path = self._video(width, height, _LONG)
        sampling = UniformSampling(self.frames)
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            two = InWorkers(pool, Reading(path, READERS["pyav"](), sampling), times=2)
            two()  # the processes start
            alone = Reading(path, READERS["pyav"](threads=2), sampling)
            seconds = self._turns({"workers": two, "threads": lambda: [alone() for _ in range(2)]})
        meaning = "two videos by two processes with a decoding thread each, over one process with two threads"
        return [
            ratio(f"decode/ratio_two_workers_to_two_threads_{size}", seconds["workers"], seconds["threads"], meaning)
        ]


def _named(size: Sequence[int]) -> str:
    return f"{size[1]}p"


def _seconds(name: str, taken: Sequence[float]) -> Measured:
    """A time as a figure; what it is of is told by the name of its call."""
    kinds = {
        "ffmpeg_own": "FFmpeg decoding the whole file to null, with the threads it chooses",
        "ffmpeg": "FFmpeg decoding the whole file to null, in one thread",
        "opencv": "a seek for each frame with OpenCV",
        "snapped": "reading near I-frames",
    }
    meaning = next((meaning for kind, meaning in kinds.items() if kind in name), "exact reading")
    return Measured(f"decode/seconds_{name}", tuple(taken), "s", meaning)
