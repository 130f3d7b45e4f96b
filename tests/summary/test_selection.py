import itertools
import time

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from keyframe.config import conf_dir
from keyframe.summary import constraints
from keyframe.summary import constraints as local_search
from keyframe.summary.constraints import Candidates, Conflicts, Limits, LocalSearch, Selection, choose
from keyframe.summary.describe import GRID
from keyframe.summary.selection import AdaptiveSelection, KnapsackSelection, TopSelection, UniformSelection, faults
from keyframe.types import KeyframeError


def video(scores, seconds=None, descriptors=None, shots=None, duration=None, **quality):
    """Candidates that all look different and are sharp and bright, but for what is given."""
    n = len(scores)
    seconds = np.arange(n) * 1.0 if seconds is None else np.asarray(seconds, dtype=float)
    quality = {"sharpness": np.ones(n), "brightness": np.full(n, 0.5), "contrast": np.full(n, 0.2)} | quality
    return Candidates(
        scores=np.asarray(scores, dtype=np.float32),
        seconds=seconds,
        descriptors=np.eye(n, dtype=np.float32) if descriptors is None else descriptors,
        thumbnails=np.zeros((n, GRID, GRID, 3), dtype=np.uint8),
        shots=np.array([[0, n - 1]]) if shots is None else np.asarray(shots),
        duration=float(seconds[-1] + 1 if duration is None else duration),
        **quality,
    )


def looks(clusters):
    """Rows that are equal within a cluster and have the product 0 with any other."""
    return np.eye(max(clusters) + 1, dtype=np.float32)[np.asarray(clusters)]


def some_shots(rng, n):
    starts = np.flatnonzero(np.append(True, rng.random(n - 1) < 0.3))
    return np.stack([starts, np.append(starts[1:], n) - 1], axis=1)


