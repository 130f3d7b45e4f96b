"""Videos of one split as samples and batches: decoded, taken from the cache, or read from a feature file."""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, get_worker_info
from tqdm import tqdm

from keyframe.data.cache import CachedVideo
from keyframe.data.feature_file import FeatureVideo
from keyframe.data.packets import index_packets
from keyframe.data.picture import corrections
from keyframe.data.reader import VideoReader
from keyframe.data.sampling import Sampling, check_alignment, chosen_frames, own_frame_numbers, sample_labels
from keyframe.files import FileState, content_hash, described, unchanged
from keyframe.system import cores, installed_versions, shared_memory_bytes
from keyframe.types import BoolArray, InputKind, Int64Array, IntArray, KeyframeError, LabelledVideo, VideoError

Array = TypeVar("Array", BoolArray, Tensor)

Kept = InputKind | Literal["teacher_target"]  # an array kept of a video: an input, or a teacher's target

# An entry's address: the video's id, what is kept of it, and which augmented view (None: as it is).
Address = tuple[str, Kept, int | None]

# What random numbers are drawn for: hiding frames changes no image, so it takes no part in their draw.
_IMAGES, _HIDING = 0, 1


@dataclass(frozen=True)
class Sample:
    """T frames of one video, and their labels."""

    video: str  # id
    number: int  # its place in the data set; two samples of one video have the same
    kind: InputKind  # what `inputs` holds: pixels, the backbone prefix's maps, or backbone features
    inputs: Tensor  # (T, ...); pixels are uint8 (T, 3, H, W)
    seconds: Tensor  # time of each frame since the first frame of the video, (T,)
    importance: Tensor  # the reference score of each frame in [0, 1], (T,)
    annotators: Tensor  # each annotator's score in [0, 1], (A, T); A may be 0
    visible: Tensor  # bool (T,), False where augmentation hides a frame
    teacher_target: Tensor | None = None  # a teacher's score of each frame, then its embedding, (T, 1 + W)


@dataclass(frozen=True)
class Batch:
    """B samples of one kind (`Sample` explains the fields), padded to the longest with zeros."""

    videos: tuple[str, ...]
    numbers: Tensor  # int64 (B,)
    kind: InputKind
    inputs: Tensor  # (B, T, ...)
    mask: Tensor  # bool (B, T), True where a frame is real and visible
    seconds: Tensor  # (B, T)
    importance: Tensor  # (B, T)
    annotators: Tensor  # (B, A, T), padded with NaN
    teacher_target: Tensor | None = None  # (B, T, 1 + W)

    def to(self, *args: Any, **kwargs: Any) -> "Batch":
        """The batch with its tensors on another device (Lightning calls this)."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory (the DataLoader calls this)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle tensors as arrays, which leave a worker through its pipe, unless shared memory has room for them.

        That is faster, but a worker that finds none left is killed, or waits forever.
        """
        worker, free = get_worker_info(), shared_memory_bytes()
        size = sum(value.nbytes for value in vars(self).values() if isinstance(value, Tensor))
        small = worker is None or (free is not None and free < 2 * worker.num_workers * size)
        return _batch_of, (dict(vars(self._map(Tensor.numpy) if small else self)),)

    def _map(self, change: Callable[[Any], Any], kind: type = Tensor) -> "Batch":
        changed: dict[str, Any] = {n: change(value) for n, value in vars(self).items() if isinstance(value, kind)}
        return replace(self, **changed)


def _batch_of(fields: dict[str, Any]) -> Batch:
    return Batch(**fields)._map(torch.from_numpy, np.ndarray)


def collate(samples: Sequence[Sample]) -> Batch:
    """Pad samples of one kind to the longest and stack them."""
    length = max(len(sample.inputs) for sample in samples)
    most = max(len(sample.annotators) for sample in samples)
    annotators = torch.full((len(samples), most, length), float("nan"))
    for row, sample in zip(annotators, samples, strict=True):
        row[: sample.annotators.shape[0], : sample.annotators.shape[1]] = sample.annotators

    def padded(name: str) -> Tensor:
        return pad_sequence([getattr(sample, name) for sample in samples], batch_first=True)

    return Batch(
        videos=tuple(sample.video for sample in samples),
        numbers=torch.tensor([sample.number for sample in samples]),
        kind=samples[0].kind,
        inputs=padded("inputs"),
        mask=padded("visible"),
        seconds=padded("seconds"),
        importance=padded("importance"),
        annotators=annotators,
        teacher_target=None if samples[0].teacher_target is None else padded("teacher_target"),
    )


