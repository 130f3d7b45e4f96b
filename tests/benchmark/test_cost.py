"""What a cost is measured on."""

import getpass
import platform

import torch
from torch import nn

from keyframe.timing import machine, random_videos, weights_mb


def test_weights_are_parameters_and_buffers_in_their_own_types():
    model = nn.Sequential(nn.Linear(1000, 500, bias=False), nn.BatchNorm1d(500))
    # 500 000 + 2 * 500 parameters, 2 * 500 running statistics of 4 bytes, and a counter of 8
    assert weights_mb(model) == (502_000 * 4 + 8) / 1e6
    # in halves; the counter stays an integer
    assert weights_mb(model.half()) == (502_000 * 2 + 8) / 1e6


def test_shared_weights_count_once():
    layer = nn.Linear(1000, 1000, bias=False)
    assert weights_mb(nn.Sequential(layer, layer)) == 4.0


def test_random_videos_are_frames_and_the_same_again():
    frames = random_videos(2, (5, 32, 48))
    assert frames.shape == (2, 5, 3, 32, 48)
    assert frames.dtype == torch.uint8
    assert frames.min() == 0
    assert frames.max() == 255
    assert torch.equal(frames, random_videos(2, (5, 32, 48)))


def test_the_machine_is_described_without_names():
    described = machine()
    assert set(described) == {"CPU", "cores", "threads", "GPU", "system", "python", "torch"}
    assert all(described.values())
    assert described["threads"] == str(torch.get_num_threads())
    assert int(described["cores"]) >= 1
    told = " ".join(described.values()).split()
    assert platform.node() not in told
    assert getpass.getuser() not in told
