"""Shots: KTS finds the optimum of its objective; videos are cut where they change; PySceneDetect's cuts are its own."""

import itertools
import math
import sys
import tracemalloc
from unittest.mock import Mock

import numpy as np
import pytest

from keyframe.data.demo import DemoSet, begin
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.summary import shots
from keyframe.summary.describe import DESCRIPTOR_SIZE, describe_frames
from keyframe.summary.shots import ContentShots, KtsShots, check_shots, kts, segments_to_frames
from keyframe.types import KeyframeError


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


def test_no_other_cut_costs_less():
    for seed in range(80):
        rng = np.random.default_rng(seed)
        n, min_length = int(rng.integers(1, 10)), int(rng.integers(1, 4))
        features = rng.normal(size=(n, 3)) if seed % 2 else rng.integers(1, 3, (n, 2)) * 1.0
        penalty = float(rng.choice([0.0, 0.05, 0.1, 0.3, 0.5, 1.0, 2.0]))

        found = kts(features, penalty, min_length=min_length)

        best = {}
        for cuts in range(n):
            for places in itertools.combinations(range(1, n), cuts):
                lengths = np.diff([0, *places, n])
                if cuts == 0 or lengths.min() >= min_length:
                    cost = objective(unit(features), ranges(lengths), penalty)
                    best[cuts] = min(cost, best.get(cuts, math.inf))
        least = min(best.values())
        assert objective(unit(features), found, penalty) == pytest.approx(least, abs=1e-9), seed
        assert len(found) - 1 == min(cuts for cuts, cost in best.items() if cost < least + 1e-9), seed


def test_agrees_with_a_plain_dynamic_programme(monkeypatch):
    for noise in (0.5, 2.0):
        features = pieces([7, 3, 11, 5, 14, 9, 2, 8], noise=noise)
        n = len(features)
        rows = unit(features)
        costs = np.array([[scatter(rows[s:t]) if s < t else math.inf for t in range(n + 1)] for s in range(n)])
        least = np.full((n + 1, n + 1), math.inf)
        least[0, 0] = 0.0
        for count in range(1, n + 1):
            least[count] = (least[count - 1, :n, None] + costs).min(axis=0)

        for trials, penalty in itertools.product((2, 16), (0.02, 0.2, 0.6, 1.0, 1.6, 4.0)):
            monkeypatch.setattr(shots, "_TRIALS", trials)
            totals = [least[m + 1, n] + penalty / 2 * growth(m, n) for m in range(n)]
            assert objective(rows, kts(features, penalty), penalty) == pytest.approx(min(totals), abs=1e-9)


def test_one_change_by_hand():
    # 4 steps east, 4 north: half a unit of scatter each around the middle, 4 in all, and none once cut at step 4.
    # One change costs penalty / 2 * (log 8 + 1) = 1.5397 penalty, so it pays below 4 / 1.5397 = 2.598.
    features = np.repeat(np.eye(2), 4, axis=0)
    assert kts(features, 2.59).tolist() == [[0, 3], [4, 7]]
    assert kts(features, 2.61).tolist() == [[0, 7]]
    # Two steps: scatter .5 * |difference|^2 = 1 against penalty / 2 * (log 2 + 1) = .85 penalty.
    assert kts(np.eye(2), 1.18).tolist() == [[0, 0], [1, 1]]
    assert kts(np.eye(2), 1.19).tolist() == [[0, 1]]
    assert kts(np.eye(2), 0.0, min_length=2).tolist() == [[0, 1]]


def test_finds_the_pieces_of_a_noisy_signal():
    for seed, noise in itertools.product(range(3), (0.0, 0.2, 0.4)):
        lengths = np.random.default_rng(seed).integers(8, 40, 12)
        assert np.array_equal(kts(pieces(lengths, noise=noise, seed=seed)), ranges(lengths))


def test_a_constant_signal_is_one_segment():
    for value, n, penalty in itertools.product((0.0, 1.0, -0.1, 1e-3, 1e6), (1, 2, 3, 500), (0.0, 1.0)):
        assert kts(np.full((n, 7), value), penalty).tolist() == [[0, n - 1]]


