"""Where videos and labels of a data set lie: TVSum or SumMe as released, a user's own folder, or a generated one."""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from keyframe.data.container import VIDEO_SUFFIXES
from keyframe.data.demo import DemoSet, generate
from keyframe.data.label_tables import TimedLabels, check_scale
from keyframe.data.labels import LABEL_SUFFIXES, label_files, read_video_labels
from keyframe.data.sampling import frame_labels
from keyframe.files import one_line
from keyframe.types import KeyframeError, LabelledVideo, Labels

# TVSum release 1.1 unpacks to tvsum50_ver_1_1/ydata-tvsum50-v1_1/, which holds ydata-tvsum50-{data,matlab,video}.zip;
# those unpack to data/, matlab/ and video/, either in place or each in a folder of the zip's name.
_RELEASE_FOLDERS = ("", "ydata-tvsum50-v1_1", "tvsum50_ver_1_1/ydata-tvsum50-v1_1")
# Tables and JSON may be anything: they are found by themselves under these names only.
_NAMED = ("labels.csv", "labels.json")
_PER_VIDEO = ("GT", "labels")  # folders with one label file per video: SumMe's, and those of a user's own
# A file of such a suffix beside another of the same name and folder is its copy for browsers, or its preview.
_COPIES = (".webm", ".gif", ".apng")

log = logging.getLogger(__name__)


def find_videos(root: str | Path) -> dict[str, Path]:
    """Find the videos of a data set, id -> file, sorted by id; a file's stem is the video's id.

    It searches `root`, `root/videos`, `root/video` and the same places of the official TVSum release below `root`. Of
    `a.mp4` and `a.webm` in one folder it takes the first.
    """
    root = Path(root)
    videos: dict[str, Path] = {}
    for folder in _folders_below(root, ("videos", "video")):
        # macOS leaves a hidden "._<name>" beside what it unpacks.
        files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and path.is_file()]
        files = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
        others = {path.stem for path in files if path.suffix.lower() not in _COPIES}
        for path in files:
            copy = path.suffix.lower() in _COPIES and path.stem in others
            if not copy and (other := videos.setdefault(path.stem, path)) != path:
                raise KeyframeError(f"{other} and {path} are both the video {path.stem}: remove or rename one of them")
    if not videos:
        raise KeyframeError(
            f"there is no video ({', '.join(VIDEO_SUFFIXES[:3])} ...) in {root}, its videos/ or video/: "
            "set data.root to the folder that holds them"
        )
    return dict(sorted(videos.items()))


def find_label_file(root: str | Path) -> Path:
    """Find the label file of a data set, by `LABEL_SUFFIXES`, or the folder that holds one file per video.

    It searches `root`, `root/data`, `root/matlab` and the same places of the official TVSum release below `root`, then
    the folders of one file per video, `root/GT` (SumMe) and `root/labels`.
    """
    root = Path(root)
    folders = _folders_below(root, ("data", "matlab"))
    found = [file for folder in folders for file in label_files(folder, _NAMED)]
    for suffix in LABEL_SUFFIXES:
        files = [file for file in found if file.suffix.lower() == suffix]
        if len(files) > 1:
            names = [str(path.relative_to(root)) for path in files]
            raise KeyframeError(f"{root} holds {len(files)} {suffix} files ({few(names)}): name one with data.labels")
        if files:
            return files[0]
    for folder in (root / name for name in _PER_VIDEO):
        if folder.is_dir() and label_files(folder):
            return folder
    suffixes = ", ".join(LABEL_SUFFIXES)
    raise KeyframeError(
        f"there is no label file ({suffixes}) in {root}, its data/, matlab/, {'/, '.join(_PER_VIDEO)}/: set data.labels"
    )


def _folders_below(root: Path, kinds: Collection[str]) -> list[Path]:
    """The usual folders of a data set."""
    if not root.is_dir():
        raise KeyframeError(f"there is no directory {root}: set data.root to the folder that holds the data set")
    names = ["", *(name for kind in kinds for name in (kind, f"ydata-tvsum50-{kind}/{kind}"))]
    folders: dict[Path, Path] = {}
    for folder in (root / release / name for release in _RELEASE_FOLDERS for name in names):
        if folder.is_dir():
            folders.setdefault(folder.resolve(), folder)
    return list(folders.values())


def match(
    videos: Mapping[str, Path], labels: Mapping[str, Labels | TimedLabels], allow_missing: bool = False
) -> list[LabelledVideo]:
    """Pair video files with labels by id, in the order of the labels.

    `allow_missing` leaves out a video without labels, or labels without a video, instead of refusing.
    """
    both = [name for name in labels if name in videos]
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
    if complaints := " and ".join(f"{len(names)} {what} ({few(names)})" for what, names in alone.items() if names):
        if not allow_missing:
            raise KeyframeError(f"there are {complaints}: add them, or leave them out with data.allow_missing=true")
        log.warning("left out %s; %d labelled videos remain", complaints, len(both))
    return [LabelledVideo(name, videos[name], frame_labels(labels[name], videos[name])) for name in both]


def few(names: Iterable[str], most: int = 3) -> str:
    """The first names, three or as many as `most`, for a message."""
    listed = list(names)
    return ", ".join(map(one_line, listed[:most])) + (" ..." if len(listed) > most else "")