@dataclass(frozen=True)
class Augmentation:
    """Temporal jitter, frame dropout, and colour and flip that are consistent over a clip; each part is off at 0."""

    jitter: float = 0.0  # shift each frame by up to this share of the spacing between frames, 0 to 0.5; labels follow
    drop: float = 0.0  # share of the frames hidden from the model and the loss, 0 to 0.95; at least two always stay
    colour: float = 0.0  # brightness, contrast and saturation change by factors in 1 +- this, 0 to 1
    flip: float = 0.0  # probability of mirroring the whole clip left to right

    def __post_init__(self) -> None:
        for name, top in {"jitter": 0.5, "drop": 0.95, "colour": 1.0, "flip": 1.0}.items():
            if not 0 <= getattr(self, name) <= top:
                raise ValueError(f"{name} must lie in [0, {top}], not {getattr(self, name)}")

    @property
    def changes_pixels(self) -> bool:
        """Whether images change, so that what was computed from them once does not hold."""
        return self.jitter > 0 or self.colour > 0 or self.flip > 0

    def move(self, indices: IntArray, n_frames: int, rng: np.random.Generator) -> Int64Array:
        """Jittered frame numbers (T,), still in order and within [0, n_frames)."""
        if not self.jitter or len(indices) < 2:
            return indices.astype(np.int64)
        spacing = np.diff(indices).mean()
        shift = rng.uniform(-self.jitter, self.jitter, len(indices)) * spacing
        moved = np.clip(np.round(indices + shift), 0, n_frames - 1).astype(np.int64)
        return np.maximum.accumulate(moved)

    def keep(self, length: int, rng: np.random.Generator) -> BoolArray:
        """Which frames stay visible, bool (T,)."""
        stays = rng.random(length) >= self.drop
        if stays.sum() < min(2, length):
            stays[rng.choice(length, min(2, length), replace=False)] = True
        return stays

    def paint(self, frames: Tensor, rng: np.random.Generator) -> Tensor:
        """Frames uint8 (T, 3, H, W) -> the same shape, one change for all."""
        if self.flip and rng.random() < self.flip:
            frames = frames.flip(-1)
        if self.colour:
            brightness, contrast, saturation = 1 + rng.uniform(-self.colour, self.colour, 3)
            images = frames.float() * brightness
            images = (images - images.mean()) * contrast + images.mean()
            grey = images.mean(1, keepdim=True)
            frames = ((images - grey) * saturation + grey).round().clamp(0, 255).to(torch.uint8)
        return frames


def _checked(augmentation: Augmentation, method: str, given: Array, like: Array) -> Array:
    """What an augmentation, maybe a user's own, gives; KeyframeError unless type, dtype and shape are as of `like`."""
    same_kind = isinstance(given, type(like))
    if not same_kind or given.shape != like.shape or given.dtype != like.dtype:
        found = f"{given.dtype} {tuple(given.shape)}" if same_kind else f"a {type(given).__name__}"
        raise KeyframeError(
            f"augmentation: {method}() of {type(augmentation).__name__} gives {found}: it must give {like.dtype} "
            f"{tuple(like.shape)}, as keyframe.data.dataset.Augmentation says."
        )
    return given


@dataclass(frozen=True)
class Schedule:
    """Kind and view of an epoch's samples."""

    before: InputKind  # in the epochs before `switch_epoch`
    after: InputKind  # from then on
    switch_epoch: int | None  # None never switches
    views: int | None = None  # how many augmented views there are, taken in turn; None for images as they are

    def kind(self, epoch: int) -> InputKind:
        """Kind of the samples of an epoch."""
        return self.after if self.switch_epoch is not None and epoch >= self.switch_epoch else self.before

    def view(self, epoch: int) -> int | None:
        """Which augmented view the samples of an epoch show; None for images as they are."""
        return None if self.views is None else epoch % self.views


