"""Feature files of the field's form: read, refused, and written."""

import logging
import resource

import h5py
import numpy as np
import pytest

from keyframe.data.feature_file import (
    EncodedVideo,
    FeatureFile,
    GroundTruth,
    read_feature_files,
    video_numbers,
)
from keyframe.data.hdf5 import TVSUM_CATEGORIES, TVSUM_IDS
from keyframe.data.labels import read_tvsum_mat, write_tsv
from keyframe.evaluation.video import feature_eval_video
from keyframe.summary.shots import check_shots
from keyframe.types import KeyframeError
from tests.data.feature_files import video, write_features, write_summe, write_tvsum

NAMES = ["Air_Force_One", "Base jumping", "Bearpark_climbing", "Bike Polo", "Bus_in_Rock_Tunnel", "Cooking"]


def one(tmp_path, **changes):
    """The first video of a file whose arrays are changed."""
    (read,) = read_feature_files(write_features(tmp_path / "a.h5", {"video_1": video(8, 0) | changes})).values()
    return read


def test_what_is_written_is_read(tmp_path):
    videos = read_feature_files(write_tvsum(tmp_path / "a.h5", 10))
    # 10 comes after 9
    assert [(v.key, v.id, v.category) for v in videos.values()] == [
        (f"video_{n}", TVSUM_IDS[n - 1], TVSUM_CATEGORIES[TVSUM_IDS[n - 1]]) for n in range(1, 11)
    ]
    read, written = videos[TVSUM_IDS[1]], video(22, 2)
    np.testing.assert_array_equal(read.features, written["features"])
    np.testing.assert_array_equal(read.picks, written["picks"])
    np.testing.assert_allclose(read.importance, written["gtscore"], atol=1e-7)
    np.testing.assert_array_equal(read.change_points, written["change_points"])
    np.testing.assert_array_equal(read.user_summaries, written["user_summary"] == 1)
    assert read.n_frames == written["n_frames"]
    assert read.annotators.shape == (0, 22)


def test_dtypes_and_shapes_are_those_of_the_class_whatever_the_file_has(tmp_path):
    plain = video(8, 0)
    odd = one(
        tmp_path,
        features=plain["features"].astype(np.float64),
        gtscore=plain["gtscore"][None].astype(np.float32),
        picks=plain["picks"].astype(np.float64)[None],
        n_frames=np.array([plain["n_frames"]], dtype=np.float32),
        change_points=plain["change_points"].astype(np.int32),
        user_summary=plain["user_summary"].astype(np.int8),
        video_name=np.array([b"Jumps"]),
    )
    assert (odd.id, odd.category) == ("Jumps", "")
    assert odd.features.dtype == odd.importance.dtype == odd.annotators.dtype == np.float32
    assert odd.picks.dtype == odd.change_points.dtype == np.int64
    assert odd.user_summaries.dtype == bool and odd.user_summaries.shape == (3, plain["n_frames"])
    np.testing.assert_array_equal(odd.picks, plain["picks"])
    np.testing.assert_allclose(odd.importance, plain["gtscore"], atol=1e-6)


def test_scores_on_another_scale_are_brought_to_the_unit_interval(tmp_path):
    scores = np.array([1.0, 5, 3, 2, 1, 1, 1, 1])
    np.testing.assert_allclose(one(tmp_path, gtscore=scores).importance, (scores - 1) / 4)


def test_what_is_only_good_for_f1_may_be_missing(tmp_path):
    read = one(tmp_path, change_points=None, user_summary=None, n_steps=None)
    assert read.change_points is None and read.user_summaries is None


def test_what_ovp_and_youtube_lack_is_made(tmp_path):
    bare = {"n_frames": None, "change_points": None, "user_summary": None, "n_steps": None}
    read = one(tmp_path, picks=None, **bare)
    np.testing.assert_array_equal(read.picks, 15 * np.arange(8))
    np.testing.assert_allclose(read.seconds, np.arange(8) / 2)
    assert read.n_frames == 120
    check_shots(feature_eval_video(read).shots, 120)
    for n_frames, step in ((113, 15), (106, 15), (80, 10), (8 * 30, 30)):
        read = one(tmp_path, picks=None, **{**bare, "n_frames": n_frames})
        np.testing.assert_array_equal(read.picks, step * np.arange(8))
        assert read.n_frames == n_frames
    assert one(tmp_path, **bare).n_frames == 106
    assert one(tmp_path, **{**bare, "change_points": np.array([[0, 49], [50, 112]])}).n_frames == 113
    with pytest.raises(KeyframeError, match="do not rise within its 5 frames"):
        one(tmp_path, picks=None, n_frames=5, change_points=None, user_summary=None)


