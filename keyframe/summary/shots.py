"""Cut a video into shots: by Kernel Temporal Segmentation of features, or at hard cuts, by PySceneDetect."""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Protocol

import numpy as np

from keyframe.data.packets import PacketIndex
from keyframe.data.reader import VideoReader
from keyframe.summary.describe import Appearance
from keyframe.system import pip_install
from keyframe.types import Float64Array, FloatArray, Int64Array, IntArray, KeyframeError, check_number

Segments = Int64Array

_STEPS_AT_ONCE = 128  # steps whose scatters come from one matrix product
_TRIALS = 16  # linear penalties tried in one pass, at least 2

# Up to this many steps scatters are kept from pass to pass (n (n + 1) / 2 floats: 17 MB), above it computed again.
_MOST_KEPT = 2048

# Features that differ by less than this share of their length count as equal, costs by this share of the scatter.
_EQUAL_WITHIN = 1e-10


def kts(features: FloatArray, penalty: float = 1.0, *, min_length: int = 1) -> Segments:
    """Cut a sequence of features where its mean changes.

    This is Kernel Temporal Segmentation (Potapov, Douze, Harchaoui, Schmid: Category-specific video summarization, ECCV
    2014, section 3). Rows are scaled to length 1. Minimised over the number m of change points and their places is

        J = sum over segments of sum_t |x_t - mean of the segment|^2  +  penalty / 2 * m (log(n / m) + 1)

    (no penalty for m = 0). The paper's C is `penalty` / 2, and `penalty` is what the authors' code calls vmax; 1 is the
    setting of a public script that makes such feature files (li-plus/DSNet, make_shots.py). A larger penalty gives
    fewer segments; a signal whose scatter inside shots is above `penalty` / 2 per step falls apart into single steps.
    The kernel is linear; for another one pass its feature map.

    The penalty is concave in m, so it is the lower envelope of its tangents, and some linear penalty has the optimum of
    J among its own optima. A linear penalty needs one dynamic programme over the last change point, O(n^2); a handful
    of passes, each with up to 16 linear penalties at once, finds the optimum and the bound that proves it. Memory: less
    than 8 n (2 d + 300) bytes, and 4 n (n + 1) bytes, 17 MB at most, while n <= 2048.

    Args:
        features: one row per step, (n, d), finite; n, d >= 1; rows of zeros stay.
        penalty: scale of the penalty on the number of segments, >= 0.
        min_length: fewest steps of a segment, >= 1; a signal with fewer is one segment.

    Returns:
        First and last step of each segment, both inclusive, (m + 1, 2), in order, covering 0 ... n - 1. Of cuts that
        cost the same (to 1e-10 of the whole scatter) one with the fewest segments is taken.
    """
    if features.ndim != 2 or not features.size or not np.isfinite(features).all():
        raise ValueError(f"features must be finite numbers (n, d) with n, d >= 1, not an array {features.shape}")
    if not (penalty >= 0 and np.isfinite(penalty)):
        raise ValueError(f"penalty must be a finite number >= 0, not {penalty}")
    if min_length < 1:
        raise ValueError(f"min_length must be at least 1, not {min_length}")
    n = len(features)
    if n < 2 * min_length:
        return np.array([[0, n - 1]], dtype=np.int64)
    starts = _best_cut(_Scatters(features), penalty / 2, min_length)
    return np.stack([starts, np.append(starts[1:], n) - 1], axis=1)


def segments_to_frames(segments: IntArray, picks: IntArray, n_frames: int) -> Segments:
    """Turn segments (m, 2) of sampled steps into ranges of frames (m, 2), both inclusive and without gaps.

    A segment begins at the frame of its first step, the first segment at frame 0, and ends before the next begins, the
    last at frame `n_frames` - 1: the `change_points` of the field's eccv16 files. `picks` is the frame number of each
    step, rising, (n,).
    """
    check_picks(picks, n_frames)
    check_shots(segments, len(picks))
    starts = picks[segments[:, 0]].astype(np.int64)
    starts[0] = 0
    return np.stack([starts, np.append(starts[1:], n_frames) - 1], axis=1)


