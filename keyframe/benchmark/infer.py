"""Model 1 and Model 2 with random weights, and the ways to run one of them.

How much memory scoring takes beside weights and frames, by the number of frames encoded at once.

The suite `infer`: Model 1 and Model 2 from frames, and from a file, to scores.
"""

import copy
import ctypes
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import nan
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from keyframe.benchmark.footage import Footage
from keyframe.benchmark.report import Bar, Measured, SuiteResult, ratio
from keyframe.data.packets import index_packets
from keyframe.data.reader import VideoReader
from keyframe.data.sampling import UniformSampling
from keyframe.export.model import load_onnx, require_packages
from keyframe.export.write import export_program, onnx_program, write_onnx
from keyframe.models.backbone import Backbone
from keyframe.models.detector import KeyframeDetector, choose_chunk, compile_detector, find_device
from keyframe.models.head import TemporalHead
from keyframe.pipeline import TrainedModel
from keyframe.system import in_child, reset_peak, resident_mb
from keyframe.timing import MB, in_turns, random_videos, weights_mb
from keyframe.types import FloatArray, IntArray

Score = Callable[[Tensor], Tensor]

# By name in a figure's key.
WAYS = {
    "contiguous": "all pictures and weights in torch's default layout instead of channels_last",
    "bf16": "matrix products and convolutions in bfloat16 (torch.autocast)",
    "compiled": "torch.compile",
    "exported": "the program of torch.export, all frames at once",
    "onnx": "ONNX Runtime on the CPU, all frames at once",
}


def random_detector(backbone: str, chunk: int | Literal["auto"] = "auto") -> KeyframeDetector:
    """A detector as conf/ has it, with random weights, in eval mode."""
    return KeyframeDetector(Backbone(backbone, pretrained=False), TemporalHead, chunk).eval()


def other_way(way: str, detector: KeyframeDetector, frames: Tensor) -> Score:
    """A detector run in another way than eagerly.

    Args:
        way: one of `WAYS`.
        detector: stays as it is.
        frames: what it will be run on, (N, T, 3, H, W).

    Raises:
        KeyframeError: what the way needs is not installed.
    """
    size = (frames.shape[-2], frames.shape[-1])
    match way:
        case "contiguous":
            return _contiguous(detector)
        case "bf16":
            return _in_bf16(detector)
        case "compiled":
            compiled = copy.deepcopy(detector)
            compile_detector(compiled)
            return compiled
        case "exported":
            return export_program(detector, size).module()
        case "onnx":
            require_packages()
            with tempfile.TemporaryDirectory() as directory:
                path = Path(directory) / "model.onnx"
                write_onnx(onnx_program(export_program(detector, size)), path)
                program = load_onnx(path, torch.get_num_threads())
                return lambda frames: torch.from_numpy(program(frames.numpy()))
        case _:
            raise ValueError(f"way must be one of {', '.join(WAYS)}, not {way}")


def bare_backbone(detector: KeyframeDetector, frames: Tensor) -> Callable[[], list[Tensor]]:
    """Timm's own model on pictures that are normalised and laid out already, as many at once as the detector takes."""
    model = _network(detector)
    pieces = [detector.normalize(piece).contiguous(memory_format=torch.channels_last) for piece in _pieces(frames)]
    return lambda: [model(piece) for piece in pieces]


def first_call(score: Score, frames: Tensor) -> float:
    """Seconds of a call that makes what the later ones use."""
    start = perf_counter()
    score(frames)
    return perf_counter() - start


def _network(detector: KeyframeDetector) -> nn.Module:
    assert isinstance(detector.backbone, Backbone)
    network: nn.Module = detector.backbone.model
    return network


def _in_bf16(detector: KeyframeDetector) -> Score:
    def score(frames: Tensor) -> Tensor:
        with torch.autocast(frames.device.type, torch.bfloat16):
            return detector(frames)

    return score


