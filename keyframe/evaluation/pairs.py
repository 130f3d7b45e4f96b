"""Each pair of models on the same videos: is one better?"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from keyframe.evaluation.bootstrap import Difference, paired_difference
from keyframe.evaluation.cells import NONE, number
from keyframe.evaluation.measure import METRICS
from keyframe.evaluation.study import Study

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Pair:
    """Two models and, by metric, the second's mean minus the first's over their videos."""

    first: str
    second: str
    differences: dict[str, Difference]


def pairs(studies: Sequence[Study]) -> list[Pair]:
    """All pairs, in order; the studies must hold the same videos."""
    result = []
    for first, second in combinations(studies, 2):
        differences = {}
        for metric in METRICS:
            theirs, ours = (np.array([one.rows[video][metric] for video in first.rows]) for one in (second, first))
            differences[metric] = paired_difference(theirs, ours)
        result.append(Pair(first.name, second.name, differences))
    return result


def sentence(pair: Pair, metric: str) -> str:
    """What the videos say of a pair, in words; it follows the p-value."""
    difference = pair.differences[metric]
    what = METRICS[metric].split(",")[0]
    if np.isnan(difference.p_value):
        return f"Whether {pair.first} or {pair.second} is better cannot be told from {difference.videos} video(s)."
    figures = (
        f"difference {difference.value:+.3f} [{difference.lo:+.3f}, {difference.hi:+.3f}], p {p_text(difference)}, "
        f"{difference.videos} videos"
    )
    if difference.p_value >= SIGNIFICANT:
        return (
            f"No difference between {pair.first} and {pair.second} can be told from these videos ({what}: {figures})."
        )
    better, worse = (pair.second, pair.first) if difference.value > 0 else (pair.first, pair.second)
    return f"{better} is better than {worse} ({what}: {figures})."


def p_text(difference: Difference) -> str:
    """A p-value to the digits that its draws bear."""
    if np.isnan(difference.p_value):
        return NONE
    return "< 0.001" if difference.p_value < 0.001 else f"= {number(difference.p_value)}"


def pair_rows(found: Sequence[Pair], metrics: Sequence[str]) -> list[dict[str, str]]:
    """One row a pair and metric: difference, interval, p-value."""
    return [
        {
            "pair": f"{pair.second} - {pair.first}",
            "metric": metric,
            "difference": number(pair.differences[metric].value),
            "95 %": NONE
            if np.isnan(pair.differences[metric].lo)
            else f"{pair.differences[metric].lo:z.3f} to {pair.differences[metric].hi:z.3f}",
            "p": p_text(pair.differences[metric]).removeprefix("= "),
            "videos": str(pair.differences[metric].videos),
        }
        for pair in found
        for metric in metrics
    ]


def pair_metrics(found: Sequence[Pair]) -> dict[str, float]:
    """Flat: `difference/<second>-<first>/<metric>` with `_lo`, `_hi`, `_p`."""
    flat: dict[str, float] = {}
    for pair in found:
        for metric, difference in pair.differences.items():
            key = f"difference/{pair.second}-{pair.first}/{metric}"
            flat |= {
                key: difference.value,
                f"{key}_lo": difference.lo,
                f"{key}_hi": difference.hi,
                f"{key}_p": difference.p_value,
            }
    return flat
