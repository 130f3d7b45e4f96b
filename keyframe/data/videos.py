"""Find the video files of a data set and pair them with their labels."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from keyframe.data.layout import files_below
from keyframe.errors import KeyframeError
from keyframe.types import LabelledVideo, Labels

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
