"""The plain loop trains what keyframe-train does, on the pictures that it should."""

from functools import partial

import numpy as np
import pytest
import torch

from keyframe.benchmark.baselines import PlainLoop, read_plainly, seconds_of_model, seconds_of_ways
from keyframe.benchmark.footage import TrainData
from keyframe.benchmark.train import PARTS
from keyframe.config import load_training_parts
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.sampling import UniformSampling
from keyframe.types import KeyframeError, VideoError

RECIPE = ("data=labelled", "backbone.pretrained=false", "data.size=32", "sampling.frames=4", "trainer=cpu")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("footage")
    data = TrainData(folder, videos=2, seconds=40, width=96, height=64, seed=0)
    data.write(folder)
    return data.videos_of(folder)


@pytest.mark.parametrize("seek", [False, True])
def test_the_frames_are_those_that_our_readers_give(parts, seek):
    path = parts["train"][0].path
    index = index_packets(path)
    ours = PyAVReader().read(path, UniformSampling(7).indices(index), (64, 96), index).pixels
    plain = read_plainly(path, 7, (64, 96), seek)
    assert np.abs(plain.astype(int) - ours).mean() < 3  # another conversion of colours
    assert np.abs(plain[1:].astype(int) - ours[:-1]).mean() > 10
    assert np.array_equal(read_plainly(path, 7, (64, 96), seek, first=2), plain[:2])


def test_both_ways_are_tried(parts):
    assert set(seconds_of_ways(parts["train"][0].path, 7, (32, 32))) == {"sequential", "seek"}


def test_what_is_no_video_is_told(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match="does not give frame 0"):
        read_plainly(tmp_path / "text.mp4", 7, (32, 32), seek=False)


def test_stages_train_the_head_and_then_the_tail_too(parts, tmp_path):
    loop = PlainLoop(load_training_parts(RECIPE), parts, False, tmp_path / "plain.pt", workers=0)
    model = loop.model

    def changed(stage):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        epoch = loop.epoch(stage)
        assert epoch.keys() == PARTS.keys() | {"decode", "loss"} and 0 < epoch["loss"] < 2
        found = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        return {"head" if name.startswith("head.") else name.split(".")[2] for name in found}

    assert changed(1) == {"head"}
    assert [group["lr"] for group in loop.optimizer.param_groups] == [1e-4, 1e-4]
    assert changed(2) == {"head", "blocks", "conv_head"}
    assert [group["lr"] for group in loop.optimizer.param_groups] == pytest.approx([1e-5, 1e-5])
    assert -1 <= loop.measure("val") <= 1
    saved = torch.load(tmp_path / "plain.pt", weights_only=True)["model"]
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    seconds = seconds_of_model(loop, repeats=1)
    assert set(seconds) == {"prefix_forward", "tail_forward", "tail_backward", "head", "videos"}


def test_footage_that_cannot_be_is_refused(tmp_path):
    data = partial(TrainData, videos=1, width=96, height=64, seed=0)
    with pytest.raises(KeyframeError, match=r"train.seconds=50 must be a multiple of 40"):
        data(tmp_path, seconds=50).write(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(KeyframeError, match=r"footage=.* cannot be written"):
        data(tmp_path / "file", seconds=40).write(tmp_path)
