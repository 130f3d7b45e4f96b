"""A trained model to a file that is kept only if it says what the model says."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.onnx import ONNXProgram

from keyframe.benchmark.speed import in_turns
from keyframe.errors import KeyframeError
from keyframe.evaluation.bootstrap import Difference, paired_difference
from keyframe.evaluation.metrics import spearman
from keyframe.export.card import Card, card_path, versions, write_card
from keyframe.export.clips import Clip
from keyframe.export.formats import SUFFIXES, onnx_packages
from keyframe.export.load import Program, load_program
from keyframe.export.onnx_file import onnx_program, write_onnx
from keyframe.export.program import export_program, write_program
from keyframe.export.torchscript import write_torchscript
from keyframe.extraction.identity import file_hash
from keyframe.models.sizes import sizes
from keyframe.runs import Run
from keyframe.types import FloatArray

# How far scores in [0, 1] of a float file may be from the model's own.
PARITY = 1e-4

# Where an export goes from bytes to megabytes.
_MB = 1e6
_TORCH, _ONNX = ("torch", "timm"), ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class Exported:
    """A file that was kept.

    Attributes:
        path: the file; its card lies beside it.
        card: what is known of it.
        largest_difference: of its scores to the model's own.
        change: its Spearman less the model's own, over the held-out videos.
    """

    path: Path
    card: Card
    largest_difference: float
    change: Difference


class Exporter:
    """Writes a run's model in several formats.

    Args:
        run: the run, its model on the CPU.
        directory: where the files go.
        split: which the held-out videos are of.
        held_out: what files are checked on.
        calibration: of training videos, for int8; may be empty without it.
        opset: version of ONNX's operators.
    """

    def __init__(
        self,
        run: Run,
        directory: Path,
        split: str,
        held_out: Sequence[Clip],
        calibration: Sequence[Clip] = (),
        opset: int = 18,
    ) -> None:
        self.run, self.directory, self.opset = run, directory, opset
        self.split, self.held_out, self.calibration = split, held_out, calibration
        assert run.frame_shape is not None
        self.size = run.frame_shape[1:]
        self.eager = [self._eager(clip) for clip in held_out]

    def export(self, format: str) -> Exported:
        """Write a file and its card, once its scores are checked.

        Args:
            format: one of `SUFFIXES`.

        Raises:
            KeyframeError: the scores of a float file differ from the model's own, a package is missing, or there is
                nothing to calibrate int8 on.
        """
        path = self.directory / f"{self.run.name.replace('/', '_')}{SUFFIXES[format]}"
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=self.directory) as drafts:
            draft = Path(drafts) / path.name
            making = self._write(format, draft)
            scores = self._scores(load_program(draft, format, torch.get_num_threads()))
            largest = max(float(np.abs(a - b).max()) for a, b in zip(scores, self.eager, strict=True))
            if format != "onnx_int8" and not largest <= PARITY:
                raise KeyframeError(
                    f"{path.name} was not kept: its scores differ from the model's own by up to {largest:.1e}, more "
                    f"than {PARITY:g}; use another format."
                )
            change = self._change(scores)
            card = self._card(format, draft, largest, change, making)
            write_card(draft, card)
            # The card first: a file that is there has its card.
            card_path(draft).replace(card_path(path))
            draft.replace(path)
        return Exported(path, card, largest, change)

    def seconds(self, exported: Sequence[Exported], repeats: int) -> dict[str, list[float]]:
        """Seconds of a window, by format and `eager`, which take turns; one a round."""
        frames = self.held_out[0].frames[None]
        calls: dict[str, Any] = {"eager": partial(self._eager, self.held_out[0])}
        for one in exported:
            calls[one.card.format] = partial(load_program(one.path, one.card.format, torch.get_num_threads()), frames)
        return in_turns(calls, repeats)

    @cached_property
    def _program(self) -> ExportedProgram:
        """What all formats but TorchScript come from."""
        return export_program(self.run.detector, self.size)

    @cached_property
    def _onnx(self) -> ONNXProgram:
        """What both ONNX formats come from."""
        return onnx_program(self._program, self.opset)

    def _write(self, format: str, path: Path) -> dict[str, Any]:
        """Write an unchecked file; what its card says of how."""
        match format:
            case "torchscript":
                write_torchscript(self.run.detector, path, self.size)
                return {}
            case "torch_export":
                write_program(self._program, path)
                return {}
            case "onnx":
                write_onnx(self._onnx, path)
                return {"opset": self.opset}
            case "onnx_int8":
                return self._write_int8(path)
            case _:
                raise ValueError(f"format must be one of {', '.join(SUFFIXES)}, not {format}")

    def _write_int8(self, path: Path) -> dict[str, Any]:
        with onnx_packages():
            from keyframe.export.int8 import METHOD, OF_A_VIDEO, quantize
        if not self.calibration:
            raise KeyframeError("onnx_int8 needs training videos to calibrate on: raise calibration.videos.")
        source = path.with_name("float32.onnx")
        write_onnx(self._onnx, source)
        quantize(source, path, [clip.frames for clip in self.calibration])
        videos = [clip.video for clip in self.calibration]
        frames = sum(min(len(clip.frames), OF_A_VIDEO) for clip in self.calibration)
        return {
            "opset": self.opset,
            "int8": METHOD,
            "calibration": {"split": "train", "videos": videos, "frames": frames},
        }

    @torch.inference_mode()
    def _eager(self, clip: Clip) -> FloatArray:
        scores: FloatArray = self.run.detector(torch.from_numpy(clip.frames)[None])[0].numpy()
        return scores

    def _scores(self, program: Program) -> list[FloatArray]:
        return [program(clip.frames[None])[0] for clip in self.held_out]

    def _change(self, scores: Sequence[FloatArray]) -> Difference:
        own, theirs = (
            [spearman(one, clip.importance) for one, clip in zip(some, self.held_out, strict=True)]
            for some in (self.eager, scores)
        )
        return paired_difference(theirs, own)

    def _card(self, format: str, draft: Path, largest: float, change: Difference, making: Mapping[str, Any]) -> Card:
        run = self.run
        check = {
            "against": "the run's own model, eager, in float32",
            "split": self.split,
            "videos": [clip.video for clip in self.held_out],
            "frames": sum(len(clip.frames) for clip in self.held_out),
            "largest_difference": largest,
            "limit": None if format == "onnx_int8" else PARITY,
            "spearman_change": _or_none(change.value),
            "spearman_change_lo": _or_none(change.lo),
            "spearman_change_hi": _or_none(change.hi),
        }
        return Card(
            format=format,
            sha256=file_hash(draft),
            checkpoint_sha256=file_hash(run.checkpoint),
            backbone=run.name,
            size=self.size,
            window=run.window,
            parameters={name: float(count) for name, count in sizes(run.detector, run.has_two_stages).items()},
            file_mb=draft.stat().st_size / _MB,
            making=making,
            check=check,
            config=run.config,
            versions=versions([*_TORCH, *(_ONNX if format.startswith("onnx") else ())]),
        )


def _or_none(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if np.isnan(value) else value
