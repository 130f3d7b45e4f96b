"""What the generated data set promises: noise like TVSum's, importance that is seen, in context, and nowhere else."""

import filecmp
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from scipy.stats import rankdata, spearmanr

from keyframe.data import demo as generator
from keyframe.data.demo import (
    CAMERAS,
    FILLER,
    OBJECTS,
    PATTERNS,
    DemoSet,
    Scenario,
    begin,
    camera_of,
    draw_frames,
    draw_scenario,
    generate,
    label,
)
from keyframe.data.folder import DemoSource, DirectorySource
from keyframe.data.labels import read_tvsum_mat
from keyframe.data.packets import index_packets
from keyframe.types import KeyframeError
from tests.commands import environment

STAR = OBJECTS.index("star")


class Labelled(NamedTuple):
    scenario: Scenario
    labels: np.ndarray  # 1 to 5, (annotators, shots)

    @property
    def mean(self):
        return self.labels.mean(0)


def labelled(number, seed=0):
    """The scenario and labels of a video of `data=demo`, without its frames."""
    rng, scenario = begin(DemoSet(seed=seed), number)
    return Labelled(scenario, label(rng, scenario.importance))


@pytest.fixture(scope="module")
def samples():
    return [labelled(number) for number in range(120)]


def rho(predictions, samples):
    """Mean over videos of the correlation with the annotators' mean."""
    return np.mean([spearmanr(p, one.mean).statistic for p, one in zip(predictions, samples, strict=True)])


def pairwise_rho(labels):
    """Mean correlation of two annotators of a video, (annotators, positions)."""
    return np.nanmean(spearmanr(labels.T).statistic[np.triu_indices(len(labels), 1)])


def shares(labels):
    """How often each of the five labels is given."""
    return np.mean([[(one == value).mean() for value in range(1, 6)] for one in labels], axis=0)


def test_annotators_agree_as_little_as_those_of_tvsum(samples):
    assert np.mean([pairwise_rho(one.labels) for one in samples]) == pytest.approx(0.20, abs=0.03)
    assert shares([one.labels for one in samples])[0] == pytest.approx(0.5, abs=0.05)


def test_noise_and_labels_are_those_of_the_official_file(samples, official_labels):
    official = [1 + 4 * labels.annotators for labels in read_tvsum_mat(official_labels).values()]
    agreement = np.mean([pairwise_rho(one[:, ::15]) for one in official])
    assert np.mean([pairwise_rho(one.labels) for one in samples]) == pytest.approx(agreement, abs=0.03)
    np.testing.assert_allclose(shares([one.labels for one in samples]), shares(official), atol=0.03)
    assert agreement == pytest.approx(0.20, abs=0.01)


def test_position_predicts_nothing(samples):
    positions = [np.linspace(0, 1, len(one.mean)) for one in samples]
    assert abs(rho(positions, samples)) < 0.1
    assert abs(rho([np.abs(position - 0.5) for position in positions], samples)) < 0.1
    # nor does what half of the videos teach about position
    grid = np.linspace(0, 1, 36)
    ranks = [rankdata(one.mean) / len(one.mean) for one in samples]
    profile = np.mean([np.interp(grid, p, r) for p, r in zip(positions[::2], ranks[::2], strict=True)], axis=0)
    assert abs(rho([np.interp(position, grid, profile) for position in positions[1::2]], samples[1::2])) < 0.1
    # nor within any video
    for scenario, _ in samples:
        position = np.arange(len(scenario.importance))
        assert abs(spearmanr(position, scenario.importance).statistic) < 0.1
        assert abs(spearmanr(np.abs(position - position.mean()), scenario.importance).statistic) < 0.2


def seen_alone(scenario):
    """What one frame shows: a pattern that is worth something or not, with a star or without."""
    return list(zip(scenario.patterns == FILLER, scenario.objects == STAR, strict=True))


def seen_with_the_shot_before(scenario):
    changed = np.diff(scenario.patterns, prepend=FILLER) != 0
    return [(*alone, change) for alone, change in zip(seen_alone(scenario), changed, strict=True)]


