"""What keyframes are chosen from, in a file: the same to the bit, and nothing else passes for it."""

import dataclasses

import numpy as np
import pytest

from keyframe.extraction.folder import CANDIDATES, read_candidates, write_candidates
from keyframe.summary.candidates import Candidates
from keyframe.types import KeyframeError

N = 6
FRAMES = np.arange(N, dtype=np.int64) * 12


def candidates(**changes):
    random = np.random.default_rng(0)
    descriptors = random.random((N, 8), np.float32)
    values = {
        "scores": random.random(N, np.float32),
        "seconds": np.linspace(0, 2.9, N),
        "descriptors": descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True),
        "cells": random.integers(0, 255, (N, 48, 48), np.uint8),
        "sharpness": random.random(N),
        "brightness": random.random(N, np.float32),
        "contrast": random.random(N, np.float32),
        "shots": np.array([[0, 3], [4, 5]]),
        "duration": 3.04,
    }
    return Candidates(**values | changes)


@pytest.mark.parametrize("looks", [None, np.array([1, 1, 3, 1, 2, 1])])
def test_it_is_read_to_the_bit(tmp_path, looks):
    kept = candidates(looks=looks)
    write_candidates(tmp_path, FRAMES, kept)
    frames, found = read_candidates(tmp_path)
    assert (frames == FRAMES).all()
    for field in dataclasses.fields(kept):
        one, other = getattr(kept, field.name), getattr(found, field.name)
        assert one is other is None or (np.array_equal(one, other) and np.asarray(one).dtype == np.asarray(other).dtype)


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-7]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"(6,)", b"(600000000,)")),
        lambda path: np.save(path, np.zeros(3)),
        lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True),
        lambda path: np.save(
            path, np.ones(N, [("frames", "i8"), ("shot", "i8"), ("duration", "f8"), ("scores", "f4")])
        ),
        lambda path: np.save(path, np.load(path)[:0]),
    ],
)
def test_anything_else_is_refused_without_being_run(tmp_path, harm):
    write_candidates(tmp_path, FRAMES, candidates())
    harm(tmp_path / CANDIDATES)
    with pytest.raises(KeyframeError, match="holds no candidates"):
        read_candidates(tmp_path)
