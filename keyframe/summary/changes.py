"""What part of the picture has changed between two frames that look alike as a whole.

`keyframe.summary.descriptor` says which scene a picture shows, whatever moves in it: of a fixed camera all its pictures
are alike. Here somebody who has stepped aside counts, while noise of the camera, a change of exposure and a hand that
is not steady do not.
"""

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter, minimum_filter

from keyframe.types import IntArray

# A picture as cells, rows and columns of them, by three colours: 768 bytes.
GRID = 16

Thumbnails = npt.NDArray[np.uint8]

# What stands for the mean luma of the picture; four times as light is the lightest that is told apart.
_MEAN = 64

# Added to the mean luma, so that noise of a dark picture is no change.
_DARK = 0.04

# A cell has changed if it is lighter or darker, in any colour and by more than this share of the mean luma, than all
# cells around its place in the other picture. On real clips, made to shake by 2.5 % of the width, to get darker and
# lighter by a sixth, or noisy, 36 to 100 % (of all but a nearly black one: 82 to 100 %) of pairs then stay duplicates
# at a max_similarity of .98; at .15 they are 25 to 71 %.
_STEP = 0.2


def thumbnails(pixels: npt.NDArray[np.uint8]) -> Thumbnails:
    """The mean colours in a grid of cells, relative to the mean luma of the picture (64), uint8 (n, GRID, GRID, 3).

    Args:
        pixels: uint8 RGB, (n, H, W, 3).
    """
    sums = pixels.astype(np.float32)
    for axis in (1, 2):
        length = pixels.shape[axis]
        starts = np.arange(GRID) * length // GRID
        counts = np.maximum(1, np.diff(starts, append=length))
        shape = [GRID if axis == other else 1 for other in range(4)]
        sums = np.add.reduceat(sums, starts, axis=axis) / counts.reshape(shape)
    cells = sums / np.float32(255)
    light = (cells @ np.array([0.299, 0.587, 0.114], np.float32)).mean(axis=(1, 2)) + _DARK
    return np.round(cells * (_MEAN / light)[:, None, None, None]).clip(0, 255).astype(np.uint8)


class Changes:
    """The changes between any two of some pictures.

    Args:
        pictures: their `thumbnails`, (n, GRID, GRID, 3).
    """

    def __init__(self, pictures: Thumbnails) -> None:
        around, step = (1, 3, 3, 1), round(_STEP * _MEAN)
        darkest = minimum_filter(pictures, around, mode="nearest")
        lightest = maximum_filter(pictures, around, mode="nearest")
        self._pictures = _planes(pictures)
        # The range that no change leaves.
        self._lowest = _planes(np.maximum(darkest, step) - step)
        self._highest = _planes(np.minimum(lightest, 255 - step) + step)

    def between(self, picture: int, others: IntArray) -> npt.NDArray[np.float64]:
        """Share of the picture, in [0, 1], in which it differs from others, (o,); from either of the two the same."""
        left = np.zeros((2, len(others), GRID * GRID), dtype=bool)
        for shown, lowest, highest in zip(self._pictures, self._lowest, self._highest, strict=True):
            left[0] |= shown[picture] < lowest[others]
            left[0] |= shown[picture] > highest[others]
            shown_others = shown[others]
            left[1] |= shown_others < lowest[picture]
            left[1] |= shown_others > highest[picture]
        return np.count_nonzero(left, axis=2).max(axis=0) / GRID**2


def _planes(pictures: Thumbnails) -> Thumbnails:
    """One colour after the other, (3, n, cells): comparisons of whole rows are fast."""
    return np.ascontiguousarray(pictures.reshape(len(pictures), GRID * GRID, 3).transpose(2, 0, 1))
