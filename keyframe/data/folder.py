"""Where the videos and labels of a data set lie: TVSum as released, a user's own folder, or a generated one."""

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from keyframe.data.demo import DemoSet, generate
from keyframe.data.labels import LABEL_SUFFIXES, check_scale, read_labels
from keyframe.files import one_line
from keyframe.types import KeyframeError, LabelledVideo, Labels

# The files of a folder that count as videos, to train on and to extract from. A file of another suffix must be named.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"),
    *(".mts", ".m2ts", ".ts", ".flv", ".wmv", ".3gp"),
)

# TVSum release 1.1 unpacks to tvsum50_ver_1_1/ydata-tvsum50-v1_1/, which holds ydata-tvsum50-{data,matlab,video}.zip;
# those unpack to data/, matlab/ and video/, either in place or each in a folder of the zip's name.
_RELEASE_FOLDERS = ("", "ydata-tvsum50-v1_1", "tvsum50_ver_1_1/ydata-tvsum50-v1_1")

log = logging.getLogger(__name__)


def find_videos(root: str | Path) -> dict[str, Path]:
    """Find the videos of a data set, id -> file, sorted by id; a file's stem is the video's id.

    It searches `root`, `root/videos`, `root/video` and the same places of the official TVSum release below `root`.
    """
    root = Path(root)
    videos: dict[str, Path] = {}
    for path in _files_below(root, ("videos", "video"), VIDEO_SUFFIXES):
        other = videos.setdefault(path.stem, path)
        if other != path:
            raise KeyframeError(f"{other} and {path} are both the video {path.stem}: remove or rename one of them")
    if not videos:
        raise KeyframeError(
            f"there is no video ({', '.join(VIDEO_SUFFIXES)}) in {root}, its videos/ or video/: "
            "set data.root to the folder that holds them"
        )
    return dict(sorted(videos.items()))


def find_label_file(root: str | Path) -> Path:
    """Find the label file of a data set: a .mat before a .tsv, a .tsv before an .h5.

    It searches `root`, `root/data`, `root/matlab` and the same places of the official TVSum release below `root`.
    TVSum's `...-info.tsv` is no label file.
    """
    root = Path(root)
    files = _files_below(root, ("data", "matlab"), LABEL_SUFFIXES)
    for suffix in LABEL_SUFFIXES:
        found = [path for path in files if path.suffix.lower() == suffix and not path.name.endswith("-info.tsv")]
        if len(found) > 1:
            names = [str(path.relative_to(root)) for path in found]
            raise KeyframeError(
                f"{root} holds {len(found)} {suffix} files ({few(names)}): name the label file with data.labels"
            )
        if found:
            return found[0]
    suffixes = ", ".join(LABEL_SUFFIXES)
    raise KeyframeError(
        f"there is no label file ({suffixes}) in {root}, its data/ or matlab/: name it with data.labels"
    )


def _files_below(root: Path, kinds: Collection[str], suffixes: Collection[str]) -> list[Path]:
    """The files with one of the suffixes in the usual folders of a data set, sorted within each; none is hidden."""
    if not root.is_dir():
        raise KeyframeError(f"there is no directory {root}: set data.root to the folder that holds the data set")
    names = ["", *(name for kind in kinds for name in (kind, f"ydata-tvsum50-{kind}/{kind}"))]
    folders: dict[Path, Path] = {}
    for folder in (root / release / name for release in _RELEASE_FOLDERS for name in names):
        if folder.is_dir():
            folders.setdefault(folder.resolve(), folder)
    return [
        path
        for folder in folders.values()
        for path in sorted(folder.iterdir())
        # macOS leaves a hidden "._<name>" beside what it unpacks.
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    ]


