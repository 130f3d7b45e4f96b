"""Labelled videos without pictures: what evaluation sees of a video once it is decoded."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keyframe.evaluation.protocol import picks
from keyframe.summary.descriptor import Look, look
from keyframe.types import FloatArray, Labels

_RATE = 30.0  # frames a second
_HELD = 60  # frames that a label is held: 2 s, as TVSum's were given
_SHOT = 10.0  # picks a shot on average: 5 s


@dataclass(frozen=True)
class SyntheticVideo:
    """A video as evaluation holds it.

    Attributes:
        id: its name.
        labels: its annotators' scores 1 ... 5, in [0, 1], each held for 2 s; L frames.
        look: its picks, constant in each shot but for noise.
        seconds: the picks' times at 30 frames a second, (n,).
        scores: a model's scores at the picks, in [0, 1], (n,), better than chance.
    """

    id: str
    labels: Labels
    look: Look
    seconds: FloatArray
    scores: npt.NDArray[np.float32]


def synthetic_video(number: int, frames: int, annotators: int, seed: int) -> SyntheticVideo:
    """The same video at every call with the same arguments.

    Args:
        number: tells the videos of one seed apart, not negative.
        frames: L, at least 1.
        annotators: A, at least 1.
        seed: not negative.
    """
    rng = np.random.default_rng([seed, number])
    entries = picks(frames)
    count = len(entries)
    shot = np.cumsum(rng.random(count) < 1 / _SHOT, dtype=np.int64)
    matters = rng.normal(size=shot[-1] + 1)

    blocks = -(-frames // _HELD)
    at_block = matters[shot[np.minimum(np.arange(blocks) * _HELD // 15, count - 1)]]
    opinions = 2.5 + 0.7 * at_block + rng.normal(size=(annotators, blocks))
    held = np.repeat(opinions.round().clip(1, 5), _HELD, axis=1)[:, :frames]
    tracks = ((held - 1) / 4).astype(np.float32)

    scores = 1 / (1 + np.exp(-matters[shot] - rng.normal(size=count)))
    return SyntheticVideo(
        id=f"video_{number + 1:03}",
        labels=Labels(tracks.mean(axis=0), tracks),
        look=_look(shot, rng),
        seconds=entries / _RATE,
        scores=scores.astype(np.float32),
    )


def _look(shot: npt.NDArray[np.int64], rng: np.random.Generator) -> Look:
    """Looks of picks that differ little within a shot: their product is about .99 there, .8 between shots."""
    size = look(np.zeros((1, 4, 4, 3), dtype=np.uint8)).descriptors.shape[1]
    kinds = rng.gamma(1.0, size=(shot[-1] + 1, size)) + 0.7
    rows = np.abs(kinds[shot] + 0.2 * rng.normal(size=(len(shot), size)))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Look(
        rows.astype(np.float32),
        rng.gamma(2.0, 0.01, size=len(shot)).astype(np.float32),
        rng.uniform(0.2, 0.8, size=len(shot)).astype(np.float32),
        rng.uniform(0.1, 0.3, size=len(shot)).astype(np.float32),
    )
