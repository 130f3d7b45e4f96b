"""The suite `decode`: the frames that a model sees, by our readers, against FFmpeg's limit and seeks with OpenCV."""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from keyframe.benchmark import Bar, SuiteResult, check_whole_numbers
from keyframe.benchmark.footage import Footage
from keyframe.data.decord_reader import DecordReader
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.reader import VideoReader
from keyframe.data.sampling import UniformSampling
from keyframe.system import in_child, pip_install, resident_mb
from keyframe.types import Frames, KeyframeError, UInt8Array, VideoError, check_number

READERS: dict[str, type[DecordReader] | type[PyAVReader]] = {"pyav": PyAVReader, "decord": DecordReader}

_SIDE = 224  # of a frame that a model takes, pixels
_LONG, _SHORT = 250, 50  # frames from one I-frame to the next: x264's own choice, and 2 s at 25 per second


def read_sampled(path: Path, reader: VideoReader, frames: int) -> Frames:
    """Read so many frames, evenly spread, at a model's size; making the packet index is part of it."""
    index = index_packets(path)
    return reader.read(path, reader.grid(UniformSampling(frames).indices(index), index), (_SIDE, _SIDE), index)


def _reading_memory(read: Callable[[], Frames]) -> Iterator[float]:
    """Yield what reading adds to resident memory at its peak, MB; for a process that has just started."""
    before = resident_mb()[0]
    read()
    yield resident_mb()[1] - before


def import_opencv() -> ModuleType:
    """OpenCV's module."""
    try:
        return import_module("cv2")
    except ImportError as error:
        raise KeyframeError(f"OpenCV, which this suite needs, is missing: {pip_install('benchmark')}.") from error