def match(videos: Mapping[str, Path], labels: Mapping[str, Labels], allow_missing: bool = False) -> list[LabelledVideo]:
    """Pair video files with labels by id, in the order of the labels.

    `allow_missing` leaves out a video without labels, or labels without a video, instead of refusing.
    """
    both = [LabelledVideo(name, videos[name], labels[name]) for name in labels if name in videos]
    if not both:
        place = next(iter(videos.values())).parent if videos else "the data set's folder"
        raise KeyframeError(
            f"none of the {len(labels)} labelled videos ({few(labels)}) is among the {len(videos)} files "
            f"in {place} ({few(videos)}): set data.root to their folder, or data.labels to these files' labels"
        )
    alone = {
        "labels without a video": [name for name in labels if name not in videos],
        "videos without labels": [name for name in videos if name not in labels],
    }
    complaints = " and ".join(f"{len(names)} {what} ({few(names)})" for what, names in alone.items() if names)
    if complaints and not allow_missing:
        raise KeyframeError(f"there are {complaints}: add them, or leave them out with data.allow_missing=true")
    if complaints:
        log.warning("left out %s; %d labelled videos remain", complaints, len(both))
    return both


def few(names: Iterable[str], most: int = 3) -> str:
    """The first names, three or as many as `most`, for a message."""
    listed = list(names)
    return ", ".join(map(one_line, listed[:most])) + (" ..." if len(listed) > most else "")


class Source(Protocol):
    """Labelled videos to train on."""

    def prepare(self) -> None:
        """Make what must be made once per machine; called by one process before `videos`."""

    def videos(self) -> list[LabelledVideo]:
        """All labelled videos, in the order of the label file."""


class DirectorySource:
    """Videos and a label file in a directory: TVSum as released, or a user's own in the same form.

    Args:
        root: the directory; see `find_videos` and `find_label_file` for the places in it.
        labels: the label file, `None` to find it under `root`.
        allow_missing: as of `match`.
        lowest: the score in the label file that means "not important at all".
        highest: the score that means "most important".
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
        check_scale(lowest, highest)
        self.lowest, self.highest = lowest, highest

    def prepare(self) -> None:
        """Nothing to make."""

    def videos(self) -> list[LabelledVideo]:
        """All labelled videos."""
        videos = find_videos(self.root)
        return match(videos, read_labels(self.label_file(), self.lowest, self.highest), self.allow_missing)

    def label_file(self) -> Path:
        """Where the labels are."""
        labels = self.labels or find_label_file(self.root)
        if not labels.is_file():
            raise KeyframeError(f"data.labels={labels} is not a file: set data.labels to the label file.")
        return labels


class DemoSource:
    """A generated data set (`DemoSet`), kept under `root`.

    Args:
        root: the directory of all generated sets.
        seed: see `DemoSet`, as for `videos` and `shots`.
        videos: number of videos.
        shots: of the shortest video.
        workers: processes that generate it; None for one per core.
        make: whether it is generated if it is missing; a loaded run's is not, as anyone may have written its numbers.
    """

    def __init__(
        self,
        root: str,
        seed: int = 0,
        videos: int = 120,
        shots: int = 36,
        workers: int | None = None,
        make: bool = True,
    ) -> None:
        self.root = Path(root).expanduser()
        self.demo = DemoSet(seed=seed, videos=videos, shots=shots)
        self.workers = workers
        self.make = make

    def prepare(self) -> None:
        """Generate the set unless it is there."""
        if not self.make:
            return
        try:
            generate(self.root, self.demo, self.workers)
        except OSError as error:
            raise KeyframeError(
                f"data.root={self.root} cannot be written ({error.strerror}): choose another directory."
            ) from error

    def videos(self) -> list[LabelledVideo]:
        """All videos of the set."""
        folder = self.demo.folder(self.root)
        if not folder.is_dir():
            raise KeyframeError(
                f"the demo videos {folder} are not there: set data.root to the folder that holds {folder.name}, or "
                "generate them by keyframe-train experiment=demo."
            )
        return DirectorySource(str(folder)).videos()
