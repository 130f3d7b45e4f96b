import numpy as np
import pytest
import torch

from keyframe.data.dataset import Augmentation

DRAWS = 200


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    "wrong", [{"jitter": 0.51}, {"jitter": -0.1}, {"drop": 1.0}, {"colour": 1.1}, {"colour": -1}, {"flip": 2}]
)
def test_values_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)


def test_at_0_nothing_changes_and_nothing_is_drawn():
    plain, given = Augmentation(), rng()
    indices = np.array([0, 3, 9])
    frames = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    assert plain.move(indices, 10, given).tolist() == [0, 3, 9]
    assert torch.equal(plain.paint(frames, given), frames)
    assert plain.keep(500, given).all()
    assert not plain.changes_pixels


def test_what_each_part_changes():
    parts = {name: Augmentation(**{name: 0.5}) for name in ("jitter", "drop", "colour", "flip")}
    assert {name for name, part in parts.items() if part.changes_pixels} == {"jitter", "colour", "flip"}


@pytest.mark.parametrize("jitter", [0.1, 0.3, 0.5])
def test_jitter_stays_within_its_share_of_the_spacing_and_in_order(jitter):
    indices = 10 + 20 * np.arange(12)
    shifts = []
    for seed in range(DRAWS):
        moved = Augmentation(jitter=jitter).move(indices, 240, rng(seed))
        assert moved.dtype == np.int64
        assert (np.diff(moved) >= 0).all()
        shifts.append(moved - indices)
    assert np.abs(shifts).max() == 20 * jitter  # the whole range, and no more
    assert abs(np.mean(shifts)) < 0.5
    assert np.std(shifts, axis=1).min() > 0  # each frame has a shift of its own


@pytest.mark.parametrize("indices", [[0, 1, 2, 3], [0, 0, 0, 1], [0], [0, 3], [0, 1, 2, 20, 21, 99]])
def test_jitter_stays_within_the_video(indices):
    frames = max(indices) + 1
    for seed in range(DRAWS):
        moved = Augmentation(jitter=0.5).move(np.array(indices), frames, rng(seed))
        assert len(moved) == len(indices)
        assert 0 <= moved.min() <= moved.max() < frames
        assert (np.diff(moved) >= 0).all()


def test_dropout_hides_its_share():
    kept = [Augmentation(drop=0.25).keep(60, rng(seed)).mean() for seed in range(DRAWS)]
    # 12 000 coins: the standard error is .004
    assert np.mean(kept) == pytest.approx(0.75, abs=0.02)
    assert np.std(kept) > 0.02


@pytest.mark.parametrize(("length", "least"), [(1, 1), (2, 2), (3, 2), (60, 2)])
def test_dropout_leaves_two_frames_at_least(length, least):
    kept = [Augmentation(drop=0.95).keep(length, rng(seed)) for seed in range(DRAWS)]
    assert min(stays.sum() for stays in kept) == least
    assert all(stays.shape == (length,) and stays.dtype == bool for stays in kept)


def test_a_clip_is_mirrored_whole_or_not_at_all():
    frames = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    mirrored = 0
    for seed in range(DRAWS):
        painted = Augmentation(flip=0.3).paint(frames, rng(seed))
        assert torch.equal(painted, frames) or torch.equal(painted, frames[..., [4, 3, 2, 1, 0]])
        mirrored += not torch.equal(painted, frames)
    assert mirrored / DRAWS == pytest.approx(0.3, abs=0.1)
    assert torch.equal(Augmentation(flip=1.0).paint(frames, rng()), frames.flip(-1))


def test_colour_changes_are_the_same_for_every_frame_of_a_clip():
    picture = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for seed in range(20):
        painted = Augmentation(colour=0.4, flip=0.5).paint(picture.expand(6, 3, 8, 8), rng(seed))
        assert painted.dtype == torch.uint8
        assert torch.equal(painted, painted[:1].expand_as(painted))
        assert not torch.equal(painted[0], picture)


def test_brightness_contrast_and_saturation_lie_within_their_strength():
    grey = torch.full((1, 3, 2, 2), 100, dtype=torch.uint8)
    halves = torch.tensor([50, 150], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 2, 2)
    brightness, contrast = [], []
    for seed in range(DRAWS):
        augmentation = Augmentation(colour=0.2)
        bright = augmentation.paint(grey, rng(seed))[0, 0, 0, 0].item() / 100
        dark, light = augmentation.paint(halves, rng(seed))[0, 0, 0].tolist()
        brightness.append(bright)
        contrast.append((light - dark) / 100 / bright)
    for factors in (brightness, contrast):
        assert 0.78 <= min(factors) < 0.85  # half a level of rounding aside
        assert 1.15 < max(factors) <= 1.22
    assert abs(np.corrcoef(brightness, contrast)[0, 1]) < 0.3
    # full strength may take all colour out, never another hue in
    red = torch.tensor([200, 100, 100], dtype=torch.uint8).view(1, 3, 1, 1)
    for seed in range(50):
        r, g, b = Augmentation(colour=1.0).paint(red, rng(seed))[0, :, 0, 0].tolist()
        assert r >= g == b


def test_a_clip_is_a_function_of_the_generator():
    everything = Augmentation(jitter=0.3, drop=0.2, colour=0.3, flip=0.5)
    indices, frames = np.arange(0, 60, 5), torch.randint(0, 256, (12, 3, 6, 6), dtype=torch.uint8)

    def clip(seed):
        given = rng(seed)
        return everything.move(indices, 60, given), everything.paint(frames, given), everything.keep(12, given)

    for one, again, other in zip(clip((0, 1, 2)), clip((0, 1, 2)), clip((0, 1, 3)), strict=True):
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)


def test_the_held_clip_is_not_painted_over():
    frames = torch.randint(0, 256, (4, 3, 6, 6), dtype=torch.uint8)
    before = frames.clone()
    Augmentation(colour=1.0, flip=1.0).paint(frames, rng())
    assert torch.equal(frames, before)
