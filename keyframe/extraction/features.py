"""A feature file of videos, as published systems read it: encoded at their picks, cut into shots, with their labels."""

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from keyframe.data.feature_file import EncodedVideo, FeatureFile, GroundTruth, each_features, video_numbers
from keyframe.data.folder import few
from keyframe.data.label_tables import TimedLabels
from keyframe.data.labels import read_video_labels
from keyframe.data.packets import PacketIndex
from keyframe.data.reader import VideoReader
from keyframe.data.sampling import check_alignment, frame_labels, sample_labels
from keyframe.evaluation.metrics import user_summaries
from keyframe.extraction.inputs import WHOLE, Part
from keyframe.extraction.staging import Refused
from keyframe.files import one_line
from keyframe.models.backbone import Backbone
from keyframe.models.detector import FrameEncoder, KeyframeDetector
from keyframe.pipeline import encode_images
from keyframe.summary.describe import DESCRIPTOR_SIZE, Appearance, describe_frames
from keyframe.summary.shots import ShotCutter, segments_to_frames
from keyframe.types import Float32Array, IntArray, KeyframeError, Labels, UInt8Array

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FeatureEncoder:
    """Encodes every `step`-th frame of a video, from frame 0 on (or I-frames near them: `VideoReader.grid`).

    A frame is decoded once and seen at two sizes: a fixed one, to cut shots by a descriptor that no model affects, and
    the backbone's. Memory holds the features, not the pixels.
    """

    detector: KeyframeDetector  # a model in eval mode; its backbone encodes, its head is not used
    size: tuple[int, int]  # (height, width) in pixels that the backbone sees
    reader: VideoReader  # decodes frames
    shots: ShotCutter  # cuts videos
    step: int = 15  # frames from one pick to the next, at least 1; 15 in published files
    lowest: float = 1.0  # the score in the label file that 0 stands for; the annotators' summaries depend on it
    highest: float = 5.0  # the score that 1 stands for
    width: int | None = None  # channels to bring the features to, by `orthonormal` or `principal`; None: as they are
    unit_length: bool = False  # whether each feature is divided by its length
    pca: Path | None = None  # a feature file of this backbone, for `principal`; None projects by `orthonormal`
    part: Part = WHOLE  # of each video that is encoded; picks count from its first frame

    @property
    def channels(self) -> int:
        """Of the features that are written."""
        return self.width or self.detector.backbone.width

    @cached_property
    def encoder(self) -> FrameEncoder:
        """Of frames."""
        return FrameEncoder(self.detector)

    @cached_property
    def projection(self) -> "Projection | None":
        """What brings features to `width`; KeyframeError if the file of `pca` cannot."""
        if self.width is None:
            return None
        given = self.detector.backbone.width
        return orthonormal(given, self.width) if self.pca is None else principal(self.pca, given, self.width)

    def __post_init__(self) -> None:
        if not isinstance(self.detector.backbone, Backbone):
            raise KeyframeError(
                "A model on feature files has no image backbone: give one (backbone=resnet50) or a run on videos."
            )
        self.detector.backbone.check_size(self.size, "size")
        try:
            with torch.inference_mode():
                self.detector.encode("pixels", torch.zeros(1, 1, 3, *self.size, device=self.detector.pixel_mean.device))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise KeyframeError(
                f"{self.detector.backbone.name} does not take images of {self.size[0]}x{self.size[1]} "
                f"({one_line(str(error))[:120]}): set size."
            ) from error

    def __call__(self, name: str, path: Path, labels: Labels | TimedLabels | None = None) -> EncodedVideo:
        """Encode a video; KeyframeError if it cannot be read, or, before it is decoded, if its labels do not fit."""
        index = self.part.index(path)
        for note in index.notes:
            log.info("%s: %s", path.name, note)
        if labels is not None:
            labels = frame_labels(labels, path, index)
            check_alignment(len(labels), index.n_frames, path)
        picks = self.reader.grid(np.arange(0, index.n_frames, self.step, dtype=np.int64), index)
        seen: list[Appearance] = []

        def images() -> Iterator[UInt8Array]:
            for small, own in self.reader.stream_sizes(path, picks, (DESCRIPTOR_SIZE, self.size), index):
                seen.append(describe_frames(small.pixels))
                yield own.pixels

        features = encode_images(images(), self.encoder).cpu().numpy()
        shots = self.shots.of_video(index, picks, Appearance.join(seen), self.reader)
        ranges = segments_to_frames(shots, picks, index.n_frames)
        truth = None if labels is None else self._truth(labels, index, picks, ranges)
        if self.projection is not None:
            features = (features - self.projection.mean) @ self.projection.matrix
        if self.unit_length:
            features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        return EncodedVideo(name, features, picks, index.n_frames, ranges, truth)

    def _truth(self, labels: Labels, index: PacketIndex, picks: IntArray, ranges: IntArray) -> GroundTruth:
        """The reference score at the picks, and the keyshot summaries of its track and of each annotator's scores."""
        frames, seconds = np.arange(index.n_frames), index.timestamps - index.timestamps[0]
        importance, annotators = sample_labels(labels, len(frames), frames, seconds, index.duration, index.path)
        lowest, highest = (0.0, 1.0) if labels.selections else (self.lowest, self.highest)
        reference = user_summaries(importance[None], ranges, lowest, highest)[0]
        users = user_summaries(annotators, ranges, lowest, highest, labels.selections)
        return GroundTruth(importance[picks], reference[picks], users)


