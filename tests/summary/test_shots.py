import numpy as np
import pytest

from keyframe.data.demo import DemoSet, begin
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.summary import shots
from keyframe.summary.describe import DESCRIPTOR_SIZE, look
from keyframe.summary.shots import KtsShots, check_shots, kts


def descriptors(lengths, noise=0.02, size=24, seed=0):
    """Rows of length 1 that stay near a random direction of their own for each of these lengths."""
    rng = np.random.default_rng(seed)
    levels = np.abs(rng.normal(size=(len(lengths), size)))
    rows = np.repeat(levels / np.linalg.norm(levels, axis=1, keepdims=True), lengths, axis=0)
    rows = rows + noise * rng.normal(size=rows.shape) / np.sqrt(size)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def even(rows, step=0.5):
    return np.arange(len(rows)) * step


def starts_of(lengths):
    return np.cumsum([0, *lengths[:-1]])


def watch(path, step=0.5):
    """The look of a video every `step` seconds, and the times."""
    index = index_packets(path)
    times = index.timestamps - index.timestamps[0]
    frames = np.searchsorted(times, np.arange(0, times[-1], step) - 1e-6)
    return look(PyAVReader().read(path, frames, DESCRIPTOR_SIZE, index).pixels), times[frames]


def test_finds_known_cuts():
    lengths = [9, 6, 14, 2, 11, 30, 5]
    rows = descriptors(lengths)

    found = KtsShots()(rows, even(rows))

    assert found[:, 0].tolist() == starts_of(lengths).tolist()
    check_shots(found, sum(lengths))


def test_a_video_that_stays_the_same_is_one_shot():
    rows = descriptors([400], noise=0.05)

    assert KtsShots()(rows, even(rows)).tolist() == [[0, 399]]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_shortest_videos(n):
    assert KtsShots()(descriptors([n]), np.arange(n) / 2).tolist() == [[0, n - 1]]


def test_pictures_at_one_time_have_no_rate():
    rows = descriptors([6, 6])

    assert KtsShots()(rows, np.zeros(12))[:, 0].tolist() == [0, 6]


@pytest.mark.parametrize("step", [0.1, 0.25, 1.0, 1.9])
def test_shots_do_not_depend_on_how_often_one_looks(step):
    """A slowly turning camera: there is no cut to find, and only the price of a shot sets how many there are."""
    waypoints = np.abs(np.random.default_rng(3).normal(size=(14, 24)))

    def shots_at(step):
        position = np.arange(0, 390, step) / 30
        first = position.astype(int)
        rows = waypoints[first] + (position - first)[:, None] * (waypoints[first + 1] - waypoints[first])
        return len(KtsShots()(rows / np.linalg.norm(rows, axis=1, keepdims=True), position * 30))

    assert shots_at(step) == pytest.approx(shots_at(0.5), rel=0.15)
    assert shots_at(0.5) > 40


def test_a_larger_penalty_gives_fewer_shots():
    rows = descriptors([3] * 20, noise=0.3)

    counts = [len(KtsShots(penalty)(rows, even(rows))) for penalty in (0.01, 0.3, 1.0, 4.0)]

    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1] == 1


@pytest.mark.parametrize(("seconds", "least"), [(0, 1), (0.5, 1), (2, 4), (5, 10)])
def test_no_shot_is_too_short(seconds, least):
    rows = descriptors([60], noise=3.0)

    found = KtsShots(penalty=0.0, min_length=seconds)(rows, even(rows))

    assert (found[:, 1] - found[:, 0] + 1).min() == least


