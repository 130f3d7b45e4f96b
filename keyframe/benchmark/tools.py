"""The suite `tools`: keyframes without a model, against what people would pick instead; each on one core."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from av.codec import Codec
from av.codec.codec import UnknownCodecError

import keyframe
from keyframe.benchmark import Bar, SuiteResult, check_whole_numbers
from keyframe.benchmark.decode import ffmpeg_reading
from keyframe.benchmark.footage import N_SCENES, Footage
from keyframe.types import KeyframeError

# A small process that runs a command on one core: peak memory as the system counts it is never below the parent's.
_METER = """
import json, os, resource, subprocess, sys, time
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, capture_output=True, text=True)
wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
if done.returncode:
    sys.exit((done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1])
peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([used.ru_utime + used.ru_stime, wall, peak / 1e6]))
"""
_FREE = f"""
import sys
sys.path.insert(0, {str(Path(keyframe.__file__).parents[1])!r})
from keyframe.cli.main import extract
extract()
"""
# Two frames a second, a few at a time.
_DECORD = """
import sys
from decord import VideoReader
video = VideoReader(sys.argv[1], num_threads=1)
wanted = [int(n * video.get_avg_fps() / 2) for n in range(int(2 * len(video) / video.get_avg_fps()))]
for first in range(0, len(wanted), 16):
    video.get_batch(wanted[first : first + 16]).asnumpy()
"""
_TORCHCODEC = """
import sys
from torchcodec.decoders import VideoDecoder
video = VideoDecoder(sys.argv[1], num_ffmpeg_threads=1)
step = video.metadata.average_fps / 2
wanted = [int(n * step) for n in range(int(len(video) / step))]
for first in range(0, len(wanted), 16):
    video.get_frames_at(wanted[first : first + 16])