def best(samples, sight):
    """The best prediction from `sight` alone: the mean true importance of shots that look the same."""
    seen = [sight(one.scenario) for one in samples]
    worth = {}
    for looks, one in zip(seen, samples, strict=True):
        for look, importance in zip(looks, one.scenario.importance, strict=True):
            worth.setdefault(look, []).append(importance)
    mean = {look: np.mean(values) for look, values in worth.items()}
    return [np.array([mean[look] for look in looks]) for looks in seen]


def test_frames_matter_but_need_their_neighbourhood_and_the_whole_video(samples):
    ceiling = rho([one.scenario.importance for one in samples], samples)
    alone = rho(best(samples, seen_alone), samples)
    near = rho(best(samples, seen_with_the_shot_before), samples)
    assert alone > 0.2
    assert alone < 0.85 * ceiling  # the most that a frame-only model may reach
    assert alone + 0.1 < near < 0.85 * ceiling
    assert ceiling > 0.8


def plain_shots(samples):
    """(appearance of its pattern, whether it is the scene's first, importance) of shots that are worth something."""
    for scenario, _ in samples:
        before, appearances = FILLER, {}
        for pattern, thing, importance in zip(scenario.patterns, scenario.objects, scenario.importance, strict=True):
            new = pattern != before
            appearances[pattern] = appearances.get(pattern, 0) + new
            if pattern != FILLER and thing != STAR:
                yield appearances[pattern], new, importance
            before = pattern


def test_the_same_frame_is_worth_more_if_it_is_new_now_and_if_it_is_the_first(samples):
    worth = {}
    for appearance, new, importance in plain_shots(samples):
        worth.setdefault((appearance, bool(new)), []).append(importance)
    for appearance in (1, 2, 5):
        assert min(worth[appearance, True]) > max(worth[appearance, False])
    for new in (True, False):
        assert min(worth[1, new]) > max(worth[2, new])
        assert min(worth[2, new]) > max(worth[5, new])


def test_a_star_counts_wherever_it_is_seen_and_a_disc_nowhere(samples):
    gains = {name: [] for name in OBJECTS}
    for scenario, _ in samples:
        inside = np.flatnonzero((np.diff(scenario.patterns[:-1]) == 0) & (np.diff(scenario.patterns[1:]) == 0)) + 2
        for shot in inside[scenario.objects[inside - 1] == 0]:
            name = OBJECTS[scenario.objects[shot]]
            gains[name].append(scenario.importance[shot] - scenario.importance[shot - 1])
    assert min(map(len, gains.values())) > 50
    np.testing.assert_allclose(gains["star"], 0.6)
    np.testing.assert_allclose(gains["disc"] + gains["none"], 0, atol=1e-12)


def test_no_two_videos_are_alike_and_the_shortest_can_be_drawn():
    drawn = {labelled(number, seed).labels.tobytes() for seed in (0, 1) for number in range(10)}
    assert len(drawn) == 20
    assert labelled(3, seed=1).labels.tobytes() in drawn
    for seed in range(10):
        scenario = draw_scenario(np.random.default_rng(seed), 12)
        assert len(scenario.patterns) == len(scenario.objects) == len(scenario.importance) == 12
        assert scenario.importance.min() >= 0
    for name, value in (("videos", 0), ("shots", 11), ("seed", -1)):
        with pytest.raises(KeyframeError, match=rf"data\.{name}={value}"):
            DemoSet(**{name: value})


def render(seed, patterns, objects, camera="drift", size=(96, 128)):
    """Two frames of each shot, (shots, 2, H, W, 3)."""
    scenario = Scenario(np.array(patterns), np.array(objects), np.zeros(len(patterns)))
    frames = list(draw_frames(np.random.default_rng(seed), scenario, camera, size, [2] * len(patterns)))
    return np.stack(frames).reshape(len(patterns), 2, *size, 3)