def test_more_penalty_gives_no_more_segments():
    lengths = [20, 10, 30, 15, 25]
    features = pieces(lengths, noise=1.5, seed=1)
    counts = [len(kts(features, penalty)) for penalty in (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 100 and counts[-1] == 1
    # Without a penalty there are no more than the signal asks for.
    assert np.array_equal(kts(pieces(lengths), 0.0), ranges(lengths))


def test_segments_cover_the_signal_and_keep_their_length():
    features = np.random.default_rng(0).normal(size=(100, 8))
    for min_length in (1, 2, 7, 40, 99, 101):
        found = kts(features, 0.3, min_length=min_length)
        assert found.dtype == np.int64
        check_shots(found, 100)
        assert len(found) == 1 or (found[:, 1] - found[:, 0] + 1).min() >= min_length


def test_length_and_precision_of_rows_do_not_matter():
    features = pieces([10, 12, 9], noise=0.3).astype(np.float32)
    before = features.copy()
    louder = features * np.random.default_rng(0).uniform(0.01, 100, (31, 1))
    assert np.array_equal(kts(louder), kts(features))
    assert np.array_equal(kts(features), kts(features.astype(np.float64)))
    assert np.array_equal(features, before)


def test_blocks_and_trials_change_nothing(monkeypatch):
    features = pieces(np.random.default_rng(3).integers(3, 15, 40), noise=0.8)
    expected = [kts(features, penalty) for penalty in (0.3, 1.0, 2.0)]
    monkeypatch.setattr(shots, "_MOST_KEPT", 0)
    for block, trials in ((7, 2), (1, 3), (1000, 50)):
        monkeypatch.setattr(shots, "_STEPS_AT_ONCE", block)
        monkeypatch.setattr(shots, "_TRIALS", trials)
        found = [kts(features, penalty) for penalty in (0.3, 1.0, 2.0)]
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


def test_refuses_features_and_options():
    for features, options, words in (
        (np.zeros(5), {}, "(n, d)"),
        (np.zeros((0, 5)), {}, "(n, d)"),
        (np.zeros((5, 0)), {}, "(n, d)"),
        (np.array([[1.0, np.nan]]), {}, "finite"),
        (np.array([[1.0, np.inf]]), {}, "finite"),
        (np.eye(3), {"penalty": -0.1}, "penalty"),
        (np.eye(3), {"penalty": math.nan}, "penalty"),
        (np.eye(3), {"penalty": math.inf}, "penalty"),
        (np.eye(3), {"min_length": 0}, "min_length"),
    ):
        with pytest.raises(ValueError) as caught:
            kts(features, **options)
        assert words in str(caught.value)
    for option in ({"penalty": -1}, {"penalty": np.inf}, {"min_length": -0.1}, {"min_length": np.nan}):
        with pytest.raises(KeyframeError, match=next(iter(option))):
            KtsShots(**option)


def test_frames_of_segments():
    # Steps at frames 0, 15 ... 60 of 70: the second segment begins at step 2, frame 30.
    picks = np.arange(0, 70, 15)
    assert segments_to_frames(np.array([[0, 1], [2, 4]]), picks, 70).tolist() == [[0, 29], [30, 69]]
    assert segments_to_frames(np.array([[0, 4]]), picks, 61).tolist() == [[0, 60]]
    assert segments_to_frames(np.array([[0, 0]]), np.array([0]), 1).tolist() == [[0, 0]]
    # Frames before the first step belong to the first segment.
    assert segments_to_frames(np.array([[0, 0], [1, 1]]), np.array([5, 20]), 30).tolist() == [[0, 19], [20, 29]]
    for segments, wrong, n_frames in (
        ([[0, 1], [3, 4]], [0, 1, 2, 3, 4], 5),
        ([[0, 2], [2, 4]], [0, 1, 2, 3, 4], 5),
        ([[0, 3]], [0, 1, 2, 3, 4], 5),
        ([[1, 4]], [0, 1, 2, 3, 4], 5),
        ([[0, 4]], [0, 1, 2, 3, 4], 4),
        ([[0, 4]], [0, 1, 1, 3, 4], 5),
        ([[0, 4]], [-1, 1, 2, 3, 4], 5),
        ([0, 4], [0, 1, 2, 3, 4], 5),
        (np.zeros((0, 2), int), [], 5),
    ):
        with pytest.raises(ValueError):
            segments_to_frames(np.array(segments), np.array(wrong, dtype=np.int64), n_frames)


def descriptors(lengths, noise=0.02, size=24, seed=0):
    """Rows of length 1 that stay near a random direction of their own for each of these lengths."""
    rng = np.random.default_rng(seed)
    levels = np.abs(rng.normal(size=(len(lengths), size)))
    rows = np.repeat(unit(levels), lengths, axis=0)
    return unit(rows + noise * rng.normal(size=rows.shape) / np.sqrt(size))


def even(rows, step=0.5):
    return np.arange(len(rows)) * step


def starts_of(lengths):
    return np.cumsum([0, *lengths[:-1]])


def watch(path, step=0.5):
    """The appearance of a video every `step` seconds, and the times."""
    index = index_packets(path)
    times = index.timestamps - index.timestamps[0]
    frames = np.searchsorted(times, np.arange(0, times[-1], step) - 1e-6)
    return describe_frames(PyAVReader().read(path, frames, DESCRIPTOR_SIZE, index).pixels), times[frames]


def test_finds_known_cuts():
    lengths = [9, 6, 14, 2, 11, 30, 5]
    rows = descriptors(lengths)
    found = KtsShots()(rows, even(rows))
    assert found[:, 0].tolist() == starts_of(lengths).tolist()
    check_shots(found, sum(lengths))


def test_static_and_short_videos_are_one_shot():
    for n, noise in ((400, 0.05), (1, 0.02), (2, 0.02), (3, 0.02)):
        rows = descriptors([n], noise=noise)
        assert KtsShots()(rows, even(rows)).tolist() == [[0, n - 1]]


def test_frames_at_one_time_have_no_rate():
    assert KtsShots()(descriptors([6, 6]), np.zeros(12))[:, 0].tolist() == [0, 6]


def test_shots_do_not_depend_on_the_sampling_rate():
    """A slowly turning camera: there is no cut to find, and only the price of a shot sets how many there are."""
    waypoints = np.abs(np.random.default_rng(3).normal(size=(14, 24)))

    def shots_at(step):
        position = np.arange(0, 390, step) / 30
        first = position.astype(int)
        rows = waypoints[first] + (position - first)[:, None] * (waypoints[first + 1] - waypoints[first])
        return len(KtsShots()(unit(rows), position * 30))

    assert shots_at(0.5) > 40
    for step in (0.1, 0.25, 1.0, 1.9):
        assert shots_at(step) == pytest.approx(shots_at(0.5), rel=0.15)


def test_a_larger_penalty_gives_fewer_shots():
    rows = descriptors([3] * 20, noise=0.3)
    counts = [len(KtsShots(penalty)(rows, even(rows))) for penalty in (0.01, 0.3, 1.0, 4.0)]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1] == 1


def test_no_shot_is_too_short():
    rows = descriptors([60], noise=3.0)
    for seconds, least in ((0, 1), (0.5, 1), (2, 4), (5, 10)):
        found = KtsShots(penalty=0.0, min_length=seconds)(rows, even(rows))
        assert (found[:, 1] - found[:, 0] + 1).min() == least


def test_a_long_video_is_cut_like_a_short_one(monkeypatch):
    lengths = [3, 9, 6, 14, 5, 2, 11, 8] * 6
    rows = descriptors(lengths)
    whole = KtsShots()(rows, even(rows))
    for stretch, overlap in ((40, 16), (50, 20), (64, 10)):
        with monkeypatch.context() as patch:
            cutter = Mock(side_effect=kts)
            patch.setattr(shots, "_STRETCH", stretch)
            patch.setattr(shots, "_OVERLAP", overlap)
            patch.setattr(shots, "kts", cutter)
            found = KtsShots()(rows, even(rows))
        longest = [len(call.args[0]) for call in cutter.call_args_list]
        assert max(longest) <= stretch and len(longest) > 5
        assert found.tolist() == whole.tolist()
        assert found[:, 0].tolist() == starts_of(lengths).tolist()


def test_stretches_that_share_no_cut_still_cover_the_video(monkeypatch):
    monkeypatch.setattr(shots, "_STRETCH", 40)
    monkeypatch.setattr(shots, "_OVERLAP", 10)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 300))
        rows = descriptors([n], noise=3.0, seed=seed)
        found = KtsShots(penalty=float(rng.choice([0.0, 0.2, 0.5, 1.0])), min_length=2.5)(rows, even(rows))
        check_shots(found, n)
        assert len(found) == 1 or (found[:, 1] - found[:, 0] + 1).min() >= 5


