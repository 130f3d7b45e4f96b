"""Temporal self-attention whose heads see all of a video, or only the frames near their own."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TemporalAttention(nn.Module):
    """Multi-head self-attention over frames with a window of its own for every head.

    After Vaswani et al., Attention is all you need (2017); the windows are those of local attention in
    PGL-SUM (Apostolidis et al., 2021), as a band around each frame rather than fixed segments.

    Args:
        width: channels of a frame.
        windows: one entry a head: `None` sees every frame, `w` sees frames at most w away (0: itself alone).
        dropout: probability of dropping an attention weight in training.

    Raises:
        ValueError: if width is not a multiple of the number of heads.
    """

    def __init__(self, width: int, windows: Sequence[int | None], dropout: float = 0.1) -> None:
        super().__init__()
        if width % len(windows):
            raise ValueError(f"width {width} is not a multiple of {len(windows)} heads")
        self.windows = tuple(windows)
        self.dropout = dropout
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attend.

        Args:
            x: frames (B, T, width).
            mask: bool (B, T), True where a frame is real.

        Returns:
            (B, T, width). Padding is never attended to, and itself attends to itself alone: no row is empty.
        """
        batch, length, width = x.shape
        heads = len(self.windows)
        qkv = self.project_in(x).view(batch, length, 3, heads, width // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(
            q, k, v, attn_mask=self.visible(mask), dropout_p=self.dropout if self.training else 0.0
        )
        return self.project_out(attended.transpose(1, 2).reshape(batch, length, width))

    def visible(self, mask: Tensor) -> Tensor:
        """Which frame sees which: bool (B, heads, T, T), rows look at columns."""
        position = torch.arange(mask.shape[1], device=mask.device)
        distance = (position[:, None] - position[None, :]).abs()
        bands = torch.stack(
            [torch.ones_like(distance, dtype=torch.bool) if w is None else distance <= w for w in self.windows]
        )
        return (bands[None] & mask[:, None, None, :]) | (distance == 0)


class EncoderLayer(nn.Module):
    """Pre-norm Transformer layer: attention, then (unless `feedforward` is 0) a two-layer MLP, each added back."""

    def __init__(self, width: int, windows: Sequence[int | None], feedforward: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = TemporalAttention(width, windows, dropout)
        self.drop = nn.Dropout(dropout)
        self.mlp: nn.Module | None = None
        if feedforward:
            self.mlp = nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, feedforward),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(feedforward, width),
                nn.Dropout(dropout),
            )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, width) and bool (B, T) -> (B, T, width)."""
        x = x + self.drop(self.attention(self.norm_attention(x), mask))
        if self.mlp is not None:
            x = x + self.mlp(x)
        return x
