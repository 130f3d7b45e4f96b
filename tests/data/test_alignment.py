"""Which label a frame has, and which frame a label."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from keyframe.data.sampling import label_positions, labelled_frames, sample_labels
from keyframe.types import KeyframeError, Labels


def test_one_entry_a_frame_is_read_by_frame_number_whatever_the_times():
    # Variable frame rate: by time, frame 2 of 4 would fall on the last entry.
    indices, seconds = np.array([0, 2, 3]), np.array([0.0, 9.0, 9.5])
    assert label_positions(4, 4, indices, seconds, 10.0, "vfr.mp4").tolist() == [0, 2, 3]


def test_lengths_that_differ_a_little_are_aligned_by_time():
    # 1000 labels over 40 s are 25 a second; the file was re-encoded to 990 frames of 24.75 a second.
    indices = np.array([0, 99, 495, 989])
    seconds = indices / 24.75  # 0, 4, 20 and 39.96 s
    assert label_positions(1000, 990, indices, seconds, 40.0, "short.mp4").tolist() == [0, 100, 500, 998]


def test_time_alignment_stays_within_the_track():
    seconds = np.array([-0.5, 0.0, 39.999, 40.0, 41.0])
    found = label_positions(1000, 1001, np.zeros(5, int), seconds, 40.0, "edge.mp4")
    assert found.tolist() == [0, 0, 999, 999, 999]
    assert found.dtype == np.int64


def test_one_percent_is_the_limit():
    zero, start = np.array([0]), np.array([0.0])
    for n_frames in (9900, 10100):
        assert label_positions(10000, n_frames, zero, start, 40.0, "a.mp4").tolist() == [0]
    for n_frames in (9899, 10101):
        with pytest.raises(KeyframeError, match=rf"far\.mp4 has {n_frames} frames and its labels 10000"):
            label_positions(10000, n_frames, zero, start, 40.0, "far.mp4")


def test_time_alignment_is_logged_once_per_video(caplog):
    zero, start = np.array([0]), np.array([0.0])
    with caplog.at_level(logging.INFO, "keyframe.data.sampling"):
        for video in ("once.mp4", "once.mp4", "other.mp4", "once.mp4"):
            label_positions(1000, 999, zero, start, 40.0, video)
        label_positions(1000, 1000, zero, start, 40.0, "exact.mp4")
    logged = [record.getMessage() for record in caplog.records]
    assert [message.split()[0] for message in logged] == ["once.mp4", "other.mp4"]
    assert "999" in logged[0]
    assert "1000" in logged[0]


def test_sample_labels_takes_both_tracks():
    annotators = np.array([[0, 0.25, 0.5, 1], [1, 0.75, 0.5, 0]], dtype=np.float32)
    labels = Labels(np.array([0.5, 0.5, 0.5, 0.5], dtype=np.float32) * [0, 1, 2, 1], annotators)
    importance, each = sample_labels(labels, 4, np.array([1, 2, 2]), np.array([0.1, 0.2, 0.2]), 0.4, "a.mp4")
    np.testing.assert_array_equal(importance, [0.5, 1, 1])
    np.testing.assert_array_equal(each, [[0.25, 0.5, 0.5], [0.75, 0.5, 0.5]])


def test_sample_labels_without_annotators():
    labels = Labels(np.array([0.25, 0.75], dtype=np.float32), np.empty((0, 2), dtype=np.float32))
    importance, each = sample_labels(labels, 2, np.array([1]), np.array([0.5]), 1.0, "a.mp4")
    assert importance.tolist() == [0.75]
    assert each.shape == (0, 1)


def film(n_frames, rate, start=0.0):
    times = start + np.arange(n_frames) / rate
    return SimpleNamespace(n_frames=n_frames, timestamps=times, duration=n_frames / rate, path="film.mp4")


def test_the_frame_of_an_entry_is_its_own_where_there_is_one_each():
    assert labelled_frames(300, np.array([0, 15, 285]), film(300, 30, start=2.0)).tolist() == [0, 15, 285]


def test_the_frame_of_an_entry_is_found_by_time_where_lengths_differ():
    # 1000 labels over 40 s: entry 500 is 20 s, where 24.75 frames a second show frame 495
    entries = np.array([0, 100, 500, 999])
    found = labelled_frames(1000, entries, film(990, 24.75, start=1.5))
    assert found.tolist() == [0, 99, 495, 989]
    # and back: the frame's label is the entry, or a neighbour where 990 frames cannot show 1000 entries
    back = label_positions(1000, 990, found, found / 24.75, 40.0, "film.mp4")
    assert (np.abs(back - entries) <= 1).all()


def test_an_entry_of_another_cut_of_the_video_has_no_frame():
    with pytest.raises(KeyframeError, match=r"film\.mp4"):
        labelled_frames(1000, np.array([0]), film(900, 30))
