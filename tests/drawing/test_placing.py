from itertools import combinations, pairwise

import numpy as np
import pytest

from keyframe.drawing.plots import place_labels, side_by_side, staircase


def largest(lefts, rights, gap):
    """By trying every subset."""
    count = len(lefts)
    for size in range(count, 0, -1):
        for subset in combinations(np.argsort(lefts), size):
            if all(rights[a] + gap <= lefts[b] for a, b in pairwise(subset)):
                return size
    return 0


@pytest.mark.parametrize("seed", range(20))
def test_as_many_intervals_as_possible_stand_side_by_side(seed):
    rng = np.random.default_rng(seed)
    lefts = rng.uniform(0, 8, 9)
    rights = lefts + rng.uniform(0.3, 3, 9)
    chosen = side_by_side(lefts, rights, 0.2)
    assert len(chosen) == largest(lefts, rights, 0.2)
    assert all(rights[a] + 0.2 <= lefts[b] for a, b in pairwise(chosen))


def test_of_many_intervals_an_even_choice_is_made():
    lefts = np.linspace(0, 9, 91)
    middles = lefts[side_by_side(lefts, lefts + 1.6)] + 0.8
    assert len(middles) == 6
    np.testing.assert_allclose(np.diff(middles), 10.6 / 6, atol=0.11)


@pytest.mark.parametrize("seed", range(10))
def test_flags_cross_no_flag_and_no_pole(seed):
    rng = np.random.default_rng(seed)
    places = np.sort(rng.uniform(0, 5, 7))
    widths = rng.uniform(0.5, 3, 7)
    floors = staircase(places, widths)
    for low, high in combinations(range(7), 2):
        # A flag on the floor of a pole to its right, or below that, runs into it.
        assert places[low] + widths[low] <= places[high] or floors[low] > floors[high]


def test_flags_with_room_stay_on_the_ground():
    assert staircase([0.0, 2.0, 4.0], [1.0, 1.0, 1.0]) == [0, 0, 0]
    assert staircase([], []) == []


@pytest.mark.parametrize("seed", range(4))
def test_labels_cover_neither_points_nor_each_other(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform([3, 2], [5, 3], (7, 2))  # a crowd
    boxes = rng.uniform([1.0, 0.3], [2.3, 0.5], (7, 2))
    discs = np.concatenate([points - 0.1, points + 0.1], axis=1)
    corners = place_labels(points, boxes, discs, np.zeros((0, 4)), (8.0, 5.0))
    assert (corners >= 0).all() and (corners + boxes <= [8.0, 5.0]).all()
    labels = np.concatenate([corners, corners + boxes], axis=1)
    for a, b in [*combinations(labels, 2), *((label, disc) for label in labels for disc in discs)]:
        assert np.any(a[2:] <= b[:2]) or np.any(b[2:] <= a[:2])


@pytest.mark.parametrize("bars", [np.zeros((0, 4)), np.array([[3.99, 1.0, 4.01, 3.0]])])
def test_a_label_alone_stands_by_its_point_and_off_its_bar(bars):
    disc = np.array([[3.9, 1.9, 4.1, 2.1]])
    corner = place_labels(np.array([[4.0, 2.0]]), np.array([[1.0, 0.2]]), disc, bars, (8.0, 5.0))
    assert all(corner[0, 0] > bar[2] or corner[0, 0] + 1.0 < bar[0] for bar in bars)
    near = np.clip([4.0, 2.0], corner[0], corner[0] + [1.0, 0.2])
    assert 0.1 <= np.linalg.norm(near - [4.0, 2.0]) < 0.2