def some_video(rng, n):
    """Few different scores and times make ties; recurring looks, or a slow change of look, make duplicates."""
    if rng.random() < 0.5:
        descriptors = looks(rng.integers(0, max(1, n // 2), n))
    else:
        rows = rng.normal(size=(n, 3)) if rng.random() < 0.5 else np.cumsum(rng.normal(size=(n, 3)), axis=0)
        descriptors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return video(
        scores=rng.integers(0, 5, n) / 4 if rng.random() < 0.5 else rng.random(n),
        seconds=np.sort(rng.integers(0, 2 * n, n) / 2) if rng.random() < 0.5 else np.sort(rng.random(n) * n),
        descriptors=descriptors,
        shots=some_shots(rng, n),
        sharpness=rng.choice([0.0, 1.0, 2.0], n),
        brightness=rng.choice([0.0, 0.5], n, p=[0.2, 0.8]),
        contrast=rng.choice([0.0, 0.2], n, p=[0.2, 0.8]),
    )


def allowed(candidates, limits, frames):
    """Whether a set of frames keeps both limits."""
    seconds, rows = candidates.seconds[list(frames)], candidates.descriptors[list(frames)].astype(float)
    if len(frames) < 2:
        return True
    near = pdist(seconds[:, None]).min() < limits.min_distance - 1e-6
    return not near and (1 - pdist(rows, "cosine")).max() <= limits.max_similarity + 2e-6


def every_choice(candidates, limits, k):
    """All sets of the greatest number that is possible, up to k."""
    for number in range(min(k, len(candidates)), 0, -1):
        sets = [list(s) for s in itertools.combinations(range(len(candidates)), number)]
        fitting = [s for s in sets if allowed(candidates, limits, s)]
        if fitting:
            return fitting
    raise AssertionError


def some_limits(rng):
    return {
        "min_distance": float(rng.choice([0, 0.5, 1, 2.5])),
        "max_similarity": float(rng.choice([0.3, 0.8, 0.95, 1.0])),
    }


@pytest.mark.parametrize("seed", range(120))
def test_limits_hold_and_as_many_are_found_as_there_can_be(seed):
    rng = np.random.default_rng(seed)
    candidates, limits, k = some_video(rng, int(rng.integers(1, 11))), some_limits(rng), int(rng.integers(1, 7))
    best = every_choice(candidates, Limits(**limits), k)
    for selector in (
        TopSelection(k=k, **limits),
        KnapsackSelection(k=k, ratio=0.4, **limits),
        UniformSelection(k=k, **limits),
        AdaptiveSelection(most=k, **limits),
        TopSelection(per_minute=20, **limits),
        KnapsackSelection(ratio=0.4, **limits),
    ):
        selection = selector(candidates)
        frames = selection.keyframes
        assert len(frames) >= 1 and (np.diff(frames) > 0).all() and frames.dtype == np.int64
        assert allowed(candidates, selector, frames.tolist())
        assert sorted(selection.ranks) == list(range(1, len(frames) + 1))
        if isinstance(selector, AdaptiveSelection):
            assert len(frames) <= k
        elif selection.asked is not None:
            assert len(frames) == len(best[0])
            # of all sets of this number, none has fewer or lesser faults
            assert faults(candidates)[frames].sum() == min(faults(candidates)[s].sum() for s in best)
            assert any("asked for" in note for note in selection.notes) == (len(frames) < k)
        else:
            fit = faults(candidates) == 0
            assert fit[frames].all() or (not fit.any() and len(frames) == 1)
    # of the sets with the fewest faults, top has the greatest total score
    least = min(faults(candidates)[s].sum() for s in best)
    totals = [candidates.scores[s].sum() for s in best if faults(candidates)[s].sum() == least]
    chosen = TopSelection(k=k, **limits)(candidates).keyframes
    assert candidates.scores[chosen].sum() == pytest.approx(max(totals), abs=1e-5)


@pytest.mark.parametrize("seed", range(40))
def test_the_total_score_is_the_greatest_for_the_distance(seed):
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 13)), int(rng.integers(1, 7))
    candidates = video(rng.random(n), np.sort(rng.random(n) * n))
    limits = Limits(min_distance=float(rng.random() * 3))
    expected = max(every_choice(candidates, limits, k), key=lambda s: candidates.scores[s].sum())
    assert TopSelection(k=k, min_distance=limits.min_distance)(candidates).keyframes.tolist() == expected


def test_the_best_frame_gives_way_where_the_number_needs_it():
    candidates = video([0.1, 0.9, 0.1])
    assert TopSelection(k=2, min_distance=1.5)(candidates).keyframes.tolist() == [0, 2]
    assert TopSelection(k=1, min_distance=1.5)(candidates).keyframes.tolist() == [1]
    assert TopSelection(k=3, min_distance=1.0)(candidates).keyframes.tolist() == [0, 1, 2]


def test_of_equal_frames_the_earlier_are_taken():
    candidates = video(np.full(9, 0.5))
    selection = TopSelection(k=3, min_distance=2)(candidates)
    assert selection.keyframes.tolist() == [0, 2, 4]
    assert selection.ranks.tolist() == [1, 2, 3]
    # and equal scores make no difference to what the others are
    scores = np.array([0.2, 0.9, 0.2, 0.2, 0.2, 0.8, 0.2])
    assert TopSelection(k=2)(video(scores)).keyframes.tolist() == [1, 5]


def test_ranks_go_by_score():
    selection = TopSelection(k=3)(video([0.3, 0.1, 0.9, 0.5]))
    assert selection.keyframes.tolist() == [0, 2, 3]
    assert selection.ranks.tolist() == [3, 1, 2]


def test_what_cannot_be_had_is_said():
    candidates = video([0.5, 0.4, 0.3, 0.9], descriptors=looks([0, 0, 1, 0]))
    selection = TopSelection(k=10)(candidates)
    assert selection.keyframes.tolist() == [2, 3]
    assert selection.asked == 10
    assert selection.notes == ("asked for 10 keyframes, found 2: no more are different and 1 s apart",)
    assert TopSelection(k=2)(candidates).notes == ()


@pytest.mark.parametrize("seed", range(60))
def test_local_search_alone_finds_nearly_all(seed, monkeypatch):
    # Without the exact solver; on scenes that recur the greatest number is found, and limits hold.
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(constraints, "best_independent", lambda *_: None)
    n = 12
    candidates = video(
        rng.random(n), np.arange(n) / 2, descriptors=looks(np.repeat(rng.integers(0, 5, n // 2), 2).tolist())
    )
    limits = Limits(min_distance=0.75)
    k = int(rng.integers(1, 7))
    frames = choose(candidates, candidates.scores, k, limits, np.arange(n))
    assert allowed(candidates, limits, frames.tolist())
    assert len(frames) == len(every_choice(candidates, limits, k)[0])


def test_one_frame_is_exchanged_for_two(monkeypatch):
    # The best frame is like two others that differ from each other: greedy choice alone would end with one.
    rows = np.array([[1, 0], [np.sqrt(0.5), np.sqrt(0.5)], [0, 1]], dtype=np.float32)
    candidates = video([0.1, 0.9, 0.1], descriptors=rows)
    conflicts = Conflicts(Limits(max_similarity=0.5), candidates.seconds, rows)
    assert LocalSearch(conflicts.between, candidates.scores, 2).run(np.array([1])).tolist() == [0, 2]
    monkeypatch.setattr(local_search.LocalSearch, "_exchange_for_two", lambda self: False)
    assert LocalSearch(conflicts.between, candidates.scores, 2).run(np.array([1])).tolist() == [1]


def test_frames_are_exchanged_for_better_ones():
    candidates = video([0.1, 0.9, 0.9], descriptors=looks([0, 0, 0]))
    conflicts = Conflicts(Limits(), candidates.seconds, candidates.descriptors)
    assert LocalSearch(conflicts.between, candidates.scores, 2).run(np.array([0])).tolist() == [1]


def test_faults():
    n = 10
    sharpness = np.array([1.0, 1.0, 0.2, 1.0, 1.0, 0.05, 0.05, 0.05, 1.0, 1.0])
    brightness, contrast = np.full(n, 0.5), np.full(n, 0.2)
    brightness[8], contrast[9] = 0.01, 0.01
    candidates = video(
        np.zeros(n), shots=[[0, 4], [5, 9]], sharpness=sharpness, brightness=brightness, contrast=contrast
    )
    # 2 against its shot's median 1; 5 to 7 against the video's, 0.6; 8 is black and 9 flat, however sharp
    assert faults(candidates).tolist() == [0, 0, 1, 0, 0, 1, 1, 1, 2, 2]


def test_faulty_frames_are_passed_over_until_the_number_needs_them():
    sharpness = np.array([1.0, 0.1, 1.0, 1.0])
    candidates = video([0.2, 0.9, 0.8, 0.3], sharpness=sharpness)
    assert TopSelection(k=1)(candidates).keyframes.tolist() == [2]
    assert TopSelection(k=3)(candidates).keyframes.tolist() == [0, 2, 3]
    four = TopSelection(k=4)(candidates)
    assert four.keyframes.tolist() == [0, 1, 2, 3]
    assert four.ranks.tolist() == [3, 4, 1, 2]
    assert four.notes == ("blurred, black or flat for want of better: 1 of 4",)
    # nobody asked for this number
    assert TopSelection(per_minute=60)(candidates).keyframes.tolist() == [0, 2, 3]


SELECTORS = [TopSelection(), TopSelection(k=5), KnapsackSelection(), KnapsackSelection(k=5), UniformSelection(k=5)]


@pytest.mark.parametrize("selector", [*SELECTORS, AdaptiveSelection()])
@pytest.mark.parametrize("n", [1, 40])
@pytest.mark.parametrize("kind", ["static", "black", "sharpless", "worthless"])
def test_a_video_that_never_changes_gives_one(selector, n, kind):
    black, flat = np.zeros(n), np.full(n, 0.2)
    candidates = video(
        np.zeros(n) if kind == "worthless" else np.full(n, 0.5),
        descriptors=looks([0] * n),
        sharpness=np.zeros(n) if kind in ("black", "sharpless") else np.ones(n),
        brightness=black if kind == "black" else np.full(n, 0.5),
        contrast=black if kind == "black" else flat,
    )
    selection = selector(candidates)
    assert len(selection) == 1
    assert isinstance(selection, Selection) and selection.ranks.tolist() == [1]


def test_a_video_of_no_length():
    candidates = video([0.5], seconds=[0.0], duration=0.0)
    for selector in (*SELECTORS, AdaptiveSelection()):
        assert selector(candidates).keyframes.tolist() == [0]


@pytest.mark.parametrize(("minutes", "expected"), [(0.05, 1), (1, 4), (5, 20), (120, 50)])
def test_top_goes_by_length_where_nobody_asks(minutes, expected):
    n = 200
    candidates = video(np.linspace(0, 1, n), np.linspace(0, minutes * 60, n), duration=minutes * 60)
    assert len(TopSelection(min_distance=0)(candidates)) == expected


def test_knapsack_keeps_whole_shots_and_a_frame_of_each():
    # Shots of 2, 3, 4 and 11 s, means .9, .8, .7, .1; 25 % of 20 s is 5 s: the first two fit exactly.
    means, lengths = [0.9, 0.8, 0.7, 0.1], [2, 3, 4, 11]
    scores = np.repeat(means, lengths)
    scores[3:5] += [0.05, -0.05]
    shots = [[0, 1], [2, 4], [5, 8], [9, 19]]
    selection = KnapsackSelection(ratio=0.25)(video(scores, shots=shots))
    assert selection.shots_kept.tolist() == [True, True, False, False]
    assert selection.keyframes.tolist() == [0, 3]
    assert selection.asked is None
    fewer, more = (KnapsackSelection(ratio=0.25, k=k)(video(scores, shots=shots)) for k in (1, 3))
    assert fewer.keyframes.tolist() == [0]
    assert more.keyframes.tolist() == [0, 1, 3]
    assert more.shots_kept.tolist() == fewer.shots_kept.tolist() == [True, True, False, False]
    # a blurred best frame gives way to the next of its shot
    sharpness = np.where(np.arange(20) == 3, 0.1, 1.0)
    assert KnapsackSelection(ratio=0.25)(video(scores, shots=shots, sharpness=sharpness)).keyframes.tolist() == [0, 2]


def test_knapsack_where_no_shot_is_short_enough():
    selection = KnapsackSelection()(video([0.1, 0.7, 0.3]))
    assert selection.keyframes.tolist() == [1]
    assert selection.shots_kept.tolist() == [False]
    assert selection.notes == ("no shot that scores is as short as 15% of the video",)


def test_uniform_takes_the_middles_whatever_the_scores():
    n = 100
    scores = np.linspace(0, 1, n)
    middles = [10, 30, 50, 70, 90]
    assert UniformSelection(k=5)(video(scores, np.arange(n), duration=100)).keyframes.tolist() == middles
    sharpness = np.ones(n)
    sharpness[[10, 11, 12, 9, 30]] = 0
    # 12 and 9 are blurred too, so 8 is next; of 29 and 31 the earlier
    moved = UniformSelection(k=5)(video(scores, np.arange(n), duration=100, sharpness=sharpness))
    assert moved.keyframes.tolist() == [8, 29, 50, 70, 90]


def test_uniform_makes_up_for_a_black_span():
    n = 60
    brightness = np.where(np.arange(n) < 20, 0.0, 0.5)
    selection = UniformSelection(k=3)(video(np.ones(n), duration=60, brightness=brightness))
    assert len(selection) == 3
    assert (selection.keyframes >= 20).all() and {30, 50} <= set(selection.keyframes.tolist())


def test_adaptive_takes_one_of_each_scene():
    scenes = np.repeat([0, 1, 2, 1, 0], 20)
    shots = [[first, first + 19] for first in range(0, 100, 20)]
    scores = np.full(100, 0.5)
    scores[[5, 33, 47]] = 0.8
    chosen = AdaptiveSelection()(video(scores, descriptors=looks(scenes.tolist()), shots=shots))
    assert chosen.keyframes.tolist() == [5, 33, 47]
    assert chosen.asked is None and chosen.notes == ()
    few = AdaptiveSelection(most=2)(video(scores, descriptors=looks(scenes.tolist()), shots=shots))
    assert len(few) == 2
    assert few.notes[0].startswith("stopped at selection.most=2 keyframes, which show ")
    # scenes 0 and 1 are 80 % of it
    assert len(AdaptiveSelection(coverage=0.75)(video(scores, descriptors=looks(scenes.tolist()), shots=shots))) == 2


def test_adaptive_shows_a_short_moment_that_matters_and_not_one_that_does_not():
    scenes = np.where((np.arange(200) >= 100) & (np.arange(200) < 106), 1, 0)
    shots = [[0, 99], [100, 105], [106, 199]]
    matters = np.where(scenes, 0.9, 0.1)
    assert len(AdaptiveSelection()(video(matters, descriptors=looks(scenes.tolist()), shots=shots))) == 2
    assert len(AdaptiveSelection()(video(1 - matters, descriptors=looks(scenes.tolist()), shots=shots))) == 1


def test_adaptive_takes_the_best_of_frames_that_show_nearly_the_same():
    # Frame 0 falls short of full likeness for the last two: it shows .92 of what the middle shows, and scores more.
    angles = np.linspace(0, 0.4, 11)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    scores = np.where(np.arange(11) == 0, 0.6, 0.5)
    assert AdaptiveSelection(coverage=0.5, max_similarity=0.95)(video(scores, descriptors=rows)).keyframes.tolist() == [
        0
    ]


def test_adaptive_follows_change_within_one_shot():
    # A pan over half a turn, in one shot: neighbours are alike, far frames are not.
    angles = np.linspace(0, np.pi, 300)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    numbers = [
        len(AdaptiveSelection(max_similarity=s)(video(np.full(300, 0.5), descriptors=rows))) for s in (0.5, 0.95)
    ]
    assert 2 <= numbers[0] < numbers[1] <= np.pi / np.arccos(0.95) + 1


@pytest.mark.parametrize("selector", [TopSelection(k=200), KnapsackSelection(k=200), UniformSelection(k=200)])
def test_a_long_video_with_scenes_that_recur(selector):
    # Two hours at 2 a second, 250 scenes of 4 s that recur: greedy choice meets many duplicates.
    rng = np.random.default_rng(0)
    n = 14_400
    scenes = np.repeat(rng.integers(0, 250, n // 8), 8)
    rows = rng.normal(size=(250, 64))[scenes] + 0.05 * rng.normal(size=(n, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    shots = np.stack([np.arange(0, n, 8), np.arange(7, n, 8)], axis=1)
    candidates = video(rng.random(n), np.arange(n) / 2, rows, shots, sharpness=rng.random(n))
    begin = time.perf_counter()
    selection = selector(candidates)
    assert len(selection) == 200
    assert allowed(candidates, selector, selection.keyframes.tolist())
    assert time.perf_counter() - begin < 60
    assert selector(candidates).keyframes.tolist() == selection.keyframes.tolist()


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: TopSelection(k=0), "selection.k"),
        (lambda: TopSelection(k=2.5), "selection.k"),
        (lambda: TopSelection(per_minute=-1), "selection.per_minute"),
        (lambda: TopSelection(min_distance=-1), "selection.min_distance"),
        (lambda: TopSelection(max_similarity=1.5), "selection.max_similarity"),
        (lambda: KnapsackSelection(ratio=15), "selection.ratio"),
        (lambda: UniformSelection(k=None), "selection.k"),
        (lambda: AdaptiveSelection(coverage="all"), "selection.coverage"),
        (lambda: AdaptiveSelection(most=True), "selection.most"),
    ],
)
def test_refuses_settings(make, key):
    with pytest.raises(KeyframeError, match=key):
        make()


@pytest.mark.parametrize(
    "change",
    [
        {"scores": np.array([0.5, 1.5])},
        {"scores": np.array([0.5, np.nan])},
        {"seconds": np.array([1.0, 0.0])},
        {"duration": 0.5},
        {"duration": np.inf},
        {"descriptors": np.ones((2, 2), dtype=np.float32)},
        {"descriptors": np.eye(3, dtype=np.float32)},
        {"thumbnails": np.zeros((2, 8, 8, 3), dtype=np.uint8)},
        {"sharpness": np.array([-1.0, 1.0])},
        {"brightness": np.array([0.5])},
        {"shots": np.array([[0, 0]])},
    ],
)
def test_refuses_candidates(change):
    good = video([0.5, 0.5])
    with pytest.raises(ValueError):
        Candidates(**(vars(good) | change))


def test_every_yaml_states_the_defaults_of_its_class():
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    paths = sorted((conf_dir() / "selection").glob("*.yaml"))
    assert [path.stem for path in paths] == ["adaptive", "knapsack", "top", "uniform"]
    for path in paths:
        config = OmegaConf.load(path)
        built = instantiate(config)
        assert built == type(built)()
        assert set(config) - {"_target_"} == set(vars(built))