def test_frames_are_a_function_of_the_seed_and_the_camera_moves_as_it_says():
    one = render(0, [0, FILLER], [0, 1])
    assert one.dtype == np.uint8
    assert np.array_equal(one, render(0, [0, FILLER], [0, 1])) and not np.array_equal(
        one, render(1, [0, FILLER], [0, 1])
    )
    for camera, moves in CAMERAS.items():
        assert tuple(map(bool, moved(*render(3, [1], [0], camera)[0]))) == tuple(map(bool, moves))


def moved(first, second):
    """How many rows down and columns to the right the camera went."""

    def overlap(image, down, right):
        return image[max(down, 0) : len(image) + min(down, 0), max(right, 0) : image.shape[1] + min(right, 0)]

    ways = [(down, right) for down in range(-24, 25) for right in range(-32, 33)]
    (way,) = [(d, r) for d, r in ways if np.array_equal(overlap(first, d, r), overlap(second, -d, -r))]
    return way


def test_objects_are_of_one_colour_and_differ_in_form_and_colour_hardly_tells_a_pattern():
    kinds = list(range(len(PATTERNS)))
    bare = render(4, kinds, [0] * len(kinds))
    # share of the bounding box that a five-pointed star of this waist fills, and a circle
    for name, filled in (("star", 0.37), ("disc", np.pi / 4)):
        for without, shown in zip(bare, render(4, kinds, [OBJECTS.index(name)] * len(kinds)), strict=True):
            (rows, columns), inside = np.nonzero((without != shown).any(-1)[0]), (without != shown).any(-1)
            assert len(np.unique(shown[inside], axis=0)) == 1
            assert len(rows) / (np.ptp(rows) + 1) / (np.ptp(columns) + 1) == pytest.approx(filled, abs=0.08)
            assert 0.06 < inside.mean() < 0.25
    means = np.stack([render(0, [kind] * 30, [0] * 30)[:, 0].mean((1, 2)) for kind in kinds])
    assert means.std(1).min() > 30 and np.ptp(means.mean((1, 2))) < 45


SMALL_DEMO = DemoSet(seed=0, videos=15, shots=12)  # that of the fixture


@pytest.fixture(scope="module")
def demo_videos(tiny_demo):
    return DemoSource(str(tiny_demo), seed=0, videos=15, shots=12).videos()


