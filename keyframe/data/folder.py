"""Find the video files of a data set and pair them with their labels.

Where labelled videos come from: a directory, or the demo generator that writes one.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from keyframe.data.demo import DemoSet, generate
from keyframe.data.labels import files_below, find_label_file, read_labels
from keyframe.types import KeyframeError, LabelledVideo, Labels

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")

_log = logging.getLogger(__name__)


def find_videos(root: str | Path) -> dict[str, Path]:
    """Find the videos of a data set; a file's stem is the video's id.

    Looked into are `root`, `root/videos`, `root/video` and the same places of the official TVSum release
    below `root`.

    Args:
        root: the data set's folder, `data.root`.

    Returns:
        Video id -> file, sorted by id.

    Raises:
        KeyframeError: if `root` is no directory or holds no video, or two files have one stem.
    """
    root = Path(root)
    videos: dict[str, Path] = {}
    for path in files_below(root, ("videos", "video"), VIDEO_SUFFIXES):
        other = videos.setdefault(path.stem, path)
        if other != path:
            raise KeyframeError(f"{other} and {path} are both the video {path.stem}: remove or rename one of them")
    if not videos:
        raise KeyframeError(
            f"there is no video ({', '.join(VIDEO_SUFFIXES)}) in {root}, its videos/ or video/: "
            "set data.root to the folder that holds them"
        )
    return dict(sorted(videos.items()))


def match(videos: Mapping[str, Path], labels: Mapping[str, Labels], allow_missing: bool = False) -> list[LabelledVideo]:
    """Pair video files with labels by id.

    Args:
        videos: video id -> file, as `find_videos` gives it.
        labels: video id -> labels, as `read_labels` gives it.
        allow_missing: leave out a video without labels, or labels without a video, instead of refusing.

    Returns:
        The videos that have both, in the order of the labels.

    Raises:
        KeyframeError: if nothing is in common, or something has no counterpart and that is not allowed.
    """
    both = [LabelledVideo(name, videos[name], labels[name]) for name in labels if name in videos]
    if not both:
        place = next(iter(videos.values())).parent if videos else "the data set's folder"
        raise KeyframeError(
            f"none of the {len(labels)} labelled videos ({_few(labels)}) is among the {len(videos)} files "
            f"in {place} ({_few(videos)}): set data.root to the folder that holds them"
        )
    without_video = [name for name in labels if name not in videos]
    without_labels = [name for name in videos if name not in labels]
    complaints = [
        f"{len(names)} {what} ({_few(names)})"
        for names, what in (
            (without_video, "labels without a video"),
            (without_labels, "videos without labels"),
        )
        if names
    ]
    if complaints and not allow_missing:
        raise KeyframeError(
            f"there are {' and '.join(complaints)}: add them, or leave them out with data.allow_missing=true"
        )
    if complaints:
        _log.warning("left out %s; %d labelled videos remain", " and ".join(complaints), len(both))
    return both


def _few(names: Iterable[str], limit: int = 3) -> str:
    listed = list(names)
    return ", ".join(listed[:limit]) + (" ..." if len(listed) > limit else "")


log = logging.getLogger(__name__)


class Source(Protocol):
    """Labelled videos to train on."""

    def prepare(self) -> None:
        """Make what must be made once on a machine; called by one process before `videos`."""
        ...

    def videos(self) -> list[LabelledVideo]:
        """All labelled videos, in the order of the label file."""
        ...


class DirectorySource:
    """Videos and a label file in a directory: TVSum as released, or a user's own in the same form.

    Args:
        root: the directory; see `find_videos` and `find_label_file` for where things may lie in it.
        labels: the label file, `None` to find it under `root`.
        allow_missing: leave out videos without labels and labels without videos, instead of refusing.
        lowest: the score in the label file that means "not important at all".
        highest: the score in the label file that means "as important as can be".
    """

    def __init__(
        self,
        root: str,
        labels: str | None = None,
        allow_missing: bool = False,
        lowest: float = 1.0,
        highest: float = 5.0,
    ) -> None:
        self.root = Path(root).expanduser()
        self.labels = Path(labels).expanduser() if labels is not None else None
        self.allow_missing = allow_missing
        self.lowest = lowest
        self.highest = highest

    def prepare(self) -> None:
        """Nothing to make."""

    def videos(self) -> list[LabelledVideo]:
        """All labelled videos.

        Raises:
            KeyframeError: no directory, no videos, no labels, or the two do not match.
        """
        videos = find_videos(self.root)
        labels = self.labels or find_label_file(self.root)
        if not labels.is_file():
            raise KeyframeError(f"data.labels={labels} is not a file.")
        return match(videos, read_labels(labels, self.lowest, self.highest), self.allow_missing)


class DemoSource:
    """A generated data set, made once and kept under `root`; read back by `DirectorySource`.

    Args:
        root: where demo sets are kept.
        seed: other seeds give other videos of the same kind.
        videos: how many videos.
        shots: length of the shortest video, in shots of two seconds.
        workers: processes that generate; all cores by default.
    """

    def __init__(
        self, root: str, seed: int = 0, videos: int = 120, shots: int = 36, workers: int | None = None
    ) -> None:
        self.root = Path(root).expanduser()
        self.demo = DemoSet(seed=seed, videos=videos, shots=shots)
        self.workers = workers

    def prepare(self) -> None:
        """Generate the set unless it is there.

        Raises:
            KeyframeError: `root` cannot be written.
        """
        try:
            generate(self.root, self.demo, self.workers)
        except OSError as error:
            raise KeyframeError(
                f"data.root={self.root} cannot be written ({error.strerror}): choose another directory."
            ) from error

    def videos(self) -> list[LabelledVideo]:
        """All videos of the set."""
        return DirectorySource(str(generate(self.root, self.demo, self.workers))).videos()
