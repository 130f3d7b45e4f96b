"""A large independent set of great merit, by greedy choice and exchanges."""

from collections.abc import Callable

import numpy as np

from keyframe.summary.candidates import Mask, Positions
from keyframe.types import FloatArray

# Frames of a group that are tried as the one half of a pair.
_TRIES = 32


class LocalSearch:
    """Frames without conflict, improved by exchanges until none helps.

    After Andrade, Resende, Werneck: Fast local search for the maximum independent set problem, J. Heuristics 2012:
    with the number of conflicts of every frame kept, the frames that stand against one chosen frame only are at hand.
    """

    def __init__(self, conflicts: Callable[[Positions, Positions | slice], Mask], merits: FloatArray, k: int) -> None:
        """Search up to k frames.

        Args:
            conflicts: of some frames with others, (f, o), each with itself included.
            merits: what each frame is worth, finite, (n,).
            k: the most to take, >= 1.
        """
        self._conflicts, self._merits, self._k = conflicts, merits, k
        self._rows: dict[int, Mask] = {}
        # With how many chosen frames each frame is in conflict; a chosen one with itself.
        self._against = np.zeros(len(merits), dtype=np.int32)

    def run(self, start: Positions) -> Positions:
        """Take what fits of a start, in its order, fill up to k, and exchange while it helps.

        Returns:
            The frames, rising.
        """
        for frame in start.tolist():
            if len(self._rows) < self._k and not self._against[frame]:
                self._add(frame)
        self._fill()
        while len(self._rows) < self._k and self._exchange_for_two():
            self._fill()
        while self._exchange_for_better():
            pass
        return np.array(sorted(self._rows), dtype=np.int64)

    def _add(self, frame: int) -> None:
        self._rows[frame] = self._conflicts(np.array([frame]), slice(None))[0]
        self._against += self._rows[frame]

    def _remove(self, frame: int) -> None:
        self._against -= self._rows.pop(frame)

    def _fill(self) -> None:
        """Add the best frame that is free, earliest first among equals, until k."""
        while len(self._rows) < self._k:
            worth = np.where(self._against == 0, self._merits, -np.inf)
            best = int(worth.argmax())
            if worth[best] == -np.inf:
                return
            self._add(best)

    def _held_by(self, frame: int) -> Positions:
        """The frames that this chosen one alone keeps out, and itself, rising."""
        return np.flatnonzero((self._against == 1) & self._rows[frame])

    def _exchange_for_two(self) -> bool:
        """Replace one frame by two that it alone keeps out, the least worth first; whether there are such."""
        for frame in sorted(self._rows, key=lambda chosen: (self._merits[chosen], chosen)):
            held = self._held_by(frame)
            ordered = held[np.argsort(-self._merits[held], kind="stable")]
            # The ends in time are the likeliest to leave room for another.
            ones = np.append([held[0], held[-1]], ordered[:_TRIES])
            pairs = ~self._conflicts(ones, ordered) & (ordered != frame) & (ones != frame)[:, None]
            if pairs.any():
                one = int(pairs.any(axis=1).argmax())
                self._remove(frame)
                self._add(int(ones[one]))
                self._add(int(ordered[pairs[one].argmax()]))
                return True
        return False

    def _exchange_for_better(self) -> bool:
        """Replace frames by others of more merit, or as much and earlier; whether there was one."""
        changed = False
        for frame in list(self._rows):
            within_reach = (self._against == 1) & self._rows[frame]
            if len(self._rows) == self._k:
                within_reach |= self._against == 0
            best = int(np.where(within_reach, self._merits, -np.inf).argmax())
            if (self._merits[best], -best) > (self._merits[frame], -frame):
                self._remove(frame)
                self._add(best)
                changed = True
        return changed
