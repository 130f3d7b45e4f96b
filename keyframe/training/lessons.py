"""What a teacher says of the frames that a student sees: computed once, kept, and put into the student's batches."""

import hashlib
from collections.abc import Collection
from functools import partial
from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from keyframe.data.cache import VideoCache
from keyframe.data.datamodule import VideoDataModule
from keyframe.data.dataset import Kept, VideoDataset
from keyframe.models.detector import KeyframeDetector
from keyframe.training.encode import Encoder, Wanted
from keyframe.training.first_rank import first_rank_first


class Lessons(Callback):
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
            lessons = first_rank_first(trainer.is_global_zero, data, cache, encode, encode)
        for dataset in {id(view.dataset): view.dataset for view in wanted}.values():
            dataset.teach(lessons)
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