def _contiguous(detector: KeyframeDetector) -> Score:
    model = copy.deepcopy(_network(detector)).to(memory_format=torch.contiguous_format)

    def score(frames: Tensor) -> Tensor:
        features = torch.cat([model(detector.normalize(piece).contiguous()) for piece in _pieces(frames)])
        return detector.score(features.unflatten(0, frames.shape[:2]))

    return score


def _pieces(frames: Tensor) -> tuple[Tensor, ...]:
    """Frames (N, T, 3, H, W) as the pieces (n, 3, H, W) that a detector would choose."""
    return frames.flatten(0, 1).split(choose_chunk(frames.shape[-2], frames.shape[-1], frames.device))


@torch.inference_mode()
def chunk_peaks(
    backbones: Mapping[str, str], chunks: Sequence[int], shape: tuple[int, int, int], device: str, threads: int
) -> Iterator[tuple[str, int, float]]:
    """Measure models with random weights; for a process of its own (see `keyframe.benchmark.report`).

    Args:
        backbones: timm names by key.
        chunks: frames encoded at once.
        shape: frames of the video, height and width: (T, H, W).
        device: where the models compute.
        threads: of a computation.

    Yields:
        Key, chunk, and what a call adds at its peak in MB (10^6 bytes): what torch allocates on CUDA, elsewhere what
        becomes resident. NaN where the system does not tell.
    """
    torch.set_num_threads(threads)
    frames = random_videos(1, shape, device)
    for key, name in backbones.items():
        model = random_detector(name).to(device)
        model(frames[:, :1])  # what is set up at the first call is no working memory
        for chunk in chunks:
            model.chunk = chunk
            yield key, chunk, _peak_on_cuda(model, frames) if frames.is_cuda else _peak(model, frames)


def _peak_on_cuda(model: nn.Module, frames: Tensor) -> float:
    torch.cuda.reset_peak_memory_stats(frames.device)
    before = torch.cuda.memory_allocated(frames.device)
    model(frames)
    return (torch.cuda.max_memory_allocated(frames.device) - before) / MB


def _peak(model: nn.Module, frames: Tensor) -> float:
    # a process hands freed memory out again, and the next call would seem to need less
    if not (_give_back() and reset_peak()):
        return nan
    before = resident_mb()[0]
    model(frames)
    return resident_mb()[1] - before


