"""What a picture looks like, in numbers that depend on no model: a fixed descriptor, sharpness and light.

Shots are cut on it and near-duplicates are found with it, so that every model is judged on the same shots.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from keyframe.types import FloatArray

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
