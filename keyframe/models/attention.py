"""Temporal self-attention whose heads see all of a video, or only the frames near their own."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TemporalAttention(nn.Module):
    """Multi-head self-attention over frames; what each head sees is given (see `visible_frames`).

    After Vaswani et al., Attention is all you need (2017).

    Args:
        width: channels of a frame.
        heads: how many.
        dropout: probability of dropping an attention weight in training.

    Raises:
        ValueError: if width is not a multiple of the number of heads.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.heads = heads
        self.dropout = dropout
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """Attend.

        Args:
            x: frames (B, T, width).
            visible: what `visible_frames` gives; layers of the same windows share it.

        Returns:
            (B, T, width).
        """
        batch, length, width = x.shape
        qkv = self.project_in(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(
            q, k, v, attn_mask=visible, dropout_p=self.dropout if self.training else 0.0
        )
        return self.project_out(attended.transpose(1, 2).reshape(batch, length, width))


def visible_frames(windows: Sequence[int | None], mask: Tensor) -> Tensor:
    """Which frame sees which: rows look at columns.

    The windows are those of local attention in PGL-SUM (Apostolidis et al., 2021), as a band around each frame rather
    than fixed segments.

    Args:
        windows: one entry a head: `None` sees every frame, `w` sees frames at most w away (0: itself alone).
        mask: bool (B, T), True where a frame is real.

    Returns:
        bool (B, heads, T, T), or (B, 1, T, T) where all heads have one window. Padding is never attended to, and
        itself attends to itself: no row is empty.
    """
    position = torch.arange(mask.shape[1], device=mask.device)
    distance = (position[:, None] - position[None, :]).abs()
    if len(set(windows)) == 1:
        windows = windows[:1]
    bands = torch.stack([torch.ones_like(distance, dtype=torch.bool) if w is None else distance <= w for w in windows])
    return (bands[None] & mask[:, None, None, :]) | (distance == 0)


class EncoderLayer(nn.Module):
    """Pre-norm Transformer layer: attention, then (unless `feedforward` is 0) a two-layer MLP, each added back."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = TemporalAttention(width, heads, dropout)
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

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """Frames (B, T, width) and what each sees (see `TemporalAttention`) -> (B, T, width)."""
        x = x + self.drop(self.attention(self.norm_attention(x), visible))
        if self.mlp is not None:
            x = x + self.mlp(x)
        return x
