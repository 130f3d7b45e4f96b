"""Properties of our folds on TVSum's real categories, and the published forms of split files."""

import hashlib
import json
import logging
import os
from collections import Counter
from pathlib import Path

import pytest
import yaml

from keyframe.data.hdf5 import TVSUM_CATEGORIES
from keyframe.data.splits import Split, read_split_file, stratified_folds, write_folds
from keyframe.types import KeyframeError

IDS = list(TVSUM_CATEGORIES)
UNKNOWN = dict.fromkeys(IDS, "")
DIGEST = "3a373a61b4aeaa0f786e3135fb143b89961c3dfafcc2356d600aad565dbedeee"  # of the default fold's ids


def _parts(split):
    return set(split.train), set(split.val), set(split.test)


def test_split_refuses_overlap_and_emptiness():
    with pytest.raises(KeyframeError, match="a in train and again in test"):
        Split(train=("a",), val=("b",), test=("a",))
    with pytest.raises(KeyframeError, match="b in val and again in test"):
        Split(train=("a",), val=("b",), test=("b",))
    with pytest.raises(KeyframeError, match="a in train and again in train"):
        Split(train=("a", "a"), val=("b",), test=("c",))
    for part in ("train", "val", "test"):
        with pytest.raises(KeyframeError, match=f"{part} part is empty"):
            Split(**({"train": ("a",), "val": ("b",), "test": ("c",)} | {part: ()}))


def test_a_stored_split_is_data_from_anyone(tmp_path):
    split = Split(train=("a", "\u00fc"), val=("b",), test=("c",))
    assert Split.from_plain(split.to_plain(), tmp_path) == split
    good = split.to_plain()
    for value in (
        *(None, [], {}, {**good, "more": []}, {**good, "test": "c"}, {**good, "test": {"c": 1}}, {**good, "test": [1]}),
        *(
            {**good, "test": [["c"]]},
            {**good, "test": ["x" * 5000]},
            {**good, "test": ["\x1b[2J"]},
            {**good, "test": ["c"] * 1_000_001},
        ),
        *({**good, "test": []}, {**good, "test": ["c", "a"]}),
    ):
        with pytest.raises(KeyframeError, match=r"a\.ckpt was not loaded: its split "):
            Split.from_plain(value, tmp_path / "a.ckpt")


def test_a_split_is_written_as_a_split_file(tmp_path):
    split = Split(train=("a", "\udcff"), val=("b",), test=("video_1",))
    split.write(tmp_path / "split.json")
    assert read_split_file(tmp_path / "split.json", 0, dict.fromkeys(split.by_id(), "")) == split


def test_folds_of_tvsum_cover_every_video_once_with_every_category():
    tested = []
    for fold in range(5):
        split = stratified_folds(TVSUM_CATEGORIES, folds=5, fold=fold)
        train, val, test = _parts(split)
        assert train | val | test == set(IDS)
        assert (len(train), len(val), len(test)) == (32, 8, 10)
        # 10 categories of 5 videos in 5 folds: one of each is tested, none loses two to validation.
        assert sorted(TVSUM_CATEGORIES[name] for name in test) == sorted(set(TVSUM_CATEGORIES.values()))
        assert max(Counter(TVSUM_CATEGORIES[name] for name in val).values()) == 1
        tested += split.test
    assert sorted(tested) == sorted(IDS)


def test_folds_are_balanced_whatever_the_categories():
    ids = [f"v{i}" for i in range(23)]
    for categories in (
        [""] * 23,
        ["a"] * 20 + ["b"] * 3,
        [str(i) for i in range(23)],
        ["", "a", "b"] * 7 + ["a", ""],
    ):
        category = dict(zip(ids, categories, strict=True))
        splits = [stratified_folds(category, folds=4, fold=fold, val_fraction=0.3) for fold in range(4)]
        assert sorted(name for split in splits for name in split.test) == sorted(ids)
        assert {len(split.test) for split in splits} == {5, 6}
        for name in set(categories):
            counts = [sum(category[i] == name for i in split.test) for split in splits]
            assert max(counts) - min(counts) <= 1
        for split in splits:
            rest = len(split.train) + len(split.val)
            assert len(split.val) == round(0.3 * rest)
            for name in set(categories):
                there = sum(category[i] == name for i in split.train + split.val)
                assert abs(sum(category[i] == name for i in split.val) - there * len(split.val) / rest) < 1


def test_folds_depend_neither_on_the_order_of_ids_nor_on_the_process():
    backwards = stratified_folds(dict(reversed(TVSUM_CATEGORIES.items())), fold=2)
    assert backwards == stratified_folds(TVSUM_CATEGORIES, fold=2)
    # as these were when the published runs were made, in any process and version
    first = stratified_folds(TVSUM_CATEGORIES)
    digest = hashlib.sha256(",".join(first.train + first.val + first.test).encode()).hexdigest()
    assert digest == DIGEST


