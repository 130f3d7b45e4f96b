"""Sizes, seconds and memory: with weights, a clock and allocations whose figures are known."""

import getpass
import os
import platform
import signal
import sys
from functools import partial
from time import sleep

import pytest
import torch
from torch import nn

from keyframe import timing
from keyframe.timing import TimedModel, Timer, in_turns, machine, peak_memory, random_videos, speeds, weights_mb
from keyframe.types import KeyframeError

MB = 1_000_000
SHAPE = (4, 32, 32)


def test_weights_are_parameters_and_buffers_in_their_own_types():
    model = nn.Sequential(nn.Linear(1000, 500, bias=False), nn.BatchNorm1d(500))
    # 500 000 + 2 * 500 parameters, 2 * 500 running statistics of 4 bytes, and a counter of 8
    assert weights_mb(model) == (502_000 * 4 + 8) / 1e6
    # in halves; the counter stays an integer
    assert weights_mb(model.half()) == (502_000 * 2 + 8) / 1e6
    layer = nn.Linear(1000, 1000, bias=False)
    assert weights_mb(nn.Sequential(layer, layer)) == 4.0  # shared weights count once


def test_random_videos_are_frames_and_the_same_again():
    frames = random_videos(2, (5, 32, 48))
    assert (frames.shape, frames.dtype) == ((2, 5, 3, 32, 48), torch.uint8)
    assert (frames.min(), frames.max()) == (0, 255)
    assert torch.equal(frames, random_videos(2, (5, 32, 48)))


def test_the_machine_is_described_without_names():
    described = machine()
    assert set(described) == {"CPU", "cores", "threads", "GPU", "system", "python", "torch"}
    assert all(described.values())
    assert described["threads"] == str(torch.get_num_threads())
    assert int(described["cores"]) >= 1
    words = " ".join(described.values()).split()
    assert platform.node() not in words
    assert getpass.getuser() not in words


class Stopwatch:
    """A clock, and models that advance it by given seconds, call by call."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now

    def model(self, name, *seconds):
        """The last duration holds from then on."""
        left = list(seconds)

        def score(frames):
            assert torch.is_inference_mode_enabled()
            self.calls.append((name, len(frames)))
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return frames

        return TimedModel(score, lambda count: torch.zeros(count, 1))


@pytest.fixture
def clock(monkeypatch):
    clock = Stopwatch()
    monkeypatch.setattr(timing, "clock", clock)
    return clock


def test_the_warm_up_is_left_out(clock):
    found = speeds({"a": clock.model("a", 100, 5, 1, 2, 4, 3)}, videos=[1])
    assert found == {("a", 1): [5, 1, 2, 4, 3]}


def test_models_take_turns(clock):
    models = {"a": clock.model("a", 1), "b": clock.model("b", 2)}
    found = speeds(models, videos=(1, 4), repeats=2)
    assert clock.calls == [("a", 1), ("b", 1)] * 3 + [("a", 4), ("b", 4)] * 3
    assert found == {("a", 1): [1, 1], ("b", 1): [2, 2], ("a", 4): [1, 1], ("b", 4): [2, 2]}


def test_the_slowest_model_limits_the_rounds_of_all(clock):
    # three calls of 4 s fit into 13 s, a fourth does not
    models = {"fast": clock.model("fast", 1), "slow": clock.model("slow", 4)}
    found = speeds(models, videos=[1], repeats=9, budget_s=13)
    assert found == {("fast", 1): [1] * 3, ("slow", 1): [4] * 3}
    # one round always runs
    assert speeds({"slow": clock.model("slow", 50, 40)}, videos=[8], budget_s=1) == {("slow", 8): [40]}


def test_each_model_gets_its_own_input():
    seen = {}
    models = {
        name: TimedModel(
            lambda frames, name=name: seen.update({name: frames.shape}),
            lambda count, size=size: torch.zeros(count, 60, 3, size, size),
        )
        for name, size in (("small", 4), ("large", 6))
    }
    speeds(models, videos=[2], repeats=1)
    assert seen == {"small": (2, 60, 3, 4, 4), "large": (2, 60, 3, 6, 6)}


def test_real_seconds():
    found = in_turns({"slow": lambda: sleep(0.05), "fast": lambda: None}, repeats=1, warm_up=False)
    assert found["slow"][0] >= 0.05
    assert 0 <= found["fast"][0] < found["slow"][0]


def test_parts_add_up(clock):
    timer = Timer()
    for part, seconds in (("read", 2), ("score", 1), ("read", 3)):
        clock.now += seconds
        timer.lap(part)
    assert timer.collect() == {"read": 5, "score": 1}
    assert timer.seconds == {}


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
            torch.ones(self.megabytes * MB * len(frames), dtype=torch.uint8, device=frames.device)
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


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not report the peak exactly")
def test_memory_is_weights_and_what_a_call_allocates(other_threads):
    ballast = filled(400)  # a child's getrusage would start from this
    found = peak_memory(partial(load_wastefully, 100, other_threads), SHAPE, videos=[2])
    assert len(ballast) == 400 * MB
    # the kernel counts pages in batches
    assert 10 + 197 <= found[2] < 10 + 230


@pytest.mark.full
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_killed_process_is_reported():
    with pytest.raises(KeyframeError, match="the memory for 2 videos was killed"):
        peak_memory(Killed, SHAPE, videos=[2])


@pytest.mark.gpu
def test_cuda_counts_what_torch_allocates():
    found = peak_memory(partial(Greedy, 100), SHAPE, videos=(2, 1), device="cuda")
    assert 210 <= found[2] < 213
    assert 110 <= found[1] < 113
