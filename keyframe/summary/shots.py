"""The shots of a video, from what its pictures look like and from nothing else."""

from dataclasses import dataclass

import numpy as np

from keyframe.data.packets import PacketIndex
from keyframe.data.readers import VideoReader
from keyframe.summary.descriptor import Look
from keyframe.summary.segment import Segments, kts
from keyframe.types import FloatArray, IntArray

# Seconds between the pictures that the penalty was calibrated on (every 15th of about 30 a second), and about what a
# shot lasts.
_STEP, _SHOT = 0.5, 5.0

# Pictures that are cut at once, an hour of them: time grows with their square (4 s for these). A longer video is cut in
# stretches that share some pictures.
_STRETCH, _OVERLAP = 7200, 600


@dataclass(frozen=True)
class KtsShots:
    """Cuts a video by Kernel Temporal Segmentation of what it looks like.

    Calibrated on real clips with known cuts (alone, joined at random, and with a shaken camera and drifting exposure)
    and on the demo set: of penalties from 0.03 to 1, those between 0.06 and 0.1 have a mean F1 of the cuts (within one
    picture) within 0.03 of the best. Below, shots with movement fall apart; above, cuts between similar scenes are
    missed. Shots of the clips then last 4 to 5.5 s on average, about as long as in the field's TVSum files.

    Attributes:
        penalty: price of a shot at two pictures a second, >= 0; larger is fewer shots. At other rates it is scaled, so
            that shots depend on the video and not on how often it is looked at.
        min_length: seconds that a shot lasts at least, >= 0, to the nearest picture.

    Raises:
        ValueError: if an attribute is outside its range.
    """

    penalty: float = 0.08
    min_length: float = 1.0

    def __post_init__(self) -> None:
        for name in ("penalty", "min_length"):
            value = getattr(self, name)
            if not (value >= 0 and np.isfinite(value)):
                raise ValueError(f"{name} must be a finite number that is not negative, not {value}")

    def __call__(self, descriptors: FloatArray, seconds: FloatArray) -> Segments:
        """Cut a video into shots.

        Up to 7200 pictures (an hour at two a second) the cut is the optimum of the KTS objective. A longer video is
        cut in stretches of so many that share 600, each of which counts up to the middle of what it shares with the
        next: time then grows with the length. (Looking there for a cut that both have brought nothing: 99 % of cuts
        were those of the optimum either way, with stretches far shorter.)

        Args:
            descriptors: `Look.descriptors` of pictures at about even steps, (n, d), n >= 1.
            seconds: when each is shown, not decreasing, (n,).

        Returns:
            First and last picture of each shot, inclusive, (m, 2), covering 0 ... n - 1 in order.

        Raises:
            ValueError: if the arrays do not fit each other or seconds decrease.
        """
        if seconds.ndim != 1 or len(seconds) != len(descriptors) or (np.diff(seconds) < 0).any():
            raise ValueError(f"seconds must not decrease, one for each of {len(descriptors)} rows")
        n = len(seconds)
        # One picture, or many at one time, have no rate.
        step = float(seconds[-1] - seconds[0]) / (n - 1) if n > 1 else 0.0
        step = step or _STEP
        penalty, fewest = self.penalty * _price(step) / _price(_STEP), max(1, round(self.min_length / step))
        starts = np.zeros(1, dtype=np.int64)
        for first in range(0, max(1, n - _OVERLAP), _STRETCH - _OVERLAP):
            found = first + kts(descriptors[first : first + _STRETCH], penalty=penalty, min_length=fewest)[1:, 0]
            # Before the first stretch there is nothing to take over.
            middle = first + _OVERLAP // 2 if first else 1
            starts = starts[starts < middle]
            starts = np.append(starts, found[found >= max(middle, starts[-1] + fewest)])
        return np.stack([starts, np.append(starts[1:], n) - 1], axis=1)

    def of_video(self, index: PacketIndex, frames: IntArray, look: Look, reader: VideoReader) -> Segments:
        """Cut a video that was looked at already; nothing is decoded.

        Args:
            index: of the video.
            frames: numbers of the frames that were looked at, increasing, (n,).
            look: what they look like.
            reader: not used here; see `keyframe.summary.content_shots` for who does.

        Returns:
            First and last of these frames of each shot, inclusive, (m, 2), covering 0 ... n - 1 in order.
        """
        return self(look.descriptors, index.timestamps[frames] - index.timestamps[0])


def _price(step: float) -> float:
    """What one more shot costs at this step, up to a factor.

    Scatter grows with the pictures a second, and the KTS penalty with the logarithm of the pictures a shot.
    """
    return 1 / (step * float(np.log(max(2.0, _SHOT / step))))
