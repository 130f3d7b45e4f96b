import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from keyframe.models.backbone import FrozenBatchNorm2d, FrozenBatchNormAct2d, freeze_norms


def norm(kind):
    torch.manual_seed(0)
    made = kind(5).eval().requires_grad_(False)
    made.weight.uniform_(-1, 1), made.bias.normal_()
    made.running_mean.normal_(), made.running_var.uniform_(0.1, 3)
    return made


@pytest.mark.parametrize(
    ("kind", "frozen_kind"), [(nn.BatchNorm2d, FrozenBatchNorm2d), (BatchNormAct2d, FrozenBatchNormAct2d)]
)
def test_it_gives_what_pytorchs_own_gives(kind, frozen_kind):
    own = norm(kind)
    frozen = copy.deepcopy(own)
    freeze_norms(frozen)
    assert type(frozen) is frozen_kind
    assert frozen.state_dict().keys() == own.state_dict().keys()
    x = torch.randn(3, 5, 4, 6).contiguous(memory_format=torch.channels_last)
    weights = torch.randn(x.shape)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    outputs = [module(values) for module, values in zip((own, frozen), inputs, strict=True)]
    for output in outputs:
        (output * weights).sum().backward()
    assert torch.allclose(*outputs, rtol=1e-6, atol=1e-6)
    assert torch.allclose(inputs[0].grad, inputs[1].grad, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(frozen(x), own(x))


def test_others_are_left_alone():
    others = nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3, track_running_stats=False))
    freeze_norms(others)
    assert [type(module) for module in others] == [nn.BatchNorm2d, nn.BatchNorm2d]
