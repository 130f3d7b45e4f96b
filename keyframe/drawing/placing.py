"""Where things go so that none covers another; lengths in any one unit."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from keyframe.types import FloatArray

_STEPS = 100  # places tried along the longer side of a room


def side_by_side(lefts: FloatArray, rights: FloatArray, gap: float = 0.0) -> list[int]:
    """As many intervals as can be had of which no two are nearer than `gap`, and of those sets an even one.

    Args:
        lefts: where the intervals begin, (N,).
        rights: where they end, (N,).
        gap: what must stay free between two.

    Returns:
        Positions of the chosen, from left to right.
    """
    # Taking what begins last, from the right, gives a largest set; the n-th interval from the left of any such set
    # must end no later than the n-th of this one.
    latest: list[int] = []
    for index in np.argsort(-lefts, kind="stable"):
        if not latest or rights[index] + gap <= lefts[latest[-1]]:
            latest.append(int(index))
    chosen: list[int] = []
    middles = (lefts + rights) / 2
    for place, last in enumerate(reversed(latest)):
        wanted = lefts.min() + (place + 0.5) / len(latest) * np.ptp([lefts.min(), rights.max()])
        free = rights <= rights[last]
        if chosen:
            free &= lefts >= rights[chosen[-1]] + gap
        chosen.append(int(np.argmin(np.where(free, np.abs(middles - wanted), np.inf))))
    return chosen


def staircase(places: Sequence[float], widths: Sequence[float]) -> list[int]:
    """Floors for flags that fly to the right of their poles, so that no flag crosses another or a pole.

    Args:
        places: where the poles stand, increasing.
        widths: how far each flag reaches to the right of its pole.

    Returns:
        The floor of each flag, from 0: above every pole that it passes.
    """
    floors: list[int] = []
    for index in reversed(range(len(places))):
        reach = places[index] + widths[index]
        passed = [floor for place, floor in zip(places[index + 1 :], floors, strict=True) if place < reach]
        floors.insert(0, max(passed, default=-1) + 1)
    return floors


def place_labels(
    points: FloatArray, boxes: FloatArray, obstacles: FloatArray, bars: FloatArray, area: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Lower left corners of labels, each as near to its point as it can be without covering an obstacle or a label.

    A line may lead from a point to its label. Detours are taken so that labels cover no line and no bar, lines
    cross no label and no obstacle but those that their points lie in, and no label stands nearly as close to another
    point as to its own. Crowded points choose first. Where there is no free place, the one that covers least is taken.

    Args:
        points: what the labels belong to, (N, 2).
        boxes: width and height of each label, (N, 2).
        obstacles: left, bottom, right, top of what must stay visible, (M, 4).
        bars: likewise of what better stays visible, (K, 4).
        area: width and height of the room from (0, 0) that labels must stay in.

    Returns:
        Left and bottom of each label, (N, 2).
    """
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
    corners = np.zeros(points.shape)
    labels, lines = np.zeros((0, 4)), np.zeros((0, 4))
    step = max(area) / _STEPS
    detour = max(area) / 50  # what it costs to touch a line with a label, or a label with a point of a line
    for index in np.argsort(-np.exp(-gaps).sum(1), kind="stable"):
        point, box = points[index], boxes[index]
        room = np.maximum(np.array(area) - box, 0)
        grid = np.stack(np.meshgrid(*(np.arange(0, side + 1e-9, step) for side in room)), axis=-1).reshape(-1, 2)
        paths = point + np.linspace(0, 1, 11)[:, None, None] * (np.clip(point, grid, grid + box) - point)
        away = np.linalg.norm(paths[-1] - point, axis=-1)
        others = np.delete(points, index, axis=0)[:, None]
        nearest = np.linalg.norm(np.clip(others, grid, grid + box) - others, axis=-1).min(axis=0, initial=np.inf)
        cost = away + 6 * detour * (nearest < 2 * away)
        # Of places equally near, the one whose middle is: a label does not hang far to one side.
        cost += 0.1 * np.linalg.norm(grid + box / 2 - point, axis=-1)
        cost += 100 * max(area) * _touched(grid, grid + box, np.vstack([obstacles, labels]))
        cost += 6 * detour * _touched(grid, grid + box, bars)
        cost += detour * _touched(grid, grid + box, lines)
        inside = np.all((obstacles[:, :2] <= point) & (point <= obstacles[:, 2:]), axis=1)
        crossed = np.vstack([obstacles[~inside], labels])
        cost += detour * sum(_touched(stop, stop, crossed) for stop in paths)
        best = np.argmin(cost)
        corners[index] = grid[best]
        labels = np.vstack([labels, [*grid[best], *(grid[best] + box)]])
        lines = np.vstack([lines, np.tile(paths[:, best], 2)])
    return corners


def _touched(low: FloatArray, high: FloatArray, taken: FloatArray) -> npt.NDArray[np.int64]:
    """How many of the boxes `taken` (M, 4) each box from `low` to `high` (N, 2) touches, (N,)."""
    return np.all((low[:, None] <= taken[:, 2:]) & (high[:, None] >= taken[:, :2]), axis=-1).sum(1)