@pytest.mark.parametrize(("stretch", "overlap"), [(40, 16), (50, 20), (64, 10)])
def test_a_long_video_is_cut_like_a_short_one(stretch, overlap, monkeypatch):
    lengths = [3, 9, 6, 14, 5, 2, 11, 8] * 6
    rows = descriptors(lengths)
    whole = KtsShots()(rows, even(rows))
    monkeypatch.setattr(shots, "_STRETCH", stretch)
    monkeypatch.setattr(shots, "_OVERLAP", overlap)

    longest = []
    monkeypatch.setattr(shots, "kts", lambda rows, **options: longest.append(len(rows)) or kts(rows, **options))
    found = KtsShots()(rows, even(rows))

    assert max(longest) <= stretch and len(longest) > 5
    assert found.tolist() == whole.tolist()
    assert found[:, 0].tolist() == starts_of(lengths).tolist()


@pytest.mark.parametrize("seed", range(30))
def test_stretches_that_share_no_cut_still_cover_the_video(seed, monkeypatch):
    monkeypatch.setattr(shots, "_STRETCH", 40)
    monkeypatch.setattr(shots, "_OVERLAP", 10)
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 300))
    rows = descriptors([n], noise=3.0, seed=seed)

    found = KtsShots(penalty=float(rng.choice([0.0, 0.2, 0.5, 1.0])), min_length=2.5)(rows, even(rows))

    check_shots(found, n)
    assert len(found) == 1 or (found[:, 1] - found[:, 0] + 1).min() >= 5


def test_a_slow_change_of_exposure_is_no_cut():
    rng = np.random.default_rng(0)
    scenes = np.repeat(np.repeat(rng.integers(40, 160, (2, 8, 8, 3)), 12, axis=1), 12, axis=2)
    light = 1 + 0.4 * np.sin(np.arange(40) / 6)
    pixels = np.concatenate([scene * light[:, None, None, None] for scene in scenes])
    pixels = np.clip(pixels + rng.normal(0, 2, pixels.shape), 0, 255).astype(np.uint8)

    found = KtsShots()(look(pixels).descriptors, np.arange(80) / 2)

    assert found[:, 0].tolist() == [0, 40]


# First picture of each shot at two a second, by eye; fades and dissolves last a second.
@pytest.mark.parametrize(
    ("name", "cuts"),
    [
        ("psd_testvideo.mp4", [2, 12, 15, 24, 27, 37, 46]),
        ("bikes.mp4", [3, 7, 11, 15]),
        ("tc_nasa.mp4", [11, 16]),
        ("chaplin.mp4", []),
        ("friday.mp4", []),
        ("flower.webm", []),
    ],
)
def test_real_cuts(clips, name, cuts):
    seen, seconds = watch(clips / name)

    found = KtsShots()(seen.descriptors, seconds)[1:, 0]

    assert len(found) == len(cuts)
    assert (np.abs(found - cuts) <= 1).all()


def test_finds_where_the_demo_changes(tiny_demo):
    found, changes, hits, true = 0, 0, 0, 0
    for number, path in enumerate(sorted(tiny_demo.rglob("*.mp4"))):
        _, story = begin(DemoSet(seed=0, videos=15, shots=12), number)
        seen, seconds = watch(path)
        cuts = seconds[KtsShots()(seen.descriptors, seconds)[1:, 0]]
        borders = 2.0 * np.arange(1, len(story.colours))
        changed = (np.diff(story.colours) != 0) | (np.diff(story.discs.astype(int)) != 0)
        found += len(cuts)
        true += int((np.abs(cuts[:, None] - borders).min(axis=1) <= 0.6).sum())
        changes += int(changed.sum())
        hits += int((np.abs(borders[changed][:, None] - cuts).min(axis=1) <= 0.6).sum())

    assert true == found
    assert hits > 0.85 * changes


@pytest.mark.parametrize("seconds", [np.zeros(3), np.array([0, 2, 1, 3]), np.zeros((4, 1))])
def test_refuses_times_that_do_not_fit(seconds):
    with pytest.raises(ValueError, match="seconds must not decrease, one for each of 4 rows"):
        KtsShots()(descriptors([4]), seconds)


@pytest.mark.parametrize(
    "options", [{"penalty": -1}, {"penalty": np.inf}, {"min_length": -0.1}, {"min_length": np.nan}]
)
def test_refuses_options_out_of_range(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        KtsShots(**options)
