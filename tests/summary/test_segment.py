import itertools
import math
import tracemalloc

import numpy as np
import pytest

from keyframe.summary import shots as segment
from keyframe.summary.shots import check_shots, kts, segments_to_frames


def unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def scatter(rows):
    return ((rows - rows.mean(axis=0)) ** 2).sum()


def growth(changes, n):
    """g(m, n) of the paper."""
    return changes * (math.log(n / changes) + 1) if changes else 0.0


def objective(features, segments, penalty):
    inside = sum(scatter(features[first : last + 1]) for first, last in segments)
    return inside + penalty / 2 * growth(len(segments) - 1, len(features))


def pieces(lengths, size=16, noise=0.0, seed=0):
    """A signal that is constant in pieces of these lengths, each piece in a direction of its own."""
    rng = np.random.default_rng(seed)
    levels = np.linalg.qr(rng.normal(size=(max(size, len(lengths)), max(size, len(lengths)))))[0][: len(lengths)]
    clean = np.repeat(levels, lengths, axis=0)
    return clean + noise * rng.normal(size=clean.shape) / math.sqrt(clean.shape[1])


def ranges(lengths):
    ends = np.cumsum(lengths)
    return np.stack([ends - lengths, ends - 1], axis=1)


@pytest.mark.parametrize("seed", range(120))
def test_no_other_cut_costs_less(seed):
    rng = np.random.default_rng(seed)
    n, min_length, max_segments = (int(rng.integers(1, high)) for high in (10, 4, 10))
    features = rng.normal(size=(n, 3)) if seed % 2 else rng.integers(1, 3, (n, 2)) * 1.0
    penalty = float(rng.choice([0.0, 0.05, 0.1, 0.3, 0.5, 1.0, 2.0]))

    found = kts(features, max_segments, penalty, min_length=min_length)

    best = {}
    for cuts in range(min(max_segments, n)):
        for places in itertools.combinations(range(1, n), cuts):
            lengths = np.diff([0, *places, n])
            if cuts == 0 or lengths.min() >= min_length:
                cost = objective(unit(features), ranges(lengths), penalty)
                best[cuts] = min(cost, best.get(cuts, math.inf))
    least = min(best.values())
    assert objective(unit(features), found, penalty) == pytest.approx(least, abs=1e-9)
    assert len(found) - 1 == min(cuts for cuts, cost in best.items() if cost < least + 1e-9)


@pytest.mark.parametrize("trials", [2, 16])
@pytest.mark.parametrize("max_segments", [None, 3, 9])
@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_agrees_with_a_plain_dynamic_programme(noise, max_segments, trials, monkeypatch):
    monkeypatch.setattr(segment, "_TRIALS", trials)
    features = pieces([7, 3, 11, 5, 14, 9, 2, 8], noise=noise)
    n = len(features)
    rows = unit(features)
    costs = np.array([[scatter(rows[s:t]) if s < t else math.inf for t in range(n + 1)] for s in range(n)])
    least = np.full((n + 1, n + 1), math.inf)
    least[0, 0] = 0.0
    for count in range(1, n + 1):
        least[count] = (least[count - 1, :n, None] + costs).min(axis=0)

    for penalty in (0.02, 0.2, 0.6, 1.0, 1.6, 4.0):
        found = kts(features, max_segments, penalty)
        totals = [least[m + 1, n] + penalty / 2 * growth(m, n) for m in range(max_segments or n)]
        assert objective(rows, found, penalty) == pytest.approx(min(totals), abs=1e-9)


def test_one_change_by_hand():
    # 4 steps east, 4 north: half a unit of scatter each around the middle, 4 in all, and none once cut at step 4.
    # One change costs penalty / 2 * (log 8 + 1) = 1.5397 penalty, so it pays below 4 / 1.5397 = 2.598.
    features = np.repeat(np.eye(2), 4, axis=0)
    assert kts(features, penalty=2.59).tolist() == [[0, 3], [4, 7]]
    assert kts(features, penalty=2.61).tolist() == [[0, 7]]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("noise", [0.0, 0.2, 0.4])
def test_finds_the_pieces_of_a_noisy_signal(seed, noise):
    lengths = np.random.default_rng(seed).integers(8, 40, 12)
    assert np.array_equal(kts(pieces(lengths, noise=noise, seed=seed)), ranges(lengths))


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1e-3, 1e6])
@pytest.mark.parametrize("n", [1, 2, 3, 500])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_constant_signal_is_one_segment(value, n, penalty):
    assert kts(np.full((n, 7), value), penalty=penalty).tolist() == [[0, n - 1]]


def test_two_steps():
    # Scatter .5 * |difference|^2 = 1 against penalty / 2 * (log 2 + 1) = .85 penalty.
    features = np.eye(2)
    assert kts(features, penalty=1.18).tolist() == [[0, 0], [1, 1]]
    assert kts(features, penalty=1.19).tolist() == [[0, 1]]
    assert kts(features, penalty=0.0, max_segments=1).tolist() == [[0, 1]]
    assert kts(features, penalty=0.0, min_length=2).tolist() == [[0, 1]]


