"""The exact 0/1 knapsack, which keyshot summaries are chosen by."""

import numpy as np
import numpy.typing as npt

from keyframe.types import FloatArray, IntArray


def knapsack(values: FloatArray, weights: IntArray, capacity: int) -> npt.NDArray[np.bool_]:
    """Choose the items of the greatest value whose weights fit, exactly (0/1 knapsack).

    Dynamic programming over integer weights: O(n capacity) steps; n (capacity + 1) / 8 bytes for the choices (one bit
    each) and three rows of capacity + 1 floats.

    Ties: going from the last item to the first, an item is taken only where every best choice needs it. So of sets of
    equal value the one with the earlier items is taken, and an item without value never; the public implementations
    of the keyshot protocol break ties in the same way. Values are added in float64 in item order.

    Args:
        values: what each item is worth, (n,), finite; an item worth nothing or less is left out.
        weights: integers, (n,), not negative.
        capacity: the most the chosen weights may sum to, not negative.

    Returns:
        Whether each item is chosen, (n,).

    Raises:
        ValueError: if the arrays do not fit each other, a value is not finite, or a weight or the capacity is negative
            or no integer.
    """
    if values.ndim != 1 or values.shape != weights.shape:
        raise ValueError(f"values and weights must be (n,), not {values.shape} and {weights.shape}")
    if not np.isfinite(values).all():
        raise ValueError("values must be finite")
    if not np.issubdtype(weights.dtype, np.integer) or (weights < 0).any():
        raise ValueError("weights must be integers that are not negative")
    if capacity != int(capacity) or capacity < 0:
        raise ValueError(f"capacity must be an integer that is not negative, not {capacity}")
    room = min(int(capacity), int(weights.sum(dtype=np.int64)))
    # best[w]: the greatest value of the items so far within weight w; taken[i]: for which w item i is among them.
    best = np.zeros(room + 1)
    taken = np.zeros((len(values), room // 8 + 1), dtype=np.uint8)
    for item, (value, weight) in enumerate(zip(values.astype(np.float64), weights.tolist(), strict=True)):
        if weight > room:
            continue
        with_item = best[: room + 1 - weight] + value
        better = with_item > best[weight:]
        taken[item] = np.packbits(np.append(np.zeros(weight, dtype=bool), better))
        best[weight:] = np.where(better, with_item, best[weight:])
    chosen = np.zeros(len(values), dtype=bool)
    for item in range(len(values) - 1, -1, -1):
        if taken[item, room >> 3] >> (7 - (room & 7)) & 1:
            chosen[item] = True
            room -= int(weights[item])
    return chosen
