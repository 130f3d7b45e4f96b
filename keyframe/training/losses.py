"""Losses between predicted and labelled importance, all differentiable; and distillation from a teacher."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from keyframe.data.cache import VideoCache
from keyframe.data.datamodule import KeyframeDataModule, VideoDataModule
from keyframe.data.dataset import Kept, VideoDataset
from keyframe.data.divided import DividedData, DividedVideos
from keyframe.data.folder import few
from keyframe.files import content_hash, one_line
from keyframe.models.detector import KeyframeDetector
from keyframe.training.encode import Encoder, Request, rank_zero_first
from keyframe.types import KeyframeError

log = logging.getLogger(__name__)

# Ranks that deviate less than this from their mean count as constant: such a deviation is rounding, not an order.
_LEAST_DEVIATION = 1e-3


class VideoLoss(nn.Module, ABC):
    """A loss that is the mean over videos. Padding has no influence; constant scores or targets give a finite loss."""

    def forward(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """Scores in [0, 1], targets and mask (B, T), True where a frame is real -> scalar, float32 or more."""
        with torch.autocast(scores.device.type, enabled=False):
            return self.per_video(_precise(scores), _precise(targets), mask).mean()

    @abstractmethod
    def per_video(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """Scores and targets (B, T), float32 or float64, bool mask (B, T) -> (B,)."""


class _TemperedLoss(VideoLoss):
    """A loss on soft comparisons of scores, with a temperature in units of score."""

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, not {temperature}")
        self.temperature = temperature


class SpearmanLoss(_TemperedLoss):
    """One minus Spearman's rank correlation, with soft ranks in place of the scores' ranks.

    The rank of a frame is the number of frames below it; with the step replaced by a sigmoid it has a gradient (Qin,
    Liu, Li: A general approximation framework for direct optimization of information retrieval measures, 2010, applied
    to ranks). Targets get their true ranks, ties averaged. The loss lies in [0, 2]; a video whose targets are all equal
    gives exactly 1 and no gradient.

    Args:
        temperature: width of the sigmoid in units of score; smaller is closer to true ranks, with a rougher gradient.
    """

    def __init__(self, temperature: float = 0.05) -> None:
        super().__init__(temperature)

    def per_video(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        pairs = _pairs(mask)
        soft = (torch.sigmoid(_differences(scores) / self.temperature) * pairs).sum(-1)
        true = ((_differences(targets).sign() + 1) / 2 * pairs).sum(-1)
        return 1 - _correlation(soft, true, mask)


class PairwiseLoss(_TemperedLoss):
    """Logistic ranking loss over all pairs of frames of a video whose targets differ (RankNet, Burges et al., 2005).

    Pairs weigh as much as their targets differ; a video without such a pair gives 0. `temperature` is the difference,
    in units of score, that counts as a clear order.
    """

    def per_video(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        weight = _differences(targets).clamp(min=0) * _pairs(mask)
        cost = nn.functional.softplus(-_differences(scores) / self.temperature)
        return (weight * cost).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1e-8)


class PairwiseKLLoss(_TemperedLoss):
    """Divergence of the scores' order of each pair of frames from the targets' order.

    The probability that frame i is above frame j is sigmoid((x_i - x_j) / temperature), as in RankNet; the loss is the
    mean over pairs of the Kullback-Leibler divergence of the scores' probability from the targets'. Unlike in
    `PairwiseLoss`, targets also teach how far apart two frames are, as soft targets do (Hinton, Vinyals, Dean:
    Distilling the knowledge in a neural network, 2015). It is 0 if all differences agree, and for a single frame.
    """

    def per_video(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        ours, theirs = (_differences(values) / self.temperature for values in (scores, targets))
        # the two terms of a pair's divergence are those of its two orders
        terms = theirs.sigmoid() * (nn.functional.logsigmoid(theirs) - nn.functional.logsigmoid(ours))
        count = mask.sum(-1)
        return (terms * _pairs(mask)).sum((1, 2)) / (count * (count - 1) / 2).clamp(min=1)


class MSELoss(VideoLoss):
    """Mean squared error over real frames, then over videos."""

    def per_video(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        return ((scores - targets).square() * mask).sum(-1) / mask.sum(-1).clamp(min=1)


class FrameLoss(VideoLoss):
    """A loss of torch, such as `torch.nn.L1Loss()`, on the real frames of each video, then the mean over videos."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def per_video(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        rows = zip(scores, targets, mask, strict=True)
        return torch.stack([self.loss(score[real], target[real]).mean() for score, target, real in rows])


