"""What selection chooses from: checked on creation, and flagged where it makes a poor still."""

import numpy as np
import pytest

from keyframe.summary.candidates import Candidates, Selection, quality_flags
from tests.summary.generated import video


def test_lengths_and_shots_of_candidates():
    candidates = video([0.1, 0.2, 0.3], seconds=[1.0, 2.0, 4.0], shots=[[0, 1], [2, 2]], duration=5.0)
    assert candidates.lengths.tolist() == [2.0, 2.0, 1.0]
    assert candidates.shot_of.tolist() == [0, 0, 1]


def test_quality_flags():
    n = 10
    sharpness = np.array([1.0, 1.0, 0.2, 1.0, 1.0, 0.05, 0.05, 0.05, 1.0, 1.0])
    brightness, contrast = np.full(n, 0.5), np.full(n, 0.2)
    brightness[8], contrast[9] = 0.01, 0.01
    candidates = video(
        np.zeros(n), shots=[[0, 4], [5, 9]], sharpness=sharpness, brightness=brightness, contrast=contrast
    )
    # 2 against its shot's median 1; 5 to 7 against the video's, 0.6; 8 is black and 9 flat, however sharp
    assert quality_flags(candidates).tolist() == [0, 0, 1, 0, 0, 1, 1, 1, 2, 2]


def test_refuses_candidates():
    good = video([0.5, 0.5])
    for change in (
        {"scores": np.array([])},
        {"scores": np.array([0.5, 1.5])},
        {"scores": np.array([0.5, np.nan])},
        {"seconds": np.array([1.0, 0.0])},
        {"duration": 0.5},
        {"duration": np.inf},
        {"descriptors": np.ones((2, 2), dtype=np.float32)},
        {"descriptors": np.eye(3, dtype=np.float32)},
        {"cells": np.zeros((2, 8, 8), dtype=np.uint8)},
        {"looks": np.zeros(2, dtype=np.int64)},
        {"sharpness": np.array([-1.0, 1.0])},
        {"brightness": np.array([0.5])},
        {"shots": np.array([[0, 0]])},
    ):
        with pytest.raises(ValueError):
            Candidates(**(vars(good) | change))


def test_refuses_selections():
    for keyframes, ranks in (([], []), ([1, 1], [1, 2]), ([2, 1], [1, 2]), ([1, 2], [1, 3])):
        with pytest.raises(ValueError):
            Selection(np.array(keyframes, dtype=np.int64), np.array(ranks, dtype=np.int64), np.array([True]))