@runtime_checkable
class Source(Protocol):
    """Labelled videos to train on."""

    def prepare(self) -> None:
        """Make what must be made once per machine; called by one process before `videos`."""

    def videos(self) -> list[LabelledVideo]:
        """All labelled videos, in the order of the label file."""


class DirectorySource:
    """Videos and labels in a directory, TVSum or SumMe as released or a user's own; or several as one data set.

    Of several directories, `folder` of a video is the end of its directory's path that no other has, and of two videos
    with one id, each is called `folder/id`.

    Args:
        root: the directory, or a list; see `find_videos` and `find_label_file` for the places in it.
        labels: the label file or the folder of label files, `None` to find it under `root`; of several directories,
            a list with one of these for each.
        allow_missing: as of `match`.
        lowest: the score in the label file that means "not important at all"; of several directories, a list with one
            for each, or one for all.
        highest: the score that means "most important", likewise.
    """

    def __init__(
        self,
        root: str | Sequence[str],
        labels: str | Sequence[str | None] | None = None,
        allow_missing: bool = False,
        lowest: float | Sequence[float] = 1.0,
        highest: float | Sequence[float] = 5.0,
    ) -> None:
        self.roots = [Path(one).expanduser() for one in ([root] if isinstance(root, str) else root)]
        self.folders = [""] if isinstance(root, str) else _folder_names(self.roots)
        named = [None] * len(self.roots) if labels is None else [labels] if isinstance(labels, str) else labels
        if len(named) != len(self.roots):
            raise KeyframeError(
                f"data.labels={labels} must name the labels of each of the {len(self.roots)} folders of data.root: "
                "give a list of as many, with null for those that are found by themselves"
            )
        self.labels = [None if one is None else Path(one).expanduser() for one in named]
        self.allow_missing = allow_missing
        bounds = self._of_each("lowest", lowest), self._of_each("highest", highest)
        # of each folder, the lowest and the highest score of its label file
        self.scales: dict[str, tuple[float, float]] = dict(zip(self.folders, zip(*bounds, strict=True), strict=True))
        for scale in self.scales.values():
            check_scale(*scale)

    def prepare(self) -> None:
        """Nothing to make."""

    def videos(self) -> list[LabelledVideo]:
        found: list[LabelledVideo] = []
        for root, labels, folder in zip(self.roots, self.label_files(), self.folders, strict=True):
            known = read_video_labels(labels, *self.scales[folder])
            found += [replace(one, folder=folder) for one in match(find_videos(root), known, self.allow_missing)]
        path, count = Counter(video.path.resolve() for video in found).most_common(1)[0]
        if count > 1:
            raise KeyframeError(f"{path} is in {count} folders of data.root={few(map(str, self.roots))}: name it once")
        counts = Counter(video.id for video in found)
        return [replace(one, id=f"{one.folder}/{one.id}") if counts[one.id] > 1 else one for one in found]

    def _of_each(self, name: str, value: float | Sequence[float]) -> list[float]:
        """A bound of the scale for each directory."""
        listed: list[float] = list(value) if isinstance(value, Sequence) else [value] * len(self.roots)
        if len(listed) != len(self.roots):
            raise KeyframeError(
                f"data.{name}={value} must be one number, or a list with one for each folder of data.root, of which "
                f"there are {len(self.roots)}"
            )
        return listed

    def label_files(self) -> list[Path]:
        """Where the labels of each directory are."""
        return [labels or find_label_file(root) for root, labels in zip(self.roots, self.labels, strict=True)]


def _folder_names(roots: Sequence[Path]) -> list[str]:
    """A short name for each of several directories, of as many last parts of the paths as tell them apart."""
    paths = [root.resolve() for root in roots]
    for length in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        names = [Path(*path.parts[-length:]).as_posix() for path in paths]
        if len(set(names)) == len(names):
            return names
    raise KeyframeError(f"data.root={few(map(str, roots))} must name one folder or several, each once")


class DemoSource:
    """A generated data set, kept under `root`.

    Args:
        root: the directory of all generated sets.
        seed, videos, shots: see `DemoSet`.
        workers: processes that generate it; None for one per core.
        make: whether it is generated if it is missing; a loaded run's is not, as anyone may have written its numbers.
    """

    def __init__(
        self,
        root: str,
        seed: int = 0,
        videos: int = DemoSet.videos,
        shots: int = DemoSet.shots,
        workers: int | None = None,
        make: bool = True,
    ) -> None:
        self.root = Path(root).expanduser()
        self.demo = DemoSet(seed=seed, videos=videos, shots=shots)
        self.workers, self.make = workers, make

    def prepare(self) -> None:
        """Generate the set unless it is there."""
        try:
            if self.make:
                generate(self.root, self.demo, self.workers)
        except OSError as error:
            raise KeyframeError(
                f"data.root={self.root} cannot be written ({error.strerror}): choose another directory."
            ) from error

    def videos(self) -> list[LabelledVideo]:
        folder = self.demo.folder(self.root)
        if not folder.is_dir():
            raise KeyframeError(
                f"the demo videos {folder} are missing: set data.root to the folder that contains {folder.name}, or "
                "generate them by keyframe-train experiment=demo."
            )
        return DirectorySource(str(folder)).videos()
