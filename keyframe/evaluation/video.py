"""A labelled video as evaluation sees it: everything that a model's scores are compared with, and no model."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from keyframe.data.feature_file import FeatureVideo
from keyframe.data.hdf5 import USUAL_RATE
from keyframe.data.packets import PacketIndex
from keyframe.data.reader import VideoReader
from keyframe.data.sampling import labelled_frames
from keyframe.evaluation.metrics import hold_scores, keyshots, user_summaries
from keyframe.summary.describe import DESCRIPTOR_SIZE, Appearance, describe_frames
from keyframe.summary.shots import kts, segments_to_frames
from keyframe.summary.training_free import training_free, training_free_of_features
from keyframe.types import BoolArray, Float64Array, FloatArray, Int64Array, IntArray, LabelledVideo, Labels, UInt8Array

# The baselines by the names of their numbers.
TRAINING_FREE, RIDGE = "training_free", "ridge"
PICK_STEP = 15  # about two picks per second, as in the feature files that published systems share
PROTOCOL = (
    "Rank correlation (Kendall's tau-b, Spearman's rho) at every 15th frame with each annotator separately, averaged "
    "over annotators, then over videos: the protocol of Otani et al., Rethinking the evaluation of video summaries, "
    "CVPR 2019. Correlation with the annotators' mean is another, larger number."
)


def picks(frames: int) -> Int64Array:
    """The scored frames of a video of `frames` frames: 0, 15, 30 ..., int64, (ceil(frames / 15),)."""
    return np.arange(0, frames, PICK_STEP, dtype=np.int64)


def annotators_at_picks(labels: Labels) -> Float64Array:
    """Each annotator's scores at the picks, (A, ceil(L / 15))."""
    return labels.annotators[:, ::PICK_STEP].astype(np.float64)


def mean_track(annotators: FloatArray) -> Float64Array:
    """The mean of annotators (A, T), as (T,), rounded to 6 decimals: sums of inexact scores such as 1/3 must tie."""
    return np.round(annotators.mean(axis=0, dtype=np.float64), 6)


# Cuts a video: descriptors (n, d) and seconds (n,) of its picks -> first and last pick of each shot, (m, 2).
Shots = Callable[[FloatArray, FloatArray], IntArray]


@dataclass(frozen=True)
class EvalVideo:
    """One video's labels at its scored entries, its shots, and the annotators' summaries."""

    video: str
    category: str  # "" if the label file names none
    n_frames: int  # L, the length of the label track; one entry per frame
    entries: Int64Array  # the scored ones, rising, (n,); every 15th in the published protocol
    seconds: FloatArray  # of the entries, (n,)
    importance: FloatArray  # the annotators' mean there (without annotators the file's own track), (n,)
    annotators: FloatArray  # each annotator's scores there, (A, n); A may be 0
    shots: IntArray  # first and last frame of each, both inclusive, covering the video, (m, 2)
    users: BoolArray  # whether each user keeps each frame in a summary, (U, L); U may be 0
    baselines: Mapping[str, FloatArray] = field(default_factory=dict)  # name -> scores at the entries, (n,)
    selections: bool = False  # whether the labels are the users' summaries, see `Labels`

    def __post_init__(self) -> None:
        count = len(self.entries)
        shapes = {track.shape for track in (self.seconds, self.importance, *self.baselines.values())}
        shapes.add(self.annotators.shape[1:])
        if shapes != {(count,)} or self.users.shape[1:] != (self.n_frames,):
            raise ValueError(f"{self.video}: {count} entries of {self.n_frames} frames do not fit {shapes}")

    def summary(self, scores: FloatArray) -> BoolArray:
        """The keyshot summary that scores at the entries (n,) make: whether each frame is kept, (L,)."""
        return keyshots(hold_scores(scores, self.entries, self.n_frames), self.shots)


