from dataclasses import replace

import numpy as np
import pytest

from keyframe.data.decord_reader import DecordReader
from keyframe.data.folder import DirectorySource
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.evaluation.metrics import hold_scores, keyshots, user_summaries
from keyframe.evaluation.results import measure
from keyframe.evaluation.video import TRAINING_FREE, at_entries, mean_track, picks, pixel_eval_video
from keyframe.summary.shots import KtsShots
from keyframe.types import Labels


@pytest.fixture(scope="module")
def video(tiny_demo):
    (folder,) = tiny_demo.glob("demo-*")
    return DirectorySource(str(folder)).videos()[0]


@pytest.fixture(scope="module")
def index(video):
    return index_packets(video.path)


@pytest.fixture(scope="module")
def eval_video(video, index):
    return pixel_eval_video(video, index, DecordReader(), KtsShots())


def test_picks_are_every_15th_frame():
    for frames, count in ((1, 1), (15, 1), (16, 2), (30, 2), (4500, 300), (10597, 707)):
        assert len(picks(frames)) == count
        assert picks(frames)[-1] == 15 * (count - 1) < frames


def test_sums_of_inexact_scores_tie():
    thirds = np.array([[1 / 3, 0, 0.1], [2 / 3, 1, 0.9]], dtype=np.float32)
    assert len(set(thirds.mean(0, dtype=np.float64))) > 1
    assert len(set(mean_track(thirds))) == 1


def test_it_holds_the_labels_at_every_15th_frame(video, index, eval_video):
    assert eval_video.entries.tolist() == list(range(0, len(video.labels), 15))
    np.testing.assert_array_equal(eval_video.annotators, video.labels.annotators[:, ::15])
    np.testing.assert_allclose(eval_video.importance, video.labels.annotators[:, ::15].mean(0), atol=1e-6)
    np.testing.assert_allclose(eval_video.seconds, index.timestamps[::15] - index.timestamps[0])


def test_shots_cover_the_video_and_users_are_the_keyshots_of_their_scores(video, eval_video):
    shots = eval_video.shots
    assert shots[0, 0] == 0 and shots[-1, 1] == len(video.labels) - 1
    assert (shots[1:, 0] == shots[:-1, 1] + 1).all()
    np.testing.assert_array_equal(eval_video.users, user_summaries(video.labels.annotators, shots))
    assert (eval_video.users.mean(1) <= 0.15).all()
    scores = eval_video.baselines[TRAINING_FREE]
    held = hold_scores(scores, eval_video.entries, len(video.labels))
    np.testing.assert_array_equal(eval_video.summary(scores), keyshots(held, shots))


def test_shots_do_not_depend_on_the_reader(video, index, eval_video):
    other = pixel_eval_video(video, index, PyAVReader(), KtsShots())
    np.testing.assert_array_equal(other.shots, eval_video.shots)


def test_users_depend_on_the_scale_of_the_labels(video, index, eval_video):
    other = pixel_eval_video(video, index, DecordReader(), KtsShots(), lowest=0.0, highest=1.0)
    expected = user_summaries(video.labels.annotators, eval_video.shots, 0.0, 1.0)
    np.testing.assert_array_equal(other.users, expected)


def test_users_of_selections_are_the_labels(video, index, eval_video):
    kept = video.labels.annotators > 0.7
    selected = replace(video, labels=Labels(kept.mean(0, np.float32), kept.astype(np.float32), selections=True))
    other = pixel_eval_video(
        selected, index, PyAVReader(), lambda descriptors, seconds: np.array([[0, len(seconds) - 1]])
    )
    np.testing.assert_array_equal(other.users, kept)
    assert other.selections and not eval_video.selections


def test_other_entries_are_compared_with_the_labels_there(video, eval_video):
    entries = np.array([3, 50, 100, 140])
    other = at_entries(eval_video, video.labels, entries, entries / 30)
    np.testing.assert_array_equal(other.annotators, video.labels.annotators[:, entries])
    # a baseline's score holds until the next pick
    np.testing.assert_array_equal(other.baselines[TRAINING_FREE], eval_video.baselines[TRAINING_FREE][[0, 3, 6, 9]])
    assert measure(other.importance, other)["spearman"] == pytest.approx(1)


def test_shapes_are_checked(eval_video):
    with pytest.raises(ValueError, match="do not fit"):
        replace(eval_video, importance=eval_video.importance[1:])
    with pytest.raises(ValueError, match="finite scores"):
        measure(eval_video.importance[1:], eval_video)
