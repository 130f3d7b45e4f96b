"""Generated candidates for tests of selection."""

import itertools

import numpy as np
from scipy.spatial.distance import pdist

from keyframe.summary.candidates import Candidates
from keyframe.summary.describe import DESCRIPTOR_SIZE, GRID, describe_frames, luma_cells


def video(scores, seconds=None, descriptors=None, shots=None, duration=None, **quality):
    """Candidates that all look different and are sharp and bright, but for what is given."""
    n = len(scores)
    seconds = np.arange(n) * 1.0 if seconds is None else np.asarray(seconds, dtype=float)
    quality = {"sharpness": np.ones(n), "brightness": np.full(n, 0.5), "contrast": np.full(n, 0.2)} | quality
    quality = {"cells": np.zeros((n, GRID, GRID), dtype=np.uint8)} | quality
    return Candidates(
        scores=np.asarray(scores, dtype=np.float32),
        seconds=seconds,
        descriptors=np.eye(n, dtype=np.float32) if descriptors is None else descriptors,
        shots=np.array([[0, n - 1]]) if shots is None else np.asarray(shots),
        duration=float(seconds[-1] + 1 if duration is None else duration),
        **quality,
    )


def looks(clusters):
    """Rows that are equal within a cluster and have the product 0 with any other."""
    return np.eye(max(clusters) + 1, dtype=np.float32)[np.asarray(clusters)]


def some_shots(rng, n):
    starts = np.flatnonzero(np.append(True, rng.random(n - 1) < 0.3))
    return np.stack([starts, np.append(starts[1:], n) - 1], axis=1)


def some_video(rng, n):
    """Few different scores and times make ties; recurring looks, or a slow change of look, make duplicates."""
    if rng.random() < 0.5:
        descriptors = looks(rng.integers(0, max(1, n // 2), n))
    else:
        rows = rng.normal(size=(n, 3)) if rng.random() < 0.5 else np.cumsum(rng.normal(size=(n, 3)), axis=0)
        descriptors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return video(
        scores=rng.integers(0, 5, n) / 4 if rng.random() < 0.5 else rng.random(n),
        seconds=np.sort(rng.integers(0, 2 * n, n) / 2) if rng.random() < 0.5 else np.sort(rng.random(n) * n),
        descriptors=descriptors,
        shots=some_shots(rng, n),
        sharpness=rng.choice([0.0, 1.0, 2.0], n),
        brightness=rng.choice([0.0, 0.5], n, p=[0.2, 0.8]),
        contrast=rng.choice([0.0, 0.2], n, p=[0.2, 0.8]),
    )


def allowed(candidates, limits, frames):
    """Whether a set of frames keeps both limits."""
    seconds, rows = candidates.seconds[list(frames)], candidates.descriptors[list(frames)].astype(float)
    if len(frames) < 2:
        return True
    near = pdist(seconds[:, None]).min() < limits.min_distance - 1e-6
    return not near and (1 - pdist(rows, "cosine")).max() <= limits.max_similarity + 2e-6


def every_choice(candidates, limits, k):
    """All sets of the greatest number that is possible, up to k."""
    for number in range(min(k, len(candidates)), 0, -1):
        sets = [list(s) for s in itertools.combinations(range(len(candidates)), number)]
        fitting = [s for s in sets if allowed(candidates, limits, s)]
        if fitting:
            return fitting
    raise AssertionError


def some_limits(rng):
    return {
        "min_distance": float(rng.choice([0, 0.5, 1, 2.5])),
        "max_similarity": float(rng.choice([0.3, 0.8, 0.95, 1.0])),
    }


MARGIN = 4


def picture_of_things(seed=0):
    """A picture with light, dark and coloured things of many sizes, (96 + 2 MARGIN) squared, floats."""
    rng = np.random.default_rng(seed)
    side = DESCRIPTOR_SIZE[0] + 2 * MARGIN
    picture = np.full((side, side, 3), 120.0)
    for _ in range(25):
        (top, left), (height, width) = rng.integers(0, side, 2), rng.integers(4, 40, 2)
        picture[top : top + height, left : left + width] = rng.integers(30, 220, 3)
    return picture


def camera_view(picture, right=0, down=0):
    """What a camera sees of it, moved by pixels of a picture 96 wide."""
    inner = slice(MARGIN + down, MARGIN + down + 96), slice(MARGIN + right, MARGIN + right + 96)
    return picture[inner].clip(0, 255).astype(np.uint8)


def one_shot(pixels, seconds, duration):
    """Candidates of one shot, all equally important."""
    seen, n = describe_frames(pixels), len(pixels)
    rest = seen.sharpness, seen.brightness, seen.contrast
    return Candidates(
        np.full(n, 0.5), seconds, seen.descriptors, luma_cells(pixels), *rest, np.array([[0, n - 1]]), duration
    )