def test_a_slow_change_of_exposure_is_no_cut():
    rng = np.random.default_rng(0)
    scenes = np.repeat(np.repeat(rng.integers(40, 160, (2, 8, 8, 3)), 12, axis=1), 12, axis=2)
    light = 1 + 0.4 * np.sin(np.arange(40) / 6)
    pixels = np.concatenate([scene * light[:, None, None, None] for scene in scenes])
    pixels = np.clip(pixels + rng.normal(0, 2, pixels.shape), 0, 255).astype(np.uint8)
    found = KtsShots()(describe_frames(pixels).descriptors, np.arange(80) / 2)
    assert found[:, 0].tolist() == [0, 40]


def test_real_cuts(clips):
    # First frame of each shot at two a second, by eye; fades and dissolves last a second.
    for name, cuts in {
        "psd_testvideo.mp4": [2, 12, 15, 24, 27, 37, 46],
        "bikes.mp4": [3, 7, 11, 15],
        "tc_nasa.mp4": [11, 16],
        "chaplin.mp4": [],
        "friday.mp4": [],
        "flower.webm": [],
    }.items():
        appearance, seconds = watch(clips / name)
        found = KtsShots()(appearance.descriptors, seconds)[1:, 0]
        assert len(found) == len(cuts), name
        assert (np.abs(found - cuts) <= 1).all(), name


