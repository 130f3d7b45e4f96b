"""What frames look like, in numbers; and what changes between frames that look alike."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, laplace

from keyframe.summary.describe import DESCRIPTOR_SIZE, GRID, Appearance, describe_frames, luma_cells

HEIGHT, WIDTH = DESCRIPTOR_SIZE


def flat(*colours):
    return np.array(colours, dtype=np.uint8)[:, None, None].repeat(HEIGHT, 1).repeat(WIDTH, 2)


def scene(seed, n=1):
    """Smooth coloured blobs with fine texture, (n, H, W, 3); equal for one seed but for the noise of the camera."""
    rng = np.random.default_rng(seed)
    coarse = gaussian_filter(rng.normal(size=(HEIGHT, WIDTH, 3)), (10, 10, 0))
    fine = gaussian_filter(rng.normal(size=(HEIGHT, WIDTH, 1)), (1, 1, 0))
    picture = 120 + 50 * coarse / coarse.std() + 12 * fine / fine.std()
    return np.clip(picture + rng.normal(0, 2, (n, HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)


def similarity(one, other):
    return float((describe_frames(one).descriptors @ describe_frames(other).descriptors.T)[0, 0])


def luma(pixels):
    return pixels @ np.array([0.299, 0.587, 0.114]) / 255


def test_any_frame_has_a_valid_row():
    for pixels in (
        flat((0, 0, 0), (255, 255, 255), (255, 0, 0), (1, 1, 1)),
        np.random.default_rng(0).integers(0, 256, (5, 96, 96, 3), dtype=np.uint8),
        np.random.default_rng(0).integers(0, 256, (2, 4, 7, 3), dtype=np.uint8),
    ):
        found = describe_frames(pixels)
        assert len(found) == len(pixels)
        columns = (found.descriptors, found.sharpness, found.brightness, found.contrast)
        assert all(column.dtype == np.float32 for column in columns)
        np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)
        assert found.descriptors.min() >= 0


def test_light_and_sharpness_are_what_they_say():
    halves = flat((0, 0, 0))
    halves[0, :, WIDTH // 2 :] = 255
    noise = scene(0)

    found = describe_frames(np.concatenate([flat((0, 0, 0), (51, 51, 51)), halves, noise]))

    np.testing.assert_allclose(found.brightness, [0, 0.2, 0.5, luma(noise).mean()], atol=1e-5)
    np.testing.assert_allclose(found.contrast, [0, 0, 0.5, luma(noise).std()], atol=1e-5)
    expected = [laplace(luma(picture))[1:-1, 1:-1].var() for picture in (halves[0], noise[0])]
    np.testing.assert_allclose(found.sharpness, [0, 0, *expected], rtol=1e-4, atol=1e-9)


def test_blur_lowers_sharpness():
    picture = scene(1)[0]
    blurred = [gaussian_filter(picture, (sigma, sigma, 0)) for sigma in (0, 0.5, 1, 2, 4)]

    sharpness = describe_frames(np.stack(blurred)).sharpness

    assert (np.diff(sharpness) < 0).all()
    assert sharpness[2] < 0.3 * sharpness[0]


def test_a_stream_in_pieces_looks_the_same():
    pixels = np.concatenate([scene(seed, 4) for seed in range(5)])
    at_once = describe_frames(pixels)
    for size in (1, 7, 8, 9, 40):
        joined = Appearance.join(describe_frames(pixels[first : first + size]) for first in range(0, 20, size))
        for name in ("descriptors", "sharpness", "brightness", "contrast"):
            np.testing.assert_array_equal(getattr(joined, name), getattr(at_once, name))


def test_no_frame_has_an_appearance_too():
    pixels = scene(0)

    empty = describe_frames(pixels[:0])

    assert len(empty) == 0
    assert len(Appearance.join([empty, describe_frames(pixels)])) == 1


def test_noise_of_the_camera_changes_little_and_another_scene_much():
    same = [similarity(scene(seed, 2)[:1], scene(seed, 2)[1:]) for seed in range(8)]
    other = [similarity(scene(seed), scene(seed + 1)) for seed in range(8)]

    assert 1 - max(other) > 10 * (1 - min(same))


def test_exposure_changes_less_than_another_scene():
    for seed, gain in itertools.product(range(4), (0.5, 0.8, 1.2)):
        picture = scene(seed)
        lit = np.clip(picture * gain, 0, 255).astype(np.uint8)
        assert 1 - similarity(picture, scene(seed + 1)) > 3 * (1 - similarity(picture, lit))


def test_sees_colour_at_equal_luma():
    red, green = flat((150, 0, 0)), flat((0, 76, 0))
    np.testing.assert_allclose(describe_frames(red).brightness, describe_frames(green).brightness, atol=0.01)

    assert similarity(red, green) < 0.9


def test_sees_where_things_are():
    left = flat((60, 60, 60))
    left[:, 30:60, 5:35] = (230, 230, 230)

    assert 1 - similarity(left, left[:, :, ::-1]) > 5 * (1 - similarity(left, np.roll(left, 2, axis=2)))


def test_sees_the_direction_of_edges():
    rows = np.arange(HEIGHT)[:, None].repeat(WIDTH, 1)
    stripes = [
        np.uint8(127 + 100 * np.sin(2 * np.pi * (wave + 3) / 12))[None, ..., None].repeat(3, 3)
        for wave in (rows, rows + 6, rows.T)
    ]

    assert similarity(stripes[0], stripes[2]) < 0.95
    assert 1 - similarity(stripes[0], stripes[2]) > 5 * (1 - similarity(stripes[0], stripes[1]))


def test_black_is_unlike_a_scene():
    assert similarity(flat((0, 0, 0)), scene(0)) < 0.85


def test_refuses_what_are_not_frames():
    for shape, dtype in (
        ((2, 96, 96, 3), np.float32),
        ((2, 96, 96, 4), np.uint8),
        ((96, 96, 3), np.uint8),
        ((2, 3, 96, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match=r"uint8 \(n, H, W, 3\)"):
            describe_frames(np.zeros(shape, dtype))


def test_cells_are_the_means_of_luma():
    pixels = scene(3)
    expected = luma(pixels)[0].reshape(GRID, HEIGHT // GRID, GRID, WIDTH // GRID).mean((1, 3)) * 255
    np.testing.assert_allclose(luma_cells(pixels)[0], expected, atol=0.51)
    for size in ((4, 4), (15, 17), (1, 300)):
        assert (luma_cells(np.full((1, *size, 3), 128, np.uint8)) == 128).all()
