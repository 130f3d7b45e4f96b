"""Videos as samples and batches; the test videos carry their frame numbers, so labels are checked against frames."""

import json
import shutil
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from keyframe.data.datamodule import EpochSampler
from keyframe.data.dataset import Augmentation, FeatureDataset, Sample, Schedule, VideoDataset, collate
from keyframe.data.decord_reader import DecordReader
from keyframe.data.feature_file import read_feature_files
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.sampling import FpsSampling, UniformSampling
from keyframe.types import KeyframeError, LabelledVideo, Labels, VideoError
from tests.data.feature_files import write_tvsum
from tests.videos import read_frame_number, write_video

FRAMES, SIZE = 100, (48, 80)
EVERYTHING = Augmentation(jitter=0.4, drop=0.3, colour=0.3, flip=0.5)


def numbered_labels(entries, of=FRAMES):
    """Labels that say which frame they belong to: importance is number / 128, annotator p is p frames ahead."""
    number = np.arange(entries) * of / entries
    annotators = np.stack([np.minimum(number + shift, of - 1) / 128 for shift in range(3)])
    return Labels((number / 128).astype(np.float32), annotators.astype(np.float32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(3):
        write_video(folder / f"v{number}.mp4", frames=FRAMES, fps=20 + 5 * number, options={"g": "12"}, seed=number)
    (folder / "text.mp4").write_text("not a video")
    (folder / "empty.mp4").write_bytes(b"")
    whole = (folder / "v0.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    return folder


def videos(folder: Path, *names, entries=FRAMES):
    return [LabelledVideo(name, folder / f"{name}.mp4", numbered_labels(entries)) for name in names]


def dataset(folder, *names, sampling=UniformSampling(12), check=True, **options):  # noqa: B008
    made = VideoDataset(
        "train", videos(folder, *(names or ("v0", "v1", "v2"))), PyAVReader(), sampling, SIZE, **options
    )
    if check:
        assert made.check() == {}
    return made


def shown(sample):
    return [read_frame_number(picture.permute(1, 2, 0).numpy()) for picture in sample.inputs]


def test_labels_and_times_follow_frames_that_move_to_i_frames(folder):
    """Grid of 12 in 100 frames: 4, 12, 20, 29, 37, ...; I-frames every 12."""
    made = VideoDataset("train", videos(folder, "v0", "v1"), PyAVReader(exact=False), UniformSampling(12), SIZE)
    made.check()
    for sample, rate in zip((made.plain(0), made.plain(1)), (20, 25), strict=True):
        numbers = shown(sample)
        assert numbers == [0, 12, 24, 29, 36, 48, 54, 60, 72, 79, 84, 96]
        np.testing.assert_allclose(sample.importance * 128, numbers)
        np.testing.assert_allclose(sample.seconds, np.array(numbers) / rate, rtol=1e-6)


def same(one, other):
    assert (one.video, one.number, one.kind) == (other.video, other.number, other.kind)
    for name in ("inputs", "seconds", "importance", "annotators", "visible"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_a_sample_holds_what_it_says(folder):
    sample = dataset(folder)[1]
    assert (sample.video, sample.number, sample.kind) == ("v1", 1, "pixels")
    assert sample.inputs.dtype == torch.uint8
    assert sample.inputs.shape == (12, 3, *SIZE)
    assert sample.inputs.is_contiguous()
    assert sample.visible.all()
    assert sample.annotators.shape == (3, 12)
    assert (sample.importance.dtype, sample.seconds.dtype) == (torch.float32, torch.float32)
    # the centres of twelve equal spans of 100 frames, 25 a second
    centres = [4, 12, 20, 29, 37, 45, 54, 62, 70, 79, 87, 95]
    assert shown(sample) == centres
    torch.testing.assert_close(sample.seconds, torch.tensor(centres) / 25)


def test_labels_follow_the_frames(folder):
    for sampling in (UniformSampling(12), FpsSampling(4.0)):
        decoded = dataset(folder, sampling=sampling)
        for made in (decoded, serve(dataset(folder, sampling=sampling))):
            for sample in (made[number] for number in range(3)):
                numbers = torch.tensor(shown(sample))
                torch.testing.assert_close(sample.importance, numbers / 128)
                torch.testing.assert_close(sample.annotators[2], (numbers + 2).clamp(max=FRAMES - 1) / 128)


def test_labels_follow_the_frames_under_jitter(folder):
    jittered = dataset(folder, augmentation=Augmentation(jitter=0.5))
    plain, seen = shown(jittered.plain(0)), set()
    for epoch in range(4):
        sample = jittered[epoch, 0]
        numbers = shown(sample)
        seen.add(tuple(numbers))
        torch.testing.assert_close(sample.importance, torch.tensor(numbers) / 128)
        torch.testing.assert_close(sample.seconds, torch.tensor(numbers) / 20)
        assert max(abs(a - b) for a, b in zip(numbers, plain, strict=True)) <= 5  # half of a spacing of 8.3, rounded
    assert len(seen) == 4


def test_a_track_that_is_a_little_off_is_read_by_time(folder):
    made = VideoDataset("train", videos(folder, "v0", entries=101), PyAVReader(), UniformSampling(50), SIZE)
    assert made.check() == {}
    numbers = torch.tensor(shown(made[0]))
    assert (made[0].importance * 128 - numbers).abs().max() <= 1


def test_labels_that_are_far_off_stop_the_run_and_a_video_that_is_too_short_is_left_out(folder):
    made = VideoDataset("train", videos(folder, "v0", entries=90), PyAVReader(), UniformSampling(5), SIZE)
    for decode in (True, False):
        with pytest.raises(KeyframeError, match=r"v0\.mp4 has 100 frames and its labels 90"):
            made.check(decode=decode)
    made = VideoDataset("val", videos(folder, "v0"), PyAVReader(), UniformSampling(101), SIZE)
    assert "fewer than sampling.frames=101" in made.check()["v0"]
    assert len(made) == 0


def serve(made, views=None):
    """Have a data set serve its own pictures."""
    draws = [None, *range(views or 0)]
    entries = {
        (video.id, "pixels", view): made.decode(number, view)
        for number, video in enumerate(made.videos)
        for view in draws
    }
    made.serve(Schedule("pixels", "pixels", None, views), entries)
    return made


def test_kept_and_decoded_items_are_equal(folder):
    kept, decoded = serve(dataset(folder)), dataset(folder)
    for number in range(3):
        same(kept[number], decoded[number])
        same(kept[7, number], decoded[number])
        same(kept.plain(number), decoded.plain(number))


def test_kept_views_are_the_first_draws_in_turn(folder):
    kept, decoded = (dataset(folder, augmentation=EVERYTHING, seed=3) for _ in range(2))
    serve(kept, views=2)
    for epoch in range(5):
        ours, theirs = kept[epoch, 1], decoded[epoch % 2, 1]
        for name in ("inputs", "seconds", "importance", "annotators"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
        # frames are hidden anew in every epoch
        assert torch.equal(ours.visible, decoded[epoch, 1].visible)
    assert not torch.equal(kept[0, 1].inputs, kept[1, 1].inputs)
    assert not torch.equal(kept[0, 1].visible, kept[2, 1].visible)
    same(kept.plain(1), decoded.plain(1))


def test_what_is_kept_is_served_by_the_epoch(folder):
    made = dataset(folder, "v0")
    images = made.decode(0)
    maps, features = (replace(images, inputs=torch.full((12, width), 1.0)) for width in (5, 3))
    made.serve(Schedule("features", "prefix", 2), {("v0", "prefix", None): maps, ("v0", "features", None): features})
    assert [made[epoch, 0].kind for epoch in range(4)] == ["features", "features", "prefix", "prefix"]
    assert made[3, 0].inputs is maps.inputs
    assert made.plain(0).kind == "features"
    assert torch.equal(made[1, 0].importance, dataset(folder, "v0")[0].importance)


def test_draws_do_not_depend_on_which_other_videos_there_are(folder):
    few, all_three = (dataset(folder, *names, augmentation=EVERYTHING) for names in (("v2",), ("v0", "v1", "v2")))
    same(replace(few[3, 0], number=2), all_three[3, 2])


IDENTITIES = {
    "another video": {"names": ("v1",)},
    "reader": {"reader": PyAVReader(max_missing=0.5)},
    "reader that snaps": {"reader": PyAVReader(exact=False)},
    "another reader": {"reader": DecordReader()},
    "sampling": {"sampling": UniformSampling(11)},
    "another sampling": {"sampling": FpsSampling(2.0)},
    "size": {"size": (48, 81)},
    "view": {"view": 1},
    "seed": {"seed": 1},
    "augmentation": {"augmentation": Augmentation(jitter=0.4, drop=0.3, colour=0.3, flip=0.4)},
    "no augmentation": {"augmentation": None},
    "plain": {"view": None},
}


def identity(folder, names=("v0",), reader=None, sampling=None, size=SIZE, view=0, seed=0, augmentation=EVERYTHING):
    made = VideoDataset(
        "val", videos(folder, *names), reader or PyAVReader(), sampling or UniformSampling(12), size, augmentation, seed
    )
    return json.dumps(made.identity(0, view), sort_keys=True)


def test_the_identity_of_images_changes_with_all_that_changes_them(folder):
    for name, change in IDENTITIES.items():
        assert identity(folder, **change) != identity(folder), name


def test_the_identity_of_images_is_in_the_video_not_in_its_place(folder, tmp_path):
    shutil.copy(folder / "v0.mp4", tmp_path / "v0.mp4")
    assert identity(tmp_path) == identity(folder)
    assert identity(folder, reader=PyAVReader(threads=2)) == identity(folder)
    hides_more = Augmentation(jitter=0.4, drop=0.5, colour=0.3, flip=0.5)
    assert identity(folder, augmentation=hides_more) == identity(folder)
    content = bytearray((folder / "v0.mp4").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "v0.mp4").write_bytes(content)
    assert identity(tmp_path) != identity(folder)


def test_what_is_decoded_is_what_the_identity_is_of(folder, tmp_path):
    shutil.copy(folder / "v0.mp4", tmp_path / "v0.mp4")
    made = VideoDataset("val", videos(tmp_path, "v0"), PyAVReader(), UniformSampling(12), SIZE)
    made.identity(0)
    made.decode(0)
    shutil.copy(folder / "v1.mp4", tmp_path / "v0.mp4")
    with pytest.raises(VideoError, match=r"v0\.mp4 has changed"):
        made.decode(0)


def test_an_item_is_a_function_of_seed_epoch_and_video(folder):
    one, again = (dataset(folder, augmentation=EVERYTHING, seed=5) for _ in range(2))
    other = dataset(folder, augmentation=EVERYTHING, seed=6)
    for number in (2, 0):  # whatever was asked for before
        same(one[4, number], again[4, number])
    assert not torch.equal(one[4, 2].inputs, other[4, 2].inputs)
    assert not torch.equal(one[4, 2].inputs, one[5, 2].inputs)
    assert not torch.equal(one[4, 0].visible, one[4, 1].visible)
    same(one[2], one[0, 2])  # a plain number means epoch 0


def epochs(made, workers):
    sampler = EpochSampler(len(made), True, seed=1)
    loader = DataLoader(
        made,
        batch_size=2,
        sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=workers > 0,
    )
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        yield list(loader)


@pytest.mark.full
def test_workers_give_the_batches_of_the_process_itself_in_every_epoch(folder):
    made = dataset(folder, augmentation=EVERYTHING, seed=5)
    alone, shared = list(epochs(made, 0)), list(epochs(made, 1))
    for here, there in zip(alone, shared, strict=True):
        for one, other in zip(here, there, strict=True):
            assert one.videos == other.videos
            for name in ("numbers", "inputs", "mask", "seconds", "importance", "annotators"):
                torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=0, equal_nan=True)
    first, second = (torch.cat([batch.inputs for batch in epoch]) for epoch in shared)
    assert not torch.equal(first, second)  # else a worker kept the epoch it started with


def test_corrupt_files_are_left_out_and_listed_or_refused(folder):
    names = ("text", "v0", "empty", "v2", "cut")
    for decode in (True, False):
        made = VideoDataset("val", videos(folder, *names), PyAVReader(), UniformSampling(12), SIZE)
        skipped = made.check(decode=decode)
        assert set(skipped) == {"text", "empty", "cut"}
        assert all(f"{name}.mp4" in reason for name, reason in skipped.items())
        assert [(made[number].video, made[number].number) for number in range(len(made))] == [("v0", 0), ("v2", 1)]
        same(replace(made[1], number=2), dataset(folder)[2])
    made = VideoDataset("val", videos(folder, "v0", "cut"), PyAVReader(), UniformSampling(12), SIZE)
    with pytest.raises(VideoError, match=r"cut\.mp4"):
        made.check(strict=True)


def test_samples_are_features_at_the_picks(tmp_path):
    videos = list(read_feature_files(write_tvsum(tmp_path / "a.h5", 3)).values())
    dataset = FeatureDataset("train", videos)
    assert len(dataset) == 3
    sample = dataset[(4, 2)]
    assert (sample.video, sample.number, sample.kind) == (videos[2].id, 2, "features")
    assert torch.equal(sample.inputs, torch.from_numpy(videos[2].features))
    assert torch.equal(sample.importance, torch.from_numpy(videos[2].importance))
    assert sample.annotators.shape == (0, 23) and bool(sample.visible.all())
    # a pick every 15th frame is two a second, at 30 frames a second
    np.testing.assert_allclose(sample.seconds, np.arange(23) / 2)
    same(dataset[2], dataset.plain(2))


def sample(number, length, annotators, kind="pixels"):
    generator = torch.Generator().manual_seed(number)
    shape = {"pixels": (3, 4, 5), "prefix": (6, 2, 2), "features": (7,)}[kind]
    inputs = torch.rand(length, *shape, generator=generator)
    return Sample(
        video=f"v{number}",
        number=number,
        kind=kind,
        inputs=(inputs * 255).to(torch.uint8) if kind == "pixels" else inputs,
        seconds=torch.arange(length) * 0.5,
        importance=torch.rand(length, generator=generator),
        annotators=torch.rand(annotators, length, generator=generator),
        visible=torch.ones(length, dtype=torch.bool),
    )


@pytest.mark.parametrize("kind", ["pixels", "features"])
def test_videos_are_padded_to_the_longest_and_masked(kind):
    samples = [sample(4, 3, 2, kind), sample(1, 6, 0, kind), sample(7, 1, 5, kind)]
    batch = collate(samples)
    assert batch.videos == ("v4", "v1", "v7")
    assert batch.numbers.tolist() == [4, 1, 7]
    assert batch.kind == kind
    assert batch.inputs.dtype == samples[0].inputs.dtype
    assert batch.inputs.shape == (3, 6, *samples[0].inputs.shape[1:])
    assert batch.annotators.shape == (3, 5, 6)
    for row, one in enumerate(samples):
        length, annotators = len(one.inputs), len(one.annotators)
        assert batch.mask[row].tolist() == [True] * length + [False] * (6 - length)
        for name in ("inputs", "seconds", "importance"):
            assert torch.equal(getattr(batch, name)[row, :length], getattr(one, name))
            assert not getattr(batch, name)[row, length:].any()
        assert torch.equal(batch.annotators[row, :annotators, :length], one.annotators)
        assert batch.annotators[row, annotators:].isnan().all()
        assert batch.annotators[row, :, length:].isnan().all()


def test_hidden_frames_are_masked():
    hidden = replace(sample(0, 4, 1), visible=torch.tensor([True, False, True, False]))
    assert collate([hidden, sample(1, 5, 1)]).mask.tolist() == [
        [True, False, True, False, False],
        [True, True, True, True, True],
    ]


def test_a_batch_moves_with_all_its_tensors():
    batch = collate([sample(0, 3, 2), sample(1, 2, 0)])
    moved = batch.to("meta")
    tensors = {name: value for name, value in vars(moved).items() if isinstance(value, torch.Tensor)}
    assert set(tensors) == {"numbers", "inputs", "mask", "seconds", "importance", "annotators"}
    assert {value.device.type for value in tensors.values()} == {"meta"}
    assert (moved.videos, moved.kind) == (batch.videos, batch.kind)
    assert batch.inputs.device.type == "cpu"


DRAWS = 200


def rng(seed=0):
    return np.random.default_rng(seed)


def test_values_outside_their_range_are_refused():
    for name, value in (("jitter", 0.51), ("jitter", -0.1), ("drop", 1.0), ("colour", 1.1), ("flip", 2)):
        with pytest.raises(ValueError, match=name):
            Augmentation(**{name: value})


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


def test_jitter_stays_within_its_share_of_the_spacing_in_order_and_in_the_video():
    indices = 10 + 20 * np.arange(12)
    for jitter in (0.1, 0.5):
        moves = [Augmentation(jitter=jitter).move(indices, 240, rng(seed)) for seed in range(DRAWS)]
        assert all(moved.dtype == np.int64 and (np.diff(moved) >= 0).all() for moved in moves)
        shifts = np.array(moves) - indices
        assert np.abs(shifts).max() == 20 * jitter  # the whole range, and no more
        assert abs(np.mean(shifts)) < 0.5
        assert np.std(shifts, axis=1).min() > 0  # each frame has a shift of its own
    for few in ([0, 1, 2, 3], [0, 0, 0, 1], [0], [0, 3], [0, 1, 2, 20, 21, 99]):
        for seed in range(50):
            moved = Augmentation(jitter=0.5).move(np.array(few), max(few) + 1, rng(seed))
            assert len(moved) == len(few) and (np.diff(moved) >= 0).all()
            assert 0 <= moved.min() <= moved.max() <= max(few)


def test_dropout_hides_its_share():
    kept = [Augmentation(drop=0.25).keep(60, rng(seed)).mean() for seed in range(DRAWS)]
    # 12 000 coins: the standard error is .004
    assert np.mean(kept) == pytest.approx(0.75, abs=0.02)
    assert np.std(kept) > 0.02


def test_dropout_leaves_two_frames_at_least():
    for length, least in ((1, 1), (2, 2), (3, 2), (60, 2)):
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
    image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for seed in range(20):
        painted = Augmentation(colour=0.4, flip=0.5).paint(image.expand(6, 3, 8, 8), rng(seed))
        assert painted.dtype == torch.uint8
        assert torch.equal(painted, painted[:1].expand_as(painted))
        assert not torch.equal(painted[0], image)


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


def test_the_clip_itself_is_not_painted_over():
    frames = torch.randint(0, 256, (4, 3, 6, 6), dtype=torch.uint8)
    before = frames.clone()
    Augmentation(colour=1.0, flip=1.0).paint(frames, rng())
    assert torch.equal(frames, before)


def test_a_batch_needs_no_shared_memory_to_leave_a_process():
    sample = Sample(
        "a",
        0,
        "pixels",
        torch.arange(3 * 4096).view(3, 1, 64, 64),
        *torch.rand(2, 3),
        torch.rand(2, 3),
        torch.rand(3) > 0,
    )
    batch = collate([sample, sample])
    message = ForkingPickler.dumps(batch)  # as a DataLoader's worker sends it
    assert len(message) > batch.inputs.nbytes
    arrived = ForkingPickler.loads(message)
    assert (arrived.videos, arrived.kind) == (batch.videos, batch.kind)
    for name in ("numbers", "inputs", "mask", "seconds", "importance", "annotators"):
        assert torch.equal(getattr(arrived, name), getattr(batch, name))


class OwnAugmentation(Augmentation):
    """Gives something else in place of one result."""

    def __init__(self, method, given):
        super().__init__(drop=0.1)
        object.__setattr__(self, method, lambda *_: given)


def test_an_own_augmentation_that_breaks_its_contract_is_one_sentence(folder):
    for method, given, found in (
        ("move", np.arange(11), r"gives int64 \(11,\) for .*v0.mp4: it must give 12 whole numbers from 0 to 99"),
        ("move", np.arange(95, 107), "gives frames 95 to 106 for"),
        ("paint", torch.zeros(12, 3, 48, 80), r"gives torch.float32 \(12, 3, 48, 80\): it must give torch.uint8"),
        ("paint", torch.zeros(12, 3, 48, 8, dtype=torch.uint8), r"gives torch.uint8 \(12, 3, 48, 8\): it must give"),
        ("paint", None, "gives a NoneType"),
        ("keep", np.ones(11, bool), r"gives bool \(11,\): it must give bool \(12,\)"),
        ("keep", [True] * 12, "gives a list"),
        ("keep", np.zeros(12, bool), "hides every frame"),
    ):
        made = dataset(folder, check=False, augmentation=OwnAugmentation(method, given))
        with pytest.raises(KeyframeError, match=rf"^augmentation: {method}\(\) of OwnAugmentation {found}"):
            made[0, 0]
