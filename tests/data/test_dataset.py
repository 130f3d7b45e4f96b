"""Videos as samples. The test videos carry their frame numbers, so labels can be checked against pictures."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from keyframe.data.datamodule import EpochSampler
from keyframe.data.dataset import Augmentation, Schedule, VideoDataset, collate
from keyframe.data.decord_reader import DecordReader
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.sampling import FpsSampling, UniformSampling
from keyframe.types import KeyframeError, LabelledVideo, Labels, VideoError
from tests.videos import read_frame_number, write_video

FRAMES, SIZE = 100, (48, 80)
EVERYTHING = Augmentation(jitter=0.4, drop=0.3, colour=0.3, flip=0.5)


def numbered_labels(entries, of=FRAMES):
    """Labels that say which frame they belong to: importance is number / 128, person p is p frames ahead."""
    number = np.arange(entries) * of / entries
    people = np.stack([np.minimum(number + shift, of - 1) / 128 for shift in range(3)])
    return Labels((number / 128).astype(np.float32), people.astype(np.float32))


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


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("sampling", [UniformSampling(12), FpsSampling(4.0)], ids=["uniform", "fps"])
def test_labels_follow_the_pictures(folder, sampling, kept):
    made = dataset(folder, sampling=sampling)
    if kept:
        serve(made)
    for sample in (made[number] for number in range(3)):
        numbers = torch.tensor(shown(sample))
        torch.testing.assert_close(sample.importance, numbers / 128)
        torch.testing.assert_close(sample.annotators[2], (numbers + 2).clamp(max=FRAMES - 1) / 128)


def test_labels_follow_the_pictures_under_jitter(folder):
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


@pytest.mark.parametrize("decode", [True, False])
def test_a_track_that_is_far_off_stops_the_run_even_where_bad_files_are_skipped(folder, decode):
    made = VideoDataset("train", videos(folder, "v0", entries=90), PyAVReader(), UniformSampling(5), SIZE)
    with pytest.raises(KeyframeError, match=r"v0\.mp4 has 100 frames and its labels 90"):
        made.check(decode=decode)


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
    pictures = made.decode(0)
    maps, features = (replace(pictures, inputs=torch.full((12, width), 1.0)) for width in (5, 3))
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


@pytest.mark.parametrize("change", IDENTITIES.values(), ids=IDENTITIES)
def test_the_identity_of_pictures_changes_with_all_that_changes_them(folder, change):
    assert identity(folder, **change) != identity(folder)


def test_the_identity_of_pictures_is_in_the_video_not_in_its_place(folder, tmp_path):
    shutil.copy(folder / "v0.mp4", tmp_path / "v0.mp4")
    assert identity(tmp_path) == identity(folder)
    assert identity(folder, reader=PyAVReader(threads=2)) == identity(folder)
    hides_more = Augmentation(jitter=0.4, drop=0.5, colour=0.3, flip=0.5)
    assert identity(folder, augmentation=hides_more) == identity(folder)
    content = bytearray((folder / "v0.mp4").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "v0.mp4").write_bytes(content)
    assert identity(tmp_path) != identity(folder)


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


def test_workers_give_the_batches_of_the_process_itself_in_every_epoch(folder):
    made = dataset(folder, augmentation=EVERYTHING, seed=5)
    alone, shared = list(epochs(made, 0)), list(epochs(made, 2))
    for here, there in zip(alone, shared, strict=True):
        for one, other in zip(here, there, strict=True):
            assert one.videos == other.videos
            for name in ("numbers", "inputs", "mask", "seconds", "importance", "annotators"):
                torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=0, equal_nan=True)
    first, second = (torch.cat([batch.inputs for batch in epoch]) for epoch in shared)
    assert not torch.equal(first, second)  # else a worker kept the epoch it started with


@pytest.mark.parametrize("decode", [True, False])
def test_corrupt_files_are_left_out_and_listed(folder, decode):
    names = ("text", "v0", "empty", "v2", "cut")
    made = VideoDataset("val", videos(folder, *names), PyAVReader(), UniformSampling(12), SIZE)
    skipped = made.check(decode=decode)
    assert set(skipped) == {"text", "empty", "cut"}
    assert all(f"{name}.mp4" in reason for name, reason in skipped.items())
    assert len(made) == 2
    assert [(made[number].video, made[number].number) for number in range(2)] == [("v0", 0), ("v2", 1)]
    same(replace(made[1], number=2), dataset(folder)[2])


@pytest.mark.parametrize("bad", ["text", "empty", "cut"])
def test_strict_stops_at_the_first_corrupt_file(folder, bad):
    made = VideoDataset("val", videos(folder, "v0", bad), PyAVReader(), UniformSampling(12), SIZE)
    with pytest.raises(VideoError, match=rf"{bad}\.mp4"):
        made.check(strict=True)


def test_more_frames_than_the_video_has_is_an_error_of_the_configuration(folder):
    made = VideoDataset("val", videos(folder, "v0"), PyAVReader(), UniformSampling(101), SIZE)
    with pytest.raises(KeyframeError, match=r"fewer than sampling\.frames=101"):
        made.check()
