import itertools
import math

import numpy as np
import pytest

from keyframe.data.labels import read_tvsum_mat
from keyframe.evaluation.metrics import f1_user, f1_user_max, f1_user_mean, hold_scores, keyshots, user_summaries
from keyframe.summary.shots import kts, segments_to_frames

# 40 frames, scored every fifth; room for int(.15 * 40) = 6 frames.
PICKS = np.arange(0, 40, 5)
SCORES = np.array([0.2, 0.8, 0.4, 1.0, 0.0, 0.0, 0.0, 0.6])
SHOTS = np.array([[0, 3], [4, 6], [7, 9], [10, 13], [14, 39]])


def frames(*ranges, length=40):
    mask = np.zeros(length, dtype=bool)
    for first, last in ranges:
        mask[first : last + 1] = True
    return mask


def test_example_worked_by_hand():
    held = hold_scores(SCORES, PICKS, 40)
    assert held[[0, 4, 5, 9, 10, 19, 35, 39]].tolist() == [0.2, 0.2, 0.8, 0.8, 0.4, 1.0, 0.6, 0.6]

    # Shot means: .2 (4 frames), (.2 + .8 + .8) / 3 = .6 (3), .8 (3), .4 (4); the last has 26 frames, too many.
    summary = keyshots(held, SHOTS)
    assert np.array_equal(summary, frames((4, 9)))

    users = np.stack([frames((7, 12)), frames((4, 6)), frames((20, 25))])
    # 3 of 6 and 3 of 6; 3 of 6 and 3 of 3; nothing shared.
    assert f1_user(summary, users) == pytest.approx([1 / 2, 2 / 3, 0])
    assert f1_user_mean(summary, users) == pytest.approx(7 / 18)
    assert f1_user_max(summary, users) == pytest.approx(2 / 3)


def test_scores_hold_from_pick_to_pick():
    assert hold_scores(np.array([1.0, 2.0, 3.0]), np.array([0, 2, 3]), 6).tolist() == [1, 1, 2, 3, 3, 3]
    assert hold_scores(np.array([1.0, 2.0]), np.array([2, 3]), 4).tolist() == [1, 1, 1, 2]
    assert hold_scores(np.array([5], dtype=np.float32), np.array([0]), 1).tolist() == [5]


@pytest.mark.parametrize(
    ("scores", "picks"), [([1.0], [0, 1]), ([], []), ([1.0], [-1]), ([1.0], [9]), ([1.0, 1.0], [3, 3])]
)
def test_picks_that_do_not_fit_are_refused(scores, picks):
    with pytest.raises(ValueError):
        hold_scores(np.array(scores), np.array(picks, dtype=np.int64), 9)


def test_capacity_is_rounded_down():
    # The tenth TVSum video has 3995 frames; the fullest user_summary of the public eccv16 file has 599, as printed in
    # KaiyangZhou/pytorch-vsumm-reinforce, issue 38: int(.15 * 3995), 599.25 rounded down.
    single = np.repeat(np.arange(3995)[:, None], 2, axis=1)
    assert keyshots(np.ones(3995), single).sum() == 599
    assert keyshots(np.ones(26), single[:26]).sum() == 3  # of 3.9
    assert keyshots(np.ones(40), SHOTS, share=0.0).sum() == 0
    assert keyshots(np.ones(40), SHOTS, share=1.0).all()


def test_shots_must_cover_the_video():
    for shots in (SHOTS[1:], SHOTS[:-1], SHOTS[[0, 2, 3, 4]], SHOTS + 1):
        with pytest.raises(ValueError):
            keyshots(np.ones(40), shots)


def test_nan_scores_are_refused():
    with pytest.raises(ValueError):
        keyshots(np.full(40, np.nan), SHOTS)


def test_annotators_choose_on_the_scale_they_used():
    bored, keen = np.zeros(40), np.zeros(40)
    keen[10:14] = 1.0
    kept = user_summaries(np.stack([bored, keen]), SHOTS)
    # 1 point for every shot: two of three frames fit, no two others do. 5 points for four frames beat 1 + 1 for six.
    assert np.array_equal(kept, np.stack([frames((4, 9)), frames((10, 13))]))
    # From 0 on, a shot of the lowest score is worth nothing.
    assert not user_summaries(bored[None], SHOTS, lowest=0.0).any()


def test_f1_where_there_is_nothing():
    nothing, something = frames(), frames((3, 5))
    assert f1_user(nothing, something[None]).tolist() == [0]
    assert f1_user(something, nothing[None]).tolist() == [0]
    assert f1_user(something, np.stack([something, ~something])).tolist() == [1, 0]
    assert math.isnan(f1_user_mean(nothing, np.stack([nothing, something])))
    assert math.isnan(f1_user_max(nothing, nothing[None]))
    nobody = np.zeros((0, 40), dtype=bool)
    assert f1_user(something, nobody).shape == (0,)
    assert math.isnan(f1_user_mean(something, nobody))
    assert math.isnan(f1_user_max(something, nobody))