def read_with_opencv(
    path: Path, frames: int, size: tuple[int, int], seek: bool, first: int | None = None, threads: int = 0
) -> UInt8Array:
    """Read T frames spread as by `UniformSampling`, or the `first` of them, as uint8 RGB (T, height, width, 3).

    With `seek` it jumps to each wanted frame; without, it decodes all up to it and converts the wanted ones only.
    `size` is (height, width); 0 `threads` leave the choice to OpenCV.
    """
    cv2 = import_opencv()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads] if threads else [])
    try:
        count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        wanted = ((2 * np.arange(frames) + 1) * count // (2 * frames))[:first]
        pixels = np.empty((len(wanted), *size, 3), np.uint8)
        position = 0
        for row, number in enumerate(wanted.tolist()):
            if seek:
                capture.set(cv2.CAP_PROP_POS_FRAMES, number)
                position = number
            while position <= number and capture.grab():
                position += 1
            good, frame = capture.retrieve()
            if position <= number or not good:
                raise VideoError(f"OpenCV cannot read frame {number} of {path}: generate it again.")
            cv2.cvtColor(cv2.resize(frame, size[::-1]), cv2.COLOR_BGR2RGB, dst=pixels[row])
    finally:
        capture.release()
    return pixels


def decode_with_ffmpeg(path: Path) -> None:
    """Decode all frames of a file in one thread and drop them, `ffmpeg -i FILE -f null -`."""
    command = [*ffmpeg_reading(path), "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise KeyframeError(f"ffmpeg cannot decode {path}: {done.stderr.strip().splitlines()[-1:]}")


def ffmpeg_reading(path: Path) -> list[str]:
    """The beginning of a command of ffmpeg, which decodes the images of a file in one thread."""
    return [find_ffmpeg(), "-nostdin", "-v", "error", "-threads", "1", "-i", str(path), "-an"]


def find_ffmpeg() -> str:
    """The ffmpeg program: the user's own, else the one that comes with imageio-ffmpeg."""
    if own := shutil.which("ffmpeg"):
        return own
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise KeyframeError(f"ffmpeg, which this suite needs, is missing: {pip_install('benchmark')}.") from error


# Name of a figure -> what is timed, and what it is.
Calls = dict[str, tuple[Callable[[], object], str]]


@dataclass(frozen=True)
class DecodeSuite:
    """Times every reader against FFmpeg and OpenCV; the arguments are the node `decode` of conf/benchmark.yaml."""

    footage: str
    sizes: Sequence[Sequence[int]] = ((640, 360), (1280, 720))
    seconds: int = 240
    frames: int = 60
    seed: int = 0
    repeats: int = 3
    budget_s: float = 30.0

    def __post_init__(self) -> None:
        check_whole_numbers("decode", self, seconds=1, frames=2, repeats=1)
        check_number("decode.budget_s", self.budget_s, 0, whole=False, above=True)
        even = all(len(size) == 2 and all(side > 0 and side % 2 == 0 for side in size) for size in self.sizes)
        if not self.sizes or not even or len(set(map(_name, self.sizes))) < len(self.sizes):
            raise KeyframeError(
                f"decode.sizes={list(self.sizes)} must be even [width, height] pairs, each height once."
            )
        self._footage(self.sizes[0])

    def __call__(self, bar: Bar) -> SuiteResult:
        import_opencv()
        result = SuiteResult("decode", notes=self._notes())
        size = _name(self.sizes[0])
        parts = [partial(self._exact, result, size) for size in self.sizes]
        parts.append(partial(self._snapped, result, self.sizes[0]))
        parts.append(partial(self._memory, result, max(self.sizes, key=lambda size: size[0] * size[1])))
        for part in bar(parts, "Decoding", len(parts)):
            part()
        result.bars = {
            key.removeprefix("decode/seconds_").removesuffix(f"_{size}"): figure.value
            for key, figure in result.figures.items()
            if key.startswith("decode/seconds_") and key.endswith(size)
        }
        main = {
            "ratio_to_ffmpeg": f"ratio_to_ffmpeg_pyav_{self.frames}_{size}",
            "ratio_to_opencv_seek": f"ratio_to_opencv_seek_pyav_{self.frames}_{size}",
            "snap_speedup": f"snap_speedup_pyav_{size}_gop{_SHORT}",
        }
        result.figures = {
            f"decode/{key}": result.figures[f"decode/{one}"] for key, one in main.items()
        } | result.figures
        to_ffmpeg, to_opencv, speedup = (result[name] for name in main)
        result.summary = (
            f"Reading {self.frames} frames of {self.seconds} s at {size} takes {to_ffmpeg:.2f} of the time in which "
            f"FFmpeg decodes the file and {to_opencv:.2f} of a seek for each with OpenCV; moved to I-frames that come "
            f"every {_SHORT / 25:g} s it is {speedup:.1f} times as fast."
        )
        return result

    def _notes(self) -> list[str]:
        return [
            f"Generated H.264 with B-frames at 25 frames per second; I-frames every {_LONG} frames unless a figure "
            f"says gop{_SHORT}.",
            f"A reading opens the file, makes the packet index and gives frames at {_SIDE}x{_SIDE}, in one thread.",
            "FFmpeg decodes every frame and drops it, in one thread.",
            "OpenCV seeks each frame in one thread and resizes it.",
            f"Snapping is measured on {self.frames + 1} frames: a round number may lie on I-frames by itself.",
            "Calls take turns and ratios are taken in each round; below 1 is faster, but for speedups.",
        ]

    def _footage(self, size: Sequence[int], key_every: int = _LONG) -> Footage:
        return Footage(self.seconds, size[0], size[1], key_every=key_every, seed=self.seed)

    def _video(self, size: Sequence[int], key_every: int = _LONG) -> Path:
        return self._footage(size, key_every).write(Path(self.footage).expanduser())

    def _add_seconds(self, result: SuiteResult, calls: Calls) -> dict[str, list[float]]:
        from keyframe.timing import in_turns  # here, so that the processes that read start without torch

        timed = {name: call for name, (call, _) in calls.items()}
        seconds = in_turns(timed, self.repeats, self.budget_s, warm_up=False)
        for name, taken in seconds.items():
            result.add(f"seconds_{name}", taken, "s", calls[name][1])
        return seconds

    def _exact(self, result: SuiteResult, of: Sequence[int]) -> None:
        path, size = self._video(of), _name(of)
        few = f"{self.frames}_{size}"
        ffmpeg, seeks = "FFmpeg decoding the whole file to null", "a seek for each frame with OpenCV"
        seek = partial(read_with_opencv, path, self.frames, (_SIDE, _SIDE), seek=True, threads=1)
        calls: Calls = {
            f"ffmpeg_{size}": (partial(decode_with_ffmpeg, path), f"{ffmpeg}, in one thread"),
            f"opencv_seek_{few}": (seek, seeks),
        }
        for reader, kind in READERS.items():
            calls[f"{reader}_{few}"] = partial(read_sampled, path, kind(), self.frames), "exact reading"
        seconds = self._add_seconds(result, calls)
        for reader in READERS:
            name = f"{reader}_{few}"
            meaning = f"exact reading, over {ffmpeg} in one thread"
            result.add_ratio(f"ratio_to_ffmpeg_{name}", seconds[name], seconds[f"ffmpeg_{size}"], meaning)
            meaning = f"exact reading, over {seeks} in one thread"
            result.add_ratio(f"ratio_to_opencv_seek_{name}", seconds[name], seconds[f"opencv_seek_{few}"], meaning)

    def _snapped(self, result: SuiteResult, of: Sequence[int]) -> None:
        size, frames = _name(of), self.frames + 1
        for key_every in (_SHORT, _LONG):
            path, end = self._video(of, key_every), f"{frames}_gop{key_every}"
            calls: Calls = {}
            for reader, kind in READERS.items():
                near = partial(read_sampled, path, kind(exact=False), frames)
                calls[f"{reader}_{end}_{size}"] = partial(read_sampled, path, kind(), frames), "exact reading"
                calls[f"{reader}_{end}_snapped_{size}"] = near, "reading near I-frames"
            seconds = self._add_seconds(result, calls)
            meaning = f"exact reading over reading near I-frames, these every {key_every} frames"
            for reader in READERS:
                exact, near_ = seconds[f"{reader}_{end}_{size}"], seconds[f"{reader}_{end}_snapped_{size}"]
                result.add_ratio(f"snap_speedup_{reader}_{size}_gop{key_every}", exact, near_, meaning)

    def _memory(self, result: SuiteResult, of: Sequence[int]) -> None:
        path = self._video(of)
        for reader, kind in READERS.items():
            read = partial(read_sampled, path, kind(), self.frames)
            (peak,) = in_child(partial(_reading_memory, read), "the memory of reading")
            name = f"peak_mb_{_name(of)}" if reader == "pyav" else f"peak_mb_{reader}_{_name(of)}"
            meaning = f"what reading {self.frames} frames with {reader} adds to a fresh process's memory at its peak"
            result.add(name, peak, "MB", meaning)


def _name(size: Sequence[int]) -> str:
    return f"{size[1]}p"