@dataclass(frozen=True, eq=False)
class Projection:
    """Features (n, d) less `mean` (d,), times `matrix` (d, width); `about` says in the file what was done."""

    matrix: Float32Array
    mean: Float32Array
    about: str


def principal(path: Path, given: int, width: int) -> Projection:
    """The first principal components (Pearson, 1901) of all features (n, given) of a file, the largest first.

    Each points to where its largest entry is positive. The videos of that file are those that it is fitted to.
    """
    videos, count, total, products = 0, 0, np.zeros(given), np.zeros((given, given))
    for found in each_features(path, "pca"):
        if found.shape[1] != given:
            raise KeyframeError(
                f"pca={path} has features of {found.shape[1]} channels and the backbone gives {given}: make it with "
                "this backbone, without width="
            )
        videos, features = videos + 1, found.astype(np.float64)
        count, total, products = count + len(features), total + features.sum(0), products + features.T @ features
    if width > min(given, count - 1):
        raise KeyframeError(
            f"pca={path} has {count} features of {given} channels, too few for width={width}: lower width, or leave "
            "pca out"
        )
    mean = total / count
    variances, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    matrix = vectors[:, : -width - 1 : -1]
    matrix = matrix * np.sign(matrix[np.abs(matrix).argmax(0), np.arange(width)])
    share = variances[-width:].sum() / max(variances.sum(), 1e-12)
    about = f"PCA of {path.name} ({videos} videos, {share:.1%} of the variance), from {given} channels"
    return Projection(matrix.astype(np.float32), mean.astype(np.float32), about)


def orthonormal(given: int, width: int) -> Projection:
    """A fixed matrix (given, width), drawn at random, whose columns are orthonormal, or its rows if it widens.

    A wider feature keeps its length and its angles to others exactly, a narrower one nearly its angles (Johnson and
    Lindenstrauss, 1984). Nothing is fitted, so no test video takes part in it.
    """
    drawn = np.random.default_rng(0).standard_normal((max(given, width), min(given, width)))
    basis, upper = np.linalg.qr(drawn)
    basis *= np.sign(np.diag(upper))  # the one decomposition with a positive diagonal
    matrix = (basis if given >= width else basis.T).astype(np.float32)
    return Projection(matrix, np.zeros(given, np.float32), f"fixed random orthonormal, from {given} channels")


def videos_by_id(found: Sequence[Path | Refused]) -> dict[str, Path]:
    """Videos by the stems of their files; KeyframeError if an input leads to no video or two have one stem."""
    videos: dict[str, Path] = {}
    for path in found:
        if not isinstance(path, Path):
            raise KeyframeError(path.reason)
        # A name that is no UTF-8 could not be stored.
        other = videos.setdefault(path.stem.encode("utf-8", "replace").decode(), path)
        if other != path:
            raise KeyframeError(f"{other} and {path} are both the video {path.stem}: rename one of them.")
    return videos


def labels_of(
    videos: Mapping[str, Path], path: Path, lowest: float, highest: float
) -> Mapping[str, Labels | TimedLabels]:
    """All labels of a file by id, in its order; it may lack some of these videos, but not all."""
    found = read_video_labels(path, lowest, highest, "labels")
    if not found.keys() & videos.keys():
        raise KeyframeError(
            f"{path} has labels of {few(found)}, but of none of the videos {few(videos)}: call each file by its id."
        )
    return found


def write_features(
    out: Path,
    encoder: FeatureEncoder,
    videos: Mapping[str, Path],
    labels: Mapping[str, Labels | TimedLabels],
    weights: str,
) -> Generator[tuple[str, str], None, None]:
    """Encode videos by id into a feature file, which appears whole at the end.

    Labels are of all or some of the videos, in the order of their file; `weights` is the origin of the backbone's.
    Yields the id of each video, and why it was left out, or "".
    """
    (height, width), projection = encoder.size, encoder.projection
    about: dict[str, str | int] = {"backbone": encoder.detector.backbone.name, "weights": weights}
    about |= {"height": height, "width": width, "step": encoder.step, "channels": encoder.channels}
    about |= {} if projection is None else {"projection": projection.about}
    about["unit_length"] = int(encoder.unit_length)
    failed: list[str] = []
    with FeatureFile(out, about) as file:
        for name, number in video_numbers(videos, labels).items():
            try:
                video = encoder(name, videos[name], labels.get(name))
            except KeyframeError as error:
                failed.append(str(error))
                yield name, str(error)
                continue
            file.add(number, video)
            yield name, ""
        if len(failed) == len(videos):
            none = "" if len(failed) == 1 else f"none of {len(failed)} videos can be used: "
            raise KeyframeError(none + failed[0])