def _give_back() -> bool:
    """Give freed memory back to the system; whether that could be done (with glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return False
    trim(0)
    return True


_TITLES = {"model1": "Model 1", "model2": "Model 2"}


@dataclass(frozen=True)
class InferSuite:
    """Times Model 2 against Model 1, and the ways to run each against running it eagerly.

    Weights are random: they change no cost. A way whose packages are missing is an error.

    Args:
        reader: decodes the file.
        footage: the file, to be scored end to end.
        directory: where it is kept.
        model1: timm's name of Model 1's backbone.
        model2: of Model 2's.
        frames: of a video.
        size: height and width of a frame in pixels.
        videos: how many are scored at once, in turn; 1 is always among them.
        ways: other ways than eager, of `keyframe.benchmark.infer.WAYS`.
        chunks: frames encoded at once, in turn, for speed and memory.
        repeats: rounds of a ratio; of more than one video as many fewer, at least one.
        device: where the models compute; auto for a GPU where there is one.
    """

    reader: VideoReader
    footage: Footage
    directory: str
    model1: str = "resnet50"
    model2: str = "efficientnet_b0"
    frames: int = 60
    size: int = 224
    videos: Sequence[int] = (1, 4, 8)
    ways: Sequence[str] = tuple(WAYS)
    chunks: Sequence[int] = (1, 4, 16)
    repeats: int = 5
    device: str = "auto"

    def __post_init__(self) -> None:
        unknown = [way for way in self.ways if way not in WAYS]
        if unknown:
            raise ValueError(f"ways must be of {', '.join(WAYS)}, not {unknown[0]}")

    def __call__(self, bar: Bar) -> SuiteResult:
        """Measure; `bar` shows progress."""
        return _Measurement(self).result(bar)


class _Measurement:
    """The models and what is measured on them, part by part."""

    def __init__(self, suite: InferSuite) -> None:
        self.suite = suite
        self.device = find_device(suite.device)
        names = {"model1": suite.model1, "model2": suite.model2}
        self.backbones = names
        self.twins = {key: random_detector(name).to(self.device) for key, name in names.items()}
        self.bars: dict[str, float] = {}

    def result(self, bar: Bar) -> SuiteResult:
        parts: list[Callable[[], list[Measured]]] = [self._weights, self._videos, self._bare]
        parts += [partial(self._way, key, way) for way in self._possible_ways() for key in self.twins]
        parts += [self._chunk_speed, self._chunk_memory, self._end_to_end]
        if self.device.type == "cuda":
            parts.append(self._share_of_peak)
        figures: list[Measured] = []
        for part in bar(parts, "Scoring", len(parts)):
            with torch.inference_mode():
                figures += part()
        value = {figure.key.removeprefix("infer/"): figure.value for figure in figures}
        return SuiteResult(
            name="infer",
            summary=f"Model 2 takes {value['model2_over_model1_time']:.2f} of Model 1's time from frames to scores, "
            f"{value['model2_over_model1_end_to_end']:.2f} from a {self.suite.footage.height}p file to scores, and "
            f"{value['model2_over_model1_weights']:.2f} of its weights.",
            figures=figures,
            bars=self.bars,
            notes=self._notes(value),
        )

    def _weights(self) -> list[Measured]:
        sizes = {key: weights_mb(model) for key, model in self.twins.items()}
        figures = [_one(f"{key}_weights", size, "MB", f"weights of {self._name(key)}") for key, size in sizes.items()]
        over = sizes["model2"] / sizes["model1"]
        return [*figures, _one("model2_over_model1_weights", over, "", "bytes of weights, Model 2 over Model 1")]

    def _videos(self) -> list[Measured]:
        """Frames to scores, by number of videos; Model 2 over Model 1."""
        figures: list[Measured] = []
        for count in sorted({1, *self.suite.videos}):
            frames = self._frames(count)
            calls = {key: partial(model, frames) for key, model in self.twins.items()}
            seconds = in_turns(calls, max(1, self.suite.repeats // count), warm_up=count == 1)
            name = "" if count == 1 else f"_{count}_videos"
            what = f"{count} video{'s' * (count > 1)} of {frames.shape[1]} frames at once"
            for key, taken in seconds.items():
                each = [1e3 * second / frames.shape[:2].numel() for second in taken]
                rate = [count / second for second in taken]
                figures += [
                    _some(f"{key}_ms_frame{name}", each, "ms", f"{self._name(key)}, a frame; {what}"),
                    _some(f"{key}_videos_per_s{name}", rate, "/s", f"{self._name(key)}, videos a second; {what}"),
                ]
            meaning = f"frames to scores, Model 2 over Model 1; {what}"
            figures.append(ratio(f"infer/model2_over_model1_time{name}", seconds["model2"], seconds["model1"], meaning))
            if count == 1:
                self.bars |= {f"{_TITLES[key]}, eager": median(taken) for key, taken in seconds.items()}
        return figures

    def _bare(self) -> list[Measured]:
        """Model 2 over its backbone alone."""
        model, frames = self.twins["model2"], self._frames(1)
        seconds = in_turns({"ours": partial(model, frames), "bare": bare_backbone(model, frames)}, self._repeats)
        meaning = f"Model 2 from frames to scores over timm's {self.backbones['model2']} alone, in channels_last, "
        meaning += "on as many pictures at once, normalised before"
        return [ratio("infer/model2_over_bare_backbone", seconds["ours"], seconds["bare"], meaning)]

    def _possible_ways(self) -> list[str]:
        on_gpu = self.device.type == "cuda"
        return [way for way in self.suite.ways if not (way == "onnx" and on_gpu)]

    def _way(self, key: str, way: str) -> list[Measured]:
        """Another way to run a model, over running it eagerly."""
        model, frames = self.twins[key], self._fewer()
        with torch.inference_mode(False):  # exporters refuse tensors that were made in it
            other = other_way(way, model, frames)
        first = first_call(other, frames)
        seconds = in_turns({way: partial(other, frames), "eager": partial(model, frames)}, self._repeats, warm_up=False)
        self.bars[f"{_TITLES[key]}, {way}"] = median(seconds[way]) * self.suite.frames / frames.shape[1]
        meaning = f"{_TITLES[key]}, {WAYS[way]}, over eager"
        figures = [ratio(f"infer/{key}_{way}_over_eager", seconds[way], seconds["eager"], meaning)]
        if way == "compiled":
            what = f"first call of {_TITLES[key]}, compiling included (less where torch's cache knows it)"
            figures.append(_one(f"{key}_compile", first, "s", what))
        return figures

    def _chunk_speed(self) -> list[Measured]:
        """Other numbers of frames encoded at once, over the default's."""
        figures = []
        frames = self._frames(1)[:, : max(*self.suite.chunks, self._auto)]
        for key, model in self.twins.items():
            calls: dict[str, Callable[[], Tensor]] = {"auto": partial(model, frames)}
            calls |= {str(chunk): partial(_at_chunk, model, chunk, frames) for chunk in self.suite.chunks}
            seconds = in_turns(calls, self._repeats)
            for chunk in self.suite.chunks:
                meaning = f"{_TITLES[key]}, {chunk} frames encoded at once, over the default's {self._auto}; time"
                figures.append(
                    ratio(f"infer/{key}_chunk{chunk}_over_default", seconds[str(chunk)], seconds["auto"], meaning)
                )
        return figures

    def _chunk_memory(self) -> list[Measured]:
        """Peak memory at equal numbers of frames encoded at once, and at the default's."""
        length = max(*self.suite.chunks, self._auto)
        shape = (length, self.suite.size, self.suite.size)
        chunks = sorted({*self.suite.chunks, self._auto})
        task = partial(chunk_peaks, self.backbones, chunks, shape, str(self.device), torch.get_num_threads())
        peaks = {(key, chunk): peak for key, chunk, peak in in_child(task, "the memory of both models")}
        figures = []
        for chunk in chunks:
            default = ", the default" if chunk == self._auto else ""
            what = f"peak beside weights and frames, {chunk} of {length} frames encoded at once{default}"
            figures += [
                _one(f"{key}_peak_chunk{chunk}", peaks[key, chunk], "MB", f"{_TITLES[key]}, {what}")
                for key in self.twins
            ]
            over = peaks["model2", chunk] / peaks["model1", chunk]
            figures.append(_one(f"model2_over_model1_peak_chunk{chunk}", over, "", f"{what}, Model 2 over Model 1"))
        return figures

    def _end_to_end(self) -> list[Measured]:
        """From a file to scores, decoding included."""
        suite = self.suite
        path = suite.footage.write(Path(suite.directory))
        indices = UniformSampling(suite.frames).indices(index_packets(path))
        size = (suite.size, suite.size)
        calls = {
            key: partial(_score_file, path, TrainedModel(model, size, suite.frames), indices, suite.reader)
            for key, model in self.twins.items()
        }
        seconds = in_turns(calls, self._repeats)
        footage = suite.footage
        what = f"a file of {footage.seconds} s, {footage.width}x{footage.height}, to scores of {suite.frames} frames"
        figures = [_some(f"{key}_end_to_end", taken, "s", f"{_TITLES[key]}, {what}") for key, taken in seconds.items()]
        self.bars |= {f"{_TITLES[key]}, from the file": median(taken) for key, taken in seconds.items()}
        meaning = f"{what}, Model 2 over Model 1"
        figures.append(ratio("infer/model2_over_model1_end_to_end", seconds["model2"], seconds["model1"], meaning))
        return figures

    def _share_of_peak(self) -> list[Measured]:
        """Of the rate at which the GPU multiplies large bfloat16 matrices, what each model reaches in bfloat16."""
        frames = self._frames(max(self.suite.videos))
        matrix = torch.randn(8192, 8192, device=self.device, dtype=torch.bfloat16)
        figures = []
        for key, model in self.twins.items():
            with FlopCounterMode(display=False) as counter:
                model(frames[:1, :1])
            work = counter.get_total_flops() * frames.shape[:2].numel()
            calls: dict[str, Callable[[], object]] = {
                "matrix": lambda: matrix @ matrix,
                "model": partial(other_way("bf16", model, frames), frames),
            }
            seconds = in_turns(calls, self._repeats)
            peak = [2 * len(matrix) ** 3 / second for second in seconds["matrix"]]
            shares = [work / second / rate for second, rate in zip(seconds["model"], peak, strict=True)]
            rates = [frames.shape[:2].numel() / second for second in seconds["model"]]
            what = "bfloat16 rate over that of a product of 8192x8192 matrices in the same run"
            figures += [
                _some(f"{key}_share_of_peak", shares, "", f"{_TITLES[key]}, {what}"),
                _some(f"{key}_frames_per_s_bf16", rates, "/s", f"{_TITLES[key]}, frames a second to be fed"),
            ]
        return figures

    def _notes(self, value: dict[str, float]) -> list[str]:
        suite = self.suite
        own = (value[f"{key}_peak_chunk{self._auto}"] for key in self.twins)
        total = [value[f"{key}_weights"] + peak for key, peak in zip(self.twins, own, strict=True)]
        notes = [
            f"Model 1 is {suite.model1}, Model 2 {suite.model2}, with random weights, on {suite.size}x{suite.size} "
            f"pixels of noise; other ways to run a model on {self._fewer().shape[1]} frames. "
            "Ratios are times unless they say otherwise: below 1 is less than the baseline. Both sides take "
            "turns after a call of each to warm up, and a ratio is taken in each round.",
            f"By default {self._auto} frames are encoded at once here: on a CPU few frames stay in the caches, which "
            "is faster and smaller; on a GPU as many as fill it; halved while that would take more than a quarter of "
            "the free memory.",
            f"Weights and peak together by default: {total[0]:.0f} MB and {total[1]:.0f} MB, Model 2 over Model 1 "
            f"{total[1] / total[0]:.2f} (the reference design claims .63 for one video). Most of it is weights: "
            "encoding the same number of frames, Model 2, whose early layers are wide, takes "
            f"{value[f'model2_over_model1_peak_chunk{self._auto}']:.2f} of the working memory of Model 1.",
        ]
        if "onnx" in suite.ways and "onnx" not in self._possible_ways():
            notes.append("ONNX Runtime is measured on a CPU only (device=cpu).")
        return notes

    def _frames(self, count: int) -> Tensor:
        return random_videos(count, (self.suite.frames, self.suite.size, self.suite.size), self.device)

    def _fewer(self) -> Tensor:
        """Frames enough for a ratio of one model to itself: twice as many as are encoded at once."""
        return self._frames(1)[:, : 2 * self._auto]

    def _name(self, key: str) -> str:
        return f"{_TITLES[key]} ({self.backbones[key]})"

    @property
    def _auto(self) -> int:
        return choose_chunk(self.suite.size, self.suite.size, self.device)

    @property
    def _repeats(self) -> int:
        return self.suite.repeats


def _score_file(path: Path, model: TrainedModel, frames: IntArray, reader: VideoReader) -> FloatArray:
    return model.score_frames(index_packets(path), frames, reader)


def _at_chunk(model: KeyframeDetector, chunk: int, frames: Tensor) -> Tensor:
    own, model.chunk = model.chunk, chunk
    try:
        return model(frames)
    finally:
        model.chunk = own


def _one(key: str, value: float, unit: str, meaning: str) -> Measured:
    return Measured(f"infer/{key}", (value,), unit, meaning)


def _some(key: str, values: Sequence[float], unit: str, meaning: str) -> Measured:
    return Measured(f"infer/{key}", tuple(values), unit, meaning)
