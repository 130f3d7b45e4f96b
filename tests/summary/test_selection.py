"""Four selections: the limits hold, numbers are reached, flagged frames come last; the knapsack is exact."""

import itertools
import time
import tracemalloc

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from keyframe.config import conf_dir
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.sampling import FpsSampling
from keyframe.summary.candidates import Candidates, Selection, quality_flags
from keyframe.summary.changes import LocalChanges
from keyframe.summary.constraints import Limits, knapsack
from keyframe.summary.describe import DESCRIPTOR_SIZE, GRID
from keyframe.summary.selection import (
    AdaptiveSelection,
    KnapsackSelection,
    TimesSelection,
    TopSelection,
    UniformSelection,
)
from keyframe.types import KeyframeError
from tests.summary.generated import (
    MARGIN,
    allowed,
    camera_view,
    every_choice,
    looks,
    one_shot,
    picture_of_things,
    some_limits,
    some_video,
    video,
)


def test_limits_hold_and_as_many_are_found_as_there_can_be():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        candidates, limits, k = some_video(rng, int(rng.integers(1, 11))), some_limits(rng), int(rng.integers(1, 7))
        flags = quality_flags(candidates)
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
            assert allowed(candidates, selector, frames.tolist()), (seed, selector)
            assert sorted(selection.ranks) == list(range(1, len(frames) + 1))
            if isinstance(selector, AdaptiveSelection):
                assert len(frames) <= k
            elif selection.asked is not None:
                assert len(frames) == len(best[0]), (seed, selector)
                # of all sets of this number, none has fewer or lesser flags
                assert flags[frames].sum() == min(flags[s].sum() for s in best), (seed, selector)
                assert any("asked for" in note for note in selection.notes) == (len(frames) < k)
            else:
                assert (flags[frames] == 0).all() or (flags.all() and len(frames) == 1)


def test_the_best_frame_gives_way_if_the_number_needs_it():
    candidates = video([0.1, 0.9, 0.1])
    assert TopSelection(k=2, min_distance=1.5)(candidates).keyframes.tolist() == [0, 2]
    assert TopSelection(k=1, min_distance=1.5)(candidates).keyframes.tolist() == [1]
    assert TopSelection(k=3, min_distance=1.0)(candidates).keyframes.tolist() == [0, 1, 2]


def test_each_shot_has_a_frame_before_any_has_two():
    rng = np.random.default_rng(0)
    # six shots of 6 s: those of the first look much like each other, and score best
    angles = np.concatenate(
        [np.full(12, shot) + np.arange(12) * (0.5 if shot == 0 else 0.01) / 12 for shot in range(6)]
    )
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    scores = np.repeat([0.9, 0.3, 0.5, 0.2, 0.4, 0.35], 12) + np.tile(np.linspace(0, 0.05, 12), 6)
    shots = [[first, first + 11] for first in range(0, 72, 12)]
    shown = rng.choice([20, 220], (6, GRID, GRID)).repeat(12, axis=0)
    cells = (shown + rng.integers(0, 20, shown.shape)).astype(np.uint8)
    clean = video(scores, np.arange(72) / 2, rows, shots, cells=cells)
    for k in range(1, 9):
        counts = np.bincount(clean.shot_of[TopSelection(k=k)(clean).keyframes], minlength=6)
        assert counts.sum() == k
        # the best frame of the k best shots; from 6 on each shot has one
        assert (counts > 0).sum() == min(k, 6) and counts[np.argsort(-scores[::12])[: min(k, 6)]].all()
    # a shot that looks like another has one if there are enough for all, and a blink has none
    twice = video(scores, np.arange(72) / 2, looks(np.repeat([0, 1, 2, 0, 1, 2], 12).tolist()), shots, cells=cells)
    assert np.unique(twice.shot_of[TopSelection(k=6)(twice).keyframes]).tolist() == list(range(6))
    assert twice.shot_of[TopSelection(k=3)(twice).keyframes].tolist() == [0, 2, 4]
    blink = video(scores, np.arange(72) / 2, rows, [*shots[:5], [60, 70], [71, 71]], duration=36.0, cells=cells)
    assert 71 not in TopSelection(k=6)(blink).keyframes