def test_mr_hisum_has_a_feature_and_a_frame_a_second(tmp_path, caplog):
    group = {name: video(8, 0)[name] for name in ("features", "gtscore")}
    group |= {"change_points": np.array([[0, 3], [3, 6], [6, 8]]), "gt_summary": np.array([0, 0, 0, 1, 1, 1, 0, 0])}
    (read,) = read_feature_files(write_features(tmp_path / "mr_hisum.h5", {"video_31892": group})).values()
    assert (read.id, read.n_frames) == ("video_31892", 8) and not caplog.text
    np.testing.assert_array_equal(read.picks, np.arange(8))
    np.testing.assert_array_equal(read.seconds, np.arange(8))
    np.testing.assert_array_equal(read.change_points, [[0, 2], [3, 5], [6, 7]])
    np.testing.assert_array_equal(read.user_summaries, [[False] * 3 + [True] * 3 + [False] * 2])


def test_groups_may_have_the_names_of_the_videos(tmp_path):
    path = write_features(tmp_path / "custom.h5", {"St Maarten Landing": video(8, 0), "about": {"text": "no video"}})
    (read,) = read_feature_files(path).values()
    assert read.id == read.key == "St Maarten Landing"


def test_several_files_are_one_data_set(tmp_path):
    summe = write_summe(tmp_path / "summe.h5", NAMES[:2])
    ovp = write_features(tmp_path / "ovp.h5", {f"video_{n}": video(9, n) for n in (1, 2)})
    youtube = write_features(tmp_path / "youtube.h5", {"video_2": video(9, 9)})
    videos = read_feature_files([summe, ovp, youtube])
    assert list(videos) == [*NAMES[:2], "ovp/video_1", "ovp/video_2", "youtube/video_2"]
    assert [(v.folder, v.key) for v in videos.values()][-2:] == [("ovp.h5", "video_2"), ("youtube.h5", "video_2")]
    assert all(id_ == v.id for id_, v in videos.items())
    # labels of one of the data sets
    scores = {name: np.full((2, videos[name].n_frames), 3) for name in NAMES[:2]}
    write_tsv(tmp_path / "anno.tsv", scores)
    counts = [len(v.annotators) for v in read_feature_files([summe, ovp], tmp_path / "anno.tsv").values()]
    assert counts == [2, 2, 0, 0]
    with pytest.raises(KeyframeError, match=r"anno\.tsv has labels of Air_Force_One, Base jumping, but of no video"):
        read_feature_files([ovp, youtube], tmp_path / "anno.tsv")
    with pytest.raises(KeyframeError, match=r"again\.h5 and summe\.h5 both have the video Air_Force_One: leave one"):
        read_feature_files([summe, write_summe(tmp_path / "again.h5", NAMES[:1])])
    with pytest.raises(KeyframeError, match=r"5 in video_1 of wide\.h5, 6 in video_2 of ovp\.h5"):
        read_feature_files([ovp, write_features(tmp_path / "wide.h5", {"video_1": video(9, 1, width=5)})])
    for paths in ([], [ovp, ovp]):
        with pytest.raises(KeyframeError, match="must name one file or several, each of another name"):
            read_feature_files(paths)


def test_shots_cover_the_video_without_gap_or_overlap(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "keyframe")
    for given, expected, logged in (  # 8 steps make 113 frames
        ([[0, 49], [50, 112]], [[0, 49], [50, 112]], False),
        ([[0, 49], [50, 113]], [[0, 49], [50, 112]], False),
        ([[0, 49], [50, 111]], [[0, 49], [50, 112]], False),
        ([[0, 49], [50, 140]], [[0, 49], [50, 112]], True),
        ([[0, 49], [50, 112], [113, 113]], [[0, 49], [50, 112]], True),
        ([[5, 49], [50, 112]], [[0, 49], [50, 112]], True),
        ([[0, 40], [50, 112]], [[0, 49], [50, 112]], True),
        ([[0, 50], [50, 112]], [[0, 49], [50, 112]], True),
        ([[0, 50], [50, 113]], [[0, 49], [50, 112]], False),
        ([[0, 112]], [[0, 112]], False),
    ):
        caplog.clear()
        shots = one(tmp_path, change_points=np.array(given)).change_points
        np.testing.assert_array_equal(shots, expected)
        check_shots(shots, 113)
        assert ("video_1" in caplog.text) is logged


