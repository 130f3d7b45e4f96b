"""How much frames matter, said without a trained model: from shots, how their looks recur, and sharpness.

The terms are those that unsupervised video summarization settled on: consistency with the whole video and being unlike
what else is seen (Pang, Nakashima, Otani, Nagahara: Contrastive losses are natural criteria for unsupervised video
summarization, WACV 2023), here between shots, in the order of time and in closed form. It is a baseline that needs
no labels, and the score of a user who has no model.
"""

import numpy as np
import numpy.typing as npt

from keyframe.summary.describe import Look
from keyframe.summary.selection import BLACK, BLURRED_IN_VIDEO, FLAT
from keyframe.summary.shots import check_shots
from keyframe.types import FloatArray, IntArray

Floats = npt.NDArray[np.float64]

# Share of each term. What is new outweighs what is typical: people tire of what they have seen. A shot's own frames
# differ by the last alone.
_NOVEL, _TYPICAL, _CENTRAL = 0.5, 0.3, 0.2

# Least scale of 1 - cosine: looks of a video that stays the same differ by noise.
_NOISE = 0.01

# Shots compared with all shots at once: memory grows with their number, not its square.
_BLOCK = 256


def training_free(look: Look, shots: IntArray) -> npt.NDArray[np.float32]:
    """Score pictures by shot structure, representativeness, novelty and sharpness.

    The score is that of `training_free_of_features` on the descriptors times `quality`.

    Args:
        look: the pictures, n >= 1.
        shots: first and last picture of each shot, inclusive, (m, 2), covering 0 ... n - 1 in order.

    Returns:
        Scores in [0, 1], float32, (n,). In a video that stays the same they differ by sharpness, and a little by the
        distance from the middle.

    Raises:
        ValueError: if the shots do not cover the pictures.
    """
    return (training_free_of_features(look.descriptors, shots) * quality(look, shots)).astype(np.float32)


def training_free_of_features(features: FloatArray, shots: IntArray) -> npt.NDArray[np.float32]:
    """Score pictures by their features alone.

    score = `duration` of the shot * (.5 `novelty` of the shot + .3 `typicality` of the shot + .2 `centrality` in it)

    with every factor and term in [0, 1]. Two looks are alike by exp(-(1 - cosine) / h), h the mean of 1 - cosine over
    all pairs of the video's pictures: what counts as alike depends on the video, not on the kind of features.

    Args:
        features: one row a picture, any scale, (n, d), finite, n >= 1; rows of zeros are allowed.
        shots: first and last picture of each shot, inclusive, (m, 2), covering 0 ... n - 1 in order.

    Returns:
        Scores in [0, 1], float32, (n,).

    Raises:
        ValueError: if features are no such array or the shots do not cover the pictures.
    """
    if features.ndim != 2 or not len(features) or not np.isfinite(features).all():
        raise ValueError(f"features must be finite numbers (n, d) with n >= 1, not an array {features.shape}")
    check_shots(shots, len(features))
    rows = _unit(features.astype(np.float64))
    lengths = shots[:, 1] - shots[:, 0] + 1
    looks = _unit(np.add.reduceat(rows, shots[:, 0]))
    scale = max(_NOISE, 1 - float(np.square(rows.mean(axis=0)).sum()))
    of_shot = _NOVEL * novelty(looks, scale) + _TYPICAL * typicality(looks, lengths, scale)
    shot = np.repeat(np.arange(len(shots)), lengths)
    score = duration(lengths)[shot] * (of_shot[shot] + _CENTRAL * centrality(rows, looks, shots, scale))
    return score.clip(0, 1).astype(np.float32)


