"""Where time goes, part by part, with nothing left over."""

from time import perf_counter

import torch


class Laps:
    """Adds up seconds by part; the parts together are the time since the start.

    Attributes:
        seconds: by part.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = clock()

    def lap(self, part: str) -> None:
        """Count the time since the last lap, or the start, to a part."""
        before, self._last = self._last, clock()
        self.seconds[part] = self.seconds.get(part, 0.0) + self._last - before

    def collect(self) -> dict[str, float]:
        """The parts so far, which start again from nothing."""
        collected, self.seconds = self.seconds, {}
        return collected


def clock() -> float:
    """Seconds, once the accelerator is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()
