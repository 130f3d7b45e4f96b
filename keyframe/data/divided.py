"""Labelled videos, divided into training, validation and test: video files, or videos of a feature file.

What only batches need, such as `batch_size`, is kept for `datamodule`; a finished run is read without Lightning.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from keyframe.data.cache import VideoCache
from keyframe.data.dataset import Augmentation
from keyframe.data.feature_file import FeatureVideo, read_feature_files
from keyframe.data.folder import Source, few
from keyframe.data.hdf5 import checked_id
from keyframe.data.reader import VideoReader, check_reader
from keyframe.data.sampling import Sampling, check_sampling
from keyframe.data.splits import PARTS, Split, read_split_file, stratified_folds
from keyframe.types import KeyframeError, LabelledVideo, check_number

# Of a frame, in pixels, and of the frames that a model sees of a video at once, in GB.
_LARGEST_SIZE = 8192
_LARGEST_WINDOW = 16.0

Video = TypeVar("Video", LabelledVideo, FeatureVideo)


class DividedData(ABC, Generic[Video]):
    """Videos for training, validation and test.

    Args:
        batch_size: videos per batch and rank.
        folds, fold: how many folds the videos are divided into, and which of them is tested, from 0.
        val_fraction: share of the remaining videos to choose checkpoints by.
        splits: a published split file, in place of `folds`.
        seed: of the order and the augmentation of training items. Folds do not depend on it.
        strict: stop at a video that cannot be read, instead of leaving it out.
        workers: processes that load batches if videos are decoded or features read for them; 0 for none.
    """

    state_key: ClassVar[str]  # our data module's name: Lightning keeps its state under it, or under that of one's own

    def __init__(
        self,
        batch_size: int = 4,
        folds: int = 5,
        fold: int = 0,
        val_fraction: float = 0.2,
        splits: str | None = None,
        seed: int = 0,
        strict: bool = False,
        workers: int = 0,
    ) -> None:
        super().__init__()
        numbers = {"batch_size": (batch_size, 1), "folds": (folds, 2), "fold": (fold, 0), "workers": (workers, 0)}
        for name, (value, lowest) in numbers.items():
            check_number(f"data.{name}", value, lowest)
        check_number("data.val_fraction", val_fraction, 0, whole=False, above=True)
        self.batch_size, self.seed = batch_size, seed
        self.folds, self.fold, self.val_fraction, self.splits = folds, fold, val_fraction, splits
        self.strict, self.workers = strict, workers
        self.kept_split: Split | None = None  # of a run, used instead of folds; None divides the videos there are

    @cached_property
    def _videos(self) -> dict[str, Video]:
        return {video.id: video for video in self._find()}

    @cached_property
    def split(self) -> Split:
        """The ids of each part, also of videos that are not there any more."""
        return self.kept_split or self._split(self._videos)

    @cached_property
    def parts(self) -> dict[str, str]:
        """Id -> `train`, `val`, `test`, or `new` if the video is in none of these."""
        known = self.split.by_id()
        return {id_: known.get(id_, "new") for id_ in self._videos}

    @property
    def gone(self) -> dict[str, str]:
        """Videos of the split that are not there any more, id -> part."""
        return {id_: part for id_, part in self.split.by_id().items() if id_ not in self._videos}

    @property
    def origins(self) -> dict[str, str]:
        """Id -> the folder or feature file that the video is of, if the data set has several."""
        return {id_: video.folder for id_, video in self._videos.items() if video.folder}

    @property
    def other_set(self) -> bool:
        """Whether the videos are another data set: none is in the run's split. A video is known by its id."""
        return self.kept_split is not None and set(self.parts.values()) == {"new"}

    def split_videos(self, name: str) -> list[Video]:
        """The videos of `train`, `val`, `test`, `new` (in none of these) or `all`, as found: some may be bad."""
        parts = self.parts  # raises what is wrong with the split
        ids = getattr(self.split, name) if name in PARTS else self._videos
        return [self._videos[id_] for id_ in ids if id_ in parts and name in ("all", parts[id_])]

    def split_notes(self, run: str) -> list[str]:
        """What a reader of numbers should know of the split of a run, and of the videos that are here."""
        if self.kept_split is None:
            return [
                f"{run} is from an older version and does not record which videos it was trained on: its split is made "
                f"anew of the {len(self.parts)} videos there are now, and if videos were added or removed since, it "
                "may have been trained on videos that it is tested on here."
            ]
        if self.other_set:
            return [f"None of these {len(self.parts)} videos is in the split of {run}: they are another data set."]
        lists = {
            f"Videos in no part of the split of {run}": [id_ for id_, part in self.parts.items() if part == "new"],
            f"Videos of the split of {run} that no longer exist": [f"{i} ({p})" for i, p in self.gone.items()],
        }
        return [f"{what}: {len(ids)} ({few(ids, 10)})." for what, ids in lists.items() if ids]

    def keep_split(self, checkpoint: Mapping[str, Any], path: Path) -> None:
        """Divide the videos as the run of the checkpoint at `path` did, if it has stored how."""
        state = checkpoint.get(type(self).__qualname__, checkpoint.get(self.state_key))
        if isinstance(state, dict) and "split" in state:
            self.kept_split = Split.from_plain(state["split"], path)

    def prepare_data(self) -> None:
        """Make what a source makes by itself."""

    @abstractmethod
    def _find(self) -> list[Video]:
        """All videos."""

    def _split(self, videos: dict[str, Video]) -> Split:
        categories = {id_: video.category for id_, video in videos.items()}
        if self.splits is None:
            return stratified_folds(categories, self.folds, self.fold, self.val_fraction)
        in_files = [video for video in videos.values() if isinstance(video, FeatureVideo)]
        addresses = {f"{video.path.name}/{video.key}": video.id for video in in_files}
        return read_split_file(self.splits, self.fold, categories, self.val_fraction, addresses)


