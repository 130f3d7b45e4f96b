import dataclasses
import resource

import h5py
import numpy as np
import pytest

from keyframe.data.feature_file import EncodedVideo, FeatureFile, GroundTruth, read_feature_file, video_numbers
from keyframe.data.hdf5 import TVSUM_IDS
from keyframe.types import KeyframeError
from tests.data.feature_files import video

# What published systems read of `/video_N/`, from the README of KaiyangZhou/pytorch-vsumm-reinforce; 5 steps of 6
# channels, 68 frames, 2 shots and 3 people here.
KEYS = {
    "features": (np.float32, (5, 6)),
    "gtscore": (np.float32, (5,)),
    "gtsummary": (np.float32, (5,)),
    "user_summary": (np.float32, (3, 68)),
    "change_points": (np.int32, (2, 2)),
    "n_frame_per_seg": (np.int32, (2,)),
    "n_frames": (np.int32, ()),
    "n_steps": (np.int32, ()),
    "picks": (np.int32, (5,)),
}


def encoded(name="holiday", steps=5, **changes):
    given = video(steps, 0)
    truth = GroundTruth(given["gtscore"], given["gtscore"] > 0.5, given["user_summary"] > 0)
    arrays = {key: given[key] for key in ("features", "picks", "n_frames", "change_points")}
    return EncodedVideo(**{"name": name, "truth": truth, **arrays, **changes})


def write(path, videos):
    with FeatureFile(path, {"backbone": "resnet50"}) as file:
        for number, one in enumerate(videos, start=1):
            file.add(number, one)
    return path


def test_the_layout_is_the_fields(tmp_path):
    with h5py.File(write(tmp_path / "a.h5", [encoded()])) as file:
        assert file.attrs["backbone"] == "resnet50"
        assert list(file) == ["video_1"]
        group = file["video_1"]
        assert {key: (group[key].dtype, group[key].shape) for key in group if key != "video_name"} == KEYS
        assert group["video_name"].asstr()[()] == "holiday"
        assert set(np.unique(group["user_summary"])) == set(np.unique(group["gtsummary"])) == {0, 1}
        np.testing.assert_array_equal(group["picks"], [0, 15, 30, 45, 60])
        np.testing.assert_array_equal(group["change_points"], [[0, 59], [60, 67]])
        np.testing.assert_array_equal(group["n_frame_per_seg"], [60, 8])
        assert (group["n_steps"][()], group["n_frames"][()]) == (5, 68)
        assert group["features"].compression == "gzip"


def test_what_is_written_is_read(tmp_path):
    names = ["Ferien am Meer", "日本", "a=b (1)"]
    videos = [encoded(name, steps) for steps, name in enumerate(names, start=5)]
    back = read_feature_file(write(tmp_path / "a.h5", videos))
    assert [one.id for one in back.values()] == names
    for one, written in zip(back.values(), videos, strict=True):
        np.testing.assert_array_equal(one.features, written.features)
        np.testing.assert_array_equal(one.picks, written.picks)
        np.testing.assert_array_equal(one.change_points, written.change_points)
        np.testing.assert_allclose(one.importance, written.truth.gtscore, atol=1e-7)
        np.testing.assert_array_equal(one.user_summaries, written.truth.user_summary)
        assert one.n_frames == written.n_frames


def test_without_labels_there_are_no_arrays_of_labels(tmp_path):
    track = GroundTruth(np.ones(5), np.ones(5, bool), np.empty((0, 68), bool))
    path = write(tmp_path / "a.h5", [encoded("none", truth=None), encoded("track only", truth=track)])
    with h5py.File(path) as file:
        assert set(file["video_1"]) == {*KEYS, "video_name"} - {"gtscore", "gtsummary", "user_summary"}
        assert set(file["video_2"]) == {*KEYS, "video_name"} - {"user_summary"}


def test_an_error_leaves_what_was_there_and_no_draft(tmp_path):
    path = write(tmp_path / "a.h5", [encoded("first")])
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), FeatureFile(path, {}) as file:
        file.add(1, encoded("second"))
        raise ZeroDivisionError
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    write(path, [encoded("second")])
    assert list(read_feature_file(path)) == ["second"] and list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KeyframeError, match=r"a\.h5 cannot be written \(.*choose another file"):
        write(tmp_path / "file" / "a.h5", [encoded()])
    # a folder that is missing is made
    assert write(tmp_path / "new" / "folder" / "a.h5", [encoded()]).is_file()


@pytest.mark.parametrize("steps", [100, 2000])
def test_a_full_disk(tmp_path, steps):
    """HDF5 left alone kills the process, in closing the file."""
    noise = np.random.default_rng(0).standard_normal((steps, 300), dtype=np.float32)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(KeyframeError, match=r"a\.h5 cannot be written \(.*make room"):
            write(tmp_path / "a.h5", [encoded(steps=steps, features=noise)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        {"features": np.zeros((4, 6), np.float32)},
        {"features": np.zeros(5, np.float32)},
        {"change_points": np.zeros(2, int)},
        {"n_frames": 69},
        {"truth": dataclasses.replace(encoded().truth, gtscore=np.zeros(4))},
        {"truth": dataclasses.replace(encoded().truth, gtsummary=np.zeros(6, bool))},
    ],
)
def test_arrays_that_do_not_fit(changes):
    with pytest.raises(ValueError, match="holiday"):
        encoded(**changes)


def test_videos_of_tvsum_keep_the_numbers_that_splits_know_them_by():
    third, first, fiftieth = (TVSUM_IDS[number - 1] for number in (3, 1, 50))
    assert video_numbers([fiftieth, third, first]) == {first: 1, third: 3, fiftieth: 50}
    assert list(video_numbers([fiftieth, third, first])) == [first, third, fiftieth]
    assert video_numbers([third, "holiday", first]) == {third: 1, "holiday": 2, first: 3}