def adapted(loss: nn.Module) -> nn.Module:
    """The loss, or a loss of torch, which knows no mask, as a `FrameLoss`."""
    return FrameLoss(loss) if isinstance(loss, nn.modules.loss._Loss) else loss


def check_loss(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Raise KeyframeError unless scores, targets and mask of two videos give a scalar with a gradient."""
    scores = torch.tensor([[0.2, 0.7, 0.4], [0.5, 0.1, 0.0]], requires_grad=True)
    targets, mask = torch.tensor([[0.1, 0.9, 0.3], [0.8, 0.2, 0.0]]), torch.tensor([[True] * 3, [True, True, False]])
    try:
        with torch.enable_grad():
            value = loss(scores, targets, mask)
        given = f"gives {tuple(value.shape)}" if isinstance(value, Tensor) else f"gives a {type(value).__name__}"
        good = isinstance(value, Tensor) and value.ndim == 0
        if good and isinstance(loss, VideoLoss) and (each := loss.per_video(scores, targets, mask)).shape != (2,):
            good, given = False, f"gives {tuple(each.shape)} for two videos, not (2,)"
        if good and not value.requires_grad:
            good, given = False, "has no gradient"
    except Exception as error:  # whatever a user's own code raises
        good, given = False, f"fails on (2, 3) ({type(error).__name__}: {one_line(str(error))[:200]})"
    if not good:
        name = getattr(loss, "func", type(loss)).__name__
        raise KeyframeError(
            f"loss: {name} {given}: a loss takes scores, targets and a bool mask, each (B, T), and returns a scalar; "
            "derive it from keyframe.training.losses.VideoLoss."
        )


class WeightedSum(nn.Module):
    """A weighted sum of losses, terms and weights by name."""

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        if set(losses) != set(weights):
            raise ValueError(f"losses {sorted(losses)} and weights {sorted(weights)} must have the same names")
        self.losses = nn.ModuleDict({name: adapted(loss) for name, loss in losses.items()})
        self.weights = dict(weights)

    def forward(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        terms = [self.weights[name] * loss(scores, targets, mask) for name, loss in self.losses.items()]
        return torch.stack(terms).sum()


class RelationLoss(VideoLoss):
    """Relational knowledge distillation by distances (Park et al., 2019, equations 5 to 7).

    The distances between the frames of a video, in units of their mean, are compared with the teacher's: Huber loss of
    each, mean over pairs of frames, then over videos. Equal embeddings have distances of 0. Its scores are embeddings
    (B, T, W), its targets (B, T, V); the widths may differ.
    """

    def per_video(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        count, pairs = mask.sum(-1), _pairs(mask)
        number = (count * (count - 1)).clamp(min=1)  # a frame makes no pair with itself
        ours, theirs = (_distances(values, pairs, number) for values in (scores, targets))
        cost = nn.functional.huber_loss(ours, theirs, reduction="none")
        return (cost * pairs).sum((1, 2)) / number


class Distillation(nn.Module):
    """The loss against the labels blended with losses against a teacher.

    (1 - weight) * labels + weight * loss(scores, teacher's scores) + hint_weight * relations(embeddings, teacher's).

    Args:
        weight: share of the teacher's scores, from 0 (labels and hints) to 1 (no labels).
        loss: called with the student's scores, the teacher's and a mask, each (B, T); any loss of this file.
        hint_weight: weight of `RelationLoss` between the frames' embeddings; 0 switches it off.
    """

    def __init__(self, weight: float, loss: nn.Module, hint_weight: float = 0.0) -> None:
        super().__init__()
        if not 0 <= weight <= 1:
            raise ValueError(f"weight must lie in [0, 1], not {weight}")
        if not hint_weight >= 0:
            raise ValueError(f"hint_weight must be at least 0, not {hint_weight}")
        if weight == hint_weight == 0:
            raise ValueError("weight must be above 0 where hint_weight is 0: the teacher would have no effect")
        self.weight = weight
        self.loss = loss
        self.hint_weight = hint_weight
        self.relations = RelationLoss()

    def forward(
        self, labels: Tensor, scores: Tensor, embeddings: Tensor | None, teacher_target: Tensor, mask: Tensor
    ) -> Tensor:
        """Blend the loss against the labels, a scalar, with the student's scores (B, T) and embeddings (B, T, W).

        `teacher_target` is the teacher's scores and embeddings, (B, T, 1 + V) as in `Batch`; `mask`, bool (B, T), is
        True where a frame is real and visible.
        """
        loss = (1 - self.weight) * labels
        if self.weight:
            loss = loss + self.weight * self.loss(scores, teacher_target[..., 0], mask)
        if self.hint_weight:
            assert embeddings is not None
            loss = loss + self.hint_weight * self.relations(embeddings, teacher_target[..., 1:], mask)
        return loss


def _precise(values: Tensor) -> Tensor:
    """As float32, unless they are float64."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _pairs(mask: Tensor) -> Tensor:
    """(B, T) -> (B, T, T): True where both frames are real."""
    return mask[:, :, None] & mask[:, None, :]


def _differences(values: Tensor) -> Tensor:
    """(B, T) -> (B, T, T): row minus column."""
    return values[:, :, None] - values[:, None, :]


def _correlation(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """Pearson's correlation of ranks along time over real frames, (B,); 0 if either side is constant."""
    count = mask.sum(-1, keepdim=True).clamp(min=1)
    a = (a - (a * mask).sum(-1, keepdim=True) / count) * mask
    b = (b - (b * mask).sum(-1, keepdim=True) / count) * mask
    # Without a floor the gradient at (nearly) constant scores is beyond 16 bits; sqrt has none at 0, so it goes inside.
    floor = _LEAST_DEVIATION**2 * count[:, 0]
    power = a.square().sum(-1).clamp(min=floor) * b.square().sum(-1).clamp(min=floor)
    return (a * b).sum(-1) / power.sqrt()


def _distances(values: Tensor, pairs: Tensor, number: Tensor) -> Tensor:
    """(B, T, W) -> Euclidean distances (B, T, T) over the mean of those that count, 0 for the others."""
    distances = torch.cdist(values, values) * pairs
    mean = distances.sum((1, 2)) / number
    return distances / mean.clamp(min=1e-8)[:, None, None]


def check_teacher(name: str, teacher_data: DividedData[Any], data: KeyframeDataModule[Any]) -> None:
    """Refuse a teacher that sees other frames than the student, or was trained on the student's held-out videos.

    `name` is the user's name of the teacher; `teacher_data` it was trained on; the student's `data` is prepared.
    """
    if not isinstance(data, VideoDataModule):
        raise KeyframeError("distillation needs videos, and data=h5 has features alone: leave experiment=distill out.")
    if not isinstance(teacher_data, DividedVideos):
        raise KeyframeError(f"teacher={name} was trained on features and cannot score videos: use a run on videos.")
    sampling, size = (teacher_data.sampling, data.sampling), (teacher_data.size, data.size)
    for key, (was, now) in {"sampling": sampling, "data.size": size}.items():
        if was != now:
            raise KeyframeError(
                f"teacher={name} was trained on other frames ({key}: {was}, here {now}): use the same for both."
            )
    if data.cache is None and data.augmentation is not None and data.augmentation.changes_pixels:
        raise KeyframeError(
            "a teacher scores each frame once, and with cache=off augmentation makes new frames in every epoch: use "
            "cache=disk or cache=memory, which keep cache.views draws, or leave augmentation out."
        )
    try:
        teacher_data.prepare_data()
        hashes = {
            part: {content_hash(one.path) for one in teacher_data.split_videos(part)} for part in ("train", "val")
        }
    except KeyframeError as error:
        if teacher_data.kept_split is None:
            raise KeyframeError(
                f"teacher={name}: its training videos are not where they were, so it cannot be checked that it has "
                f"not seen the held-out videos of this run. {error}"
            ) from error
        log.warning("teacher=%s: its training videos are compared by their ids alone (%s)", name, error)
        hashes = {"train": set(), "val": set()}
    if teacher_data.kept_split is None:
        log.warning("%s", *teacher_data.split_notes(f"teacher={name}"))
    for split, learnt_from in (("val", ("train",)), ("test", ("train", "val"))):
        ids = {id_ for part in learnt_from for id_ in getattr(teacher_data.split, part)}
        contents = {content for part in learnt_from for content in hashes[part]}  # they know a video of another name
        leaked = [
            video.id
            for video in data.split_videos(split)
            if video.id in ids or (contents and content_hash(video.path) in contents)
        ]
        if leaked:
            raise KeyframeError(
                f"teacher={name} was trained on {len(leaked)} of the {split} videos of this run ({few(leaked)}): use "
                "a teacher of the same data, data.folds, data.fold, data.val_fraction and data.splits, or its own "
                "split (data.splits=TEACHER/split.json)."
            )


class TeacherTargets(Callback):
    """Has a teacher score training and validation videos before training begins; stands behind `PrefixCache`.

    Each view of a video is scored once, on exactly the student's frames (augmented views included), with nothing
    hidden, in float32; the targets are kept in the data module's cache, else in memory. Then the teacher is done: no
    step runs it, and neither checkpoints nor the optimizer hold it. The SHA-256 of its checkpoint is part of the cache
    keys.
    """

    def __init__(self, teacher: KeyframeDetector, checkpoint_hash: str) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.checkpoint_hash = checkpoint_hash

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, VideoDataModule)
        cache = data.cache or VideoCache()
        encoder = TeacherEncoder(self.teacher.to(pl_module.device), self.checkpoint_hash, cache)
        datasets = [one for split in ("train", "val") if isinstance(one := data.datasets[split], VideoDataset)]
        requests = [
            Request(dataset, number, view, ("teacher_target",))
            for dataset in datasets
            for number in range(len(dataset))
            for view in (range(dataset.schedule.views) if dataset.schedule and dataset.schedule.views else [None])
        ]
        encode = partial(encoder.encode, requests, quiet=not trainer.is_global_zero)
        # it is known by now which videos are good
        targets = rank_zero_first(trainer, data, cache, encode, strict=True)
        for dataset in datasets:
            dataset.set_teacher_targets(targets)
        self.teacher.cpu()


class TeacherEncoder(Encoder):
    """Makes teacher targets, (T, 1 + W): the teacher's score of each frame, then its embedding."""

    name, made = "Teacher", "decoded and scored"

    def __init__(self, teacher: KeyframeDetector, checkpoint_hash: str, cache: VideoCache) -> None:
        self.checkpoint_hash = checkpoint_hash
        super().__init__(teacher, cache)

    def _weights(self, arithmetic: dict[str, str]) -> dict[Kept, dict[str, str]]:
        return {"teacher_target": {**arithmetic, "teacher": self.checkpoint_hash}}

    def _run(self, frames: Tensor, kinds: Collection[Kept]) -> dict[Kept, Tensor]:
        features = self.detector.encode("pixels", frames[None].to(self.device))
        target = torch.cat([self.detector.score(features)[..., None], self.detector.embed(features)], -1)
        return {"teacher_target": target[0].cpu()}
