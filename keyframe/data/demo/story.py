"""What happens in a demo video, shot by shot, and how much each shot matters."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

SHOT_SECONDS = 2.0
COLOURS = 6
FILLER = -1

# What a shot is worth: what it shows, what changes now, and what the whole video has not shown before.
DISC_WORTH = 0.6
CHANGE_WORTH = 1.0
APPEARANCE_WORTH = (1.3, 0.3)  # first and second appearance of a colour; later ones are worth nothing


@dataclass(frozen=True)
class Story:
    """The shots of one video, each `SHOT_SECONDS` long.

    Attributes:
        colours: int (S,), the colour of the scene a shot belongs to, 0 to `COLOURS` - 1, or `FILLER` (grey).
        discs: bool (S,), whether a large bright disc is seen.
        importance: float (S,), the true importance, any scale.
    """

    colours: npt.NDArray[np.int64]
    discs: npt.NDArray[np.bool_]
    importance: npt.NDArray[np.float64]


def tell(rng: np.random.Generator, shots: int) -> Story:
    """Draw a story in which importance has nothing to do with position.

    Things must appear for a first time before they can come back, so chance alone would make early shots matter
    more; drafts whose importance follows position (or distance from the middle) are thrown away.

    Args:
        rng: source of chance.
        shots: number of shots, at least 12.
    """
    position = np.arange(shots)
    while True:
        story = _draft(rng, shots)
        along = float(spearmanr(position, story.importance).statistic)
        outward = float(spearmanr(np.abs(position - position.mean()), story.importance).statistic)
        if abs(along) < 0.08 and abs(outward) < 0.15:
            return story


def _draft(rng: np.random.Generator, shots: int) -> Story:
    lengths: list[int] = []
    while sum(lengths) < shots:
        lengths.append(int(rng.integers(2, 5)))
    scenes = len(lengths)
    things = rng.permutation(COLOURS)[: min(rng.integers(4, COLOURS + 1), scenes)]
    debuts = dict(zip(sorted(rng.choice(scenes, len(things), replace=False)), things, strict=True))

    colours: list[int] = []
    importance: list[float] = []
    seen: dict[int, int] = {}
    before = FILLER
    for scene, length in enumerate(lengths):
        if scene in debuts:
            colour = int(debuts[scene])
        else:
            back = [c for c in [*seen, FILLER] if c != before]
            colour = int(rng.choice(back)) if back else FILLER
        appearance = 0
        if colour != FILLER:
            seen[colour] = seen.get(colour, 0) + 1
            appearance = seen[colour]
        worth = APPEARANCE_WORTH[appearance - 1] if 1 <= appearance <= len(APPEARANCE_WORTH) else 0.0
        changed = colour != before
        colours += [colour] * length
        importance += [worth + CHANGE_WORTH * (changed and shot == 0) for shot in range(length)]
        before = colour
    discs = rng.random(shots) < 0.25
    return Story(np.array(colours[:shots]), discs, np.array(importance[:shots]) + DISC_WORTH * discs)