def test_a_whip_pan_loses_to_its_calm_neighbours():
    n = 12
    angles = np.zeros(n)
    angles[5:] = 1.5
    angles[5] = 0.7
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    sharpness = np.ones(n)
    sharpness[5] = 0.35
    scores = np.full(n, 0.5)
    scores[5] = 0.9
    cells = np.random.default_rng(0).integers(0, 255, (n, GRID, GRID), dtype=np.uint8)
    panned = video(scores, np.arange(n) / 2, rows, sharpness=sharpness, cells=cells)
    assert quality_flags(panned).tolist() == [0] * 5 + [1] + [0] * 6
    assert 5 not in TopSelection(k=2)(panned).keyframes and 5 not in AdaptiveSelection()(panned).keyframes
    # in a scene that is as soft throughout it is no worse than the rest
    soft = video(scores, np.arange(n) / 2, rows, sharpness=np.full(n, 0.35), cells=cells)
    assert not quality_flags(soft).any()


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


def test_a_note_reports_what_falls_short():
    candidates = video([0.5, 0.4, 0.3, 0.9], descriptors=looks([0, 0, 1, 0]))
    selection = TopSelection(k=10)(candidates)
    assert selection.keyframes.tolist() == [2, 3]
    assert selection.asked == 10
    assert selection.notes == ("asked for 10 keyframes: only 2 distinct frames at least 1 s apart",)
    assert TopSelection(k=2)(candidates).notes == ()


def test_flagged_frames_are_passed_over_until_the_number_needs_them():
    sharpness = np.array([1.0, 0.1, 1.0, 1.0])
    candidates = video([0.2, 0.9, 0.8, 0.3], sharpness=sharpness)
    assert TopSelection(k=1)(candidates).keyframes.tolist() == [2]
    assert TopSelection(k=3)(candidates).keyframes.tolist() == [0, 2, 3]
    four = TopSelection(k=4)(candidates)
    assert four.keyframes.tolist() == [0, 1, 2, 3]
    assert four.ranks.tolist() == [3, 4, 1, 2]
    assert four.notes == ("no better frame available: 1 of 4 keyframes are blurred, black or flat",)
    # the number was not asked for
    assert TopSelection(per_minute=60)(candidates).keyframes.tolist() == [0, 2, 3]


SELECTORS = [TopSelection(), TopSelection(k=5), KnapsackSelection(), KnapsackSelection(k=5), UniformSelection(k=5)]


def test_a_static_video_gives_one():
    for selector, n, kind in itertools.product(
        (*SELECTORS, AdaptiveSelection()), (1, 40), ("static", "black", "sharpless", "worthless")
    ):
        black, flat = np.zeros(n), np.full(n, 0.2)
        candidates = video(
            np.zeros(n) if kind == "worthless" else np.full(n, 0.5),
            descriptors=looks([0] * n),
            sharpness=np.zeros(n) if kind in ("black", "sharpless") else np.ones(n),
            brightness=black if kind == "black" else np.full(n, 0.5),
            contrast=black if kind == "black" else flat,
        )
        selection = selector(candidates)
        assert isinstance(selection, Selection) and selection.ranks.tolist() == [1], (selector, n, kind)
    instant = video([0.5], seconds=[0.0], duration=0.0)
    for selector in (*SELECTORS, AdaptiveSelection()):
        assert selector(instant).keyframes.tolist() == [0]


def test_top_goes_by_length_by_default():
    n = 200
    for minutes, expected in ((0.05, 1), (1, 4), (5, 20), (120, 50)):
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


def test_knapsack_if_no_shot_is_short_enough():
    selection = KnapsackSelection()(video([0.1, 0.7, 0.3]))
    assert selection.keyframes.tolist() == [1]
    assert selection.shots_kept.tolist() == [False]
    assert selection.notes == ("no shot with a score fits within 15% of the video",)


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


