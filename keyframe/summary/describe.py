"""What a frame looks like, in numbers that depend on no model.

- `describe_frames`: a descriptor, sharpness, brightness and contrast, for shots and duplicates.
- `luma_cells`: a small luma picture, in which `keyframe.summary.changes` finds what the descriptor is blind to.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keyframe.types import Float32Array, FloatArray, IntArray, UInt8Array

# (height, width) at which frames are decoded for `describe_frames`. Motion blur over 3 % of the width leaves a third of
# the sharpness at this size; at 64 x 64 it leaves half, which is hard to tell from other frames.
DESCRIPTOR_SIZE = (96, 96)

Pixels = UInt8Array

# Frames described at once: few enough for the processor's cache, 64 take more than twice as long each.
_FRAMES_AT_ONCE = 8

# Each property has a histogram in each cell of a grid (rows and columns of cells): pixels are counted in fine bins,
# which are then shared among a few coarse ones. That sharing, not the count, makes small changes of light small.
_CHROMA_CELLS, _CHROMA_FINE, _CHROMA_COARSE = 2, 24, 5
_LUMA_CELLS, _LUMA_FINE, _LUMA_COARSE = 4, 32, 5
_EDGE_CELLS, _EDGE_FINE, _EDGE_COARSE = 4, 16, 4

# Added to luma before dividing by it: draws the ratios of nearly black frames to 0, so that their noise is no signal.
_DARK_LUMA = 0.04

_HALF_EDGE = 0.15  # step between neighbouring pixels, relative to the mean luma, that makes a pixel half an edge
_FLOOR = 0.01  # added to the shares of coarse bins before the root, which would make noise of nearly empty ones large


@dataclass(frozen=True)
class Appearance:
    """What the frames of one video look like, one row per frame."""

    # Non-negative rows of length 1, (n, d); the product of two rows is their similarity in [0, 1], 1 for equal frames.
    descriptors: Float32Array
    # Variance of the Laplacian of luma (in [0, 1]), (n,), >= 0. It grows with the square of the contrast, so compare it
    # within one video only.
    sharpness: Float32Array
    brightness: Float32Array  # mean luma, (n,), in [0, 1]; 0 is black
    contrast: Float32Array  # standard deviation of luma, (n,), in [0, 0.5]; 0 is flat

    def __len__(self) -> int:
        return len(self.descriptors)

    @classmethod
    def join(cls, pieces: Iterable["Appearance"]) -> "Appearance":
        """The appearance of a stream from that of its pieces, in order; at least one piece."""
        columns = zip(*(vars(piece).values() for piece in pieces), strict=True)
        return cls(*map(np.concatenate, columns))

    def __getitem__(self, rows: IntArray) -> "Appearance":
        return Appearance(*(column[rows] for column in vars(self).values()))


def describe_frames(pixels: Pixels) -> Appearance:
    """Describe frames, uint8 RGB (n, H, W, 3), H, W >= 4, n >= 0; decode at `DESCRIPTOR_SIZE` for comparable rows.

    A descriptor joins the histograms of chroma (2 x 2 cells), luma (4 x 4) and direction of edges (4 x 4), square roots
    taken: the product of two rows is the mean Bhattacharyya coefficient of their histograms, which is the Hellinger
    kernel (Vedaldi, Zisserman: Efficient additive kernels, PAMI 2012). Colours, lumas and edges are relative to the
    frame's own brightness, so a change of exposure changes little. A video described in pieces has the same rows.
    """
    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8 or min(pixels.shape[1:3]) < 4:
        raise ValueError(f"pixels must be uint8 (n, H, W, 3) with H, W >= 4, not {pixels.dtype} {pixels.shape}")
    firsts = range(0, max(1, len(pixels)), _FRAMES_AT_ONCE)
    return Appearance.join(_describe_block(pixels[first : first + _FRAMES_AT_ONCE]) for first in firsts)


def _describe_block(pixels: Pixels) -> Appearance:
    """Describe a few frames, (n, H, W, 3)."""
    red, green, blue = (pixels[..., channel].astype(np.float32) / np.float32(255) for channel in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    brightness = luma.mean(axis=(1, 2))
    light = (brightness + _DARK_LUMA)[:, None, None]
    relative = luma / light
    lumas = _shares(_bin(relative / (1 + relative), _LUMA_FINE), _LUMA_CELLS, _tent(_LUMA_FINE, _LUMA_COARSE))
    parts = _chroma(red, green, blue), lumas, _edges(relative)
    rows = [np.sqrt(shares / len(parts)) for shares in parts]
    inner = luma[:, 1:-1, 1:-1]
    laplacian = 4 * inner - luma[:, :-2, 1:-1] - luma[:, 2:, 1:-1] - luma[:, 1:-1, :-2] - luma[:, 1:-1, 2:]
    sharpness, contrast = laplacian.var(axis=(1, 2)), luma.std(axis=(1, 2))
    return Appearance(np.concatenate(rows, axis=1), sharpness, brightness.clip(0, 1), contrast)


def _chroma(red: Float32Array, green: Float32Array, blue: Float32Array) -> Float32Array:
    """Shares of chroma in the cells, (n, cells ** 2 * bins): opponent colours relative to the pixel's own light."""
    light = red + green + blue + 3 * _DARK_LUMA
    # The root spreads the pale colours that most pixels have.
    opponents = (red - green) / light, (0.5 * (red + green) - blue) / light
    bins = [_bin(0.5 + 0.5 * np.sign(value) * np.sqrt(np.abs(value)), _CHROMA_FINE) for value in opponents]
    once = _tent(_CHROMA_FINE, _CHROMA_COARSE)
    return _shares(bins[0] * _CHROMA_FINE + bins[1], _CHROMA_CELLS, np.kron(once, once))


