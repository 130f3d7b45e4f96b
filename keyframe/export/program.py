"""A detector as a program of plain tensor operations: torch.export.

Videos N and frames T are dynamic. Height and width are those the model was trained with: scores of other sizes mean
little, and fixed ones run faster. A program takes what it is given at once, so memory grows with N x T: whoever calls
it chooses the pieces.
"""

import copy
import warnings
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from keyframe.export.formats import FRAMES
from keyframe.models.detector import KeyframeDetector


def export_program(
    detector: KeyframeDetector, size: tuple[int, int], dtype: torch.dtype = torch.uint8
) -> ExportedProgram:
    """Trace a detector into a program.

    Args:
        detector: in eval mode.
        size: (height, width) of the frames in pixels.
        dtype: of the frames: uint8, or float32 in [0, 1].

    Returns:
        The program; `torch.export.save` writes it, and `program.module()(frames)` runs it.

    Raises:
        ValueError: the detector is in training mode.
    """
    # two and three, because the exporter takes an example's 1 for a constant, and equal numbers for one
    frames = torch.zeros(2, 3, 3, *size, dtype=dtype, device=detector.pixel_mean.device)
    dynamic = {FRAMES: {0: Dim("videos", min=1), 1: Dim("time", min=1)}}
    with torch.no_grad():
        return torch.export.export(unchunked(detector), (frames,), dynamic_shapes=dynamic, strict=False)


def write_program(program: ExportedProgram, path: Path) -> None:
    """Write a program; `torch.export.load` reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about how weights that share memory are stored
        torch.export.save(program, path)


def unchunked(detector: KeyframeDetector) -> KeyframeDetector:
    """A detector of the same weights that takes all frames at once: a loop over pieces would fix their number.

    Raises:
        ValueError: the detector is in training mode.
    """
    if detector.training:
        raise ValueError("the detector is in training mode: call eval() first")
    whole = copy.copy(detector)
    whole.chunk = None
    return whole
