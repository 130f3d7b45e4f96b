"""How much memory scoring takes beside weights and frames, by the number of frames encoded at once."""

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from math import nan

import torch
from torch import Tensor, nn

from keyframe.benchmark.cost import MB, random_videos
from keyframe.benchmark.resident import reset_peak, resident_mb
from keyframe.benchmark.twins import random_detector


@torch.inference_mode()
def chunk_peaks(
    backbones: Mapping[str, str], chunks: Sequence[int], shape: tuple[int, int, int], device: str, threads: int
) -> Iterator[tuple[str, int, float]]:
    """Measure models with random weights; for a process of its own (see `keyframe.benchmark.child`).

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
