"""The suite `infer`: Model 1 and Model 2 from frames, and from a file, to scores; and ways to run one of them."""

import copy
import ctypes
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import nan
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from keyframe.benchmark import Bar, Measured, SuiteResult, check_whole_numbers
from keyframe.benchmark.footage import Footage
from keyframe.data.packets import index_packets
from keyframe.data.reader import VideoReader
from keyframe.data.sampling import UniformSampling
from keyframe.export.model import load_program, require_packages
from keyframe.export.write import export_program, onnx_program
from keyframe.models.backbone import Backbone
from keyframe.models.detector import (
    KeyframeDetector,
    choose_chunk,
    compile_detector,
    find_device,
    untrained_detector,
)
from keyframe.models.head import TemporalHead
from keyframe.pipeline import TrainedModel, score_frames
from keyframe.system import in_child
from keyframe.timing import added_peak_mb, in_turns, random_videos, weights_mb
from keyframe.types import FloatArray

ScoreFrames = Callable[[Tensor], Tensor]

# By name in a figure's key.
WAYS = {
    "bf16": "matrix products and convolutions in bfloat16 (torch.autocast)",
    "compiled": "torch.compile",
    "onnx": "ONNX Runtime on the CPU, all frames at once",
}
_TITLES = {"model1": "Model 1", "model2": "Model 2"}


def run_otherwise(way: str, detector: KeyframeDetector, frames: Tensor) -> ScoreFrames:
    """A detector, which is not changed, run in one of `WAYS` on frames such as these, (N, T, 3, H, W)."""
    match way:
        case "bf16":
            return torch.autocast(frames.device.type, torch.bfloat16)(detector.__call__)
        case "compiled":
            compiled = copy.deepcopy(detector)
            compile_detector(compiled)
            return compiled
        case _:
            require_packages()
            with tempfile.TemporaryDirectory() as directory:
                path = Path(directory) / "model.onnx"
                exported = export_program(detector, (frames.shape[-2], frames.shape[-1]))
                onnx_program(exported).save(path, external_data=False)
                program = load_program(path, "onnx", torch.get_num_threads())
                return lambda frames: torch.from_numpy(program(frames.numpy()))


