"""Losses between predicted and labelled importance, all differentiable, all blind to padding.

Every loss is called with scores (B, T) in [0, 1], targets (B, T), and a bool mask (B, T) that is True where a frame
is real, and returns a scalar, float32 at least: the mean over videos. Constant scores or targets give a finite loss.

What a student learns from a teacher, beside the labels.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

# Ranks that deviate less than this from their mean are taken for constant: it is rounding, not an order.
_LEAST_DEVIATION = 1e-3


class _TemperedLoss(nn.Module):
    """A loss on soft comparisons of scores.

    Raises:
        ValueError: the temperature, in units of score, is not above 0.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, not {temperature}")
        self.temperature = temperature


class SpearmanLoss(_TemperedLoss):
    """One minus Spearman's rank correlation, with soft ranks in place of the scores' ranks.

    The rank of a frame is the number of frames below it; with the step replaced by a sigmoid it has a gradient
    (Qin, Liu, Li: A general approximation framework for direct optimization of information retrieval measures,
    2010, applied to ranks). Targets are data and get their true ranks, ties averaged as in scipy. The loss lies in
    [0, 2]; a video whose targets are all equal gives exactly 1 and no gradient.

    Args:
        temperature: width of the sigmoid in units of score; smaller is closer to true ranks, with a rougher gradient.
    """

    def __init__(self, temperature: float = 0.05) -> None:
        super().__init__(temperature)

    def forward(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """Scores and targets (B, T), bool mask (B, T) -> scalar."""
        with torch.autocast(scores.device.type, enabled=False):
            scores, targets = _precise(scores), _precise(targets)
            pairs = mask[:, :, None] & mask[:, None, :]
            soft = (torch.sigmoid(_differences(scores) / self.temperature) * pairs).sum(-1)
            true = ((_differences(targets).sign() + 1) / 2 * pairs).sum(-1)
            return (1 - _correlation(soft, true, mask)).mean()


class PairwiseLoss(_TemperedLoss):
    """Logistic ranking loss over all pairs of frames of a video whose targets differ (RankNet, Burges et al., 2005).

    Pairs weigh as much as their targets differ. A video without such a pair gives 0.

    Args:
        temperature: the difference of scores, in units of score, that counts as a clear order.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__(temperature)

    def forward(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """Scores and targets (B, T), bool mask (B, T) -> scalar."""
        with torch.autocast(scores.device.type, enabled=False):
            scores, targets = _precise(scores), _precise(targets)
            pairs = mask[:, :, None] & mask[:, None, :]
            weight = _differences(targets).clamp(min=0) * pairs
            cost = nn.functional.softplus(-_differences(scores) / self.temperature)
            total = weight.sum((1, 2))
            return ((weight * cost).sum((1, 2)) / total.clamp(min=1e-8)).mean()


class PairwiseKLLoss(_TemperedLoss):
    """Divergence of the order of each pair of frames, as the scores have it, from the targets'.

    How surely frame i is above frame j is sigmoid((x_i - x_j) / temperature), as in RankNet; the loss is the mean over
    pairs of the Kullback-Leibler divergence of the scores' probability from the targets'. So unlike in
    `PairwiseLoss` targets teach how far apart two frames are as well, as soft targets do (Hinton, Vinyals, Dean:
    Distilling the knowledge in a neural network, 2015). It is 0 where all differences agree, and for a single frame.

    Args:
        temperature: the difference, in units of score, that counts as a clear order.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__(temperature)

    def forward(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """Scores and targets (B, T), bool mask (B, T) -> scalar."""
        with torch.autocast(scores.device.type, enabled=False):
            ours, theirs = (_differences(_precise(values)) / self.temperature for values in (scores, targets))
            # the two terms of a pair's divergence are those of its two orders
            terms = theirs.sigmoid() * (nn.functional.logsigmoid(theirs) - nn.functional.logsigmoid(ours))
            count = mask.sum(-1)
            pairs = mask[:, :, None] & mask[:, None, :]
            return ((terms * pairs).sum((1, 2)) / (count * (count - 1) / 2).clamp(min=1)).mean()


class MSELoss(nn.Module):
    """Mean squared error over real frames, then over videos."""

    def forward(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """Scores and targets (B, T), bool mask (B, T) -> scalar."""
        with torch.autocast(scores.device.type, enabled=False):
            squared = (_precise(scores) - _precise(targets)).square() * mask
            return (squared.sum(-1) / mask.sum(-1).clamp(min=1)).mean()


class WeightedSum(nn.Module):
    """A weighted sum of losses.

    Args:
        losses: the terms by name.
        weights: a weight for each name.

    Raises:
        ValueError: if the names disagree.
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        if set(losses) != set(weights):
            raise ValueError(f"losses {sorted(losses)} and weights {sorted(weights)} must have the same names")
        self.losses = nn.ModuleDict(dict(losses))
        self.weights = dict(weights)

    def forward(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """Scores and targets (B, T), bool mask (B, T) -> scalar."""
        terms = [self.weights[name] * loss(scores, targets, mask) for name, loss in self.losses.items()]
        return torch.stack(terms).sum()


def _precise(values: Tensor) -> Tensor:
    """float32, or float64 where it is that already."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _differences(values: Tensor) -> Tensor:
    """(B, T) -> (B, T, T): row minus column."""
    return values[:, :, None] - values[:, None, :]


def _correlation(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """Pearson's correlation of ranks along time over real frames, (B,); 0 where either side is constant."""
    count = mask.sum(-1, keepdim=True).clamp(min=1)
    a = (a - (a * mask).sum(-1, keepdim=True) / count) * mask
    b = (b - (b * mask).sum(-1, keepdim=True) / count) * mask
    # Without a floor the gradient at (nearly) constant scores is beyond 16 bits; sqrt has none at 0, so it goes inside.
    floor = _LEAST_DEVIATION**2 * count[:, 0]
    power = a.square().sum(-1).clamp(min=floor) * b.square().sum(-1).clamp(min=floor)
    return (a * b).sum(-1) / power.sqrt()


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
