"""The plain loop trains what keyframe-train does."""

import pytest
import torch

from keyframe.benchmark.baselines import PlainLoop
from keyframe.benchmark.footage import Footage, TrainData
from keyframe.benchmark.train import EPOCH_PARTS

RECIPE = ("data=labelled", "backbone.pretrained=false", "data.size=32", "sampling.frames=4", "trainer=cpu")


def test_stages_train_the_head_and_then_the_tail_too(tmp_path):
    pytest.importorskip("cv2")
    data = TrainData(Footage(seconds=40, width=96, height=64), tmp_path, videos=2)
    loop = PlainLoop(RECIPE, data.write(tmp_path), tmp_path / "plain.pt", workers=0)
    model = loop.model

    def changed(stage):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        epoch = loop.epoch(stage)
        assert epoch.keys() == EPOCH_PARTS.keys() | {"decode", "loss"} and 0 < epoch["loss"] < 2
        found = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        return {"head" if name.startswith("head.") else name.split(".")[2] for name in found}

    assert changed(1) == {"head"}
    assert [group["lr"] for group in loop.optimizer.param_groups] == [1e-3, 1e-3]
    assert changed(2) == {"head", "blocks", "conv_head"}
    assert [group["lr"] for group in loop.optimizer.param_groups] == pytest.approx([3e-4, 3e-4])
    assert -1 <= loop.measure("val") <= 1
    saved = torch.load(tmp_path / "plain.pt", weights_only=True)["model"]
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert set(loop.time_model(repeats=1)) == {"prefix_forward", "tail_forward", "tail_backward", "head"}
    assert set(loop.reading) == {"sequential", "seek"}
