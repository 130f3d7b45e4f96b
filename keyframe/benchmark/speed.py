"""How long models take to score videos, measured in turns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from timeit import Timer

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Contender:
    """A model and the input it takes.

    Attributes:
        score: frames (N, T, 3, H, W) -> scores (N, T).
        make_input: the number of videos N -> frames for `score`, on its device.
    """

    score: Callable[[Tensor], Tensor]
    make_input: Callable[[int], Tensor]


@dataclass(frozen=True)
class Timing:
    """How long one call took.

    Attributes:
        seconds: the median.
        spread: lower and upper quartile, in seconds.
        repeats: calls measured.
    """

    seconds: float
    spread: tuple[float, float]
    repeats: int


def speeds(
    models: Mapping[str, Contender], videos: Sequence[int] = (1, 4, 8), repeats: int = 5, budget_s: float = 60.0
) -> dict[tuple[str, int], Timing]:
    """Time models on 1, 4, 8 videos at once.

    Every model is called once to warm up. Then they take turns, so that a busy machine hurts all alike, and each is
    called equally often. As many threads are used as torch is set to (`torch.get_num_threads()`).

    Args:
        models: what to time, by name.
        videos: videos a call.
        repeats: rounds for each number of videos.
        budget_s: seconds that the calls of one model on one number of videos may take, warm-up apart. No round is
            begun that would exceed it for the slowest model; one round is always made.

    Returns:
        A timing by name and number of videos.

    Raises:
        ValueError: if a number is out of range, or a model is in training mode.
    """
    if repeats < 1 or min(videos, default=1) < 1:
        raise ValueError(f"repeats and videos must be at least 1, not {repeats} and {list(videos)}")
    for name, model in models.items():
        if isinstance(model.score, nn.Module) and model.score.training:
            raise ValueError(f"{name} is in training mode: call eval() first")
    with torch.inference_mode():
        return {
            (name, count): timing
            for count in videos
            for name, timing in _rounds(models, count, repeats, budget_s).items()
        }


def in_turns(
    calls: Mapping[str, Callable[[], object]], repeats: int, budget_s: float = 60.0, warm: bool = False
) -> dict[str, list[float]]:
    """Seconds of each call, by name, one a round; each is made once before to warm up, then they take turns.

    Args:
        calls: what to time.
        repeats: rounds, at least 1.
        budget_s: as for `speeds`.
        warm: whether they are warm already, and none is made before.
    """
    timers = {name: Timer(call, timer=_clock) for name, call in calls.items()}
    for timer in timers.values():
        if not warm:
            timer.timeit(1)
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    for done in range(repeats):
        if done and max(sum(taken) + taken[-1] for taken in seconds.values()) > budget_s:
            break
        for name, timer in timers.items():
            seconds[name].append(timer.timeit(1))
    return seconds


def _rounds(models: Mapping[str, Contender], count: int, repeats: int, budget_s: float) -> dict[str, Timing]:
    calls = {name: partial(model.score, model.make_input(count)) for name, model in models.items()}
    return {name: _timing(taken) for name, taken in in_turns(calls, repeats, budget_s).items()}


def _clock() -> float:
    """Seconds, once the accelerator is done. torch's own Timer makes two more calls before each one it measures."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


def _timing(seconds: Sequence[float]) -> Timing:
    lower, median, upper = np.quantile(seconds, [0.25, 0.5, 0.75])
    return Timing(float(median), (float(lower), float(upper)), len(seconds))