def test_finds_where_the_demo_changes(tiny_demo):
    found, changes, hits, true = 0, 0, 0, 0
    for number, path in enumerate(sorted(tiny_demo.rglob("*.mp4"))):
        _, scenario = begin(DemoSet(seed=0, videos=15, shots=12), number)
        appearance, seconds = watch(path)
        cuts = seconds[KtsShots()(appearance.descriptors, seconds)[1:, 0]]
        borders = 2.0 * np.arange(1, len(scenario.patterns))  # each shot has colours of its own
        found += len(cuts)
        true += int((np.abs(cuts[:, None] - borders).min(axis=1) <= 0.6).sum())
        changes += len(borders)
        hits += int((np.abs(borders[:, None] - cuts).min(axis=1) <= 0.6).sum())

    assert true == found
    assert hits > 0.85 * changes


def test_refuses_times_that_do_not_fit():
    for seconds in (np.zeros(3), np.array([0, 2, 1, 3]), np.zeros((4, 1))):
        with pytest.raises(ValueError, match="seconds must not decrease, one for each of 4 rows"):
            KtsShots()(descriptors([4]), seconds)


def content_shots(path, frames, **settings):
    nothing = describe_frames(np.zeros((len(frames), 8, 8, 3), np.uint8))
    return ContentShots(**settings).of_video(index_packets(path), np.array(frames), nothing, PyAVReader())


@pytest.fixture
def scenedetect():
    return pytest.importorskip("scenedetect")


def test_content_shots_are_those_of_the_library(clips, scenedetect):
    for name in ("bikes.mp4", "chaplin.mp4"):
        path = clips / name
        frames = np.arange(0, index_packets(path).n_frames, 5)
        scenes = scenedetect.detect(str(path), scenedetect.ContentDetector(min_scene_len=1.0))
        cuts = [start.frame_num for start, _ in scenes][1:]
        found = content_shots(path, frames)
        check_shots(found, len(frames))
        assert found[1:, 0].tolist() == [-(-cut // 5) for cut in cuts if cut <= frames[-1]], name
    assert content_shots(clips / "bikes.mp4", [100]).tolist() == [[0, 0]]


def test_content_shots_need_the_library_and_every_frame(monkeypatch, scenedetect):
    with pytest.raises(KeyframeError, match="needs every frame"):
        ContentShots()(descriptors([4]), np.arange(4))
    for setting in ({"threshold": 0}, {"threshold": 300}, {"min_length": -1}):
        with pytest.raises(KeyframeError, match=next(iter(setting))):
            ContentShots(**setting)
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(KeyframeError, match=r"pip install 'keyframe-lightning\[shots\]'"):
        ContentShots()