def novelty(looks: Floats, scale: float) -> Floats:
    """How unlike all earlier shots each shot is, in [0, 1], (m,): 1 minus its likeness to the most alike of them.

    Nothing came before the first shot; it gets the mean of the others (of none: 1).

    Args:
        looks: rows of length 1 (or 0), one a shot, (m, d).
        scale: h of the likeness, > 0.
    """
    values = np.ones(len(looks))
    for first in range(0, len(looks), _BLOCK):
        likeness = _likeness(looks[first : first + _BLOCK] @ looks.T, scale)
        # Row i of the block is shot first + i: earlier shots stand left of the diagonal.
        earlier = np.tril(likeness, first - 1)
        values[first : first + _BLOCK] = 1 - earlier.max(axis=1)
    if len(looks) > 1:
        values[0] = values[1:].mean()
    return values


def typicality(looks: Floats, lengths: IntArray, scale: float) -> Floats:
    """How alike each shot and the whole video are, in [0, 1], (m,): the mean likeness to all, weighted by length.

    Args:
        looks: rows of length 1 (or 0), one a shot, (m, d).
        lengths: pictures of each shot, (m,).
        scale: h of the likeness, > 0.
    """
    weights = lengths / lengths.sum()
    blocks = range(0, len(looks), _BLOCK)
    return np.concatenate([_likeness(looks[first : first + _BLOCK] @ looks.T, scale) @ weights for first in blocks])


def centrality(rows: Floats, looks: Floats, shots: IntArray, scale: float) -> Floats:
    """How well each picture stands for its shot, in [0, 1], (n,): its likeness to the mean look, low in transitions.

    The ends of a shot lose a fifth against its middle, so that of pictures that are alike the middle one is best.

    Args:
        rows: rows of length 1 (or 0), one a picture, (n, d).
        looks: mean look of each shot, length 1 (or 0), (m, d).
        shots: first and last picture of each shot, inclusive, (m, 2).
        scale: h of the likeness, > 0.
    """
    lengths = shots[:, 1] - shots[:, 0] + 1
    shot = np.repeat(np.arange(len(shots)), lengths)
    off_middle = np.abs(np.arange(len(rows)) - shots.mean(axis=1)[shot]) / (lengths[shot] / 2)
    return (1 - 0.2 * off_middle) * _likeness(np.einsum("nd,nd->n", rows, looks[shot]), scale)


def duration(lengths: IntArray) -> Floats:
    """What a shot's length allows, in [0, 1], (m,): 1 from half the median length on, less in proportion below."""
    return np.minimum(1, 2 * lengths / np.median(lengths))


def quality(look: Look, shots: IntArray) -> Floats:
    """How well each picture can be seen, in [0, 1], (n,): 0 for black ones, less than 1 for blurred ones.

    Visibility times sharpness. Visibility rises from 0 at the limits of brightness and contrast to 1 at twice either of
    them: a night scene is dark but not flat, a plain wall flat but not dark. Sharpness is the deviation of the
    Laplacian against its median in the shot, 1 from the median on. That median is taken no lower than a share of the
    video's, so that a shot out of focus all through is no standard. Shots are not compared beyond that: sky is less
    sharp than foliage, and matters no less.

    Args:
        look: the pictures.
        shots: first and last picture of each shot, inclusive, (m, 2).
    """
    seen = (np.maximum(look.brightness / BLACK, look.contrast / FLAT).astype(np.float64) - 1).clip(0, 1)
    if not seen.any():
        return seen
    edges = np.sqrt(look.sharpness.astype(np.float64))
    usual = np.array([np.median(edges[first : last + 1]) for first, last in shots])
    usual = np.maximum(usual, np.sqrt(BLURRED_IN_VIDEO) * np.median(edges[seen > 0]))
    usual = np.repeat(usual, shots[:, 1] - shots[:, 0] + 1)
    return seen * np.where(usual > 0, np.minimum(1, edges / np.where(usual > 0, usual, 1)), 1)


def _likeness(cosines: Floats, scale: float) -> Floats:
    """exp(-(1 - cosine) / scale), in (0, 1]."""
    return np.exp(np.minimum(0, cosines - 1) / scale)


def _unit(rows: Floats) -> Floats:
    """Rows scaled to length 1; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
