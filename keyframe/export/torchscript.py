"""A detector as TorchScript: deprecated by torch, and here for phones and C++ programs that know nothing newer."""

import warnings
from pathlib import Path

import torch

from keyframe.export.program import unchunked
from keyframe.models.detector import KeyframeDetector


def write_torchscript(detector: KeyframeDetector, path: Path, size: tuple[int, int]) -> None:
    """Trace a detector and write it, norm layers folded into convolutions; `torch.jit.load` reads it.

    Args:
        detector: in eval mode.
        path: the file.
        size: (height, width) of the frames, uint8, in pixels.

    Raises:
        ValueError: the detector is in training mode.
    """
    frames = torch.zeros(2, 3, 3, *size, dtype=torch.uint8, device=detector.pixel_mean.device)
    with torch.no_grad(), warnings.catch_warnings():
        # that torch.jit is deprecated, and that a check of shapes was followed one way
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(unchunked(detector), (frames,), check_trace=False)
        torch.jit.freeze(traced).save(path)
