"""Which teachers a training run may have.

What a teacher says of the frames that a student sees: computed once, kept, and put into the student's batches.
"""

import hashlib
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from keyframe.data.cache import VideoCache
from keyframe.data.datamodule import KeyframeDataModule, VideoDataModule
from keyframe.data.dataset import Kept, VideoDataset
from keyframe.files import content_hash
from keyframe.models.detector import KeyframeDetector
from keyframe.runs import Run
from keyframe.training.encode import Encoder, Wanted
from keyframe.training.prefix_cache import rank_zero_first
from keyframe.types import KeyframeError, LabelledVideo


def check_teacher(teacher: Run, name: str, data: KeyframeDataModule[Any], run_dir: Path) -> None:
    """Refuse a teacher that sees other frames than the student, or has learnt from what the student is judged by.

    Args:
        teacher: a finished run.
        name: what the user calls it.
        data: of the student; prepared.
        run_dir: of the student.

    Raises:
        KeyframeError: naming what does not fit.
    """
    if teacher.directory.resolve() == run_dir.resolve():
        raise KeyframeError(f"teacher={name} is the run that is to be trained: name another one.")
    if not isinstance(data, VideoDataModule):
        raise KeyframeError("distillation needs videos, and data=h5 has features alone: leave experiment=distill out.")
    theirs = teacher.datamodule
    if not isinstance(theirs, VideoDataModule):
        raise KeyframeError(f"teacher={name} was trained on features and cannot see videos: use a run on videos.")
    for key, was, now in (("sampling", theirs.sampling, data.sampling), ("data.size", theirs.size, data.size)):
        if was != now:
            raise KeyframeError(
                f"teacher={name} was trained on other frames ({key}: {was}, here {now}): use the same sampling and "
                "data.size for both."
            )
    if data.cache is None and data.augmentation is not None and data.augmentation.changes_pixels:
        raise KeyframeError(
            "a teacher scores pictures once, and with cache=off augmentation makes new ones in every epoch: use "
            "cache=disk or cache=memory, which keep cache.views draws, or leave augmentation out."
        )
    _check_unseen(teacher, name, data)


def _check_unseen(teacher: Run, name: str, data: VideoDataModule) -> None:
    """By the videos' ids and by their content: neither another name nor another folder hides one."""
    try:
        trained_on, chosen_by = (teacher.videos(split).values() for split in ("train", "val"))
    except KeyframeError as error:
        raise KeyframeError(
            f"teacher={name}: what it was trained on is not where it was, so nobody can tell whether it has seen the "
            f"videos that this run is judged by. {error}"
        ) from error
    for split, seen in (("val", [*trained_on]), ("test", [*trained_on, *chosen_by])):
        known = _marks(seen)
        leaked = [video.id for video in data.split_videos(split) if _marks([video]) & known]
        if leaked:
            raise KeyframeError(
                f"teacher={name} has learnt from {len(leaked)} of the {split} videos of this run "
                f"({', '.join(leaked[:3])}{', ...' if len(leaked) > 3 else ''}): use a teacher of the same data, "
                "data.folds, data.fold, data.val_fraction and data.splits."
            )


def _marks(videos: Iterable[Any]) -> set[str]:
    """What videos are known by."""
    found: set[str] = set()
    for video in videos:
        assert isinstance(video, LabelledVideo)
        found |= {f"id {video.id}", f"content {content_hash(video.path)}"}
    return found


class TeacherTargets(Callback):
    """Has a teacher look at training and validation videos before training begins.

    A view of a video is scored once, on the very pictures that the student sees (also the augmented ones that are
    kept), with nothing hidden, in float32; what comes out is kept where the data module keeps what it encodes, else in
    memory. After that the teacher is at rest: no step runs it, no checkpoint holds it, no optimizer knows it.

    Stands behind `PrefixCache`, which says which views there are.

    Args:
        teacher: on the CPU; only read.
        checkpoint: the file it comes from; its content is a part of the keys.
    """

    def __init__(self, teacher: KeyframeDetector, checkpoint: Path) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        with checkpoint.open("rb") as file:
            self.fingerprint = hashlib.file_digest(file, "sha256").hexdigest()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find or make the lessons, on the first rank and then on the others."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, VideoDataModule)
        cache = data.cache or VideoCache()
        encoder = LessonEncoder(self.teacher.to(pl_module.device), self.fingerprint, cache)
        wanted = [
            Wanted(dataset, number, view, ("lesson",))
            for dataset in map(data.datasets.__getitem__, ("train", "val"))
            if isinstance(dataset, VideoDataset)
            for number in range(len(dataset))
            for view in _views(dataset)
        ]
        # which videos are good is known by now
        encode = partial(encoder.encode, wanted, strict=True, quiet=not trainer.is_global_zero)
        if trainer.world_size == 1:
            lessons, _ = encode()
        else:
            lessons = rank_zero_first(trainer.is_global_zero, data, cache, encode, encode)
        for dataset in {id(view.dataset): view.dataset for view in wanted}.values():
            dataset.set_teacher_targets(lessons)
        self.teacher.cpu()


class LessonEncoder(Encoder):
    """Makes lessons, (T, 1 + W): a teacher's score of each frame, then its embedding.

    Args:
        teacher: the model.
        fingerprint: of all that makes it what it is.
        cache: where lessons are found and kept.
    """

    name, made = "Teacher", "decoded and scored"

    def __init__(self, teacher: KeyframeDetector, fingerprint: str, cache: VideoCache) -> None:
        self.fingerprint = fingerprint
        super().__init__(teacher, cache)

    def _weights(self, arithmetic: dict[str, str]) -> dict[Kept, dict[str, str]]:
        return {"lesson": {**arithmetic, "teacher": self.fingerprint}}

    def _run(self, pictures: Tensor, stages: Collection[Kept]) -> dict[Kept, Tensor]:
        features = self.detector.encode("pixels", pictures[None].to(self.device))
        lesson = torch.cat([self.detector.score(features)[..., None], self.detector.embed(features)], -1)
        return {"lesson": lesson[0].cpu()}


def _views(dataset: VideoDataset) -> list[int | None]:
    """The augmented views that a student is shown, or the pictures as they are."""
    views = dataset.schedule.views if dataset.schedule is not None else None
    return [None] if views is None else list(range(views))
