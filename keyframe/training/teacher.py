"""Which teachers a training run may have."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keyframe.data.content import content_id
from keyframe.data.datamodule import KeyframeDataModule, VideoDataModule
from keyframe.errors import KeyframeError
from keyframe.runs import Run
from keyframe.types import LabelledVideo


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
        found |= {f"id {video.id}", f"content {content_id(video.path)}"}
    return found
