"""What a picture looks like, in numbers that depend on no model: a fixed descriptor, sharpness and light.

Shots are cut on it and near-duplicates are found with it, so that every model is judged on the same shots.

What part of the picture has changed between two frames that look alike as a whole.

`keyframe.summary.describe` says which scene a picture shows, whatever moves in it: of a fixed camera all its pictures
are alike. Here somebody who has stepped aside counts, while noise of the camera, a change of exposure and a hand that
is not steady do not.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter, minimum_filter

from keyframe.types import FloatArray, IntArray

# (height, width) at which pictures are decoded for `look`. Motion blur over 3 % of the width leaves a third of the
# sharpness at this size; at 64 x 64 it leaves half, which is hard to tell from other pictures.
DESCRIPTOR_SIZE = (96, 96)

Floats = npt.NDArray[np.float32]

# Pictures described at once: few enough for the processor's cache, where 64 take more than twice as long each.
_BLOCK = 8

# Each property has a histogram in each cell of a grid (rows and columns of cells): pixels are counted in fine bins,
# which are then shared among a few coarse ones. That sharing, not the count, makes small changes of light small.
_CHROMA_CELLS, _CHROMA_FINE, _CHROMA_COARSE = 2, 24, 5
_LUMA_CELLS, _LUMA_FINE, _LUMA_COARSE = 4, 32, 5
_EDGE_CELLS, _EDGE_FINE, _EDGE_COARSE = 4, 16, 4

# Luma at and below which a picture counts as dark: its ratios of colours, lumas and edges are drawn to 0.
_DARK = 0.04

# Step between neighbouring pixels, relative to the mean luma, at which a pixel is half an edge.
_HALF_EDGE = 0.15

# Added to the shares of coarse bins before the root, which would make noise of nearly empty ones large.
_FLOOR = 0.01


@dataclass(frozen=True)
class Look:
    """What the pictures of one video look like, one row a picture.

    Attributes:
        descriptors: rows of length 1 without negative numbers, float32, (n, d): the product of two rows is their
            similarity in [0, 1], 1 for equal pictures.
        sharpness: variance of the Laplacian of luma (luma in [0, 1], pixels of the described size as unit), float32,
            (n,), >= 0. It grows with the square of the contrast and is to be compared within one video.
        brightness: mean luma, float32, (n,), in [0, 1]; 0 is black.
        contrast: standard deviation of luma, float32, (n,), in [0, 0.5]; 0 is flat.

    Raises:
        ValueError: if shapes disagree or a value is outside its range.
    """

    descriptors: Floats
    sharpness: Floats
    brightness: Floats
    contrast: Floats

    def __post_init__(self) -> None:
        if self.descriptors.ndim != 2:
            raise ValueError(f"descriptors must be (n, d), not {self.descriptors.shape}")
        lengths = np.linalg.norm(self.descriptors, axis=1)
        if not (np.abs(lengths - 1) < 1e-3).all():
            raise ValueError("descriptors must have rows of length 1")
        for name, most in (("sharpness", np.inf), ("brightness", 1), ("contrast", 1)):
            values = getattr(self, name)
            if values.shape != (len(self.descriptors),):
                raise ValueError(f"{name} must be ({len(self.descriptors)},), not {values.shape}")
            if not (np.isfinite(values) & (values >= 0) & (values <= most)).all():
                raise ValueError(f"{name} must be numbers in [0, {most}]")

    def __len__(self) -> int:
        return len(self.descriptors)


def look(pixels: npt.NDArray[np.uint8]) -> Look:
    """Describe pictures.

    A descriptor joins the histograms of chroma (2 x 2 cells), luma (4 x 4) and direction of edges (4 x 4), square
    roots taken: the product of two rows is the mean Bhattacharyya coefficient of their histograms, which is the
    Hellinger kernel (Vedaldi, Zisserman: Efficient additive kernels, PAMI 2012). Colours, lumas and edges are
    taken relative to the picture's own brightness, so that a change of exposure is no change of picture.

    Args:
        pixels: uint8 RGB, (n, H, W, 3), H, W >= 4; of the size `DESCRIPTOR_SIZE` for rows that are comparable.

    Returns:
        The same, whether the pictures come at once or in pieces (see `join`); n = 0 is allowed.

    Raises:
        ValueError: if pixels are no such pictures.
    """
    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8 or min(pixels.shape[1:3]) < 4:
        raise ValueError(f"pixels must be uint8 (n, H, W, 3) with H, W >= 4, not {pixels.dtype} {pixels.shape}")
    blocks = range(0, len(pixels), _BLOCK)
    return join(_look(pixels[first : first + _BLOCK]) for first in blocks) if blocks else _look(pixels)


def join(looks: Iterable[Look]) -> Look:
    """The look of a stream from the looks of its pieces, in order.

    Raises:
        ValueError: if there is no piece.
    """
    pieces = list(looks)
    return Look(*(np.concatenate([getattr(piece, field.name) for piece in pieces]) for field in fields(Look)))


def _look(pixels: npt.NDArray[np.uint8]) -> Look:
    """Describe pictures few enough to hold their floats, (n, H, W, 3)."""
    red, green, blue = (pixels[..., channel].astype(np.float32) / np.float32(255) for channel in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    brightness = luma.mean(axis=(1, 2))
    light = (brightness + _DARK)[:, None, None]
    parts = _chroma(red, green, blue), _lumas(luma / light), _edges(luma / light)
    rows = [np.sqrt(shares / len(parts)) for shares in parts]
    laplacian = (
        4 * luma[:, 1:-1, 1:-1] - luma[:, :-2, 1:-1] - luma[:, 2:, 1:-1] - luma[:, 1:-1, :-2] - luma[:, 1:-1, 2:]
    )
    return Look(
        np.concatenate(rows, axis=1),
        laplacian.var(axis=(1, 2)),
        brightness.clip(0, 1),
        luma.std(axis=(1, 2)),
    )


def _chroma(red: Floats, green: Floats, blue: Floats) -> Floats:
    """Shares of chroma in the cells, (n, cells ** 2 * bins): opponent colours relative to the pixel's own light."""
    light = red + green + blue + 3 * _DARK
    # The root spreads the pale colours that most pixels have.
    opponents = (red - green) / light, (0.5 * (red + green) - blue) / light
    bins = [_bin(0.5 + 0.5 * np.sign(value) * np.sqrt(np.abs(value)), _CHROMA_FINE) for value in opponents]
    once = _tent(_CHROMA_FINE, _CHROMA_COARSE)
    return _shares(bins[0] * _CHROMA_FINE + bins[1], _CHROMA_CELLS, np.kron(once, once))