class DividedVideos(DividedData[LabelledVideo]):
    """Labelled video files.

    Args:
        source, reader, sampling: give the videos and their labels, decode frames, and choose those of a video.
        size: height and width of a frame in pixels.
        augmentation: applied to training items; None leaves them as they are.
        cache: keeps what training computes of each video; None decodes each item on access.
        **common: see `DividedData`.
    """

    state_key = "VideoDataModule"

    def __init__(
        self,
        source: Source,
        reader: VideoReader,
        sampling: Sampling,
        size: int | tuple[int, int] = 224,
        augmentation: Augmentation | None = None,
        cache: VideoCache | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if not isinstance(source, Source):
            raise KeyframeError(
                f"data.source: {type(source).__name__} is not a data source: one has prepare() and videos(), as "
                "keyframe.data.folder.Source says."
            )
        check_reader(reader)
        check_sampling(sampling)
        for key, part, base in (("augmentation", augmentation, Augmentation), ("cache", cache, VideoCache)):
            if part is not None and not isinstance(part, base):
                raise KeyframeError(
                    f"{key}: {type(part).__name__} is not a {key}: derive it from "
                    f"{base.__module__}.{base.__qualname__}."
                )
        self.source, self.reader, self.sampling = source, reader, sampling
        for pixels in size if isinstance(size, tuple | list) else (size,):
            check_number("data.size", pixels, 1, _LARGEST_SIZE)
        self.size = (size, size) if isinstance(size, int) else (size[0], size[1])
        gigabytes = 3e-9 * self.size[0] * self.size[1] * (sampling.window or 1)
        if gigabytes > _LARGEST_WINDOW:
            raise KeyframeError(
                f"data.size={list(self.size)} and sampling.frames={sampling.window} take {gigabytes:.0f} GB per video: "
                "lower one of them."
            )
        self.augmentation = augmentation
        self.cache = cache

    def prepare_data(self) -> None:
        self.source.prepare()

    def _find(self) -> list[LabelledVideo]:
        videos = self.source.videos()
        name = type(self.source).__name__
        if not isinstance(videos, list) or not videos or not all(isinstance(video, LabelledVideo) for video in videos):
            raise KeyframeError(f"data.source: videos() of {name} gives no list of keyframe.types.LabelledVideo.")
        twice = Counter(checked_id(video.id, f"data.source: {name}") for video in videos).most_common(1)[0]
        if twice[1] > 1:
            raise KeyframeError(f"data.source: {name} gives {twice[1]} videos with the id {twice[0]}: name each once.")
        # Of two folders that had the same id the run may see one now.
        known = self.kept_split.by_id() if self.kept_split is not None else {}
        return [replace(one, id=longer) if (longer := f"{one.folder}/{one.id}") in known else one for one in videos]


class DividedFeatures(DividedData[FeatureVideo]):
    """Videos of eccv16-style feature files; no video file is needed.

    Args:
        path: the file, or several of one width.
        labels: the .mat or .tsv with each annotator's scores; None goes without annotators.
        width: channels of a feature, as the model expects.
        augmentation: must be None: it changes images.
        **common: see `DividedData`.
    """

    state_key = "FeatureDataModule"

    def __init__(
        self,
        path: str | Sequence[str],
        labels: str | None = None,
        width: int = 1024,
        augmentation: Augmentation | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if augmentation is not None:
            raise KeyframeError("Augmentation changes images, and a feature file has none: leave augmentation out.")
        self.several = not isinstance(path, str)
        self.paths = [Path(one).expanduser() for one in ([path] if isinstance(path, str) else path)]
        self.labels = Path(labels).expanduser() if labels is not None else None
        self.width = width

    def _find(self) -> list[FeatureVideo]:
        videos = list(read_feature_files(self.paths if self.several else self.paths[0], self.labels).values())
        if (width := videos[0].width) != self.width:
            raise KeyframeError(f"{self.paths[0]} has features {width} wide, not {self.width}: set data.width={width}.")
        return videos
