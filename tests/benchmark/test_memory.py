"""Memory against modules that allocate a known amount, each measured in a process of its own."""

import os
import signal
import sys
from functools import partial

import pytest
import torch
from torch import nn

from keyframe.timing import Memory, peak_memory
from keyframe.types import KeyframeError

SHAPE = (4, 32, 32)
MB = 1_000_000

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell the peak exactly")


def filled(megabytes):
    return torch.ones(megabytes * MB, dtype=torch.uint8)


class Greedy(nn.Module):
    """Takes so many MB while it scores, for each video; one frame, the warm-up, takes nothing."""

    def __init__(self, megabytes):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(10 * MB // 4))
        self.megabytes = megabytes

    def forward(self, frames):
        if frames.shape[1] > 1:
            filled(self.megabytes * len(frames))
        return torch.zeros(frames.shape[:2])


def load_wastefully(megabytes, threads):
    """As a checkpoint is loaded: what is read is dropped again."""
    assert torch.get_num_threads() == threads
    filled(500)
    return Greedy(megabytes)


class Killed(nn.Module):
    def forward(self, frames):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def other_threads():
    """Another number of threads than the environment would give a child."""
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    yield before + 1
    torch.set_num_threads(before)


@linux
def test_what_a_call_allocates(other_threads):
    ballast = filled(400)  # a child's getrusage would start from this
    found = peak_memory(partial(load_wastefully, 100, other_threads), SHAPE, videos=(2, 1))
    assert len(ballast) == 400 * MB
    assert found.weights_mb == 10
    # the kernel counts pages in batches
    assert 197 <= found.working_mb[2] < 230
    assert 97 <= found.working_mb[1] < 130
    assert found.peak_mb(2) == 10 + found.working_mb[2]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_killed_process_is_told():
    with pytest.raises(KeyframeError, match="2 videos was killed"):
        peak_memory(Killed, SHAPE, videos=[2])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_counts_what_torch_allocates():
    class OnCuda(Greedy):
        def forward(self, frames):
            if frames.shape[1] > 1:
                torch.ones(self.megabytes * MB * len(frames), dtype=torch.uint8, device=frames.device)
            return frames

    found = peak_memory(partial(OnCuda, 100), SHAPE, videos=(2, 1), device="cuda")
    assert found.weights_mb == 10
    assert 200 <= found.working_mb[2] < 203
    assert 100 <= found.working_mb[1] < 103


def test_the_peak_holds_the_weights():
    assert Memory(26.0, {1: 670.0}).peak_mb(1) == 696.0
