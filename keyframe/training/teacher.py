"""A teacher's targets for a student: computed once per view of a video, cached, and put into the student's batches."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from keyframe.data.cache import VideoCache
from keyframe.data.datamodule import KeyframeDataModule, VideoDataModule
from keyframe.data.dataset import Kept, VideoDataset
from keyframe.files import content_hash, file_hash
from keyframe.models.detector import KeyframeDetector
from keyframe.training.encode import Encoded, Encoder, Request, rank_zero_first
from keyframe.types import KeyframeError, LabelledVideo


def check_teacher(name: str, teacher_data: KeyframeDataModule[Any], data: KeyframeDataModule[Any]) -> None:
    """Refuse a teacher that sees other frames than the student, or was trained on the student's held-out videos.

    Args:
        name: the user's name of the teacher.
        teacher_data: the data that it was trained on.
        data: the student's data, prepared.

    Raises:
        KeyframeError: naming what does not fit.
    """
    if not isinstance(data, VideoDataModule):
        raise KeyframeError("distillation needs videos, and data=h5 has features alone: leave experiment=distill out.")
    if not isinstance(teacher_data, VideoDataModule):
        raise KeyframeError(f"teacher={name} was trained on features and cannot see videos: use a run on videos.")
    for key, was, now in (
        ("sampling", teacher_data.sampling, data.sampling),
        ("data.size", teacher_data.size, data.size),
    ):
        if was != now:
            raise KeyframeError(
                f"teacher={name} was trained on other frames ({key}: {was}, here {now}): use the same sampling and "
                "data.size for both."
            )
    if data.cache is None and data.augmentation is not None and data.augmentation.changes_pixels:
        raise KeyframeError(
            "a teacher scores each frame once, and with cache=off augmentation makes new frames in every epoch: use "
            "cache=disk or cache=memory, which keep cache.views draws, or leave augmentation out."
        )
    try:
        teacher_data.prepare_data()
        trained_on, chosen_by = (teacher_data.split_videos(split) for split in ("train", "val"))
    except KeyframeError as error:
        raise KeyframeError(
            f"teacher={name}: its training videos are not where they were, so it cannot be checked that it has not "
            f"seen the held-out videos of this run. {error}"
        ) from error
    for split, seen in (("val", trained_on), ("test", [*trained_on, *chosen_by])):
        known = _marks(seen)
        leaked = [video.id for video in data.split_videos(split) if _marks([video]) & known]
        if leaked:
            raise KeyframeError(
                f"teacher={name} has learnt from {len(leaked)} of the {split} videos of this run "
                f"({', '.join(leaked[:3])}{', ...' if len(leaked) > 3 else ''}): use a teacher of the same data, "
                "data.folds, data.fold, data.val_fraction and data.splits."
            )


def _marks(videos: Iterable[LabelledVideo]) -> set[str]:
    """Ids and content hashes of videos: neither another name nor another folder hides one."""
    return {mark for video in videos for mark in (f"id {video.id}", f"content {content_hash(video.path)}")}


class TeacherTargets(Callback):
    """Has a teacher score training and validation videos before training begins.

    Each view of a video is scored once, on exactly the student's frames (augmented views included), with nothing
    hidden, in float32; the targets are kept in the data module's cache, else in memory. Then the teacher is done: no
    step runs it, and neither checkpoints nor the optimizer hold it.

    Stands behind `PrefixCache`, which decides which views there are.

    Args:
        teacher: on the CPU; only read.
        checkpoint: the teacher's file; its content is part of the cache keys.
    """

    def __init__(self, teacher: KeyframeDetector, checkpoint: Path) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.checkpoint_hash = file_hash(checkpoint)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find or make the targets, on the first rank and then on the others."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, VideoDataModule)
        cache = data.cache or VideoCache()
        encoder = TeacherEncoder(self.teacher.to(pl_module.device), self.checkpoint_hash, cache)
        datasets = [data.datasets[split] for split in ("train", "val")]
        requests = [
            Request(dataset, number, view, ("teacher_target",))
            for dataset in datasets
            if isinstance(dataset, VideoDataset)
            for number in range(len(dataset))
            for view in _views(dataset)
        ]

        def encode(strict: bool) -> Encoded:
            return encoder.encode(requests, strict, quiet=not trainer.is_global_zero)

        # it is known by now which videos are good
        targets = rank_zero_first(trainer, data, cache, encode, strict=True)
        for dataset in datasets:
            assert isinstance(dataset, VideoDataset)
            dataset.set_teacher_targets(targets)
        self.teacher.cpu()


class TeacherEncoder(Encoder):
    """Makes teacher targets, (T, 1 + W): the teacher's score of each frame, then its embedding.

    Args:
        teacher: the model.
        checkpoint_hash: of the teacher's checkpoint file.
        cache: finds and keeps the targets.
    """

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


def _views(dataset: VideoDataset) -> list[int | None]:
    """The augmented views of a student's videos, or None for the frames as they are."""
    views = dataset.schedule.views if dataset.schedule is not None else None
    return [None] if views is None else list(range(views))
