"""A head and a loss."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from keyframe.training.losses import VideoLoss


class LSTMHead(nn.Module):
    """A bidirectional LSTM over time, as of vsLSTM (Zhang et al., 2016)."""

    def __init__(self, features: int, width: int = 64) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, width, batch_first=True, bidirectional=True)
        self.scorer = nn.Linear(2 * width, 1)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, T, W), bool mask (B, T) or None -> scores in [0, 1], (B, T), 0 where the mask is False."""
        if mask is None:
            mask = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        # packed, because going backwards it would see the padding first
        lengths = mask.sum(1).cpu()
        packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
        states = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=features.shape[1])[0]
        return torch.sigmoid(self.scorer(states).squeeze(-1).float()).masked_fill(~mask, 0.0)


class HuberLoss(VideoLoss):
    """Huber's loss, mean over real frames, then over videos."""

    def __init__(self, delta: float = 0.2) -> None:
        super().__init__()
        self.delta = delta

    def per_video(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """Scores and targets (B, T), bool mask (B, T) -> (B,)."""
        loss = F.huber_loss(scores, targets, reduction="none", delta=self.delta)
        return (loss * mask).sum(-1) / mask.sum(-1)