def test_files_are_h264_with_b_frames_in_several_sizes_and_rates(demo_videos):
    sizes, rates = set(), set()
    for video in demo_videos:
        with av.open(str(video.path)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.pix_fmt == "yuv420p"
            kinds = {PictureType(frame.pict_type).name for frame in container.decode(stream)}
            assert kinds == {"I", "P", "B"}
            sizes.add((stream.width, stream.height))
            rates.add(stream.average_rate)
    assert len(sizes) >= 3
    assert len(rates) >= 3


def test_labels_are_read_back_a_shot_of_two_seconds_long(demo_videos):
    assert len(demo_videos) == 15
    assert [video.labels.category for video in demo_videos] == [camera_of(number) for number in range(15)]
    for number, video in enumerate(demo_videos):
        index = index_packets(video.path)
        assert video.labels.annotators.shape == (20, index.n_frames)
        assert set(np.unique(video.labels.annotators)) <= {0, 0.25, 0.5, 0.75, 1}
        np.testing.assert_allclose(video.labels.importance, video.labels.annotators.mean(0), atol=1e-6)
        turns = np.flatnonzero((np.diff(video.labels.annotators) != 0).any(0)) + 1
        apart = (index.timestamps[turns] - index.timestamps[0]) / 2.0
        assert np.abs(apart - apart.round()).max() * 2 <= 0.51 / (index.n_frames / index.duration)
        # labels belong to this video: the scenario of its number
        rng, scenario = begin(SMALL_DEMO, number)
        expected, shots = label(rng, scenario.importance), len(scenario.importance)
        middles = ((np.arange(shots) + 0.5) * index.n_frames / shots).astype(int)
        np.testing.assert_array_equal(1 + 4 * video.labels.annotators[:, middles], expected)


@pytest.fixture
def in_process(monkeypatch):
    """Generate with threads: no processes to start, and what a test puts in place is seen."""
    monkeypatch.setattr(generator, "ProcessPoolExecutor", lambda count, *_: ThreadPoolExecutor(count))


SMALL = DemoSet(seed=3, videos=2, shots=12)


def decoded(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.full
def test_the_same_seed_gives_the_same_files_and_another_seed_others(tmp_path, in_process, monkeypatch):
    drawn = []

    def draw(rng, scenario, camera, *others):
        drawn.append((camera, scenario, frames := list(draw_frames(rng, scenario, camera, *others))))
        return frames

    with monkeypatch.context() as patch:
        patch.setattr(generator, "draw_frames", draw)
        one = generate(tmp_path / "a", SMALL, workers=1)
    again = generate(tmp_path / "b", SMALL, workers=2)
    other = generate(tmp_path / "a", DemoSet(seed=4, videos=2, shots=12))
    assert one != other
    labels = [directory / "ydata-tvsum50-anno.tsv" for directory in (one, again, other)]
    assert filecmp.cmp(labels[0], labels[1], shallow=False)
    assert labels[0].read_text().split("\t")[2] != labels[2].read_text().split("\t")[2]
    names = sorted(path.name for path in (one / "videos").iterdir())
    assert len(names) == 2
    first = [decoded(one / "videos" / name) for name in names]
    for name, frames in zip(names, first, strict=True):
        assert np.array_equal(frames, decoded(again / "videos" / name))
    for number, (camera, scenario, frames) in enumerate(drawn):
        assert camera == camera_of(number)
        np.testing.assert_array_equal(scenario.importance, begin(SMALL, number)[1].importance)
        assert np.abs(first[number].astype(float) - frames).mean() < 20
    assert first[0].shape != first[1].shape or not np.array_equal(first[0], first[1])
    ids = {video.id for video in DirectorySource(str(one)).videos()}
    assert not ids & {video.id for video in DirectorySource(str(other)).videos()}


def test_interrupted_generation_leaves_nothing_behind(tmp_path, in_process, monkeypatch):
    for error in (KeyboardInterrupt, OSError, RuntimeError):

        def break_off(job, error=error):
            job[0].write_bytes(b"half a video")
            raise error

        monkeypatch.setattr(generator, "_make_video", break_off)
        with pytest.raises(error):
            generate(tmp_path, SMALL, workers=1)
        assert list(tmp_path.iterdir()) == []


def test_another_process_may_be_first(tmp_path, in_process, monkeypatch):
    write = generator._write

    def write_late(draft, demo, workers):
        write(draft, demo, workers)
        theirs = tmp_path / f"demo-seed{demo.seed}-{demo.videos}x{demo.shots}-v{demo.format}"
        shutil.copytree(draft, theirs)

    monkeypatch.setattr(generator, "_write", write_late)
    directory = generate(tmp_path, SMALL, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == [directory.name]
    assert len(DirectorySource(str(directory)).videos()) == 2


def test_a_second_call_does_not_generate_again(tiny_demo, monkeypatch):
    def refuse(*_):
        pytest.fail("generated again")

    monkeypatch.setattr(generator, "_write", refuse)
    source = DemoSource(str(tiny_demo), seed=0, videos=15, shots=12)
    source.prepare()
    assert len(source.videos()) == 15


@pytest.mark.full
def test_no_process_outlives_one_that_was_killed(tmp_path):
    text = "import sys; from pathlib import Path; from keyframe.data.demo import *; "
    text += "generate(Path(sys.argv[1]), DemoSet(videos=400), 2)"
    process = subprocess.Popen([sys.executable, "-c", text, str(tmp_path)], env=environment(), stdout=subprocess.PIPE)
    limit = time.monotonic() + 60
    while not any(tmp_path.glob(".demo-*/new/videos/*.mp4")):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=30)  # the pipe ends when no process holds it