def test_times_are_taken_whatever_the_limits_and_the_scores():
    candidates = walk(20)  # half a second apart
    chosen = TimesSelection(seconds=[9.4, 0.2, 0.0, 3.26, 100])(candidates)
    assert candidates.seconds[chosen.keyframes].tolist() == [0, 3.5, 9.5] and chosen.asked is None
    for seconds in (None, [], [-1], ["a"], [float("nan")]):
        with pytest.raises(KeyframeError, match=r"selection\.seconds"):
            TimesSelection(seconds=seconds)


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
    assert few.notes[0].startswith("selection.most=2 keyframes show ")
    # scenes 0 and 1 are 80 % of it
    assert len(AdaptiveSelection(coverage=0.75)(video(scores, descriptors=looks(scenes.tolist()), shots=shots))) == 2


def test_adaptive_shows_a_short_moment_that_matters_and_not_one_that_does_not():
    scenes = np.where((np.arange(200) >= 100) & (np.arange(200) < 106), 1, 0)
    shots = [[0, 99], [100, 105], [106, 199]]
    matters = np.where(scenes, 0.9, 0.1)
    assert len(AdaptiveSelection()(video(matters, descriptors=looks(scenes.tolist()), shots=shots))) == 2
    assert len(AdaptiveSelection()(video(1 - matters, descriptors=looks(scenes.tolist()), shots=shots))) == 1


def test_adaptive_shows_a_short_scene_of_a_film():
    # As in a film that was looked at: of 25 s, 1.5 s of a scene of less score and a little like another.
    lengths, close = [8, 8, 4, 3, 8, 10, 10], 0.968
    scenes = np.repeat(np.arange(7), lengths)
    rows = np.eye(7, dtype=np.float32)
    rows[3, [2, 3]] = close, np.sqrt(1 - close**2)
    starts = np.cumsum([0, *lengths])
    shots = np.stack([starts[:-1], starts[1:] - 1], axis=1)
    film = video(np.where(scenes == 3, 0.44, 0.6), np.arange(51) / 2, rows[scenes], shots, 25.5)
    assert np.unique(scenes[AdaptiveSelection()(film).keyframes]).tolist() == list(range(7))


def test_adaptive_takes_the_best_of_frames_that_show_nearly_the_same():
    # Frame 0 falls short of full likeness for the last two: it shows .92 of what the middle shows, and scores more.
    angles = np.linspace(0, 0.4, 11)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    scores = np.where(np.arange(11) == 0, 0.6, 0.5)
    cells = np.random.default_rng(0).integers(0, 255, (11, GRID, GRID), dtype=np.uint8)
    moving = video(scores, descriptors=rows, cells=cells)
    assert AdaptiveSelection(coverage=0.5, max_similarity=0.95)(moving).keyframes.tolist() == [0]


def test_adaptive_follows_change_within_one_shot():
    # A pan over half a turn, in one shot: neighbours are alike, far frames are not.
    angles = np.linspace(0, np.pi, 300)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    numbers = [
        len(AdaptiveSelection(max_similarity=s)(video(np.full(300, 0.5), descriptors=rows))) for s in (0.5, 0.95)
    ]
    assert 2 <= numbers[0] < numbers[1] <= np.pi / np.arccos(0.95) + 1