def pixel_eval_video(
    video: LabelledVideo,
    index: PacketIndex,
    reader: VideoReader,
    shots: Shots,
    lowest: float = 1.0,
    highest: float = 5.0,
    size: tuple[int, int] = DESCRIPTOR_SIZE,
    see: Callable[[Iterator[UInt8Array], int], None] | None = None,
) -> EvalVideo:
    """Decode a video once and cut it by a descriptor that is independent of any model; may raise `VideoError`.

    `lowest` and `highest` are the scores in the label file that 0 and 1 stand for: the annotators' summaries depend on
    them. `see` is given the frames at the picks, piece by piece, uint8 (p, *size, 3), and their number.
    """
    frames = labelled_frames(len(video.labels), picks(len(video.labels)), index)
    seen: list[Appearance] = []

    def images() -> Iterator[UInt8Array]:
        for pieces in reader.stream_sizes(video.path, frames, list({DESCRIPTOR_SIZE: 0, size: 0}), index):
            seen.append(describe_frames(pieces[0].pixels))
            yield pieces[-1].pixels

    if see is None:
        deque(images(), maxlen=0)
    else:
        see(images(), len(frames))
    appearance, seconds = Appearance.join(seen), index.timestamps[frames] - index.timestamps[0]
    cut = shots(appearance.descriptors, seconds)
    return eval_video_from_appearance(video.id, video.labels, appearance, seconds, cut, lowest, highest)


def eval_video_from_appearance(
    video: str,
    labels: Labels,
    seen: Appearance,
    seconds: FloatArray,
    cut: IntArray,
    lowest: float = 1.0,
    highest: float = 5.0,
) -> EvalVideo:
    """The same from the descriptors of a video's n picks and their seconds (n,), without its file.

    `cut` is first and last pick of each shot, both inclusive, (m, 2), covering 0 ... n - 1 in order.
    """
    ranges = segments_to_frames(cut, picks(len(labels)), len(labels))
    return replace(
        label_eval_video(video, labels),
        seconds=seconds,
        shots=ranges,
        users=user_summaries(labels.annotators, ranges, lowest, highest, labels.selections),
        baselines={TRAINING_FREE: training_free(seen, cut)},
    )


def feature_eval_video(video: FeatureVideo) -> EvalVideo:
    """The same from a feature file: its own summaries and shots, or KTS on its features if it has no shots."""
    if video.change_points is not None:
        ranges = video.change_points
    else:
        ranges = segments_to_frames(kts(video.features), video.picks, video.n_frames)
    # the picks of each shot, for the baseline; a shot between two picks has none
    owner = np.searchsorted(ranges[:, 0], video.picks, side="right") - 1
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    cut = np.stack([starts, np.append(starts[1:], len(video.picks)) - 1], axis=1)
    users = video.user_summaries
    if users is None and len(video.annotators):
        held = np.stack([hold_scores(one, video.picks, video.n_frames) for one in video.annotators])
        users = user_summaries(held, ranges)
    return EvalVideo(
        video=video.id,
        category=video.category,
        n_frames=video.n_frames,
        entries=video.picks,
        seconds=video.seconds,
        importance=video.importance.astype(np.float64),
        annotators=video.annotators.astype(np.float64),
        shots=ranges,
        users=np.empty((0, video.n_frames), dtype=bool) if users is None else users,
        baselines={TRAINING_FREE: training_free_of_features(video.features, cut)},
        selections=video.selections,
    )


def label_eval_video(video: str, labels: Labels) -> EvalVideo:
    """The same from labels alone: without frames there are no shots, hence no summaries, and no baseline."""
    entries = picks(len(labels))
    importance, annotators = _labels_at(labels, entries)
    return EvalVideo(
        video=video,
        category=labels.category,
        n_frames=len(labels),
        entries=entries,
        seconds=entries / USUAL_RATE,
        importance=importance,
        annotators=annotators,
        shots=np.array([[0, len(labels) - 1]]),
        users=np.empty((0, len(labels)), dtype=bool),
        selections=labels.selections,
    )


def at_entries(eval_video: EvalVideo, labels: Labels, entries: IntArray, seconds: FloatArray) -> EvalVideo:
    """The same video scored at other entries, rising, (n,), such as the frames of a model's own sampling."""
    importance, annotators = _labels_at(labels, entries)
    return replace(
        eval_video,
        entries=entries.astype(np.int64),
        seconds=seconds,
        importance=importance,
        annotators=annotators,
        baselines={
            name: hold_scores(scores, eval_video.entries, eval_video.n_frames)[entries]
            for name, scores in eval_video.baselines.items()
        },
    )


def _labels_at(labels: Labels, entries: IntArray) -> tuple[Float64Array, Float64Array]:
    """The annotators' mean (or the file's own track) and each annotator's scores there, (n,) and (A, n)."""
    annotators = labels.annotators[:, entries].astype(np.float64)
    return mean_track(annotators) if len(annotators) else labels.importance[entries].astype(np.float64), annotators
