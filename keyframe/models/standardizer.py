"""Backbone features brought to mean 0 and deviation 1, by statistics of the training videos."""

import torch
from torch import Tensor, nn


class FeatureStandardizer(nn.Module):
    """Subtracts a mean and divides by a deviation, both buffers that travel in the checkpoint.

    A frozen backbone without ImageNet weights gives features of deviation 1e-5: a LayerNorm's eps erases them.

    Args:
        width: channels of a feature.
    """

    mean: Tensor
    std: Tensor
    fitted: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def set(self, mean: Tensor, std: Tensor) -> None:
        """Set the statistics, (width,) each; a constant channel is centred and left unscaled."""
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-12, std, torch.ones_like(std)))
        self.fitted.fill_(True)

    def forward(self, features: Tensor) -> Tensor:
        """Features (..., width) -> the same shape, float32."""
        return (features.float() - self.mean) / self.std
