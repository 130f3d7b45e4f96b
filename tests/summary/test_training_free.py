import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from keyframe.data.demo import PATTERNS, DemoSet, begin, label
from keyframe.summary import training_free as module
from keyframe.summary.describe import Appearance, describe_frames
from keyframe.summary.training_free import (
    centrality,
    length_factor,
    novelty,
    training_free,
    training_free_of_features,
    typicality,
    visibility,
)


def ranges(*lengths):
    ends = np.cumsum(lengths)
    return np.stack([ends - lengths, ends - 1], axis=1)


def seen(kinds, brightness=0.5, contrast=0.2, sharpness=0.01):
    """Pictures of these kinds, each kind unlike all others, in good light unless told otherwise."""
    rows = np.eye(max(kinds) + 1, dtype=np.float32)[kinds]
    return Appearance(
        rows, *(np.full(len(kinds), value, dtype=np.float32) for value in (sharpness, brightness, contrast))
    )


def changed(picture, **parts):
    """A look with other sharpness, brightness or contrast at some pictures: name -> {picture: value}."""
    values = {name: getattr(picture, name).copy() for name in ("descriptors", "sharpness", "brightness", "contrast")}
    for name, places in parts.items():
        for place, value in places.items():
            values[name][place] = value
    return Appearance(**values)


def random_looks(count, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, 6))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_novelty_and_typicality_are_what_they_say(monkeypatch):
    looks, lengths, scale = random_looks(9), np.array([3, 1, 4, 1, 5, 9, 2, 6, 5]), 0.7
    alike = [[math.exp(-(1 - one @ other) / scale) for other in looks] for one in looks]
    new = [1 - max(alike[shot][:shot]) for shot in range(1, 9)]
    typical = [sum(a * n for a, n in zip(row, lengths, strict=True)) / lengths.sum() for row in alike]

    for at_once in (1, 2, 5, 256):
        monkeypatch.setattr(module, "_SHOTS_AT_ONCE", at_once)
        np.testing.assert_allclose(novelty(looks, scale), [np.mean(new), *new])
        np.testing.assert_allclose(typicality(looks, lengths, scale), typical)


def test_duration_is_half_the_median_at_least():
    np.testing.assert_allclose(length_factor(np.array([1, 2, 4, 8, 100])), [0.5, 1, 1, 1, 1])
    np.testing.assert_allclose(length_factor(np.array([1, 8, 8, 8])), [0.25, 1, 1, 1])


def test_the_middle_of_a_shot_stands_for_it_and_a_transition_does_not():
    rows = np.eye(2)[[0] * 7 + [1] * 7]
    rows[6] = rows[7] = math.sqrt(0.5)

    central = centrality(rows, np.eye(2), ranges(7, 7), 0.5)

    assert central[:7].argmax() == 3 and central[7:].argmax() == 3
    assert max(central[6], central[7]) < 0.7 * min(central[0], central[13])


def test_what_is_new_outscores_what_is_seen_again_and_of_both_the_common_one_wins():
    # A B A C A, shots of four; B and C are as new, A comes back.
    scores = training_free_of_features(
        seen([0] * 4 + [1] * 4 + [0] * 4 + [2] * 4 + [0] * 4).descriptors, ranges(*[4] * 5)
    )
    a, b, again, c, once_more = scores.reshape(5, 4).mean(axis=1)

    # h = 1 - (.6^2 + .2^2 + .2^2) = .56, and pictures of different kinds are alike by exp(-1 / .56).
    other = math.exp(-1 / 0.56)
    central = np.mean([1 - 0.2 * 0.75, 1 - 0.2 * 0.25])
    rest = 0.3 * (0.2 + 0.8 * other) + 0.2 * central
    assert b == pytest.approx(0.5 * (1 - other) + rest, rel=1e-5)
    assert c == pytest.approx(b)
    assert again == pytest.approx(0.3 * (0.6 + 0.4 * other) + 0.2 * central, rel=1e-5)
    assert once_more == pytest.approx(again)
    assert again < a < b


def test_a_very_short_shot_matters_less():
    scores = training_free(seen([0] * 8 + [1] * 8 + [2] + [3] * 8), ranges(8, 8, 1, 8))

    assert scores[16] < 0.5 * scores[8:16].min()


def test_black_pictures_score_nothing_and_blurred_ones_less():
    good = seen([0] * 10 + [1] * 10)
    bad = changed(good, brightness={4: 0.01}, contrast={4: 0.005}, sharpness={15: 0.0005})
    shots = ranges(10, 10)

    kept, scores = training_free(good, shots), training_free(bad, shots)

    assert scores[4] == 0
    assert scores[15] < 0.5 * min(scores[14], scores[16])
    np.testing.assert_allclose(np.delete(scores, [4, 15]), np.delete(kept, [4, 15]), rtol=1e-6)


def test_night_and_a_plain_wall_can_be_seen():
    shots = ranges(4, 4)
    night = changed(seen([0] * 4 + [1] * 4), brightness=dict.fromkeys(range(4), 0.03))
    wall = changed(seen([0] * 4 + [1] * 4), contrast=dict.fromkeys(range(4), 0.01))

    np.testing.assert_array_equal(visibility(night, shots), 1)
    np.testing.assert_array_equal(visibility(wall, shots), 1)


