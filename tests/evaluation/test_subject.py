from dataclasses import replace

import numpy as np
import pytest

from keyframe.data.decord_reader import DecordReader
from keyframe.data.folder import DirectorySource
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.evaluation.keyshot import user_summaries
from keyframe.evaluation.results import measure
from keyframe.evaluation.video import at_entries, pixel_eval_video
from keyframe.summary.shots import KtsShots


@pytest.fixture(scope="module")
def video(tiny_demo):
    (folder,) = tiny_demo.glob("demo-*")
    return DirectorySource(str(folder)).videos()[0]


@pytest.fixture(scope="module")
def subject(video):
    return pixel_eval_video(video, DecordReader(), KtsShots())


def test_it_holds_the_labels_at_every_15th_frame(video, subject):
    assert subject.entries.tolist() == list(range(0, len(video.labels), 15))
    np.testing.assert_array_equal(subject.annotators, video.labels.annotators[:, ::15])
    np.testing.assert_allclose(subject.importance, video.labels.annotators[:, ::15].mean(0), atol=1e-6)
    index = index_packets(video.path)
    np.testing.assert_allclose(subject.seconds, index.timestamps[::15] - index.timestamps[0])


def test_shots_cover_the_video_and_users_are_the_keyshots_of_their_scores(video, subject):
    assert subject.shots[0, 0] == 0 and subject.shots[-1, 1] == len(video.labels) - 1
    assert (subject.shots[1:, 0] == subject.shots[:-1, 1] + 1).all()
    np.testing.assert_array_equal(subject.users, user_summaries(video.labels.annotators, subject.shots))
    assert (subject.users.mean(1) <= 0.15).all()


def test_shots_do_not_depend_on_the_reader(video, subject):
    other = pixel_eval_video(video, PyAVReader(), KtsShots())
    np.testing.assert_array_equal(other.shots, subject.shots)


def test_the_scale_of_the_labels_decides_what_a_user_would_keep(video, subject):
    other = pixel_eval_video(video, DecordReader(), KtsShots(), lowest=0.0, highest=1.0)
    expected = user_summaries(video.labels.annotators, subject.shots, 0.0, 1.0)
    np.testing.assert_array_equal(other.users, expected)


def test_other_entries_are_compared_with_the_labels_there(video, subject):
    entries = np.array([3, 50, 100, 140])
    other = at_entries(subject, video, entries, entries / 30)
    np.testing.assert_array_equal(other.annotators, video.labels.annotators[:, entries])
    # a baseline's score holds until the next pick
    np.testing.assert_array_equal(other.training_free, subject.training_free[[0, 3, 6, 9]])
    assert measure(other.importance, other)["spearman"] == pytest.approx(1)


def test_shapes_are_checked(subject):
    with pytest.raises(ValueError, match="do not fit"):
        replace(subject, importance=subject.importance[1:])
    with pytest.raises(ValueError, match="finite scores"):
        measure(subject.importance[1:], subject)
