"""What of a scene is another moment, and what is the same picture again."""

import numpy as np
import pytest

from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.sampling import FpsSampling
from keyframe.summary.constraints import Candidates
from keyframe.summary.describe import DESCRIPTOR_SIZE, GRID, PatchChanges, look, thumbnails
from keyframe.summary.selection import AdaptiveSelection, TopSelection, UniformSelection

MARGIN = 4


def scene(seed=0):
    """A picture with light, dark and coloured things of many sizes, (96 + 2 MARGIN) squared, floats."""
    rng = np.random.default_rng(seed)
    side = DESCRIPTOR_SIZE[0] + 2 * MARGIN
    picture = np.full((side, side, 3), 120.0)
    for _ in range(25):
        (top, left), (height, width) = rng.integers(0, side, 2), rng.integers(4, 40, 2)
        picture[top : top + height, left : left + width] = rng.integers(30, 220, 3)
    return picture


def shot(picture, right=0, down=0):
    """What a camera sees of it, moved by pixels of a picture 96 wide."""
    inner = slice(MARGIN + down, MARGIN + down + 96), slice(MARGIN + right, MARGIN + right + 96)
    return picture[inner].clip(0, 255).astype(np.uint8)


def change(one, other):
    changes = PatchChanges(thumbnails(np.stack([one, other])))
    share = changes.between(0, np.array([1]))[0]
    assert share == changes.between(1, np.array([0]))[0]
    return share


@pytest.mark.parametrize("seed", range(5))
def test_noise_exposure_and_an_unsteady_hand_change_nothing(seed):
    picture = scene(seed)
    noise = np.random.default_rng(seed).normal(0, 12, picture.shape)
    for other in (shot(picture + noise), shot(picture * 0.8), shot(picture * 1.1), shot(picture, 1, -1)):
        assert change(shot(picture), other) <= 0.02


@pytest.mark.parametrize("seed", range(5))
def test_a_thing_that_comes_goes_or_moves_is_a_change_of_its_size(seed):
    picture = scene(seed)
    there, moved = picture.copy(), picture.copy()
    there[40:64, 16:40] = (250, 20, 20)  # a sixteenth of what is seen
    moved[40:64, 64:88] = (250, 20, 20)
    assert 0.02 < change(shot(picture), shot(there)) <= 1 / 16
    assert change(shot(picture), shot(there)) < change(shot(there), shot(moved)) <= 2 / 16


def test_any_size_of_picture():
    for size in ((4, 4), (15, 17), (96, 96), (1, 300)):
        flat = np.full((1, *size, 3), 128, np.uint8)
        # the mean luma is 64 of 255 by definition, less what keeps black from being divided by zero
        assert thumbnails(flat).shape == (1, GRID, GRID, 3)
        assert np.unique(thumbnails(flat)).tolist() == [round(64 * (128 / 255) / (128 / 255 + 0.04))]
    assert not thumbnails(np.zeros((2, 96, 96, 3), np.uint8)).any()


def candidates(pixels, seconds, duration):
    """Of one shot, all equally important."""
    seen, n = look(pixels), len(pixels)
    rest = seen.sharpness, seen.brightness, seen.contrast
    return Candidates(
        np.full(n, 0.5), seconds, seen.descriptors, thumbnails(pixels), *rest, np.array([[0, n - 1]]), duration
    )


def walk(steps):
    """A fixed camera, and something that walks through the picture in so many steps, half a second each."""
    pictures = []
    for step in range(steps):
        picture = scene() + np.random.default_rng(step).normal(0, 6, scene().shape)
        picture[40:70, MARGIN + 8 * step : MARGIN + 8 * step + 10] = 20
        pictures.append(shot(picture))
    return candidates(np.stack(pictures), np.arange(steps) / 2, steps / 2)


@pytest.mark.parametrize("selector", [TopSelection(k=4), UniformSelection(k=4)])
def test_moments_before_a_fixed_camera_are_given_where_a_number_is_asked_for(selector):
    selection = selector(walk(10))
    assert len(selection) == 4 and selection.notes == ()
    assert (np.diff(selection.keyframes) >= 2).all()  # a second apart, still
    # nobody asked for a number, and it is one scene
    assert len(AdaptiveSelection()(walk(10))) == len(TopSelection(per_minute=60)(walk(10))) == 1


def test_a_still_picture_with_noise_is_one_keyframe_however_many_are_asked_for():
    pictures = [shot(scene() + np.random.default_rng(n).normal(0, 12, scene().shape), n % 3 - 1) for n in range(12)]
    still = candidates(np.stack(pictures), np.arange(12) / 2, 6.0)
    for selector in (TopSelection(k=5), UniformSelection(k=5)):
        assert len(selector(still)) == 1
        assert "asked for 5 keyframes, found 1" in selector(still).notes[0]


def test_other_scenes_come_before_other_moments_and_these_before_faults():
    moving = walk(10)
    other = np.stack([shot(scene(9))] * 2 + [np.zeros((96, 96, 3), np.uint8)])
    pixels = np.concatenate([np.stack([shot(scene())] * 4), other])
    mixed = candidates(pixels, np.arange(7.0), 7.0)
    assert {4, 5} & set(TopSelection(k=2)(mixed).keyframes.tolist())
    # of the walk three moments, the other scene, and nothing black
    seen = [getattr(moving, name) for name in ("descriptors", "thumbnails", "sharpness", "brightness", "contrast")]
    more = [getattr(mixed, name)[4:] for name in ("descriptors", "thumbnails", "sharpness", "brightness", "contrast")]
    both = [np.concatenate(pair) for pair in zip(seen, more, strict=True)]
    scores = np.append(np.full(10, 0.9), np.full(3, 0.1))
    joined = Candidates(scores, np.arange(13) / 2, *both, np.array([[0, 9], [10, 12]]), 6.5)
    chosen = TopSelection(k=4, min_distance=0.5)(joined).keyframes
    assert len({10, 11} & set(chosen.tolist())) == 1 and 12 not in chosen and (chosen < 10).sum() == 3


@pytest.mark.parametrize(
    ("name", "found"), [("chaplin.mp4", 5), ("frog.webm", 5), ("flower.mp4", 3), ("tc_h265.mp4", 1)]
)
def test_real_clips_of_one_shot(name, found, clips):
    # Seen on contact sheets: of five frames of the flower a second apart two are as good as like their neighbours.
    index = index_packets(clips / name)
    frames = PyAVReader().read(index.path, np.unique(FpsSampling(2.0).indices(index)), DESCRIPTOR_SIZE, index)
    seen = candidates(frames.pixels, frames.timestamps - index.timestamps[0], index.duration)
    assert len(TopSelection(k=5)(seen)) == found
