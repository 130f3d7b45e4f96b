import itertools
import tracemalloc

import numpy as np
import pytest

from keyframe.summary.selection import knapsack


def every_choice(values, weights, capacity):
    """The best value there is, and of the masks that have it the one that leaves out the later items."""
    fitting = [
        mask
        for mask in itertools.product((False, True), repeat=len(values))
        if sum(weight for weight, chosen in zip(weights, mask, strict=True) if chosen) <= capacity
    ]
    worth = [sum(value for value, chosen in zip(values, mask, strict=True) if chosen) for mask in fitting]
    best = max(worth)
    return best, min((mask for mask, value in zip(fitting, worth, strict=True) if value == best), key=lambda m: m[::-1])


@pytest.mark.parametrize("seed", range(150))
def test_no_other_choice_is_worth_more(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 9))
    # Few different values make ties; weights include 0 and more than fits.
    values = rng.integers(-1, 4, count) if seed % 2 else rng.integers(0, 1000, count) / 8
    weights, capacity = rng.integers(0, 9, count), int(rng.integers(0, 20))
    mask = knapsack(values.astype(float), weights, capacity)
    best, first = every_choice(values.tolist(), weights.tolist(), capacity)
    assert values[mask].sum() == best
    assert mask.tolist() == list(first)


def test_textbook_example():
    # Cormen et al., Introduction to Algorithms, 16.2: the greedy choice by value per weight would take the first.
    mask = knapsack(np.array([60.0, 100.0, 120.0]), np.array([10, 20, 30]), 50)
    assert mask.tolist() == [False, True, True]
    assert mask.dtype == bool


def test_of_equal_choices_the_earlier_items_win():
    assert knapsack(np.ones(4), np.full(4, 3), 6).tolist() == [True, True, False, False]
    assert knapsack(np.array([1.0, 2.0, 3.0]), np.array([1, 2, 3]), 3).tolist() == [True, True, False]


def test_edges():
    none = np.array([], dtype=np.int64)
    assert knapsack(np.array([]), none, 5).tolist() == []
    # capacity 0 leaves room for weightless items only
    assert knapsack(np.array([1.0, 2.0, 0.0]), np.array([1, 0, 0]), 0).tolist() == [False, True, False]
    # too heavy, worthless, worse than worthless, and one that fits to the frame
    values, weights = np.array([9.0, 0.0, -1.0, 1.0]), np.array([8, 1, 1, 7])
    assert knapsack(values, weights, 7).tolist() == [False, False, False, True]
    assert knapsack(values, weights, 10**12).tolist() == [True, False, False, True]
    assert knapsack(values, weights, np.int64(7)).tolist() == [False, False, False, True]


def test_choices_take_a_bit_each():
    # The shots of an hour: 108 000 frames, 15 % of them, 1000 shots. A table of bytes would take 16 MB, of floats 130.
    weights = np.full(1000, 108)
    tracemalloc.start()
    try:
        mask = knapsack(np.linspace(0.1, 1.0, 1000), weights, 16_200)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.flatnonzero(mask).tolist() == list(range(850, 1000))
    assert peak < 1000 * 16_200 / 8 + 10 * 8 * 16_200


@pytest.mark.parametrize(
    ("values", "weights", "capacity"),
    [
        ([1.0, 2.0], [1], 5),
        ([[1.0]], [[1]], 5),
        ([np.nan], [1], 5),
        ([np.inf], [1], 5),
        ([1.0], [-1], 5),
        ([1.0], [0.5], 5),
        ([1.0], [1], -1),
        ([1.0], [1], 1.5),
    ],
)
def test_refuses(values, weights, capacity):
    with pytest.raises(ValueError):
        knapsack(np.array(values), np.array(weights), capacity)
