"""The order of samples over ranks and epochs, and batches of videos and of feature files."""

import json
import pickle
from itertools import chain, product
from pathlib import Path

import h5py
import pytest
import torch

from keyframe import system
from keyframe.data import datamodule as module
from keyframe.data import feature_file
from keyframe.data.datamodule import EpochSampler, FeatureDataModule
from keyframe.data.hdf5 import TVSUM_IDS
from keyframe.data.splits import PARTS
from keyframe.types import KeyframeError
from tests.data.feature_files import WIDTH, video, write_features, write_summe, write_tvsum
from tests.training.tiny import make_datamodule

NAMES = ["Air_Force_One", "Base jumping", "Bearpark_climbing", "Bike Polo", "Bus_in_Rock_Tunnel", "Cooking"]


def numbers(sampler, epoch=0):
    sampler.set_epoch(epoch)
    drawn = list(sampler)
    assert {seen for seen, _ in drawn} <= {epoch}
    assert len(drawn) == len(sampler)
    return [number for _, number in drawn]


SIZES = list(product([1, 5, 12, 13], [1, 2, 3, 4, 7, 16]))


def test_in_evaluation_each_sample_comes_once_over_all_ranks():
    for length, world in SIZES:
        ranks = [numbers(EpochSampler(length, False, rank=rank, world=world)) for rank in range(world)]
        assert sorted(chain.from_iterable(ranks)) == list(range(length))
        assert max(map(len, ranks)) - min(map(len, ranks)) <= 1