def test_few_videos_still_have_all_three_parts():
    for n in (3, 4, 5):
        ids = [f"v{i}" for i in range(n)]
        for fold in range(n):
            split = stratified_folds(dict.fromkeys(ids, ""), folds=n, fold=fold, val_fraction=0.9 if n == 3 else 0.01)
            assert (len(split.train), len(split.val), len(split.test)) == (n - 2, 1, 1)


def test_settings_out_of_range_name_their_key():
    for key, value in (
        ("fold", 5),
        ("fold", -1),
        ("folds", 1),
        ("folds", 51),
        ("val_fraction", 0.0),
        ("val_fraction", 1.0),
    ):
        with pytest.raises(KeyframeError, match=rf"data\.{key}={value}"):
            stratified_folds(TVSUM_CATEGORIES, **{key: value})


def test_too_few_videos():
    with pytest.raises(KeyframeError, match="give 3 or more"):
        stratified_folds({"a": "", "b": ""}, folds=2)


# The same two folds in each published form: the first tests videos 1 and 2, the second videos 3 and 50.
TESTED = [[1, 2], [3, 50]]
TRAINED = [[3, 4, 5, 6, 7, 8, 9, 10, 50], [1, 2, 4, 5, 6, 7, 8, 9, 10]]


def _folds(key):
    return [
        {"test_keys": [key(n) for n in tested], "train_keys": [key(n) for n in trained]}
        for tested, trained in zip(TESTED, TRAINED, strict=True)
    ]


def _csta(dataset):
    join = lambda numbers: ",".join(f"video_{n}" for n in numbers)  # noqa: E731
    lines = [f"{dataset}/split{k}/{join(TRAINED[k])}/{join(TESTED[k])}\n" for k in range(2)]
    return "".join(lines)


PUBLISHED = {
    "tvsum_splits.json": json.dumps(_folds(lambda n: f"video_{n}")),  # PGL-SUM, CA-SUM
    "vasnet.json": json.dumps(_folds(lambda n: f"eccv16_dataset_tvsum_google_pool5/video_{n}")),
    "tvsum.yml": yaml.safe_dump(_folds(lambda n: f"../datasets/eccv16_dataset_tvsum_google_pool5.h5/video_{n}")),
    "TVSum_splits.txt": _csta("TVSum"),
    "ids.json": json.dumps(_folds(lambda n: IDS[n - 1])),
}


def test_published_forms_give_the_same_folds(tmp_path):
    for name, text in PUBLISHED.items():
        path = tmp_path / name
        path.write_text(text)
        for fold in range(2):
            split = read_split_file(path, fold, UNKNOWN, val_fraction=0.25)
            assert set(split.test) == {IDS[n - 1] for n in TESTED[fold]}
            # validation comes out of train: the test part of the file stays whole, and no video is lost
            assert set(split.train) | set(split.val) == {IDS[n - 1] for n in TRAINED[fold]}
            assert len(split.val) == 2
            assert split == read_split_file(path, fold, dict(reversed(UNKNOWN.items())), val_fraction=0.25)
        with pytest.raises(KeyframeError, match=r"data\.fold=2 .*2 folds"):
            read_split_file(path, 2, UNKNOWN)


def test_folds_are_written_in_the_forms_of_published_systems(tmp_path):
    groups = {name: f"video_{number}" for number, name in enumerate(IDS, start=1)}
    tested = {}
    for suffix in ("json", "yml", "txt"):
        path = tmp_path / f"splits.{suffix}"
        write_folds(path, TVSUM_CATEGORIES, 5, groups, "tvsum.h5")
        for fold in range(5):
            ours = stratified_folds(TVSUM_CATEGORIES, 5, fold)
            split = read_split_file(path, fold, TVSUM_CATEGORIES, addresses={f"tvsum.h5/{groups[n]}": n for n in IDS})
            assert split.test == ours.test and {*split.train, *split.val} == {*ours.train, *ours.val}
            tested.setdefault(fold, ours.test)
    # as the systems read them: PGL-SUM, DSNet (the h5 is the key's parent) and CSTA
    first = sorted((groups[name] for name in tested[0]), key=lambda key: int(key.removeprefix("video_")))
    assert json.loads((tmp_path / "splits.json").read_text())[0]["test_keys"] == first
    listed = yaml.safe_load((tmp_path / "splits.yml").read_text())[0]["test_keys"]
    assert [(str(Path(key).parent), Path(key).name) for key in listed] == [("../datasets/tvsum.h5", k) for k in first]
    _, _, train, test = (tmp_path / "splits.txt").read_text().splitlines()[0].split("/")
    assert test.split(",") == first and len(train.split(",")) == 40


def test_own_ids_are_keys_too(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{"train_keys": ["a", "b"], "test_keys": ["features.h5/video_1"]}]))
    split = read_split_file(path, 0, {"a": "", "b": "", "video_1": ""})
    assert split.test == ("video_1",)
    assert {*split.train, *split.val} == {"a", "b"}


