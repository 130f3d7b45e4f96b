from collections import Counter

import numpy as np
import pytest
from scipy.stats import kendalltau

from keyframe.benchmark.evaluate import PARTS, Size, evaluation, kendall_calls, kts_calls
from keyframe.benchmark.footage import synthetic_video
from keyframe.evaluation.video import annotators_at_picks
from keyframe.summary.shots import KtsShots


@pytest.fixture(scope="module")
def video():
    return synthetic_video(0, 3000, 5, seed=0)


def test_labels_are_as_tvsum_gives_them(video):
    scores = 1 + 4 * video.labels.annotators
    assert scores.shape == (5, 3000)
    assert set(np.unique(scores)) == {1, 2, 3, 4, 5}
    assert (scores.reshape(5, 50, 60) == scores[:, ::60, None]).all()  # held for 2 s
    people = annotators_at_picks(video.labels)
    assert np.mean([kendalltau(people[0], one).statistic for one in people[1:]]) > 0.1  # they agree somewhat


def test_scores_and_looks_are_plausible(video):
    assert video.scores.shape == video.seconds.shape == (200,)
    assert kendalltau(video.scores, video.labels.importance[::15]).statistic > 0.2
    likeness = video.look.descriptors @ video.look.descriptors.T
    assert np.median(np.diag(likeness, 1)) > 0.95  # a steady shot
    assert 0.6 < likeness.mean() < 0.95
    shots = KtsShots()(video.look.descriptors, video.seconds)
    assert 10 < len(shots) < 40  # of about 5 s


def test_videos_are_the_same_every_time_and_differ(video):
    again, other = synthetic_video(0, 3000, 5, seed=0), synthetic_video(1, 3000, 5, seed=0)
    assert np.array_equal(again.labels.annotators, video.labels.annotators)
    assert np.array_equal(again.look.descriptors, video.look.descriptors)
    assert not np.array_equal(other.labels.annotators, video.labels.annotators)
    assert not np.array_equal(synthetic_video(0, 3000, 5, seed=1).scores, video.scores)


def test_each_part_is_timed_for_each_video():
    size = Size(videos=3, frames=300, annotators=3)
    steps = list(evaluation(size, KtsShots()))
    assert len(steps) == size.steps
    assert Counter(name for name, _ in steps) == dict.fromkeys(PARTS, 3) | {"means": 1, "peak_mb": 1}
    assert all(seconds > 0 for name, seconds in steps if name in PARTS)


@pytest.mark.parametrize("calls", [kendall_calls, kts_calls])
def test_both_sides_of_a_ratio_do_the_same(calls):
    ours, theirs = (call() for call in calls(synthetic_video(0, 6000, 10, seed=0)).values())
    assert ours.shape == theirs.shape
    assert ours == pytest.approx(theirs)