def test_more_penalty_gives_no_more_segments():
    features = pieces([20, 10, 30, 15, 25], noise=1.5, seed=1)
    counts = [len(kts(features, penalty=penalty)) for penalty in (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 100
    assert counts[-1] == 1


def test_without_penalty_there_are_as_many_segments_as_allowed():
    lengths = [20, 10, 30, 15, 25]
    features = pieces(lengths, noise=0.1)
    assert np.array_equal(kts(features, 5, 0.0), ranges(lengths))
    assert len(kts(features, 17, 0.0)) == 17
    # and none that the signal does not ask for
    assert np.array_equal(kts(pieces(lengths), 17, 0.0), ranges(lengths))
    assert np.array_equal(kts(pieces(lengths), None, 0.0), ranges(lengths))


@pytest.mark.parametrize("min_length", [1, 2, 7, 40, 99, 101])
def test_segments_cover_the_signal_and_keep_their_length(min_length):
    features = np.random.default_rng(0).normal(size=(100, 8))
    for max_segments in (None, 1, 4, 50, 1000):
        found = kts(features, max_segments, 0.3, min_length=min_length)
        assert found.dtype == np.int64
        check_shots(found, 100)
        assert len(found) <= (max_segments or 100)
        assert len(found) == 1 or (found[:, 1] - found[:, 0] + 1).min() >= min_length


def test_length_of_rows_matters_only_where_asked():
    features = pieces([10, 12, 9])
    louder = features * np.random.default_rng(0).uniform(0.01, 100, (31, 1))
    assert np.array_equal(kts(louder), kts(features))
    assert len(kts(louder, normalise=False)) > 3
    # The scatter does not know the origin, however far.
    assert np.array_equal(kts(features + 1e6, normalise=False), kts(features, normalise=False))


def test_input_stays_and_may_be_of_single_precision():
    features = pieces([10, 12, 9], noise=0.3).astype(np.float32)
    before = features.copy()
    assert np.array_equal(kts(features), kts(features.astype(np.float64)))
    assert np.array_equal(features, before)


def test_blocks_and_trials_change_nothing(monkeypatch):
    features = pieces(np.random.default_rng(3).integers(3, 15, 40), noise=0.8)
    expected = [kts(features, most, penalty) for most in (None, 10) for penalty in (0.3, 1.0, 2.0)]
    monkeypatch.setattr(segment, "_KEPT", 0)
    for block, trials in ((7, 2), (1, 3), (1000, 50)):
        monkeypatch.setattr(segment, "_BLOCK", block)
        monkeypatch.setattr(segment, "_TRIALS", trials)
        found = [kts(features, most, penalty) for most in (None, 10) for penalty in (0.3, 1.0, 2.0)]
        assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


def test_memory_of_an_hour_stays_bounded():
    # An hour at 2 steps a second; a matrix of 7200 x 7200 floats would take 415 MB.
    n, size = 7200, 16
    features = pieces(np.full(n // 12, 12), noise=0.2)[:, :size] + np.repeat(np.eye(2, size), n // 2, axis=0)
    tracemalloc.start()
    try:
        found = kts(features)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    check_shots(found, n)
    assert peak < 8 * n * (2 * size + 300)


@pytest.mark.parametrize(
    ("features", "options", "words"),
    [
        (np.zeros(5), {}, "(n, d)"),
        (np.zeros((0, 5)), {}, "(n, d)"),
        (np.zeros((5, 0)), {}, "(n, d)"),
        (np.array([[1.0, np.nan]]), {}, "finite"),
        (np.array([[1.0, np.inf]]), {}, "finite"),
        (np.eye(3), {"max_segments": 0}, "max_segments"),
        (np.eye(3), {"penalty": -0.1}, "penalty"),
        (np.eye(3), {"penalty": math.nan}, "penalty"),
        (np.eye(3), {"penalty": math.inf}, "penalty"),
        (np.eye(3), {"min_length": 0}, "min_length"),
    ],
)
def test_refuses(features, options, words):
    with pytest.raises(ValueError) as caught:
        kts(features, **options)
    assert words in str(caught.value)


def test_frames_of_segments():
    # Steps at frames 0, 15 ... 60 of 70: the second segment begins at step 2, frame 30.
    picks = np.arange(0, 70, 15)
    assert segments_to_frames(np.array([[0, 1], [2, 4]]), picks, 70).tolist() == [[0, 29], [30, 69]]
    assert segments_to_frames(np.array([[0, 4]]), picks, 61).tolist() == [[0, 60]]
    assert segments_to_frames(np.array([[0, 0]]), np.array([0]), 1).tolist() == [[0, 0]]
    # Frames before the first step belong to the first segment.
    assert segments_to_frames(np.array([[0, 0], [1, 1]]), np.array([5, 20]), 30).tolist() == [[0, 19], [20, 29]]


@pytest.mark.parametrize(
    ("segments", "picks", "n_frames"),
    [
        ([[0, 1], [3, 4]], [0, 1, 2, 3, 4], 5),
        ([[0, 2], [2, 4]], [0, 1, 2, 3, 4], 5),
        ([[0, 3]], [0, 1, 2, 3, 4], 5),
        ([[1, 4]], [0, 1, 2, 3, 4], 5),
        ([[0, 4]], [0, 1, 2, 3, 4], 4),
        ([[0, 4]], [0, 1, 1, 3, 4], 5),
        ([[0, 4]], [-1, 1, 2, 3, 4], 5),
        ([0, 4], [0, 1, 2, 3, 4], 5),
        (np.zeros((0, 2), int), [], 5),
    ],
)
def test_frames_refuse_what_does_not_fit(segments, picks, n_frames):
    with pytest.raises(ValueError):
        segments_to_frames(np.array(segments), np.array(picks, dtype=np.int64), n_frames)