def test_sharpness_is_judged_within_a_shot():
    sky = changed(seen([0] * 5 + [1] * 5), sharpness=dict.fromkeys(range(5), 0.002))
    out_of_focus = changed(seen([0] * 5 + [1] * 15), sharpness=dict.fromkeys(range(5), 0.00001))

    np.testing.assert_allclose(visibility(sky, ranges(5, 5)), 1)
    assert visibility(out_of_focus, ranges(5, 15))[:5].max() < 0.15


def test_pixels_of_a_blurred_picture_score_less():
    rng = np.random.default_rng(0)
    scene = gaussian_filter(rng.normal(size=(96, 96, 3)), (1, 1, 0))
    pixels = np.stack([128 + 100 * scene / np.abs(scene).max()] * 9)
    pixels[6] = gaussian_filter(pixels[6], (2, 2, 0))
    pixels[2] = 0

    scores = training_free(describe_frames(pixels.astype(np.uint8)), ranges(9))

    assert scores[2] == 0 < scores[6] < 0.6 * scores[5]
    assert scores.argmax() == 4


@pytest.mark.parametrize(
    "picture",
    [
        seen([0] * 50),
        seen([0]),
        seen([0, 1]),
        seen([0] * 6, brightness=0.0, contrast=0.0, sharpness=0.0),
        seen([0] * 6, brightness=1.0, contrast=0.0, sharpness=0.0),
    ],
    ids=["static", "one picture", "two pictures", "black", "white"],
)
def test_any_video_has_scores(picture):
    scores = training_free(picture, ranges(len(picture)))

    assert scores.dtype == np.float32 and scores.shape == (len(picture),)
    assert (scores >= 0).all() and (scores <= 1).all()
    assert (scores.max() > 0) == (picture.brightness.max() > 0)
    # Nothing but the place in the shot tells them apart.
    assert np.ptp(scores) <= 0.04 + 1e-6 or len(picture) == 2


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_features_of_any_kind_and_scale(scale):
    rng = np.random.default_rng(0)
    features = scale * rng.normal(size=(60, 1024)).astype(np.float32)
    features[10:20] = 0

    scores = training_free_of_features(features, ranges(10, 10, 25, 15))

    assert (scores >= 0).all() and (scores <= 1).all() and np.ptp(scores) > 0.01
    np.testing.assert_allclose(scores, training_free_of_features(features / scale, ranges(10, 10, 25, 15)), atol=1e-5)


def test_features_of_a_backbone_decide_what_is_alike_and_light_and_sharpness_count_as_ever():
    picture, shots = seen([0] * 5 + [1] * 5 + [2] * 5), ranges(5, 5, 5)
    picture = changed(picture, brightness={7: 0}, contrast={7: 0})
    rows = np.eye(2, dtype=np.float32)[[0] * 5 + [1] * 5 + [0] * 5]
    scores = training_free(picture, shots, rows)
    np.testing.assert_allclose(scores, training_free_of_features(rows, shots) * visibility(picture, shots), atol=1e-7)
    # To the backbone the third scene is the first one again: nothing new. To the descriptors it is another.
    assert scores[12] < 0.8 * scores[6]
    assert training_free(picture, shots)[12] == pytest.approx(training_free(picture, shots)[6], abs=0.03)
    assert scores[7] == 0


def test_features_alone_are_scored_like_well_lit_sharp_pictures():
    picture, shots = seen([0] * 5 + [1] * 3 + [0] * 7), ranges(5, 3, 7)

    np.testing.assert_array_equal(training_free(picture, shots), training_free_of_features(picture.descriptors, shots))


def test_agrees_with_the_demo_annotators_if_its_features_tell_the_patterns_apart():
    agreements = {"patterns": [], "colours": []}
    for number in range(40):
        rng, scenario = begin(DemoSet(), number)
        mean = label(rng, scenario.importance).mean(0)
        scenes = np.flatnonzero(np.diff(scenario.patterns, prepend=-1))
        shots = np.stack([scenes, np.append(scenes[1:], len(mean)) - 1], axis=1)
        looks = {"patterns": np.eye(len(PATTERNS))[scenario.patterns], "colours": rng.uniform(0, 1, (len(mean), 3))}
        for name, rows in looks.items():
            agreements[name].append(spearmanr(training_free_of_features(rows, shots), mean).statistic)

    # chance is 0 +- .03 for 40 videos of 30 shots
    assert np.mean(agreements["patterns"]) > 0.16
    assert np.mean(agreements["colours"]) < 0.05


@pytest.mark.parametrize(
    ("features", "shots", "message"),
    [
        (np.zeros((0, 3)), ranges(1), "features"),
        (np.zeros(3), ranges(3), "features"),
        (np.full((3, 2), np.nan), ranges(3), "features"),
        (np.zeros((3, 2)), ranges(2), "from 0 to 2"),
        (np.zeros((3, 2)), ranges(2, 2), "from 0 to 2"),
    ],
)
def test_refuses_what_does_not_fit(features, shots, message):
    with pytest.raises(ValueError, match=message):
        training_free_of_features(features, shots)