def _edges(relative: Float32Array) -> Float32Array:
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
    return _shares(_bin(turn, _EDGE_FINE), _EDGE_CELLS, _tent(_EDGE_FINE, _EDGE_COARSE, cyclic=True), edge)


def _bin(values: FloatArray, bins: int) -> npt.NDArray[np.intp]:
    """The bin of each value of [0, 1]."""
    return np.clip(values * bins, 0, bins - 1).astype(np.intp)


def _tent(fine: int, coarse: int, cyclic: bool = False) -> Float32Array:
    """How a fine bin is shared between the two coarse ones around it, (fine, coarse); rows sum to 1."""
    steps = coarse if cyclic else coarse - 1
    distances = np.abs((np.arange(fine)[:, None] + 0.5) / fine * steps - np.arange(coarse))
    if cyclic:
        distances = np.minimum(distances, coarse - distances)
    return np.maximum(0, 1 - distances).astype(np.float32)


def _shares(
    fine: npt.NDArray[np.intp], cells: int, tent: Float32Array, weights: Float32Array | None = None
) -> Float32Array:
    """Histograms in a grid of cells, (n, cells ** 2 * bins), that sum to 1 per frame, from bins of pixels (n, H, W).

    `tent` leads from fine bins to coarse ones. What a pixel's weight in [0, 1] lacks goes to a bin of its own.
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


GRID = 48  # rows and columns of the cells in which frames are compared: 2 x 2 pixels each at `DESCRIPTOR_SIZE`

Cells = Pixels


def luma_cells(pixels: Pixels) -> Cells:
    """The mean luma of frames (n, H, W, 3) in a grid of cells, uint8 (n, GRID, GRID)."""
    sums = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    for axis in (1, 2):
        length = pixels.shape[axis]
        starts = np.arange(GRID) * length // GRID
        counts = np.maximum(1, np.diff(starts, append=length))
        sums = np.add.reduceat(sums, starts, axis=axis) / counts.reshape((-1, 1) if axis == 1 else (-1,))
    return np.round(sums).clip(0, 255).astype(np.uint8)
