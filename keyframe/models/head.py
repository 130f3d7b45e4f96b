"""From features of frames to an importance score a frame, by looking along time."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from keyframe.models.attention import EncoderLayer, visible_frames


class TemporalHead(nn.Module):
    """Projection, Transformer encoder, one dual attention block, and a two-layer scorer.

    Args:
        features: channels of a backbone feature.
        projection: widths of the projection's layers; the last one is the width of the Transformer.
        layers: encoder layers before the dual block.
        heads: attention heads of every layer.
        local_heads: heads of the dual block that see only `window` frames to each side; the rest see all.
        window: reach of a local head in frames.
        encoder_window: reach of the encoder layers' heads; `None` sees all.
        feedforward: hidden width of the encoder layers' MLP.
        positions: add sinusoidal positions (Vaswani et al., 2017).
        dropout: probability, everywhere in the head.
    """

    def __init__(
        self,
        features: int,
        projection: Sequence[int] = (512, 256),
        layers: int = 3,
        heads: int = 8,
        local_heads: int = 4,
        window: int = 5,
        encoder_window: int | None = None,
        feedforward: int = 384,
        positions: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if not 0 <= local_heads <= heads:
            raise ValueError(f"local_heads {local_heads} is not between 0 and {heads} heads")
        widths = [features, *projection]
        steps: list[nn.Module] = []
        for width_in, width_out in itertools.pairwise(widths):
            steps += [nn.Linear(width_in, width_out), nn.LayerNorm(width_out), nn.GELU(), nn.Dropout(dropout)]
        self.projection = nn.Sequential(*steps)
        width = widths[-1]
        self.positions = positions
        self.encoder_windows = [encoder_window] * heads
        self.dual_windows = [window] * local_heads + [None] * (heads - local_heads)
        self.encoder = nn.ModuleList(EncoderLayer(width, heads, feedforward, dropout) for _ in range(layers))
        self.dual = EncoderLayer(width, heads, feedforward=0, dropout=dropout)
        self.norm = nn.LayerNorm(width)
        self.scorer = nn.Sequential(
            nn.Linear(width, width // 2), nn.GELU(), nn.Dropout(dropout), nn.Linear(width // 2, 1)
        )

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Score frames.

        Args:
            features: (B, T, `features`), any T.
            mask: bool (B, T), True where a frame is real; None means all are.

        Returns:
            Scores in [0, 1], (B, T); 0 where the mask is False.
        """
        if mask is None:
            mask = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        x = self.projection(features)
        if self.positions:
            x = x + sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype)
        visible = visible_frames(self.encoder_windows, mask)
        for layer in self.encoder:
            x = layer(x, visible)
        x = self.norm(self.dual(x, visible_frames(self.dual_windows, mask)))
        scores = torch.sigmoid(self.scorer(x).squeeze(-1).float())
        return scores.masked_fill(~mask, 0.0)


def sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """Sinusoidal positions (length, width), float32; Vaswani et al. (2017), section 3.5."""
    position = torch.arange(length, device=device, dtype=torch.float32)[:, None]
    step = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    angle = position * torch.exp(-math.log(10000.0) * step / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]
