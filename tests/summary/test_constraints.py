"""The best frames that are apart and unlike: exact for the distance alone, near the optimum otherwise."""

import numpy as np
import pytest

from keyframe.summary.constraints import Conflicts, Limits, LocalSearch, best_apart, choose
from keyframe.types import KeyframeError
from tests.summary.generated import allowed, every_choice, looks, some_limits, some_video, video


def test_the_greatest_total_for_the_distance_alone():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n, k = int(rng.integers(1, 13)), int(rng.integers(1, 7))
        candidates = video(rng.random(n), np.sort(rng.random(n) * n))
        limits = Limits(min_distance=float(rng.random() * 3))
        expected = max(every_choice(candidates, limits, k), key=lambda s: candidates.scores[s].sum())
        assert best_apart(candidates.scores, candidates.seconds, k, limits.min_distance).tolist() == expected, seed


def test_the_best_number_and_total_of_small_videos():
    for seed in range(120):
        rng = np.random.default_rng(seed)
        candidates, limits = some_video(rng, int(rng.integers(1, 11))), Limits(**some_limits(rng))
        k = int(rng.integers(1, 7))
        merits = candidates.scores - rng.integers(0, 2, len(candidates))
        chosen = choose(candidates, merits, k, limits, np.arange(len(candidates)))
        best = every_choice(candidates, limits, k)
        assert chosen.dtype == np.int64 and allowed(candidates, limits, chosen.tolist())
        assert len(chosen) == len(best[0]), seed
        assert merits[chosen].sum() == pytest.approx(max(merits[s].sum() for s in best), abs=1e-5), seed


def test_scenes_that_recur_give_one_frame_each():
    """The optimum is known: the best frame of each of 40 scenes, in 400 and in 2000 frames."""
    for n in (400, 2000):
        rng = np.random.default_rng(n)
        scenes = rng.permutation(np.arange(n) % 40)
        candidates = video(rng.random(n), np.arange(n) * 2.0, descriptors=looks(scenes))
        best = [np.flatnonzero(scenes == scene) for scene in range(40)]
        expected = sorted(int(frames[candidates.scores[frames].argmax()]) for frames in best)
        for k in (40, 50):
            assert choose(candidates, candidates.scores, k, Limits(), np.arange(n)).tolist() == expected


def test_only_the_given_frames_are_chosen():
    candidates = video([0.9, 0.1, 0.8, 0.2])
    assert choose(candidates, candidates.scores, 2, Limits(), np.array([1, 3])).tolist() == [1, 3]


def search(candidates, limits, k, start, tries=0):
    conflicts = Conflicts(candidates, limits, np.arange(len(candidates)))
    search = LocalSearch(conflicts.row, conflicts.between, candidates.scores, k)
    return search.run(np.array(start, dtype=np.int64), tries).tolist()


@pytest.mark.parametrize("max_similarity", [-1, 0.5, 0.98, 1])
@pytest.mark.parametrize("moments", [False, True])
def test_the_conflicts_of_one_frame_are_those_of_the_table(moments, max_similarity):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 40))[rng.integers(0, 60, 300)] + 0.1 * rng.normal(size=(300, 40))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    candidates = video(rng.random(300), np.arange(300) * 0.4, descriptors=rows)
    conflicts = Conflicts(candidates, Limits(max_similarity=max_similarity), np.arange(300), moments)
    table = conflicts.between(np.arange(300))
    assert table.all() if max_similarity == -1 else 300 < table.sum() < 300 * 300
    for frame in range(300):
        assert conflicts.row(frame).tolist() == np.flatnonzero(table[frame]).tolist()


def test_one_frame_is_exchanged_for_two(monkeypatch):
    # The best frame is like two others that differ from each other: greedy choice alone would end with one.
    rows = np.array([[1, 0], [np.sqrt(0.5), np.sqrt(0.5)], [0, 1]], dtype=np.float32)
    candidates = video([0.1, 0.9, 0.1], descriptors=rows)
    assert search(candidates, Limits(max_similarity=0.5), 2, [1]) == [0, 2]
    monkeypatch.setattr(LocalSearch, "_exchange_for_two", lambda self: False)
    assert search(candidates, Limits(max_similarity=0.5), 2, [1]) == [1]


def test_frames_are_exchanged_for_better_ones():
    candidates = video([0.1, 0.9, 0.9], descriptors=looks([0, 0, 0]))
    assert search(candidates, Limits(), 2, [0]) == [1]


def test_forcing_a_frame_in_leaves_a_local_optimum():
    # Frames 2 s apart: 0 and 2 are worth less than 1 and 3, and no exchange of one frame leads from these to those.
    candidates = video([0.5, 0.6, 0.5, 0.6], seconds=[0.0, 1.0, 2.0, 3.0])
    limits = Limits(min_distance=2.0)
    assert search(candidates, limits, 2, [0, 2], tries=0) in ([0, 2], [1, 3], [0, 3])
    assert search(candidates, limits, 2, [0, 2], tries=10) == [1, 3]


def test_refuses_limits():
    for limits, key in (({"min_distance": -1}, "min_distance"), ({"max_similarity": 1.5}, "max_similarity")):
        with pytest.raises(KeyframeError, match=f"selection.{key}"):
            Limits(**limits)