class VideoDataset(Dataset[Sample]):
    """Labelled videos as samples.

    The index of an item is `(epoch, number)`, as `EpochSampler` gives it, so that augmentation is a function of (seed,
    epoch, video) in any process; a plain `number` means epoch 0. Each access decodes the video with frames of `size`
    (height, width) in pixels, until `serve` gives entries of the cache. `name` is the split's, for messages.
    """

    def __init__(
        self,
        name: str,
        videos: Sequence[LabelledVideo],
        reader: VideoReader,
        sampling: Sampling,
        size: tuple[int, int],
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.name = name
        self.videos = list(videos)
        self.reader, self.sampling, self.size = reader, sampling, size
        self.augmentation, self.seed = augmentation, seed
        self.schedule: Schedule | None = None
        self._entries: Mapping[Address, CachedVideo] = {}
        self._teacher_targets: Mapping[Address, CachedVideo] = {}
        self._hashed: dict[str, tuple[FileState | None, str, tuple[str, ...]]] = {}

    def __len__(self) -> int:
        return len(self.videos)

    @property
    def in_memory(self) -> bool:
        """Whether samples are there without decoding or reading."""
        return self.schedule is not None

    def check(self, strict: bool = False, decode: bool = True) -> dict[str, str]:
        """Check every video and its labels, and leave out the videos that cannot be read; returns their id -> why.

        `strict` raises the `VideoError` of the first bad video instead. Without `decode` only the packets are read, and
        damage within them is not seen.
        """
        skipped: dict[str, str] = {}

        def attempt(number: int) -> VideoError | None:
            try:
                self._sample("pixels", number, self.decode(number)) if decode else self._look(number)
            except VideoError as error:
                return error
            return None

        title = f"{'Decoding' if decode else 'Looking at'} {self.name}"
        with ThreadPoolExecutor(cores()) as pool:
            bar = tqdm(pool.map(attempt, range(len(self))), title, len(self), unit="video", disable=None)
            for video, error in zip(self.videos, bar, strict=True):
                if error is not None and strict:
                    raise error
                if error is not None:
                    skipped[video.id] = str(error)
        self.leave_out(skipped)
        return skipped

    def leave_out(self, ids: Collection[str]) -> None:
        """Remove these videos from the data set."""
        self.videos = [video for video in self.videos if video.id not in ids]

    def serve(self, schedule: Schedule, entries: Mapping[Address, CachedVideo]) -> None:
        """From now on make samples of these entries; nothing is decoded any more."""
        self.schedule, self._entries = schedule, entries

    def set_teacher_targets(self, targets: Mapping[Address, CachedVideo]) -> None:
        """From now on put a teacher's target into each sample; every video and view needs one, (T, 1 + W)."""
        self._teacher_targets = targets

    def plain(self, number: int) -> Sample:
        """A sample without augmentation, of the latest kind that is kept."""
        for kind in (self.schedule.before, self.schedule.after) if self.schedule is not None else ():
            if (kept := self._entries.get((self.videos[number].id, kind, None))) is not None:
                return self._sample(kind, number, kept)
        return self._sample("pixels", number, self.decode(number))

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        epoch, number = key if isinstance(key, tuple) else (0, key)
        if self.schedule is None:
            return self._sample("pixels", number, self.decode(number, epoch), epoch)
        kind, view = self.schedule.kind(epoch), self.schedule.view(epoch)
        return self._sample(kind, number, self._entries[self.videos[number].id, kind, view], epoch)

    def decode(self, number: int, view: int | None = None) -> CachedVideo:
        """Images of a video, (T, 3, H, W), under this draw of the augmentation, if any; may raise `VideoError`."""
        video = self.videos[number]
        state = self._hashed[video.id][0] if video.id in self._hashed else None  # `identity` must be of what is decoded
        with unchanged(video.path, state, VideoError):
            index = index_packets(video.path)
        indices = chosen_frames(self.sampling, index)
        augmentation = self.augmentation if view is not None else None
        rng = self._rng(video, view or 0, _IMAGES)
        if augmentation is not None:
            moved, who = augmentation.move(indices, index.n_frames, rng), type(augmentation).__name__
            indices = own_frame_numbers(moved, index, len(indices), f"augmentation: move() of {who}")
        frames = self.reader.read(video.path, self.reader.grid(indices, index), self.size, index)
        images = torch.from_numpy(frames.pixels).permute(0, 3, 1, 2).contiguous()
        if augmentation is not None:
            images = _checked(augmentation, "paint", augmentation.paint(images, rng), images)
        return CachedVideo(
            inputs=images,
            indices=torch.from_numpy(frames.indices),
            seconds=torch.from_numpy(frames.timestamps - index.timestamps[0]),
            n_frames=index.n_frames,
            duration=index.duration,
        )

    def identity(self, number: int, view: int | None = None) -> dict[str, Any]:
        """All that decides what `decode` gives, as plain values; the file is read once. May raise `VideoError`."""
        video = self.videos[number]
        if video.id not in self._hashed:
            with unchanged(video.path, error=VideoError) as state:
                self._hashed[video.id] = state, content_hash(video.path), corrections(video.path)
        _, content, needed = self._hashed[video.id]
        installed = installed_versions(("av", "decord"))
        identity = {
            "content": content,
            "reader": described(self.reader, without={"threads", "progress", "deinterlace", "tone_map"}),
            "decoders": {name: installed.get(name) for name in ("av", "decord")},
            "sampling": described(self.sampling),
            "size": list(self.size),
        }
        if made := [name for name in needed if getattr(self.reader, name)]:
            identity["corrections"] = made
        if self.augmentation is not None and view is not None:
            augmentation = described(self.augmentation, without={"drop"})
            identity |= {"augmentation": augmentation, "draw": [self.seed, view, video.id]}
        return identity

    def _rng(self, video: LabelledVideo, draw: int, purpose: int) -> np.random.Generator:
        """A generator that does not depend on the video's place in the data set."""
        return np.random.default_rng([self.seed, draw, purpose, *video.id.encode()])

    def _look(self, number: int) -> None:
        video = self.videos[number]
        index = index_packets(video.path)
        chosen_frames(self.sampling, index)
        check_alignment(len(video.labels), index.n_frames, video.path)

    def _sample(self, kind: InputKind, number: int, encoded: CachedVideo, epoch: int | None = None) -> Sample:
        """A sample, with the labels as they are now; an epoch hides some of its frames."""
        video = self.videos[number]
        indices, seconds = encoded.indices.numpy(), encoded.seconds.numpy()
        labels, place = video.labels, video.path
        importance, annotators = sample_labels(labels, encoded.n_frames, indices, seconds, encoded.duration, place)
        view = self.schedule.view(epoch) if self.schedule is not None and epoch is not None else None
        teacher_target = self._teacher_targets.get((video.id, "teacher_target", view))
        visible = np.ones(len(encoded.inputs), dtype=bool)
        if self.augmentation is not None and epoch is not None:
            kept = self.augmentation.keep(len(visible), self._rng(video, epoch, _HIDING))
            visible = _checked(self.augmentation, "keep", kept, visible)
            if not visible.any():
                raise KeyframeError(f"augmentation: keep() of {type(self.augmentation).__name__} hides every frame.")
        return Sample(
            video=video.id,
            number=number,
            kind=kind,
            inputs=encoded.inputs,
            seconds=encoded.seconds.float(),
            importance=torch.from_numpy(importance),
            annotators=torch.from_numpy(annotators),
            visible=torch.from_numpy(visible),
            teacher_target=None if teacher_target is None else teacher_target.inputs,
        )


class FeatureDataset(Dataset[Sample]):
    """Feature videos as samples, with the methods of `VideoDataset` that training needs."""

    augmentation = None

    def __init__(self, name: str, videos: Sequence[FeatureVideo]) -> None:
        self.name = name
        self.videos = list(videos)
        self.in_memory = all(video.held is not None for video in self.videos)

    def __len__(self) -> int:
        return len(self.videos)

    def plain(self, number: int) -> Sample:
        video = self.videos[number]
        return Sample(
            video=video.id,
            number=number,
            kind="features",
            inputs=torch.from_numpy(video.features),
            seconds=torch.from_numpy(video.seconds).float(),
            importance=torch.from_numpy(video.importance),
            annotators=torch.from_numpy(video.annotators),
            visible=torch.ones(len(video.picks), dtype=torch.bool),
        )

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        return self.plain(key[1] if isinstance(key, tuple) else key)