def test_a_long_video_with_scenes_that_recur():
    # Two hours at 2 a second, 250 scenes of 4 s that recur: greedy choice meets many duplicates.
    rng = np.random.default_rng(0)
    n = 14_400
    scenes = np.repeat(rng.integers(0, 250, n // 8), 8)
    rows = rng.normal(size=(250, 64))[scenes] + 0.05 * rng.normal(size=(n, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    shots = np.stack([np.arange(0, n, 8), np.arange(7, n, 8)], axis=1)
    candidates = video(rng.random(n), np.arange(n) / 2, rows, shots, sharpness=rng.random(n))
    for selector in (TopSelection(k=200), KnapsackSelection(k=200), UniformSelection(k=200)):
        begin = time.process_time()
        selection = selector(candidates)
        assert len(selection) == 200
        assert allowed(candidates, selector, selection.keyframes.tolist())
        assert time.process_time() - begin < 30


def walk(steps):
    """A fixed camera, and something that walks through the picture in so many steps, half a second each."""
    pictures = []
    for step in range(steps):
        picture = picture_of_things() + np.random.default_rng(step).normal(0, 6, picture_of_things().shape)
        picture[40:70, MARGIN + 8 * step : MARGIN + 8 * step + 10] = 20
        pictures.append(camera_view(picture))
    return one_shot(np.stack(pictures), np.arange(steps) / 2, steps / 2)


def test_moments_before_a_fixed_camera_are_given_if_a_number_is_asked_for():
    for selector in (TopSelection(k=4), UniformSelection(k=4)):
        selection = selector(walk(10))
        assert len(selection) == 4 and selection.notes == ()
        assert (np.diff(selection.keyframes) >= 2).all()  # a second apart, still
    # the number was not asked for, and it is one scene
    assert len(AdaptiveSelection()(walk(10))) == len(TopSelection(per_minute=60)(walk(10))) == 1


def test_a_still_picture_with_noise_is_one_keyframe_however_many_are_asked_for():
    picture = picture_of_things()
    noisy = [picture + np.random.default_rng(n).normal(0, 12, picture.shape) for n in range(12)]
    pictures = [camera_view(noisy[n], n % 3 - 1) for n in range(12)]
    still = one_shot(np.stack(pictures), np.arange(12) / 2, 6.0)
    for selector in (TopSelection(k=5), UniformSelection(k=5)):
        assert len(selector(still)) == 1
        assert "asked for 5 keyframes: only 1 distinct frame " in selector(still).notes[0]


def test_frames_of_a_long_still_picture_are_not_all_compared(monkeypatch):
    n, compared = 3000, []
    counts = LocalChanges.changed
    monkeypatch.setattr(
        LocalChanges, "changed", lambda *given, **calm: compared.append(len(given[2])) or counts(*given, **calm)
    )
    cells = np.random.default_rng(0).integers(99, 102, (n, GRID, GRID)).astype(np.uint8)
    cells[2000:] += 40
    cells[2000:, :, 24:] -= 80
    still = video(np.linspace(0, 1, n), np.arange(n) / 2, np.ones((n, 1), np.float32), cells=cells)
    chosen = TopSelection(k=12)(still)
    assert len(chosen) == 2 and chosen.keyframes[0] < 2000 <= chosen.keyframes[1]
    assert sum(compared) < 40 * n


def test_other_scenes_come_before_other_moments_and_these_before_flagged_frames():
    moving = walk(10)
    other = np.stack([camera_view(picture_of_things(9))] * 2 + [np.zeros((96, 96, 3), np.uint8)])
    pixels = np.concatenate([np.stack([camera_view(picture_of_things())] * 4), other])
    mixed = one_shot(pixels, np.arange(7.0), 7.0)
    assert {4, 5} & set(TopSelection(k=2)(mixed).keyframes.tolist())
    # of the walk three moments, the other scene, and nothing black
    seen = [getattr(moving, name) for name in ("descriptors", "cells", "sharpness", "brightness", "contrast")]
    more = [getattr(mixed, name)[4:] for name in ("descriptors", "cells", "sharpness", "brightness", "contrast")]
    both = [np.concatenate(pair) for pair in zip(seen, more, strict=True)]
    scores = np.append(np.full(10, 0.9), np.full(3, 0.1))
    joined = Candidates(scores, np.arange(13) / 2, *both, np.array([[0, 9], [10, 12]]), 6.5)
    chosen = TopSelection(k=4, min_distance=0.5)(joined).keyframes
    assert len({10, 11} & set(chosen.tolist())) == 1 and 12 not in chosen and (chosen < 10).sum() == 3


def test_moments_of_real_clips_of_one_shot(clips):
    for name, found in (("chaplin.mp4", 5), ("frog.webm", 5), ("flower.mp4", 5), ("tc_h265.mp4", 1)):
        index = index_packets(clips / name)
        frames = PyAVReader().read(index.path, np.unique(FpsSampling(2.0).indices(index)), DESCRIPTOR_SIZE, index)
        candidates = one_shot(frames.pixels, frames.timestamps - index.timestamps[0], index.duration)
        assert len(TopSelection(k=5)(candidates)) == found, name


def test_refuses_settings():
    for make, key in (
        (lambda: TopSelection(k=0), "selection.k"),
        (lambda: TopSelection(k=2.5), "selection.k"),
        (lambda: TopSelection(per_minute=-1), "selection.per_minute"),
        (lambda: TopSelection(min_distance=-1), "selection.min_distance"),
        (lambda: TopSelection(max_similarity=1.5), "selection.max_similarity"),
        (lambda: KnapsackSelection(ratio=15), "selection.ratio"),
        (lambda: UniformSelection(k=None), "selection.k"),
        (lambda: AdaptiveSelection(coverage="all"), "selection.coverage"),
        (lambda: AdaptiveSelection(most=True), "selection.most"),
    ):
        with pytest.raises(KeyframeError, match=key):
            make()


def test_every_yaml_states_the_defaults_of_its_class():
    base = OmegaConf.load(conf_dir() / "selection" / "base.yaml")
    paths = sorted((conf_dir() / "selection").glob("*.yaml"))
    assert [path.stem for path in paths] == ["adaptive", "base", "knapsack", "times", "top", "uniform"]
    for path in paths:
        if path.stem in ("base", "times"):  # times have no default
            continue
        config = OmegaConf.merge(base, OmegaConf.load(path))
        assert config.pop("defaults") == ["base", "_self_"]
        built = instantiate(config)
        assert built == type(built)()
        assert set(config) - {"_target_"} == set(vars(built))


def best_subset(values, weights, capacity):
    """The best value there is, and of the masks that have it the one that leaves out the later items."""
    fitting = [
        mask
        for mask in itertools.product((False, True), repeat=len(values))
        if sum(weight for weight, chosen in zip(weights, mask, strict=True) if chosen) <= capacity
    ]
    worth = [sum(value for value, chosen in zip(values, mask, strict=True) if chosen) for mask in fitting]
    best = max(worth)
    return best, min((mask for mask, value in zip(fitting, worth, strict=True) if value == best), key=lambda m: m[::-1])


def test_no_other_subset_is_worth_more():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(0, 9))
        # Few different values make ties; weights include 0 and more than fits.
        values = rng.integers(-1, 4, count) if seed % 2 else rng.integers(0, 1000, count) / 8
        weights, capacity = rng.integers(0, 9, count), int(rng.integers(0, 20))
        mask = knapsack(values.astype(float), weights, capacity)
        best, first = best_subset(values.tolist(), weights.tolist(), capacity)
        assert values[mask].sum() == best, seed
        assert mask.tolist() == list(first), seed


def test_textbook_knapsack():
    # Cormen et al., Introduction to Algorithms, 16.2: the greedy choice by value per weight would take the first.
    mask = knapsack(np.array([60.0, 100.0, 120.0]), np.array([10, 20, 30]), 50)
    assert mask.tolist() == [False, True, True]
    assert mask.dtype == bool


def test_of_equal_choices_the_earlier_items_win():
    assert knapsack(np.ones(4), np.full(4, 3), 6).tolist() == [True, True, False, False]
    assert knapsack(np.array([1.0, 2.0, 3.0]), np.array([1, 2, 3]), 3).tolist() == [True, True, False]


def test_edges_of_the_knapsack():
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


def test_refuses_knapsacks():
    for values, weights, capacity in (
        ([1.0, 2.0], [1], 5),
        ([[1.0]], [[1]], 5),
        ([np.nan], [1], 5),
        ([np.inf], [1], 5),
        ([1.0], [-1], 5),
        ([1.0], [0.5], 5),
        ([1.0], [1], -1),
        ([1.0], [1], 1.5),
    ):
        with pytest.raises(ValueError):
            knapsack(np.array(values), np.array(weights), capacity)