def _lumas(relative: Floats) -> Floats:
    """Shares of luma in the cells, (n, cells ** 2 * bins), of luma relative to the picture's mean."""
    return _shares(_bin(relative / (1 + relative), _LUMA_FINE), _LUMA_CELLS, _tent(_LUMA_FINE, _LUMA_COARSE))


def _edges(relative: Floats) -> Floats:
    """Shares of edges of each direction, and of flat pixels, in the cells, (n, cells ** 2 * bins)."""
    down = np.zeros_like(relative)
    right = np.zeros_like(relative)
    down[:, 1:-1] = 0.5 * (relative[:, 2:] - relative[:, :-2])
    right[:, :, 1:-1] = 0.5 * (relative[:, :, 2:] - relative[:, :, :-2])
    energy = down**2 + right**2
    edge = energy / (energy + _HALF_EDGE**2)
    # A direction has no sign: half a turn is the same edge.
    turn = np.arctan2(down, right) / np.float32(np.pi)
    turn += turn < 0
    fine = _bin(turn, _EDGE_FINE)
    return _shares(fine, _EDGE_CELLS, _tent(_EDGE_FINE, _EDGE_COARSE, cyclic=True), edge)


def _bin(values: FloatArray, bins: int) -> npt.NDArray[np.intp]:
    """The bin of each value of [0, 1]."""
    return np.clip(values * bins, 0, bins - 1).astype(np.intp)


def _tent(fine: int, coarse: int, cyclic: bool = False) -> Floats:
    """How a fine bin is shared between the two coarse ones around it, (fine, coarse); rows sum to 1."""
    steps = coarse if cyclic else coarse - 1
    distances = np.abs((np.arange(fine)[:, None] + 0.5) / fine * steps - np.arange(coarse))
    if cyclic:
        distances = np.minimum(distances, coarse - distances)
    return np.maximum(0, 1 - distances).astype(np.float32)


def _shares(fine: npt.NDArray[np.intp], cells: int, tent: Floats, weights: Floats | None = None) -> Floats:
    """Histograms in a grid of cells, (n, cells ** 2 * bins), that sum to 1 for each picture.

    Args:
        fine: bin of each pixel, (n, H, W).
        cells: rows and columns of cells.
        tent: from fine bins to coarse ones.
        weights: what a pixel counts, in [0, 1], (n, H, W); what it lacks to 1 goes to a bin of its own.
    """
    n, height, width = fine.shape
    rows, columns = np.arange(height) * cells // height, np.arange(width) * cells // width
    cell = rows[:, None] * cells + columns
    place = (np.arange(n)[:, None, None] * cells**2 + cell) * len(tent) + fine
    counts = np.bincount(
        place.ravel(), None if weights is None else weights.ravel(), minlength=n * cells**2 * len(tent)
    )
    sizes = np.bincount(cell.ravel())[:, None]
    shares = (counts.reshape(n, cells**2, len(tent)) / sizes).astype(np.float32) @ tent
    if weights is not None:
        shares = np.append(shares, np.maximum(0, 1 - shares.sum(axis=2, keepdims=True)), axis=2)
    shares += _FLOOR
    shares /= shares.sum(axis=2, keepdims=True) * cells**2
    return shares.reshape(n, cells**2 * shares.shape[2])


# A picture as cells, rows and columns of them, by three colours: 768 bytes.
GRID = 16

Thumbnails = npt.NDArray[np.uint8]

# What stands for the mean luma of the picture; four times as light is the lightest that is told apart.
_MEAN = 64

# Added to the mean luma, so that noise of a dark picture is no change.

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


class PatchChanges:
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
