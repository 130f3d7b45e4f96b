"""Model 1 and Model 2 with random weights, and the ways to run one of them."""

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Literal

import torch
from torch import Tensor, nn

from keyframe.export.formats import require_packages
from keyframe.export.load import load_onnx
from keyframe.export.onnx_file import onnx_program, write_onnx
from keyframe.export.program import export_program
from keyframe.models.backbone import Backbone
from keyframe.models.chunks import choose_chunk
from keyframe.models.compiled import compile_detector
from keyframe.models.detector import KeyframeDetector
from keyframe.models.head import TemporalHead

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