def check_picks(picks: IntArray, n_frames: int) -> None:
    """Raise ValueError unless frame numbers (n,), n >= 1, rise within 0 ... n_frames - 1."""
    if picks.ndim != 1 or not picks.size or picks[0] < 0 or picks[-1] >= n_frames or (np.diff(picks) <= 0).any():
        raise ValueError(f"picks must be (n,), n >= 1, and rise within the {n_frames} frames, not {picks}")


def check_shots(shots: IntArray, length: int) -> None:
    """Raise ValueError unless shots (m, 2), first and last position inclusive, cover 0 ... length - 1 in order."""
    if shots.ndim != 2 or shots.shape[1] != 2 or not len(shots):
        raise ValueError(f"shots must be (m, 2) with m >= 1, not {shots.shape}")
    whole = shots[0, 0] == 0 and shots[-1, 1] == length - 1
    if not whole or (shots[:, 1] < shots[:, 0]).any() or (shots[1:, 0] != shots[:-1, 1] + 1).any():
        raise ValueError(f"shots must follow each other from 0 to {length - 1}, ends included")


class _Scatters:
    """The scatter of every segment [s, t): the sum of squared distances from the segment's mean.

    Kept are sums from the start: S_t of features and Q_t of their squared lengths. Then the scatter is
    Q_t - Q_s - |S_t - S_s|^2 / (t - s), and a block of t is one matrix product. `whole` is the scatter of the whole
    signal of n `steps`; costs that differ by no more than `slack` count as equal.
    """

    def __init__(self, features: FloatArray) -> None:
        rows = features.astype(np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        rows /= np.where(lengths > 0, lengths, 1.0)[:, None]
        energy = float(np.einsum("ij,ij->", rows, rows))
        # Scatter does not change with the origin; small sums keep it exact.
        rows -= rows.mean(axis=0)
        self.steps = len(rows)
        self._squares = np.append(0.0, np.cumsum(np.einsum("ij,ij->i", rows, rows)))
        self._sums = np.zeros((self.steps + 1, rows.shape[1]))
        np.cumsum(rows, axis=0, out=self._sums[1:])
        self._lengths = np.einsum("ij,ij->i", self._sums, self._sums)
        self.whole = max(0.0, float(self._squares[-1] - self._lengths[-1] / self.steps))
        self.slack = _EQUAL_WITHIN * self.whole + _EQUAL_WITHIN**2 * energy
        self._kept = list(self._compute()) if self.steps <= _MOST_KEPT else None

    def columns(self) -> Iterator[Float64Array]:
        """For t = 1 ... n the scatters of [s, t), s = 0 ... t - 1, shape (t,)."""
        return iter(self._kept) if self._kept is not None else self._compute()

    def _compute(self) -> Iterator[Float64Array]:
        for first in range(1, self.steps + 1, _STEPS_AT_ONCE):
            last = min(first + _STEPS_AT_ONCE, self.steps + 1)
            products = self._sums[first:last] @ self._sums[: last - 1].T
            for t in range(first, last):
                distances = self._lengths[t] + self._lengths[:t] - 2 * products[t - first, :t]
                scatter = self._squares[t] - self._squares[:t] - distances / np.arange(t, 0, -1)
                yield np.maximum(scatter, 0.0)


def _best_cut(scatters: _Scatters, scale: float, min_length: int) -> Segments:
    """First steps of the segments that minimise scatter + scale * m (log(n / m) + 1).

    A linear penalty a on each change point has the optimum P(a) <= L(m) + a m, for the least scatter L(m) of every m.
    So each slope a gives one cut, and one lower bound of all L(m). The slopes tried are the penalty's own at some m,
    then those between neighbouring cuts wherever the bound leaves room for a better one, until it leaves none.
    """
    n = scatters.steps
    counts = np.arange(n)
    # The paper's g(m, n) = m (log(n / m) + 1) for m = 0 ... n - 1; g(0, n) = 0.
    price = scale * np.append(0.0, counts[1:] * (np.log(n / counts[1:]) + 1))
    slack = scatters.slack
    # Change points -> (scatter, first steps).
    cuts: dict[int, tuple[float, Segments]] = {0: (scatters.whole, np.zeros(1, dtype=np.int64))}
    bound = np.zeros(n)
    tried: set[tuple[int, int]] = set()
    # The least slope, all but 0, gives the most change points that can pay, and no needless ones.
    least = slack / n
    slopes = np.unique(np.maximum(least, scale * np.log(n / np.geomspace(1, n, _TRIALS))))
    while len(slopes):
        for slope, (total, starts) in zip(slopes, _cheapest_cuts(scatters, slopes, min_length), strict=True):
            cuts.setdefault(len(starts) - 1, (total - slope * (len(starts) - 1), starts))
            bound = np.maximum(bound, total - slope * counts)
        best = min(scatter + price[m] for m, (scatter, _) in cuts.items())
        promising = bound + price < best - slack
        gaps = [gap for gap in pairwise(sorted(cuts)) if gap not in tried and promising[gap[0] + 1 : gap[1]].any()]
        gaps = gaps[:_TRIALS]
        tried.update(gaps)
        slopes = np.array([max(least, (cuts[low][0] - cuts[high][0]) / (high - low)) for low, high in gaps])
    return cuts[min(m for m, (scatter, _) in cuts.items() if scatter + price[m] <= best + slack)][1]


def _cheapest_cuts(scatters: _Scatters, slopes: Float64Array, min_length: int) -> list[tuple[float, Segments]]:
    """For each slope a the least scatter + a m, and the first steps of the segments that have it.

    Dynamic programme over the last change point: the best cut of the first t steps is the least, over the first step s
    of the last segment, of the best cut of the first s steps plus the scatter of [s, t) plus a; of equal ones the
    first.
    """
    costs = np.full((len(slopes), scatters.steps + 1), np.inf)
    costs[:, 0] = -slopes
    last = np.zeros(costs.shape, dtype=np.int32)
    rows = np.arange(len(slopes))
    for t, column in enumerate(scatters.columns(), start=1):
        reach = t - min_length + 1
        if reach > 0:
            sums = costs[:, :reach] + column[:reach]
            last[:, t] = sums.argmin(axis=1)
            costs[:, t] = sums[rows, last[:, t]] + slopes
    cuts = []
    for row in rows:
        starts = [scatters.steps]
        while starts[-1] > 0:
            starts.append(int(last[row, starts[-1]]))
        cuts.append((float(costs[row, -1]), np.array(starts[:0:-1], dtype=np.int64)))
    return cuts


class ShotCutter(Protocol):
    """Cuts a video into shots; a dataclass, so that a record can describe it."""

    def of_video(self, index: PacketIndex, frames: IntArray, appearance: Appearance, reader: VideoReader) -> Segments:
        """First and last of the sampled `frames` (n,) of each shot, inclusive, (m, 2), covering them in order."""
        ...


# Seconds between the frames that the penalty was calibrated on (every 15th of about 30 per second), and of a typical
# shot.
_CALIBRATED_STEP, _TYPICAL_SHOT = 0.5, 5.0

# Frames that are cut at once (4 s: time grows with their square), and frames that two such stretches share.
_STRETCH, _OVERLAP = 7200, 600


@dataclass(frozen=True)
class KtsShots:
    """Cuts a video by Kernel Temporal Segmentation of what it looks like: shots are the same for every model.

    Calibrated on real clips with known cuts and on the demo set: penalties between 0.06 and 0.1 have a mean F1 of the
    cuts (within one frame) within 0.03 of the best. Below, shots with movement fall apart; above, cuts between similar
    scenes are missed. Shots then last 4 to 5.5 s on average, about as long as in the field's TVSum files.
    """

    penalty: float = (
        0.08  # price of a shot at two frames per second, >= 0, scaled at other rates; larger is fewer shots
    )
    min_length: float = 1.0  # least seconds of a shot, >= 0, to the nearest frame

    def __post_init__(self) -> None:
        check_number("shots.penalty", self.penalty, 0, whole=False)
        check_number("shots.min_length", self.min_length, 0, whole=False)

    def __call__(self, descriptors: FloatArray, seconds: FloatArray) -> Segments:
        """Cut a video into shots: first and last frame of each, inclusive, (m, 2), covering 0 ... n - 1 in order.

        Up to 7200 frames (an hour at two per second) the cut is the optimum of the KTS objective. A longer video is cut
        in stretches of 7200 frames that share 600, each of which counts up to the middle of what it shares with the
        next: time then grows with the length. `descriptors` (n, d), n >= 1, are of frames at about even steps;
        `seconds` (n,) do not decrease.
        """
        if seconds.ndim != 1 or len(seconds) != len(descriptors) or (np.diff(seconds) < 0).any():
            raise ValueError(f"seconds must not decrease, one for each of {len(descriptors)} rows")
        n = len(seconds)
        # One frame, or many at one time, have no rate.
        step = float(seconds[-1] - seconds[0]) / (n - 1) if n > 1 else 0.0
        step = step or _CALIBRATED_STEP
        penalty, fewest = self.penalty * _price(step) / _price(_CALIBRATED_STEP), max(1, round(self.min_length / step))
        starts = np.zeros(1, dtype=np.int64)
        for first in range(0, max(1, n - _OVERLAP), _STRETCH - _OVERLAP):
            found = first + kts(descriptors[first : first + _STRETCH], penalty=penalty, min_length=fewest)[1:, 0]
            # Nothing lies before the first stretch.
            middle = first + _OVERLAP // 2 if first else 1
            starts = starts[starts < middle]
            starts = np.append(starts, found[found >= max(middle, starts[-1] + fewest)])
        return np.stack([starts, np.append(starts[1:], n) - 1], axis=1)

    def of_video(self, index: PacketIndex, frames: IntArray, appearance: Appearance, reader: VideoReader) -> Segments:
        """Cut a video by the descriptors of its sampled frames; nothing is decoded. See `ShotCutter`."""
        return self(appearance.descriptors, index.timestamps[frames] - index.timestamps[0])


def _price(step: float) -> float:
    """Price of a shot at a step in seconds, up to a factor: frame rate over the logarithm of frames per shot."""
    return 1 / (step * float(np.log(max(2.0, _TYPICAL_SHOT / step))))


_SCENEDETECT_WIDTH = 256  # width that PySceneDetect itself scales frames to (`scene_manager.DEFAULT_MIN_WIDTH`)


@dataclass(frozen=True)
class ContentShots:
    """Cuts a video at hard cuts: PySceneDetect's `ContentDetector` on all its frames, read by our own reader.

    It decodes the video once more. It finds cuts, not slow changes: a video in one take is one shot.
    """

    libraries: ClassVar[Sequence[str]] = tuple(
        f"{name}{kind}" for name in ("scenedetect", "opencv-python") for kind in ("", "-headless")
    )

    threshold: float = 27.0  # least mean change of hue, saturation and value that is a cut, above 0, up to 255
    min_length: float = 1.0  # least seconds of a shot, >= 0; closer cuts are merged

    def __post_init__(self) -> None:
        check_number("shots.threshold", self.threshold, 0, 255, whole=False, above=True)
        check_number("shots.min_length", self.min_length, 0, whole=False)
        if importlib.util.find_spec("scenedetect") is None:
            raise KeyframeError(f"shots=content needs PySceneDetect: {pip_install('shots')}, or use shots=kts.")

    def __call__(self, descriptors: FloatArray, seconds: FloatArray) -> Segments:
        """Raise KeyframeError: descriptors of sampled frames are not enough to cut by."""
        raise KeyframeError("shots=content needs every frame of a video and works in keyframe-extract only: use kts.")

    def of_video(self, index: PacketIndex, frames: IntArray, appearance: Appearance, reader: VideoReader) -> Segments:
        """Cut a video; all its frames are decoded. See `ShotCutter`."""
        starts = np.unique(np.searchsorted(frames, [0, *self._cuts(index, reader)]))
        starts = starts[starts < len(frames)]
        return np.stack([starts, np.append(starts[1:], len(frames)) - 1], axis=1)

    def _cuts(self, index: PacketIndex, reader: VideoReader) -> Iterator[int]:
        """Numbers of the frames that begin a shot, without the first shot."""
        from scenedetect import ContentDetector, FrameTimecode

        detector = ContentDetector(self.threshold, min_scene_len=float(self.min_length))
        height, width = index.shown_size
        if width > _SCENEDETECT_WIDTH:
            height, width = max(1, round(_SCENEDETECT_WIDTH * height / width)), _SCENEDETECT_WIDTH
        number = 0
        for piece in reader.stream(index.path, np.arange(index.n_frames), (height, width), index):
            for pixels in piece.pixels:
                bgr = np.ascontiguousarray(pixels[..., ::-1])
                yield from (cut.frame_num for cut in detector.process_frame(FrameTimecode(number, index.fps), bgr))
                number += 1
        yield from (cut.frame_num for cut in detector.post_process(FrameTimecode(number - 1, index.fps)))
