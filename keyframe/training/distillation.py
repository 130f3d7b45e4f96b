"""What a student learns from a teacher, beside the labels."""

import torch
from torch import Tensor, nn


class Distillation(nn.Module):
    """The labels' loss blended with losses against what a teacher says of the same frames.

    (1 - weight) * labels + weight * loss(scores, teacher's scores) + hint_weight * relations(embeddings, teacher's).

    Args:
        weight: the teacher's share, from 0 (labels alone) to 1 (teacher alone).
        loss: called with the student's scores, the teacher's and a mask, each (B, T); any loss of `losses`.
        hint_weight: of `RelationLoss` on the frames' embeddings, which is added; 0 switches it off.

    Raises:
        ValueError: a weight outside its range.
    """

    def __init__(self, weight: float, loss: nn.Module, hint_weight: float = 0.0) -> None:
        super().__init__()
        if not 0 <= weight <= 1:
            raise ValueError(f"weight must lie in [0, 1], not {weight}")
        if not hint_weight >= 0:
            raise ValueError(f"hint_weight must be at least 0, not {hint_weight}")
        self.weight = weight
        self.loss = loss
        self.hint_weight = hint_weight
        self.relations = RelationLoss()

    @property
    def hints(self) -> bool:
        """Whether the student's embeddings are needed."""
        return self.hint_weight > 0

    def forward(
        self, labels: Tensor, scores: Tensor, embeddings: Tensor | None, lesson: Tensor, mask: Tensor
    ) -> Tensor:
        """Blend.

        Args:
            labels: the loss against the labels, a scalar.
            scores: the student's, (B, T).
            embeddings: the student's, (B, T, W); needed where `hints`.
            lesson: the teacher's scores and embeddings, (B, T, 1 + V) as in `Batch`; the widths may differ.
            mask: bool (B, T), True where a frame is real and visible.
        """
        loss = (1 - self.weight) * labels + self.weight * self.loss(scores, lesson[..., 0], mask)
        if self.hints:
            assert embeddings is not None
            loss = loss + self.hint_weight * self.relations(embeddings, lesson[..., 1:], mask)
        return loss


class RelationLoss(nn.Module):
    """Relational knowledge distillation by distances (Park et al., 2019, equations 5 to 7).

    The distances between the frames of a video, in units of their mean, are to be the teacher's: Huber loss of each,
    mean over pairs of frames, then over videos. A video of equal embeddings has distances of 0.
    """

    def forward(self, embeddings: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """Embeddings (B, T, W), targets (B, T, V), bool mask (B, T) -> scalar, float32 at least."""
        with torch.autocast(embeddings.device.type, enabled=False):
            count = mask.sum(-1)
            pairs = mask[:, :, None] & mask[:, None, :]
            number = (count * (count - 1)).clamp(min=1)  # a frame makes no pair with itself
            ours, theirs = (_distances(values, pairs, number) for values in (embeddings, targets))
            cost = nn.functional.huber_loss(ours, theirs, reduction="none")
            return ((cost * pairs).sum((1, 2)) / number).mean()


def _distances(values: Tensor, pairs: Tensor, number: Tensor) -> Tensor:
    """(B, T, W) -> Euclidean distances (B, T, T) over the mean of those that count, 0 for the others."""
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    distances = torch.cdist(values, values) * pairs
    mean = distances.sum((1, 2)) / number
    return distances / mean.clamp(min=1e-8)[:, None, None]
