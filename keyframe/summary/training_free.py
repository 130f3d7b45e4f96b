"""Importance scores without a trained model: from shots, how their content recurs, and sharpness.

The terms are those of unsupervised video summarization: consistency with the whole video and dissimilarity to the rest
(Pang, Nakashima, Otani, Nagahara: Contrastive losses are natural criteria for unsupervised video summarization, WACV
2023), here between shots, in order of time and in closed form.
"""

import numpy as np

from keyframe.summary.candidates import BLACK_BELOW, BLURRED_IN_VIDEO_BELOW, FLAT_BELOW
from keyframe.summary.describe import Appearance
from keyframe.summary.shots import check_shots
from keyframe.types import Float32Array, Float64Array, FloatArray, IntArray

# Weight of each term. Novelty outweighs typicality, because repetition bores. The frames of one shot differ by the last
# term alone.
_NOVEL, _TYPICAL, _CENTRAL = 0.5, 0.3, 0.2

_NOISE = 0.01  # least scale of 1 - cosine: frames of a static video differ by noise
_SHOTS_AT_ONCE = 256  # shots compared with all shots at once: memory grows with their number, not its square


def training_free(appearance: Appearance, shots: IntArray, features: FloatArray | None = None) -> Float32Array:
    """Score n >= 1 frames by shot structure, representativeness, novelty and sharpness, in [0, 1], float32, (n,).

    That is `training_free_of_features` of features, or else of descriptors, times `visibility`. Shots are as there.
    """
    rows = appearance.descriptors if features is None else features
    scores = training_free_of_features(rows, shots) * visibility(appearance, shots)
    return scores.astype(np.float32)


def training_free_of_features(features: FloatArray, shots: IntArray) -> Float32Array:
    """Score frames by their features alone, any finite rows (n, d), n >= 1: scores in [0, 1], float32, (n,).

    score = `length_factor` of the shot * (.5 `novelty` + .3 `typicality` of the shot + .2 `centrality` in it)

    with every factor and term in [0, 1]. The likeness of two rows is exp(-(1 - cosine) / h), h the mean of 1 - cosine
    over all pairs of the video's frames: what counts as alike depends on the video, not on the kind of features.
    `shots` are the first and last frame of each shot, inclusive, (m, 2), covering 0 ... n - 1 in order.
    """
    if features.ndim != 2 or not len(features) or not np.isfinite(features).all():
        raise ValueError(f"features must be finite numbers (n, d) with n >= 1, not an array {features.shape}")
    check_shots(shots, len(features))
    rows = _unit(features.astype(np.float64))
    lengths = shots[:, 1] - shots[:, 0] + 1
    means = _unit(np.add.reduceat(rows, shots[:, 0]))
    scale = max(_NOISE, 1 - float(np.square(rows.mean(axis=0)).sum()))
    of_shot = _NOVEL * novelty(means, scale) + _TYPICAL * typicality(means, lengths, scale)
    shot = np.repeat(np.arange(len(shots)), lengths)
    score = length_factor(lengths)[shot] * (of_shot[shot] + _CENTRAL * centrality(rows, means, shots, scale))
    return score.clip(0, 1).astype(np.float32)


def novelty(means: Float64Array, scale: float) -> Float64Array:
    """Novelty of each shot, in [0, 1], (m,): 1 minus its greatest likeness, of scale h, to an earlier shot.

    The first shot gets the mean of the others, or 1 if it is the only one. `means` (m, d) are of length 1 (or 0).
    """
    values = np.ones(len(means))
    for first in range(0, len(means), _SHOTS_AT_ONCE):
        likeness = _likeness(means[first : first + _SHOTS_AT_ONCE] @ means.T, scale)
        # Row i of the block is shot first + i: earlier shots stand left of the diagonal.
        earlier = np.tril(likeness, first - 1)
        values[first : first + _SHOTS_AT_ONCE] = 1 - earlier.max(axis=1)
    if len(means) > 1:
        values[0] = values[1:].mean()
    return values


def typicality(means: Float64Array, lengths: IntArray, scale: float) -> Float64Array:
    """Typicality of each shot, in [0, 1], (m,): its mean likeness to all shots, weighted by length (frames, (m,))."""
    weights = lengths / lengths.sum()
    blocks = range(0, len(means), _SHOTS_AT_ONCE)
    return np.concatenate(
        [_likeness(means[first : first + _SHOTS_AT_ONCE] @ means.T, scale) @ weights for first in blocks]
    )


def centrality(rows: Float64Array, means: Float64Array, shots: IntArray, scale: float) -> Float64Array:
    """Centrality of each frame in its shot, in [0, 1], (n,): its likeness to the shot's mean, low in transitions.

    The ends of a shot lose a fifth against its middle, so that among equal frames the middle one is best.
    """
    lengths = shots[:, 1] - shots[:, 0] + 1
    shot = np.repeat(np.arange(len(shots)), lengths)
    off_middle = np.abs(np.arange(len(rows)) - shots.mean(axis=1)[shot]) / (lengths[shot] / 2)
    return (1 - 0.2 * off_middle) * _likeness(np.einsum("nd,nd->n", rows, means[shot]), scale)


def length_factor(lengths: IntArray) -> Float64Array:
    """Factor of each shot's length, in [0, 1], (m,): 1 from half the median length on, proportionally less below."""
    return np.minimum(1, 2 * lengths / np.median(lengths))


def visibility(appearance: Appearance, shots: IntArray) -> Float64Array:
    """How clearly each frame shows something, in [0, 1], (n,): 0 for black frames, less than 1 for blurred ones.

    Light times sharpness. Light rises from 0 at the limits of brightness and contrast to 1 at twice either of them: a
    night scene is dark but not flat, a plain wall flat but not dark. Sharpness is the deviation of the Laplacian
    relative to its median in the shot, at most 1. That median counts as no lower than a share of the video's, so that a
    shot out of focus all through sets no standard.
    """
    light = np.maximum(appearance.brightness / BLACK_BELOW, appearance.contrast / FLAT_BELOW).astype(np.float64)
    light = (light - 1).clip(0, 1)
    if not light.any():
        return light
    edges = np.sqrt(appearance.sharpness.astype(np.float64))
    usual = np.array([np.median(edges[first : last + 1]) for first, last in shots])
    usual = np.maximum(usual, np.sqrt(BLURRED_IN_VIDEO_BELOW) * np.median(edges[light > 0]))
    usual = np.repeat(usual, shots[:, 1] - shots[:, 0] + 1)
    return light * np.minimum(1, np.divide(edges, usual, out=np.ones_like(edges), where=usual > 0))


def _likeness(cosines: Float64Array, scale: float) -> Float64Array:
    """exp(-(1 - cosine) / scale), in (0, 1]."""
    return np.exp(np.minimum(0, cosines - 1) / scale)


def _unit(rows: Float64Array) -> Float64Array:
    """Rows scaled to length 1; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