"""
_CODECS = {"libx264": "", "libx265": "_hevc", "libsvtav1": "_av1"}


class Used(NamedTuple):
    """What a command took."""

    seconds: float  # of the processor
    wall: float  # seconds
    peak_mb: float  # of memory


class Tool(NamedTuple):
    """A way to see what a video shows."""

    meaning: str
    command: Sequence[str]
    needs: str | None  # a Python package
    shown: Callable[[Path], list[float]] | None  # its folder -> seconds of its images; None if it chooses none


def tools(video: Path, place: Path, rate: int) -> dict[str, Tool]:
    """Ours, `free`, and the others, by name; each writes into a folder of its name in `place`."""
    thumbnails = ["-filter_threads", "1", "-vf", "thumbnail", "-fps_mode", "passthrough", "-frame_pts", "true"]
    free = [str(video), f"output={place / 'free'}", f"hydra.run.dir={place / 'log'}", "overwrite=true"]

    def by_frame(folder: Path) -> list[float]:
        return [int(image.stem.split("-")[0]) / rate for image in folder.glob("*.jpg")]

    def scenedetect(name: str, detector: str) -> Tool:
        images = ["save-images", "-f", "$FRAME_NUMBER-$IMAGE_NUMBER"]
        read = [sys.executable, "-m", "scenedetect", "-q", "-i", str(video), "-o", str(place / name)]
        return Tool(f"scenedetect {detector} save-images", [*read, detector, *images], "scenedetect", by_frame)

    def reading(package: str, code: str) -> Tool:
        return Tool(f"{package} reading two frames a second", [sys.executable, "-c", code, str(video)], package, None)

    return {
        "free": Tool("keyframe-extract without a model", [sys.executable, "-c", _FREE, *free], None, _keyframes),
        "ffmpeg_null": Tool("FFmpeg decoding to null", [*ffmpeg_reading(video), "-f", "null", "-"], None, None),
        "ffmpeg_thumbnail": Tool(
            "FFmpeg's thumbnail filter",
            [*ffmpeg_reading(video), *thumbnails, "-y", str(place / "ffmpeg_thumbnail" / "%d.jpg")],
            None,
            by_frame,
        ),
        "scenedetect": scenedetect("scenedetect", "detect-content"),
        "scenedetect_adaptive": scenedetect("scenedetect_adaptive", "detect-adaptive"),
        "decord": reading("decord", _DECORD),
        "torchcodec": reading("torchcodec", _TORCHCODEC),
    }


def _keyframes(folder: Path) -> list[float]:
    (summary,) = folder.glob("*/summary.json")
    return [one["seconds"] for one in json.loads(summary.read_text(encoding="utf-8"))["keyframes"]]


def use(command: Sequence[str]) -> Used:
    """Run a command on one core."""
    done = subprocess.run([sys.executable, "-c", _METER, *command], capture_output=True, text=True)
    if done.returncode:
        raise KeyframeError(f"{Path(command[0]).name} failed: {done.stderr.strip()}")
    return Used(*json.loads(done.stdout))


@dataclass(frozen=True)
class ToolsSuite:
    """Measures every tool on the same videos in turns; the arguments are the node `tools` of conf/benchmark.yaml."""

    directory: str
    videos: Sequence[Mapping[str, Any]]  # the arguments of `Footage`
    seed: int = 0
    repeats: int = 3

    def __post_init__(self) -> None:
        check_whole_numbers("tools", self, repeats=1)
        if not self.videos or len({_name(footage) for footage in self._footages()}) < len(self.videos):
            raise KeyframeError("tools.videos must be some, no two of one codec, height and key_every.")

    def _footages(self) -> list[Footage]:
        return [Footage(**video, seed=self.seed) for video in self.videos]

    def __call__(self, bar: Bar) -> SuiteResult:
        result = SuiteResult("tools")
        found: list[int] = []
        footages = self._footages()
        for number, footage in enumerate(bar(footages, "Measuring tools", len(footages))):
            if not _can_write(footage.encoder):
                result.notes.append(f"{footage.encoder} is not in this FFmpeg: its video is left out.")
                continue
            video = footage.write(Path(self.directory).expanduser()).absolute()
            with tempfile.TemporaryDirectory(prefix="keyframe-benchmark-") as place:
                found.append(self._measure(result, footage, video, Path(place), self.repeats if number == 0 else 1))
        meaning = f"share of the {N_SCENES} scenes of each video that our keyframes show, over all videos"
        result.add("scenes_found", sum(found) / (N_SCENES * len(found)), "", meaning)
        first = _name(footages[0])
        ratios = [key for key in result.figures if key.startswith("tools/free_over_") and key.endswith(f"_{first}")]
        sides = ", ".join(f"{result.figures[key].value:.2f} of {result.figures[key].meaning}" for key in ratios)
        result.summary = f"Keyframes without a model take of a video of {first} {sides}."
        result.notes += [
            f"Generated videos of {N_SCENES} scenes that come again every 40 s; a scene counts as shown if the time of "
            "an image lies in it.",
            "Each command runs in a process of its own, its start included, on one core, in turns with the others.",
            "Seconds are of the processor; peak memory is of the largest process. The first video is measured "
            f"{self.repeats} times, the others once.",
        ]
        return result

    def _measure(self, result: SuiteResult, footage: Footage, video: Path, place: Path, rounds: int) -> int:
        """Add the figures of a video; returns how many scenes our keyframes show."""
        name = _name(footage)
        able = tools(video, place, footage.rate)
        used: dict[str, list[Used]] = {}
        for turn in range(rounds):
            for key, tool in list(able.items()):
                (place / key).mkdir(exist_ok=True)
                try:
                    if tool.needs and find_spec(tool.needs) is None:
                        raise KeyframeError(f"{tool.needs} is not installed")
                    used.setdefault(key, []).append(use(tool.command))
                    if tool.shown is not None and not tool.shown(place / key):
                        raise KeyframeError("it shows nothing")
                except KeyframeError as error:
                    if tool.needs is None or turn:
                        raise
                    del able[key]
                    result.notes.append(f"{name}: {tool.meaning} is left out ({error}).")
        scenes = {}
        for key, tool in able.items():
            what = f"{tool.meaning}, {name}"
            self._add(result, f"{key}_{name}", what, used[key])
            if tool.shown is not None:
                seen = tool.shown(place / key)
                scenes[key] = len(footage.scenes(seen))
                result.add(f"scenes_{key}_{name}", scenes[key], "", f"scenes of {N_SCENES} shown by {what}")
                result.add(f"images_{key}_{name}", len(seen), "", f"images of {what}")
            if key != "free":
                ours, theirs = ([one.seconds for one in used[side]] for side in ("free", key))
                result.add_ratio(f"free_over_{key}_{name}", ours, theirs, tool.meaning)
            result.bars[what] = median(one.seconds for one in used[key])
        return scenes["free"]

    @staticmethod
    def _add(result: SuiteResult, name: str, what: str, used: Iterable[Used]) -> None:
        seconds, wall, peaks = zip(*used, strict=True)
        result.add(f"seconds_{name}", seconds, "s", f"processor time of {what}")
        result.add(f"wall_{name}", wall, "s", f"time of {what}")
        result.add(f"peak_mb_{name}", peaks, "MB", f"peak memory of {what}")


def _can_write(encoder: str) -> bool:
    try:
        Codec(encoder, "w")
    except UnknownCodecError:
        return False
    return True


def _name(footage: Footage) -> str:
    """Height, codec and groups of a video, as they end the names of its figures."""
    groups = "" if footage.key_every == Footage.key_every else f"_gop{footage.key_every}"
    return f"{footage.height}p{_CODECS[footage.encoder]}{groups}"
