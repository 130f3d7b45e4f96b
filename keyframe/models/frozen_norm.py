"""BatchNorm that is frozen, as what it is: a scale and a shift of each channel.

PyTorch's backward of a BatchNorm in eval mode takes a quarter of the time of EfficientNet-B0's tail in training; that
of a product is one product. Outputs agree to the last bit or two, gradients to rounding.
"""

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose statistics and affine do not train."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        return scale_and_shift(self, x) if _trains_through(self) else super().forward(x)


class FrozenBatchNormAct2d(BatchNormAct2d):
    """timm's BatchNorm with an activation, whose statistics and affine do not train."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        return self.act(self.drop(scale_and_shift(self, x))) if _trains_through(self) else super().forward(x)


_FROZEN = {nn.BatchNorm2d: FrozenBatchNorm2d, BatchNormAct2d: FrozenBatchNormAct2d}


def freeze_norms(module: nn.Module) -> None:
    """Let the BatchNorms of a module be frozen ones; parameters, buffers, their names and modes stay as they are."""
    for norm in module.modules():
        frozen = _FROZEN.get(type(norm))
        if frozen is not None and norm.weight is not None and norm.running_mean is not None:
            norm.__class__ = frozen


def scale_and_shift(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """What the norm gives in eval mode."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    # under autocast x has 16 bits, and what follows is to have them too
    return torch.addcmul(shift.view(1, -1, 1, 1), x, scale.view(1, -1, 1, 1)).to(x.dtype)


def _trains_through(norm: nn.BatchNorm2d) -> bool:
    """Whether gradients pass; where none do, PyTorch's own forward is the faster."""
    return torch.is_grad_enabled() and not norm.training
