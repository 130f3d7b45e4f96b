"""Which frames nobody wants as a still: black, flat and blurred ones."""

import numpy as np
import numpy.typing as npt

from keyframe.summary.candidates import Candidates, Positions

# Mean luma of 5 of 255, of which a screen shows nothing. Night and space have more (3 to 6 % in real clips), and what a
# real clip has of black or faded frames is mostly flat as well.
BLACK = 5 / 255

# Standard deviation of luma of 8 of 255: a plain colour, a white flash or thick fog, noise of the camera included.
FLAT = 8 / 255

# Share of the median sharpness of its own shot under which a frame counts as blurred. Sharpness depends on what is
# filmed (sky or foliage), so it is compared within a shot: there it falls where the camera or the subject moves.
BLURRED = 0.3

# The same against the whole video, for a shot that is out of focus all through; lower, because shots differ.
BLURRED_IN_VIDEO = 0.1

ACCEPTABLE, IS_BLURRED, IS_BLANK = 0, 1, 2


def faults(candidates: Candidates) -> Positions:
    """How unfit each candidate is as a still, (n,): 0 fit, 1 blurred, 2 black or flat.

    Sharpness has no unit that holds from video to video, so blurred is relative to medians, of shot and video, over
    what is neither black nor flat.
    """
    blank = (candidates.brightness < BLACK) | (candidates.contrast < FLAT)
    result = np.full(len(candidates), IS_BLANK, dtype=np.int64)
    seen = np.flatnonzero(~blank)
    if len(seen):
        sharpness = candidates.sharpness[seen]
        limit = np.maximum(
            BLURRED * _medians(sharpness, candidates.shot_of[seen]), BLURRED_IN_VIDEO * np.median(sharpness)
        )
        result[seen] = np.where(sharpness < limit, IS_BLURRED, ACCEPTABLE)
    return result


def _medians(values: npt.NDArray[np.floating], groups: Positions) -> npt.NDArray[np.float64]:
    """For each value the median of its group; groups do not decrease."""
    ordered = values[np.lexsort((values, groups))].astype(np.float64)
    _, first, group, counts = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    return (0.5 * (ordered[first + (counts - 1) // 2] + ordered[first + counts // 2]))[group]