def test_named_validation_is_used(tmp_path):
    path = tmp_path / "with_val.json"
    fold = {
        "train_keys": ["video_1", "video_2"],
        "val_keys": ["video_3", "video_4"],
        "test_keys": ["video_5"],
    }
    path.write_text(json.dumps([fold]))
    split = read_split_file(path, 0, UNKNOWN, val_fraction=0.9)
    assert _parts(split) == ({IDS[0], IDS[1]}, {IDS[2], IDS[3]}, {IDS[4]})


def test_one_fold_by_itself_is_mr_hisums_form(tmp_path):
    parts = {"train_keys": ["video_10050"], "val_keys": ["video_7"], "test_keys": ["video_31892"]}
    (tmp_path / "mr_hisum_split.json").write_text(json.dumps(parts))
    addresses = {f"mr_hisum.h5/{key}": key for (key,) in parts.values()}
    split = read_split_file(tmp_path / "mr_hisum_split.json", 0, dict.fromkeys(addresses.values(), ""), 0.2, addresses)
    assert split.to_plain() == {part.removesuffix("_keys"): keys for part, keys in parts.items()}


def test_carved_validation_follows_categories(tmp_path):
    path = tmp_path / "all.json"
    keys = [f"video_{n}" for n in range(1, 51)]
    path.write_text(json.dumps([{"train_keys": keys[:-1], "test_keys": keys[-1:]}]))
    split = read_split_file(path, 0, TVSUM_CATEGORIES, val_fraction=0.2)
    assert len(split.val) == 10
    assert max(Counter(TVSUM_CATEGORIES[name] for name in split.val).values()) <= 2


def test_unused_videos_are_logged(tmp_path, caplog):
    path = tmp_path / "tvsum_splits.json"
    path.write_text(PUBLISHED["tvsum_splits.json"])
    with caplog.at_level(logging.INFO, "keyframe.data.splits"):
        read_split_file(path, 0, UNKNOWN)
    assert "39 of the data set's videos" in caplog.records[-1].getMessage()


BAD_FILES = [
    # Video 7 of another data set is not TVSum's video 7.
    ("summe_splits.json", PUBLISHED["tvsum_splits.json"], "names the video video_"),
    ("SumMe_splits.txt", _csta("SumMe"), "names the video SumMe/video_"),
    (
        "tvsum_aug.yml",
        yaml.safe_dump(_folds(lambda n: f"../datasets/eccv16_dataset_ovp_google_pool5.h5/video_{n}")),
        "names the video ../datasets/eccv16_dataset_ovp_google_pool5.h5/video_",
    ),
    ("a.json", json.dumps(_folds(lambda n: f"video_{n + 1}")), "names the video video_51"),
    ("a.json", json.dumps([{"train_keys": ["video_1"] * 3, "test_keys": ["video_1"]}]), "AwmHb44_ouw"),
    ("a.json", json.dumps([{"train_keys": ["video_1"], "test_keys": ["video_2"]}]), "give 3 or more"),
    (
        "a.json",
        json.dumps([{"train_keys": ["video_1", "video_3"], "test_keys": []}]),
        "test part is empty",
    ),
    ("a.json", json.dumps([{"train_keys": ["video_1"]}]), "test_keys must be a list"),
    ("a.json", json.dumps([{"train_keys": "video_1", "test_keys": []}]), "train_keys must be a list"),
    ("a.json", json.dumps([{"train_keys": [1], "test_keys": []}]), "train_keys must be a list"),
    ("a.json", json.dumps(["video_1"]), "train_keys must be a list"),
    ("a.json", "[]", "must hold a list of folds"),
    ("a.json", '{"train_keys": []}', "must hold a list of folds"),
    ("a.json", "[{", "cannot be read as a split file"),
    ("a.yml", "- [a: {", "cannot be read as a split file"),
    ("a.yml", "- !!python/object/apply:os.getcwd []", "cannot be read as a split file"),
    # What a few bytes make endless, or too deep for Python.
    ("a.json", "[" * 200_000, "cannot be read as a split file"),
    ("a.yml", "[" * 2000, "cannot be read as a split file"),
    ("a.yml", "".join(f"- &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 9)}]}}\n" for n in range(1, 9)), "it has aliases"),
    ("a.txt", " " * 2**24, "larger than 8 MiB"),
    ("a.txt", "TVSum/video_1,video_2/video_3\n", "not of the form"),
    ("a.csv", "video_1", "must be .json, .yml, .yaml or .txt"),
]


def test_a_bad_split_file_is_refused(tmp_path):
    for name, text, message in BAD_FILES:
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(KeyframeError) as caught:
            for fold in range(2):
                read_split_file(path, fold, UNKNOWN)
        assert message in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(KeyframeError, match=r"no split file .*gone\.json"):
        read_split_file(tmp_path / "gone.json", 0, UNKNOWN)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(KeyframeError, match=r"pipe\.json cannot be read as a split file \(it is not a file"):
        read_split_file(tmp_path / "pipe.json", 0, UNKNOWN)