def test_in_training_ranks_get_equally_many_and_every_sample_comes():
    for length, world in SIZES:
        ranks = [numbers(EpochSampler(length, True, 3, rank, world), epoch=2) for rank in range(world)]
        assert [len(rank) for rank in ranks] == [-(-length // world)] * world
        drawn = list(chain.from_iterable(ranks))
        assert set(drawn) == set(range(length))
        counts = [drawn.count(number) for number in range(length)]
        assert max(counts) - min(counts) <= 1


def test_chunks_come_in_random_order_and_their_samples_mixed():
    for length, world in ((1000, 1), (1000, 3), (5, 1)):
        ranks = [numbers(EpochSampler(length, True, 3, rank, world, chunk=10), epoch=2) for rank in range(world)]
        order = [number for together in zip(*ranks, strict=True) for number in together]
        assert sorted(order[:length]) == list(range(length))  # each once, but for what fills up the ranks
        assert len(order) - length < world
    order = numbers(EpochSampler(1000, True, 3, chunk=10))
    near = [{number // 10 for number in order[start : start + 160]} for start in range(0, 1000, 160)]
    assert [len(chunks) for chunks in near] == [16] * 6 + [4] and order[:160] != sorted(order[:160])
    assert numbers(EpochSampler(1000, True, 3, chunk=10), epoch=1) != order


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        return numbers(EpochSampler(50, True, seed), epoch)

    assert order(0, 3) == order(0, 3)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6
    assert sorted(order(0, 3)) == list(range(50))
    # nor does it depend on what was drawn before
    sampler = EpochSampler(50, True, 0)
    for epoch in (0, 1):
        numbers(sampler, epoch)
    assert numbers(sampler, 3) == order(0, 3)


def test_evaluation_keeps_the_order_in_every_epoch():
    sampler = EpochSampler(6, False, seed=5)
    assert numbers(sampler, 0) == numbers(sampler, 9) == [0, 1, 2, 3, 4, 5]


def test_ranks_share_the_videos_of_an_evaluation(tiny_demo, monkeypatch):
    datamodule = make_datamodule(tiny_demo, batch_size=1)
    datamodule.setup()
    seen = []
    for rank in (0, 1):
        monkeypatch.setattr(module.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(module.distributed, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(module.distributed, "get_world_size", lambda: 2)
        seen += [video for batch in datamodule.test_dataloader() for video in batch.videos]
    assert sorted(seen) == sorted(video.id for video in datamodule.datasets["test"].videos)


def test_more_processes_than_videos_are_refused(tiny_demo, monkeypatch):
    datamodule = make_datamodule(tiny_demo)
    datamodule.setup()
    monkeypatch.setattr(module.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(module.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(module.distributed, "get_world_size", lambda: 8)
    with pytest.raises(KeyframeError, match=r"test split has 3 videos.*8 processes"):
        datamodule.test_dataloader()


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


def test_features_beyond_the_memory_are_read_when_they_are_used(tmp_path, monkeypatch):
    path = str(write_tvsum(tmp_path / "a.h5", 10))

    def batches():
        data = FeatureDataModule(path, width=WIDTH, batch_size=3, workers=1)
        data.setup()
        workers = data.train_dataloader().num_workers
        data.workers = 0
        loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
        return workers, [batch for loader in loaders for batch in loader]

    workers, held = batches()
    assert workers == 0  # there is nothing to load
    monkeypatch.setattr(feature_file, "_MOST_HELD", 1000)
    data = FeatureDataModule(path, width=WIDTH, batch_size=3)
    data.setup()
    train = pickle.loads(pickle.dumps(data.datasets["train"]))  # as a worker gets it
    assert [video.held for video in train.videos] == [None] * 6
    assert [video.id for video in train.videos] == [id_ for id_ in TVSUM_IDS if id_ in data.split.train]
    by_id = {id_: row[mask] for b in held for id_, row, mask in zip(b.videos, b.inputs, b.mask, strict=True)}
    workers, read = batches()
    assert workers == 1
    for batch in read:
        for id_, row, mask in zip(batch.videos, batch.inputs, batch.mask, strict=True):
            assert torch.equal(by_id.pop(id_), row[mask])
    assert not by_id
    write_tvsum(tmp_path / "a.h5", 9)
    with pytest.raises(KeyframeError, match=r"a\.h5 has changed while it was read"):
        train[0]


def test_another_width_is_refused_before_training(tmp_path):
    datamodule = FeatureDataModule(str(write_tvsum(tmp_path / "a.h5", 10)), width=1024)
    with pytest.raises(KeyframeError, match=rf"a\.h5 has features {WIDTH} wide, not 1024: set data\.width={WIDTH}"):
        datamodule.setup()


def split_of(tmp_path, file, split_name, place):
    """The test videos where a split file calls them `<place>video_N`."""
    keys = [f"{place}video_{n}" for n in range(1, 7)]
    (tmp_path / split_name).write_text(json.dumps([{"train_keys": keys[:4], "test_keys": keys[4:]}]))
    datamodule = FeatureDataModule(str(file), width=WIDTH, splits=str(tmp_path / split_name))
    return [video.id for video in datamodule.split_videos("test")]


def test_split_files_name_videos_by_their_place_in_the_file(tmp_path):
    summe = write_summe(tmp_path / "eccv16_dataset_summe_google_pool5.h5", NAMES)
    for place in ("", "../datasets/eccv16_dataset_summe_google_pool5.h5/", "SumMe/", "mine.h5/"):
        assert split_of(tmp_path, summe, "splits.json", place) == sorted(NAMES[4:])


@pytest.mark.parametrize("named", [True, False])
def test_a_split_of_another_data_set_is_refused(tmp_path, named):
    summe, tvsum = write_summe(tmp_path / "summe.h5", NAMES), write_tvsum(tmp_path / "features.h5", 6)
    if not named:  # then the ids are the names of the groups
        with h5py.File(summe, "r+") as file:
            for group in file.values():
                del group["video_name"]
        assert split_of(tmp_path, summe, "splits.json", "summe.h5/") == ["video_5", "video_6"]
    for split_name, place in (("tvsum_splits.json", ""), ("aug.json", "eccv16_dataset_tvsum_google_pool5.h5/")):
        for file, other in ((summe, "tvsum"), (tvsum, "summe")):
            with pytest.raises(KeyframeError, match="video_1, which the data set lacks"):
                split_of(tmp_path, file, split_name.replace("tvsum", other), place.replace("tvsum", other))


FOUR = ("tvsum", "summe", "ovp", "youtube")


@pytest.mark.parametrize("form", ["../datasets/eccv16_dataset_{}_google_pool5.h5/", "eccv16_dataset_{}_google_pool5/"])
@pytest.mark.parametrize("stem", ["eccv16_dataset_{}_google_pool5", "my {} features"])
def test_published_augmented_splits_name_the_videos_of_several_files(tmp_path, form, stem):
    """DSNet's and VASNet's forms of one fold: TVSum's last videos are tested, three data sets are added to train."""
    paths = [str(tmp_path / f"{stem.format(name)}.h5") for name in FOUR]
    write_tvsum(Path(paths[0]), 4)
    write_summe(Path(paths[1]), NAMES[:2])
    for path in paths[2:]:
        write_features(Path(path), {f"video_{n}": video(20, n) for n in (1, 2)})
    keys = {name: [f"{form.format(name)}video_{n}" for n in range(1, 5 if name == "tvsum" else 3)] for name in FOUR}
    fold = {"test_keys": keys["tvsum"][2:], "train_keys": keys["tvsum"][:2] + keys["summe"] + keys["ovp"]}
    (tmp_path / "tvsum_aug.json").write_text(json.dumps([fold]))
    for given in (paths, paths[2::-1]):
        datamodule = FeatureDataModule(given, width=WIDTH, splits=str(tmp_path / "tvsum_aug.json"))
        assert ids_of(datamodule, "test") == sorted(TVSUM_IDS[2:4])
        rest = {*TVSUM_IDS[:2], *NAMES[:2], "ovp/video_1", "ovp/video_2"}
        assert {*ids_of(datamodule, "train"), *ids_of(datamodule, "val")} == rest
    with pytest.raises(KeyframeError, match=r"ovp_google_pool5.*/video_1, which the data set lacks"):
        FeatureDataModule(paths[:2], width=WIDTH, splits=str(tmp_path / "tvsum_aug.json")).split_videos("test")
    # a name alone does not say which file
    (tmp_path / "a.json").write_text(json.dumps([{"train_keys": ["video_1"], "test_keys": ["video_2"]}]))
    with pytest.raises(KeyframeError, match="video_1, which may be ovp/video_1 or youtube/video_1: name its file"):
        FeatureDataModule(paths[2:], width=WIDTH, splits=str(tmp_path / "a.json")).split_videos("test")


def test_a_split_over_several_files_comes_back(tmp_path):
    groups = {f"video_{n}": video(20, n) for n in range(1, 6)}
    paths = [str(write_features(tmp_path / f"{name}.h5", groups)) for name in ("ovp", "b")]
    before = FeatureDataModule(paths, width=WIDTH)
    before.split.write(tmp_path / "split.json")
    assert FeatureDataModule(paths, width=WIDTH, splits=str(tmp_path / "split.json")).split == before.split
    # one of the files, moved: its videos are still those of before
    (tmp_path / "ovp.h5").rename(tmp_path / "OVP moved.h5")
    alone = FeatureDataModule([str(tmp_path / "OVP moved.h5")], width=WIDTH)
    alone.kept_split = before.split
    assert ids_of(alone, "new") == [] and len(alone.gone) == 5


def summe_data(path, names, kept_split=None, **options):
    datamodule = FeatureDataModule(str(write_summe(path, names)), width=WIDTH, **options)
    datamodule.kept_split = kept_split
    return datamodule


def ids_of(datamodule, part):
    return [video.id for video in datamodule.split_videos(part)]


CLIPS = [f"clip{number}" for number in range(18)]


def test_videos_that_come_later_belong_to_no_part(tmp_path):
    before = summe_data(tmp_path / "a.h5", CLIPS[:10])
    learnt = {*ids_of(before, "train"), *ids_of(before, "val")}
    anew = summe_data(tmp_path / "b.h5", CLIPS)
    assert len(ids_of(anew, "test")) == 4 and learnt.intersection(ids_of(anew, "test"))
    after = summe_data(tmp_path / "b.h5", CLIPS, before.split)
    assert {part: ids_of(after, part) for part in PARTS} == {part: ids_of(before, part) for part in PARTS}
    assert ids_of(after, "new") == CLIPS[10:] and ids_of(after, "all") == CLIPS and not after.other_set
    assert after.split_notes("R") == [f"Videos in no part of the split of R: 8 ({', '.join(CLIPS[10:])})."]


def test_videos_that_are_gone_are_named_with_their_part(tmp_path):
    before = summe_data(tmp_path / "a.h5", CLIPS[:10])
    lost = before.split.test[0]
    after = summe_data(tmp_path / "b.h5", [name for name in CLIPS[:10] if name != lost], before.split)
    assert after.gone == {lost: "test"} and ids_of(after, "test") == [before.split.test[1]]
    assert after.split_notes("R") == [f"Videos of the split of R that no longer exist: 1 ({lost} (test))."]


def test_a_set_without_any_video_of_the_split_is_another_one(tmp_path):
    before = summe_data(tmp_path / "a.h5", CLIPS[:8])
    other = summe_data(tmp_path / "b.h5", CLIPS[8:], before.split)
    assert other.other_set and ids_of(other, "test") == [] and ids_of(other, "all") == ids_of(other, "new") == CLIPS[8:]
    assert "another data set" in other.split_notes("R")[0]


def test_the_split_of_a_split_file_is_kept_too(tmp_path):
    before = summe_data(tmp_path / "a.h5", CLIPS[:10], folds=2)
    before.split.write(tmp_path / "split.json")
    again = summe_data(tmp_path / "b.h5", CLIPS, splits=str(tmp_path / "split.json"))
    assert again.split == before.split and ids_of(again, "new") == CLIPS[10:]


def test_workers_are_refused_where_their_locks_have_no_room(tiny_demo, disk, monkeypatch):
    data = make_datamodule(tiny_demo, workers=2)
    data.setup()
    monkeypatch.setattr(system, "_SHARED_MEMORY", disk("64k"))
    with pytest.raises(KeyframeError, match=r"data.workers=2 needs shared memory, and /dev/shm has \d+ KB left"):
        data.train_dataloader()
    disk("64m")  # Docker's default
    data.train_dataloader()


def test_parts_that_are_none_are_refused(tmp_path):
    for key, base in (("augmentation", "data.dataset.Augmentation"), ("cache", "data.cache.VideoCache")):
        with pytest.raises(KeyframeError, match=f"^{key}: dict is not a {key}: derive it from keyframe.{base}.$"):
            make_datamodule(tmp_path, **{key: {}})