class EarlierHead(nn.Module):
    """The head of the project's first version in PyTorch's own layers, which drop attention weights out.

    Three encoder layers, then one in which half of the heads see five frames to each side. Measured beside that
    version itself a step takes as long, to a tenth or two.
    """

    def __init__(self, features: int, frames: int, width: int = 256, heads: int = 8) -> None:
        super().__init__()
        layer = partial(nn.TransformerEncoderLayer, width, heads, 384, 0.1, "gelu", batch_first=True, norm_first=True)
        self.projection = nn.Sequential(
            *(nn.Linear(features, 512), nn.LayerNorm(512), nn.GELU(), nn.Dropout(0.1)),
            *(nn.Linear(512, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(0.1)),
        )
        self.encoder = nn.Sequential(layer(), layer(), layer())
        self.dual = layer()
        self.scorer = nn.Sequential(nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, 1), nn.Sigmoid())
        at = torch.arange(frames)
        far = (at[:, None] - at).abs() > 5
        self.hidden = torch.stack([far] * (heads // 2) + [torch.zeros_like(far)] * (heads // 2))

    def forward(self, features: Tensor) -> Tensor:
        """Features (1, T, `features`) -> scores (1, T)."""
        return self.scorer(self.dual(self.encoder(self.projection(features)), src_mask=self.hidden)).squeeze(-1)


def train_step(head: nn.Module, features: Tensor, targets: Tensor) -> None:
    """Forward, loss and backward of a head on a video's features (1, T, `features`) and targets (1, T)."""
    head.zero_grad()
    (head(features) - targets).square().mean().backward()


def _with_chunk(model: KeyframeDetector, chunk: int, frames: Tensor) -> Tensor:
    own, model.chunk = model.chunk, chunk
    try:
        return model(frames)
    finally:
        model.chunk = own


@torch.inference_mode()
def chunk_peaks(
    backbones: Mapping[str, str], chunks: Sequence[int], shape: tuple[int, int, int], device: str, threads: int
) -> Iterator[tuple[str, int, float]]:
    """Yield key, chunk and `added_peak_mb` of random models for a video of `shape` (T, H, W), in a fresh process."""
    torch.set_num_threads(threads)
    frames = random_videos(1, shape, device)
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    for key, name in backbones.items():
        model = untrained_detector(name).to(device)
        model(frames[:, :1])  # what is set up at the first call is no working memory
        for chunk in chunks:
            if give_back is not None:
                give_back(0)  # the process would reuse freed memory, and seem to need less
            measured = give_back is not None or frames.is_cuda
            call = partial(_with_chunk, model, chunk, frames)
            yield key, chunk, added_peak_mb(call, frames.device) if measured else nan


@dataclass(frozen=True)
class InferSuite:
    """Times Model 2 against Model 1, and ways to run each; the arguments are a node of conf/benchmark.yaml."""

    reader: VideoReader
    footage: Footage
    directory: str
    model1: str = "resnet50"
    model2: str = "efficientnet_b0"
    frames: int = 60
    size: int = 224
    ways: Sequence[str] = tuple(WAYS)
    chunks: Sequence[int] = (1, 4, 16)
    attention_frames: int = 470
    repeats: int = 5
    device: str = "auto"

    def __post_init__(self) -> None:
        check_whole_numbers("infer", self, frames=1, size=32, chunks=1, attention_frames=1, repeats=1)
        unknown = [way for way in self.ways if way not in WAYS]
        if unknown:
            raise ValueError(f"ways must be of {', '.join(WAYS)}, not {unknown[0]}")

    def __call__(self, bar: Bar) -> SuiteResult:
        result = SuiteResult("infer")
        parts = [self._weights, self._time, self._bare]
        parts += [partial(self._way, key, way) for way in self._possible_ways for key in self._models]
        parts += [self._chunk_memory, self._end_to_end, self._attention]
        for part in bar(parts, "Scoring", len(parts)):
            with torch.inference_mode():
                part(result)
        result.summary = (
            f"Model 2 takes {result['model2_over_model1_time']:.2f} of Model 1's time from frames to scores, "
            f"{result['model2_over_model1_end_to_end']:.2f} from a {self.footage.height}p file to scores, and "
            f"{result['model2_over_model1_weights']:.2f} of its weights."
        )
        result.notes = self._notes(result)
        return result

    @cached_property
    def _models(self) -> dict[str, KeyframeDetector]:
        return {key: untrained_detector(name).to(self._device) for key, name in self._backbones.items()}

    @property
    def _backbones(self) -> dict[str, str]:
        return {"model1": self.model1, "model2": self.model2}

    @cached_property
    def _device(self) -> torch.device:
        return find_device(self.device)

    @property
    def _chunk(self) -> int:
        return choose_chunk(self.size, self.size, self._device)

    @property
    def _possible_ways(self) -> list[str]:
        return [way for way in self.ways if not (way == "onnx" and self._device.type == "cuda")]

    def _input(self) -> Tensor:
        return random_videos(1, (self.frames, self.size, self.size), self._device)

    def _fewer(self) -> Tensor:
        """Frames enough for a ratio of one model to itself: twice as many as are encoded at once."""
        return self._input()[:, : 2 * self._chunk]

    def _weights(self, result: SuiteResult) -> None:
        for key, name in self._backbones.items():
            result.add(f"{key}_weights", weights_mb(self._models[key]), "MB", f"weights of {_TITLES[key]} ({name})")
        over = result["model2_weights"] / result["model1_weights"]
        result.add("model2_over_model1_weights", over, "", "bytes of weights, Model 2 over Model 1")

    def _time(self, result: SuiteResult) -> None:
        frames = self._input()
        seconds = in_turns({key: partial(model, frames) for key, model in self._models.items()}, self.repeats)
        for key, taken in seconds.items():
            each = [1e3 * second / self.frames for second in taken]
            result.add(f"{key}_ms_frame", each, "ms", f"{_TITLES[key]} ({self._backbones[key]}), per frame")
            result.bars[f"{_TITLES[key]}, eager"] = median(taken)
        meaning = "frames to scores, Model 2 over Model 1"
        result.add_ratio("model2_over_model1_time", seconds["model2"], seconds["model1"], meaning)

    def _bare(self, result: SuiteResult) -> None:
        model, frames = self._models["model2"], self._input()
        assert isinstance(model.backbone, Backbone)
        bare: nn.Module = model.backbone.model
        pieces = map(model.normalize, frames.flatten(0, 1).split(self._chunk))
        ready = [piece.contiguous(memory_format=torch.channels_last) for piece in pieces]
        calls = {"ours": lambda: model(frames), "bare": lambda: [bare(piece) for piece in ready]}
        seconds = in_turns(calls, self.repeats)
        meaning = f"Model 2 from frames to scores over timm's {self.model2} alone, on frames normalised before"
        result.add_ratio("model2_over_bare_backbone", seconds["ours"], seconds["bare"], meaning)

    def _way(self, key: str, way: str, result: SuiteResult) -> None:
        model, frames = self._models[key], self._fewer()
        with torch.inference_mode(False):  # exporters refuse tensors that were made in it
            other = run_otherwise(way, model, frames)
        (first,) = in_turns({way: partial(other, frames)}, 1, warm_up=False)[way]
        seconds = in_turns({way: partial(other, frames), "eager": partial(model, frames)}, self.repeats, warm_up=False)
        result.bars[f"{_TITLES[key]}, {way}"] = median(seconds[way]) * self.frames / frames.shape[1]
        meaning = f"{_TITLES[key]}, {WAYS[way]}, over eager"
        result.add_ratio(f"{key}_{way}_over_eager", seconds[way], seconds["eager"], meaning)
        if way == "compiled":
            what = f"first call of {_TITLES[key]}, compiling included (less where torch's cache knows it)"
            result.add(f"{key}_compile", first, "s", what)

    def _chunk_memory(self, result: SuiteResult) -> None:
        chunks = sorted({*self.chunks, self._chunk})
        shape = (chunks[-1], self.size, self.size)
        task = partial(chunk_peaks, self._backbones, chunks, shape, str(self._device), torch.get_num_threads())
        peaks = {(key, chunk): peak for key, chunk, peak in in_child(task, "the memory of both models")}
        for chunk in chunks:
            default = ", the default" if chunk == self._chunk else ""
            what = f"peak beside weights and frames, {chunk} of {chunks[-1]} frames encoded at once{default}"
            for key, title in _TITLES.items():
                result.add(f"{key}_peak_chunk{chunk}", peaks[key, chunk], "MB", f"{title}, {what}")
            over = peaks["model2", chunk] / peaks["model1", chunk]
            result.add(f"model2_over_model1_peak_chunk{chunk}", over, "", f"{what}, Model 2 over Model 1")

    def _end_to_end(self, result: SuiteResult) -> None:
        footage = self.footage
        path = footage.write(Path(self.directory))
        sampling = UniformSampling(self.frames)

        def score(model: TrainedModel) -> FloatArray:
            index = index_packets(path)
            return score_frames(model, index, sampling.indices(index), self.reader)

        sides = {key: TrainedModel(model, (self.size, self.size), self.frames) for key, model in self._models.items()}
        seconds = in_turns({key: partial(score, model) for key, model in sides.items()}, self.repeats)
        what = f"a file of {footage.seconds} s, {footage.width}x{footage.height}, to scores of {self.frames} frames"
        for key, taken in seconds.items():
            result.add(f"{key}_end_to_end", taken, "s", f"{_TITLES[key]}, {what}")
            result.bars[f"{_TITLES[key]}, from the file"] = median(taken)
        meaning = f"{what}, Model 2 over Model 1"
        result.add_ratio("model2_over_model1_end_to_end", seconds["model2"], seconds["model1"], meaning)

    @torch.inference_mode(False)
    def _attention(self, result: SuiteResult) -> None:
        width = 1280  # of EfficientNet-B0
        features, targets = torch.randn(1, self.attention_frames, width), torch.rand(1, self.attention_frames)
        heads = {"now": TemporalHead(width), "before": EarlierHead(width, self.attention_frames)}
        calls = {key: partial(train_step, head.train(), features, targets) for key, head in heads.items()}
        with torch.enable_grad():
            seconds = in_turns(calls, self.repeats)
        ratios = [now / before for now, before in zip(seconds["now"], seconds["before"], strict=True)]
        meaning = f"a training step of the head on {self.attention_frames} frames, over the first version's, on the CPU"
        result.figures[f"attention/step_ratio_{self.attention_frames}"] = Measured(tuple(ratios), "", meaning)

    def _notes(self, result: SuiteResult) -> list[str]:
        totals = [result[f"{key}_weights"] + result[f"{key}_peak_chunk{self._chunk}"] for key in self._models]
        notes = [
            f"Model 1 is {self.model1}, Model 2 {self.model2}, with random weights, on {self.size}x{self.size} "
            f"pixels of noise; other ways to run a model on {self._fewer().shape[1]} frames. "
            "Ratios are times unless they say otherwise, of calls that take turns: below 1 is less than the baseline.",
            f"By default {self._chunk} frames are encoded at once here.",
            f"Weights and peak together by default: {totals[0]:.0f} MB and {totals[1]:.0f} MB, Model 2 over Model 1 "
            f"{totals[1] / totals[0]:.2f} (the reference design claims .63 for one video); without weights "
            f"{result[f'model2_over_model1_peak_chunk{self._chunk}']:.2f}.",
        ]
        if "onnx" in self.ways and "onnx" not in self._possible_ways:
            notes.append("ONNX Runtime is measured on a CPU only (device=cpu).")
        return notes