def test_bad_arrays_are_refused_with_the_file_and_the_video(tmp_path):
    wrong = [({name: None}, f"lacks the dataset /video_1/{name}") for name in ("features", "gtscore")]
    wrong += [
        ({"features": np.zeros((7, 6))}, r"features \(7, 6\) and 8 picks"),
        ({"features": np.zeros(8)}, r"features \(8,\): it needs one row"),
        ({"features": np.full((8, 6), np.nan)}, "NaN or infinity"),
        ({"change_points": np.zeros((0, 2))}, "video_1 has change_points"),
        ({"change_points": np.array([[50, 112], [0, 49]])}, "rising starts"),
        ({"change_points": np.array([[200, 300]])}, "begin after its 113 frames"),
        ({"user_summary": np.zeros((3, 112))}, r"video_1 has user_summary \(3, 112\)"),
        ({"gtscore": np.full(8, np.nan)}, "one finite score per pick"),
        ({"n_frames": 100}, "do not rise within its 100 frames"),
    ]
    for changes, message in wrong:
        with pytest.raises(KeyframeError, match=message) as caught:
            one(tmp_path, **changes)
        assert "a.h5" in str(caught.value) and "video_1" in str(caught.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(KeyframeError, match=r"no file .*gone\.h5.*data\.path"):
        read_feature_files(tmp_path / "gone.h5")
    (tmp_path / "text.h5").write_text("no features")
    with pytest.raises(KeyframeError, match=r"text\.h5 cannot be read as HDF5"):
        read_feature_files(tmp_path / "text.h5")
    with pytest.raises(KeyframeError, match=r"no group video_N.*data\.path"):
        read_feature_files(write_features(tmp_path / "empty.h5", {}))
    mixed = {"video_1": video(8, 0), "video_2": video(8, 1, width=5)}
    with pytest.raises(KeyframeError, match=r"several widths.*5 in video_2, 6 in video_1"):
        read_feature_files(write_features(tmp_path / "mixed.h5", mixed))


def test_summe_has_names_of_its_own(tmp_path):
    videos = read_feature_files(write_summe(tmp_path / "eccv16_dataset_summe_google_pool5.h5", NAMES))
    assert list(videos) == NAMES
    assert {v.category for v in videos.values()} == {""}


def test_annotators_are_read_at_the_picks(tmp_path):
    path = write_tvsum(tmp_path / "a.h5", 2)
    rng = np.random.default_rng(0)
    scores = {id_: rng.integers(1, 6, (4, v.n_frames)) for id_, v in read_feature_files(path).items()}
    write_tsv(tmp_path / "anno.tsv", scores)
    for id_, read in read_feature_files(path, tmp_path / "anno.tsv").items():
        np.testing.assert_allclose(read.annotators, (scores[id_][:, ::15] - 1) / 4)
        assert read.annotators.dtype == np.float32
        # the importance stays the file's
        np.testing.assert_array_equal(read.importance, read_feature_files(path)[id_].importance)


def test_selections_are_the_summaries_whatever_the_file_has(tmp_path):
    """Otherwise the file's own are."""
    path = write_tvsum(tmp_path / "a.h5", 2)
    rng = np.random.default_rng(0)
    kept = {id_: rng.integers(0, 2, (4, v.n_frames)) for id_, v in read_feature_files(path).items()}
    rows = [f"{id_}\t\t{','.join(map(str, row))}\n" for id_, users in kept.items() for row in users]
    (tmp_path / "selected.tsv").write_text("".join(rows))
    write_tsv(tmp_path / "scores.tsv", {id_: 1 + users for id_, users in kept.items()})
    own = read_feature_files(path)
    for id_, read in read_feature_files(path, tmp_path / "selected.tsv").items():
        np.testing.assert_array_equal(read.user_summaries, kept[id_] == 1)
        np.testing.assert_array_equal(read.annotators, kept[id_][:, ::15])
        assert read.selections and feature_eval_video(read).selections
        np.testing.assert_array_equal(feature_eval_video(read).users, kept[id_] == 1)
    for id_, read in read_feature_files(path, tmp_path / "scores.tsv").items():
        np.testing.assert_array_equal(read.user_summaries, own[id_].user_summaries)
        assert not read.selections


def test_labels_of_a_few_frames_more_are_read_by_time(tmp_path):
    path = write_tvsum(tmp_path / "a.h5", 1)  # 21 steps make 308 frames
    (read,) = read_feature_files(path).values()
    scores = np.random.default_rng(0).integers(1, 6, (2, 310))
    write_tsv(tmp_path / "anno.tsv", {read.id: scores})
    (labelled,) = read_feature_files(path, tmp_path / "anno.tsv").values()
    entries = [pick * 310 // 308 for pick in range(0, 308, 15)]
    np.testing.assert_allclose(labelled.annotators, (scores[:, entries] - 1) / 4)


def test_labels_that_do_not_fit_are_refused(tmp_path):
    path = write_tvsum(tmp_path / "a.h5", 2)
    videos = list(read_feature_files(path).values())
    write_tsv(tmp_path / "other.tsv", {videos[0].id: np.ones((2, videos[0].n_frames), int)})
    with pytest.raises(KeyframeError, match=f"other.tsv has no labels of {videos[1].id}"):
        read_feature_files(path, tmp_path / "other.tsv")
    write_tsv(tmp_path / "long.tsv", {v.id: np.ones((2, 2 * v.n_frames), int) for v in videos})
    with pytest.raises(KeyframeError, match="over 1 % apart"):
        read_feature_files(path, tmp_path / "long.tsv")
    with pytest.raises(KeyframeError, match=r"holds no annotators: data\.labels"):
        read_feature_files(path, path)


def test_the_official_labels_fit_a_file_of_tvsums_true_lengths(tmp_path, official_labels):
    official = read_tvsum_mat(official_labels)
    lengths = [len(official[id_]) for id_ in TVSUM_IDS[:3]]
    picks = [np.arange(0, length, 15) for length in lengths]
    groups = {
        f"video_{n}": {"features": np.ones((len(p), 4)), "gtscore": np.ones(len(p)), "picks": p, "n_frames": length}
        for n, (p, length) in enumerate(zip(picks, lengths, strict=True), start=1)
    }
    for read in read_feature_files(write_features(tmp_path / "tvsum.h5", groups), official_labels).values():
        np.testing.assert_array_equal(read.annotators, official[read.id].annotators[:, ::15])


def test_groups_are_numbered_in_the_order_of_the_labels(official_labels):
    """Whatever the order of the input; PGL-SUM, DSNet and others take the N-th new id of the label file."""
    official = list(read_tvsum_mat(official_labels))
    assert video_numbers(sorted(official), official) == {name: n for n, name in enumerate(official, start=1)}
    # TVSum's are numbered as published, whatever the labels
    assert video_numbers([official[8], official[3]], [official[8], official[3]]) == {official[3]: 4, official[8]: 9}
    assert video_numbers(["a", "c", "b", "x"], ["c", "y", "b", "a"]) == {"c": 1, "b": 3, "a": 4, "x": 5}
    assert video_numbers(["b", "a"]) == {"b": 1, "a": 2}


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


def test_a_written_file_is_read_back(tmp_path):
    names = ["Ferien am Meer", "日本", "a=b (1)"]
    videos = [encoded(name, steps) for steps, name in enumerate(names, start=5)]
    back = read_feature_files(write(tmp_path / "a.h5", videos))
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
    assert list(read_feature_files(path)) == ["second"] and list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KeyframeError, match=r"a\.h5 cannot be written \(.*name another"):
        write(tmp_path / "file" / "a.h5", [encoded()])
    # a folder that is missing is made
    assert write(tmp_path / "new" / "folder" / "a.h5", [encoded()]).is_file()


def test_a_full_disk(tmp_path):
    """HDF5 left alone kills the process, in closing the file."""
    noise = np.random.default_rng(0).standard_normal((2000, 300), dtype=np.float32)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        for steps in (100, 2000):
            with pytest.raises(KeyframeError, match=r"a\.h5 cannot be written \(.*make room"):
                write(tmp_path / "a.h5", [encoded(steps=steps, features=noise[:steps])])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_videos_of_tvsum_keep_the_numbers_that_splits_know_them_by():
    third, first, fiftieth = (TVSUM_IDS[number - 1] for number in (3, 1, 50))
    assert video_numbers([fiftieth, third, first]) == {first: 1, third: 3, fiftieth: 50}
    assert list(video_numbers([fiftieth, third, first])) == [first, third, fiftieth]
    assert video_numbers([third, "holiday", first]) == {third: 1, "holiday": 2, first: 3}