def test_f1_takes_the_zeros_and_ones_of_the_files():
    summary, users = frames((4, 9)), np.stack([frames((7, 12)), frames((4, 6))])
    assert f1_user(summary.astype(np.float32), users.astype(np.float32)).tolist() == f1_user(summary, users).tolist()
    with pytest.raises(ValueError):
        f1_user(summary[1:], users)
    with pytest.raises(ValueError):
        f1_user(summary, users[0])


def test_order_of_annotators_changes_nothing():
    rng = np.random.default_rng(0)
    annotators, summary = rng.integers(0, 5, (6, 40)) / 4, frames((4, 9))
    users = user_summaries(annotators, SHOTS)
    assert np.array_equal(user_summaries(annotators[::-1], SHOTS), users[::-1])
    assert f1_user_mean(summary, users[::-1]) == pytest.approx(f1_user_mean(summary, users))


@pytest.mark.parametrize("seed", range(5))
def test_a_generated_eccv16_video(seed):
    """Features to F1 as the field does it, against a plain retelling of the protocol."""
    rng = np.random.default_rng(seed)
    n_frames = 15 * int(rng.integers(60, 90)) - int(rng.integers(0, 14))
    picks = np.arange(0, n_frames, 15)
    places = np.sort(rng.choice(np.arange(1, len(picks)), 8, replace=False))
    features = np.eye(9)[np.searchsorted(places, np.arange(len(picks)), side="right")]
    change_points = segments_to_frames(kts(features, penalty=0.1), picks, n_frames)
    assert change_points[:, 0].tolist() == [0, *(15 * places).tolist()]
    gtscore = rng.random(len(picks)).astype(np.float32)
    annotators = rng.integers(0, 5, (4, len(picks)))[:, np.arange(n_frames) // 15] / 4

    def plain(scores):
        values = [np.mean(scores[first : last + 1]) for first, last in change_points]
        lengths = [last - first + 1 for first, last in change_points]
        choices = [
            chosen
            for size in range(len(values) + 1)
            for chosen in itertools.combinations(range(len(values)), size)
            if sum(lengths[shot] for shot in chosen) <= int(0.15 * n_frames)
        ]
        best = max(choices, key=lambda chosen: sum(values[shot] for shot in chosen))
        return {frame for shot in best for frame in range(change_points[shot][0], change_points[shot][1] + 1)}

    held = np.array([gtscore[frame // 15] for frame in range(n_frames)], dtype=np.float64)
    machine, people = plain(held), [plain(1 + 4 * one) for one in annotators]
    expected = []
    for person in people:
        precision = len(machine & person) / len(machine) if machine else 0
        recall = len(machine & person) / len(person) if person else 0
        expected.append(2 * precision * recall / (precision + recall) if precision + recall else 0)

    summary = keyshots(hold_scores(gtscore, picks, n_frames), change_points)
    users = user_summaries(annotators, change_points)
    assert summary.sum() <= int(0.15 * n_frames)
    assert set(np.flatnonzero(summary)) == machine
    assert [set(np.flatnonzero(user)) for user in users] == people
    assert f1_user(summary, users) == pytest.approx(expected)


# Otani et al., Rethinking the evaluation of video summaries, CVPR 2019: the bars of TVSum in "Read evaluation results"
# of mayu-ot/rethinking-evs, read to about .01: random scores and one person against the others, mean and maximum.
OTANI = {"uniform": (0.152, 0.31, 0.26, 0.55), "two-peak": (0.575, 0.71, 0.565, 0.745)}


@pytest.mark.full
@pytest.mark.parametrize("cut", OTANI)
def test_random_and_human_summaries_score_as_published(official_labels, cut):
    rng = np.random.default_rng(0)
    rows = []
    for labels in read_tvsum_mat(official_labels).values():
        n = len(labels)
        if cut == "uniform":
            starts = np.arange(0, n, 60)
        else:
            lengths = np.where(rng.random(n) < 0.5, rng.poisson(30, n), rng.poisson(90, n))
            starts = np.append(0, np.cumsum(lengths))
            starts = starts[starts < n]
        shots = np.stack([starts, np.append(starts[1:], n) - 1], axis=1)
        users = user_summaries(labels.annotators, shots)
        summary = keyshots(rng.random(n), shots)
        people = [(users[one], np.delete(users, one, axis=0)) for one in range(len(users))]
        rows.append(
            [
                f1_user_mean(summary, users),
                f1_user_max(summary, users),
                np.mean([f1_user_mean(*pair) for pair in people]),
                np.mean([f1_user_max(*pair) for pair in people]),
            ]
        )
    assert np.mean(rows, axis=0) == pytest.approx(OTANI[cut], abs=0.025)
