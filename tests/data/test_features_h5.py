import json
import logging

import numpy as np
import pytest
import torch

from keyframe.data.datamodule import FeatureDataModule
from keyframe.data.dataset import FeatureDataset
from keyframe.data.feature_file import read_feature_file
from keyframe.data.hdf5 import TVSUM_CATEGORIES, TVSUM_IDS
from keyframe.data.labels import read_tvsum_mat, write_tsv
from keyframe.summary.shots import check_shots
from keyframe.types import KeyframeError
from tests.data.feature_files import WIDTH, video, write_features, write_summe, write_tvsum

NAMES = ["Air_Force_One", "Base jumping", "Bearpark_climbing", "Bike Polo", "Bus_in_Rock_Tunnel", "Cooking"]


def one(tmp_path, **changes):
    """The first video of a file whose arrays are changed."""
    (read,) = read_feature_file(write_features(tmp_path / "a.h5", {"video_1": video(8, 0) | changes})).values()
    return read


def test_what_is_written_is_read(tmp_path):
    videos = read_feature_file(write_tvsum(tmp_path / "a.h5", 10))
    # video_N is the N-th of the official order, and 10 comes after 9
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


# 8 steps make 113 frames
@pytest.mark.parametrize(
    ("given", "expected", "told"),
    [
        ([[0, 49], [50, 112]], [[0, 49], [50, 112]], False),
        ([[0, 49], [50, 113]], [[0, 49], [50, 112]], False),
        ([[0, 49], [50, 111]], [[0, 49], [50, 112]], False),
        ([[0, 49], [50, 140]], [[0, 49], [50, 112]], True),
        ([[0, 49], [50, 112], [113, 113]], [[0, 49], [50, 112]], True),
        ([[5, 49], [50, 112]], [[0, 49], [50, 112]], True),
        ([[0, 40], [50, 112]], [[0, 49], [50, 112]], True),
        ([[0, 50], [50, 112]], [[0, 49], [50, 112]], True),
        ([[0, 112]], [[0, 112]], False),
    ],
)
def test_shots_cover_the_video_without_gap_or_overlap(tmp_path, caplog, given, expected, told):
    with caplog.at_level(logging.WARNING, "keyframe"):
        shots = one(tmp_path, change_points=np.array(given)).change_points
    np.testing.assert_array_equal(shots, expected)
    check_shots(shots, 113)
    assert ("video_1" in caplog.text) is told


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *[
            ({name: None}, f"lacks the dataset /video_1/{name}")
            for name in ("features", "gtscore", "picks", "n_frames")
        ],
        ({"features": np.zeros((7, 6))}, r"features \(7, 6\) and 8 picks"),
        ({"features": np.zeros(8)}, r"features \(8,\) and 8 picks"),
        ({"features": np.full((8, 6), np.nan)}, "NaN or infinity"),
        ({"change_points": np.zeros((0, 2))}, "video_1 has change_points"),
        ({"change_points": np.array([[50, 112], [0, 49]])}, "rising starts"),
        ({"change_points": np.array([[200, 300]])}, "begin after its 113 frames"),
        ({"user_summary": np.zeros((3, 112))}, r"video_1 has user_summary \(3, 112\)"),
        ({"gtscore": np.full(8, np.nan)}, "one finite score per pick"),
        ({"n_frames": 100}, "do not rise within its 100 frames"),
    ],
)
def test_what_is_wrong_is_told_with_the_file_and_the_video(tmp_path, changes, message):
    with pytest.raises(KeyframeError, match=message) as caught:
        one(tmp_path, **changes)
    assert "a.h5" in str(caught.value) and "video_1" in str(caught.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(KeyframeError, match=r"no file .*gone\.h5.*data\.path"):
        read_feature_file(tmp_path / "gone.h5")
    (tmp_path / "text.h5").write_text("no features")
    with pytest.raises(KeyframeError, match=r"text\.h5 cannot be read as HDF5"):
        read_feature_file(tmp_path / "text.h5")
    with pytest.raises(KeyframeError, match=r"no group video_N.*data\.path"):
        read_feature_file(write_features(tmp_path / "empty.h5", {}))
    mixed = {"video_1": video(8, 0), "video_2": video(8, 1, width=5)}
    with pytest.raises(KeyframeError, match=r"several widths.*5 in video_2, 6 in video_1"):
        read_feature_file(write_features(tmp_path / "mixed.h5", mixed))
    # video_1 of SumMe is none of TVSum's videos
    with pytest.raises(KeyframeError, match="video_1/video_name"):
        read_feature_file(write_tvsum(tmp_path / "summe.h5", 1))


def test_summe_has_names_of_its_own(tmp_path):
    videos = read_feature_file(write_summe(tmp_path / "eccv16_dataset_summe_google_pool5.h5", NAMES))
    assert list(videos) == NAMES
    assert {v.category for v in videos.values()} == {""}


def test_annotators_are_read_at_the_picks(tmp_path):
    path = write_tvsum(tmp_path / "a.h5", 2)
    rng = np.random.default_rng(0)
    scores = {id_: rng.integers(1, 6, (4, v.n_frames)) for id_, v in read_feature_file(path).items()}
    write_tsv(tmp_path / "anno.tsv", scores)
    for id_, read in read_feature_file(path, tmp_path / "anno.tsv").items():
        np.testing.assert_allclose(read.annotators, (scores[id_][:, ::15] - 1) / 4)
        assert read.annotators.dtype == np.float32
        # the importance stays the file's
        np.testing.assert_array_equal(read.importance, read_feature_file(path)[id_].importance)


def test_labels_of_a_few_frames_more_are_read_by_time(tmp_path):
    path = write_tvsum(tmp_path / "a.h5", 1)  # 21 steps make 308 frames
    (read,) = read_feature_file(path).values()
    scores = np.random.default_rng(0).integers(1, 6, (2, 310))
    write_tsv(tmp_path / "anno.tsv", {read.id: scores})
    (labelled,) = read_feature_file(path, tmp_path / "anno.tsv").values()
    entries = [pick * 310 // 308 for pick in range(0, 308, 15)]
    np.testing.assert_allclose(labelled.annotators, (scores[:, entries] - 1) / 4)


def test_labels_that_do_not_fit_are_refused(tmp_path):
    path = write_tvsum(tmp_path / "a.h5", 2)
    videos = list(read_feature_file(path).values())
    write_tsv(tmp_path / "other.tsv", {videos[0].id: np.ones((2, videos[0].n_frames), int)})
    with pytest.raises(KeyframeError, match=f"other.tsv has no labels of {videos[1].id}"):
        read_feature_file(path, tmp_path / "other.tsv")
    write_tsv(tmp_path / "long.tsv", {v.id: np.ones((2, 2 * v.n_frames), int) for v in videos})
    with pytest.raises(KeyframeError, match="over 1 % apart"):
        read_feature_file(path, tmp_path / "long.tsv")
    with pytest.raises(KeyframeError, match=r"holds no annotators: data\.labels"):
        read_feature_file(path, path)


def test_the_official_labels_fit_a_file_of_tvsums_true_lengths(tmp_path, official_labels):
    official = read_tvsum_mat(official_labels)
    lengths = [len(official[id_]) for id_ in TVSUM_IDS[:3]]
    picks = [np.arange(0, length, 15) for length in lengths]
    groups = {
        f"video_{n}": {"features": np.ones((len(p), 4)), "gtscore": np.ones(len(p)), "picks": p, "n_frames": length}
        for n, (p, length) in enumerate(zip(picks, lengths, strict=True), start=1)
    }
    for read in read_feature_file(write_features(tmp_path / "tvsum.h5", groups), official_labels).values():
        np.testing.assert_array_equal(read.annotators, official[read.id].annotators[:, ::15])


def test_samples_are_features_at_the_picks(tmp_path):
    videos = list(read_feature_file(write_tvsum(tmp_path / "a.h5", 3)).values())
    dataset = FeatureDataset("train", videos)
    assert dataset.check() == {} and len(dataset) == 3
    sample = dataset[(4, 2)]
    assert (sample.video, sample.number, sample.kind) == (videos[2].id, 2, "features")
    assert torch.equal(sample.inputs, torch.from_numpy(videos[2].features))
    assert torch.equal(sample.importance, torch.from_numpy(videos[2].importance))
    assert sample.annotators.shape == (0, 23) and bool(sample.visible.all())
    # a pick every 15th frame is two a second, at 30 frames a second
    np.testing.assert_allclose(sample.seconds, np.arange(23) / 2)
    assert dataset[2] is dataset.plain(2) is dataset.samples[2]


def test_batches_are_padded_features_of_disjoint_splits(tmp_path):
    datamodule = FeatureDataModule(str(write_tvsum(tmp_path / "a.h5", 10)), width=WIDTH, batch_size=4, folds=5, fold=1)
    ids = {name: [video.id for video in datamodule.split_videos(name)] for name in ("train", "val", "test")}
    assert not datamodule.datasets
    assert sorted(id_ for part in ids.values() for id_ in part) == sorted(id_ for id_ in TVSUM_IDS[:10])
    datamodule.setup()
    assert {name: [video.id for video in dataset.videos] for name, dataset in datamodule.datasets.items()} == ids
    batches = list(datamodule.train_dataloader())
    assert sorted(video for batch in batches for video in batch.videos) == sorted(ids["train"])
    for batch in batches:
        lengths = batch.mask.sum(1)
        assert batch.kind == "features" and batch.inputs.shape == (len(batch.videos), int(lengths.max()), WIDTH)
        assert not batch.inputs[~batch.mask].any()


def test_another_width_is_refused_before_training(tmp_path):
    datamodule = FeatureDataModule(str(write_tvsum(tmp_path / "a.h5", 10)), width=1024)
    with pytest.raises(KeyframeError, match=rf"a\.h5 has features of width {WIDTH}, not 1024: set data\.width={WIDTH}"):
        datamodule.setup()


def split_of(tmp_path, file, split_name, place):
    """The test videos where a split file calls them `<place>video_N`."""
    keys = [f"{place}video_{n}" for n in range(1, 7)]
    (tmp_path / split_name).write_text(json.dumps([{"train_keys": keys[:4], "test_keys": keys[4:]}]))
    datamodule = FeatureDataModule(str(file), width=WIDTH, splits=str(tmp_path / split_name))
    return [video.id for video in datamodule.split_videos("test")]


@pytest.mark.parametrize("place", ["", "../datasets/eccv16_dataset_summe_google_pool5.h5/", "SumMe/", "mine.h5/"])
def test_split_files_name_videos_by_their_place_in_the_file(tmp_path, place):
    summe = write_summe(tmp_path / "eccv16_dataset_summe_google_pool5.h5", NAMES)
    assert split_of(tmp_path, summe, "splits.json", place) == sorted(NAMES[4:])


@pytest.mark.parametrize(
    ("split_name", "place"), [("tvsum_splits.json", ""), ("aug.json", "eccv16_dataset_tvsum_google_pool5.h5/")]
)
def test_a_split_of_another_data_set_is_refused(tmp_path, split_name, place):
    summe = write_summe(tmp_path / "summe.h5", NAMES)
    with pytest.raises(KeyframeError, match="video_1, which the data set does not have"):
        split_of(tmp_path, summe, split_name, place)
    tvsum = write_tvsum(tmp_path / "features.h5", 6)
    place = place.replace("tvsum", "summe")
    with pytest.raises(KeyframeError, match="video_1, which the data set does not have"):
        split_of(tmp_path, tvsum, split_name.replace("tvsum", "summe"), place)
