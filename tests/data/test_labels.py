"""Readers of label files, against the official TVSum file and files written by hand."""

import errno
import os
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from keyframe.data.hdf5 import TVSUM_CATEGORIES, official_id
from keyframe.data.labels import (
    read_eccv16_h5,
    read_labels,
    read_tvsum_mat,
    read_tvsum_tsv,
    write_tsv,
)
from keyframe.types import KeyframeError


@pytest.fixture(scope="module")
def official(official_labels):
    return read_tvsum_mat(official_labels)


@pytest.fixture
def raw(official_labels):
    """The official file's fields, without our reader."""
    with h5py.File(official_labels) as file:
        struct = file["tvsum50"]
        yield lambda field, i: file[struct[field][i, 0]][()]


def test_official_file_has_the_published_size(official):
    # Song et al., CVPR 2015: 50 videos, 10 categories of 5, 20 annotators each.
    assert len(official) == 50
    assert sorted(Counter(labels.category for labels in official.values()).values()) == [5] * 10
    assert {labels.annotators.shape[0] for labels in official.values()} == {20}
    # The data set's own README: "Will a cat eat dog food?" is -esJrBWj2d8.
    assert "-esJrBWj2d8" in official


def test_official_scores_equal_the_file(official, raw):
    for i, labels in enumerate(official.values()):
        assert len(labels) == raw("nframes", i).item()
        # gt_score is the file's own mean over annotators, on the 1 ... 5 scale.
        np.testing.assert_allclose(labels.importance * 4 + 1, raw("gt_score", i)[0], atol=1e-6)
        np.testing.assert_array_equal(labels.annotators * 4 + 1, raw("user_anno", i))
        assert labels.importance.dtype == labels.annotators.dtype == np.float32


def test_constant_ids_are_the_official_order(official, raw):
    text = lambda field, i: bytes(raw(field, i).astype(np.uint8).ravel()).decode("ascii")  # noqa: E731
    expected = [(text("video", i), text("category", i)) for i in range(50)]
    assert list(TVSUM_CATEGORIES.items()) == expected
    assert [(name, labels.category) for name, labels in official.items()] == expected


def test_tsv_of_the_official_scores_reads_the_same(official, raw, tmp_path):
    names = list(official)[:4]
    path = tmp_path / "ydata-tvsum50-anno.tsv"
    with path.open("w") as file:
        for i, name in enumerate(names):
            for row in raw("user_anno", i):
                scores = ",".join(str(int(score)) for score in row)
                file.write(f"{name}\t{TVSUM_CATEGORIES[name]}\t{scores}\n")
    read = read_labels(path)
    assert list(read) == names
    for name in names:
        np.testing.assert_array_equal(read[name].annotators, official[name].annotators)
        np.testing.assert_array_equal(read[name].importance, official[name].importance)
        assert read[name].category == official[name].category


def test_benchmark_keys():
    assert official_id("video_1") == "AwmHb44_ouw"
    assert official_id("video_50") == "-esJrBWj2d8"
    for key in ("video_0", "video_51", "video_01", "video_", "AwmHb44_ouw", "xvideo_1"):
        assert official_id(key) is None


def test_mat_that_is_none(tmp_path):
    other = tmp_path / "other.mat"
    with h5py.File(other, "w") as file:
        file["numbers"] = np.arange(3)
    with pytest.raises(KeyframeError, match=r"other\.mat lacks the dataset /tvsum50/video"):
        read_tvsum_mat(other)
    with h5py.File(other, "w") as file:
        file["tvsum50/video"] = np.arange(3)
    with pytest.raises(KeyframeError, match=r"/tvsum50/video holds no references"):
        read_tvsum_mat(other)
    old = tmp_path / "old.mat"
    old.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(500))
    with pytest.raises(KeyframeError, match=r"old\.mat cannot be read as HDF5"):
        read_tvsum_mat(old)
    with pytest.raises(KeyframeError, match=r"no file .*gone\.mat.*data\.labels"):
        read_tvsum_mat(tmp_path / "gone.mat")


def test_mat_with_a_score_off_the_scale(tmp_path):
    path = tmp_path / "ydata-tvsum50.mat"
    with h5py.File(path, "w") as file:
        fields = {
            "video": np.array([[ord(c)] for c in "abc"], dtype=np.uint16),
            "category": np.array([[ord(c)] for c in "VT"], dtype=np.uint16),
            "user_anno": np.array([[1.0, 6.0], [2.0, 3.0]]),
        }
        for name, value in fields.items():
            file[f"#refs#/{name}"] = value
            references = file.create_dataset(f"tvsum50/{name}", (1, 1), dtype=h5py.ref_dtype)
            references[0, 0] = file[f"#refs#/{name}"].ref
    with pytest.raises(KeyframeError, match="user_anno of abc"):
        read_tvsum_mat(path)
    with h5py.File(path, "r+") as file:
        file["#refs#/user_anno"][0, 1] = 5.0
    labels = read_tvsum_mat(path)["abc"]
    np.testing.assert_array_equal(labels.annotators, [[0, 1], [0.25, 0.5]])
    np.testing.assert_array_equal(labels.importance, [0.125, 0.75])
    assert labels.category == "VT"


def test_tsv_rows_may_be_mixed_and_uneven_in_number(tmp_path):
    path = tmp_path / "anno.tsv"
    # A byte order mark and Windows line ends, as spreadsheets write them.
    path.write_bytes(b"\xef\xbb\xbfa\tVT\t1,2,3\r\nb\t\t5,5\r\n\r\na\tVT\t3,4,5\r\na\tVT\t2.0, 3.0 ,1\r\n")
    labels = read_tvsum_tsv(path)
    assert list(labels) == ["a", "b"]
    np.testing.assert_array_equal(labels["a"].annotators, [[0, 0.25, 0.5], [0.5, 0.75, 1], [0.25, 0.5, 0]])
    np.testing.assert_allclose(labels["a"].importance, [0.25, 0.5, 0.5])
    np.testing.assert_array_equal(labels["b"].annotators, [[1, 1]])
    assert (labels["a"].category, labels["b"].category) == ("VT", "")


def test_tsv_with_another_scale(tmp_path):
    path = tmp_path / "anno.tsv"
    path.write_text("a\tx\t0,5,10\n")
    np.testing.assert_array_equal(read_labels(path, 0, 10)["a"].importance, [0, 0.5, 1])
    with pytest.raises(KeyframeError, match="must be below"):
        read_labels(path, 5, 5)


BAD_TSV = {
    "\x1b[2J\tx\t1,2\n": r"line 1: the id '\\x1b\[2J' is empty, longer",
    "": r"is empty",
    "\n\n": r"is empty",
    "a\tx\t1,2\na\tx\n": r"line 2: a row needs 3 columns",
    "a\tx\t1\t2\n": r"line 1: a row needs 3 columns",
    "\tx\t1,2\n": r"line 1: .*empty id",
    "a\tx\t1,two,3\n": r"line 1: the third column must hold numbers.*'two'",
    "a\tx\t1,,3\n": r"line 1: the third column must hold numbers.*''",
    "a\tx\t1,2\n\na\tx\t1,6\n": r"line 3: score 6 of frame 1 lies outside \[1, 5\]",
    "a\tx\t0.5,2\n": r"line 1: score 0\.5 of frame 0",
    "a\tx\tnan,2\n": r"line 1: score nan of frame 0",
    "a\tx\t1,2\nb\tx\t1\na\tx\t1,2,3\n": r"line 3: a has 3 scores, its first row 2",
    "a\tx\t1,2\na\ty\t1,2\n": r"line 2: a is of category 'y', its first row of 'x'",
}


def test_a_bad_tsv_is_refused_with_its_line(tmp_path):
    path = tmp_path / "anno.tsv"
    for text, message in BAD_TSV.items():
        path.write_text(text)
        with pytest.raises(KeyframeError, match=rf"anno\.tsv.*{message}"):
            read_tvsum_tsv(path)


def test_tsv_that_cannot_be_opened(tmp_path):
    with pytest.raises(KeyframeError, match=r"no file .*gone\.tsv.*data\.labels"):
        read_labels(tmp_path / "gone.tsv")
    (tmp_path / "binary.tsv").write_bytes(b"\xff\xfe\x00\x81" * 9)
    with pytest.raises(KeyframeError, match=r"binary\.tsv cannot be read as text"):
        read_labels(tmp_path / "binary.tsv")
    os.mkfifo(tmp_path / "pipe.tsv")
    with pytest.raises(KeyframeError, match="no file"):
        read_labels(tmp_path / "pipe.tsv")
    with (tmp_path / "sparse.tsv").open("wb") as file:
        file.truncate(4 << 30)
    with pytest.raises(KeyframeError, match=r"sparse\.tsv, line 1: a row is longer"):
        read_labels(tmp_path / "sparse.tsv")


def test_scores_of_0_and_1_are_selections(tmp_path):
    path = tmp_path / "anno.tsv"
    for text, scale, selections in (
        ("a\tx\t0,1,1\nb\tx\t0,0\n", (1, 5), True),
        ("a\tx\t0,1.0,1\nb\tx\t0,0\n", (0, 1), True),
        # Scores of these scales may be 0 and 1, and on 1 to 5 all may be 1.
        ("a\tx\t0,1,1\n", (0, 10), False),
        ("a\tx\t0,1,1\n", (-1, 1), False),
        ("a\tx\t1,1,1\n", (1, 5), False),
        # One score of the file that is neither, and all are scores.
        ("a\tx\t0,1,1\nb\tx\t0,0.5\n", (0, 1), False),
        ("a\tx\t1,5,1\n", (1, 5), False),
    ):
        path.write_text(text)
        labels = read_labels(path, *scale)
        assert {one.selections for one in labels.values()} == {selections}, (text, scale)
        if selections:
            np.testing.assert_array_equal(labels["a"].annotators, [[0, 1, 1]])
    # The line that leaves the scale is named, be it before or after the one that shows these to be scores.
    for text in ("a\tx\t2,5\na\tx\t5,0\n", "a\tx\t1,1\na\tx\t1,0\na\tx\t5,5\n"):
        path.write_text(text)
        with pytest.raises(KeyframeError, match=r"line 2: score 0 of frame 1 lies outside \[1, 5\]"):
            read_labels(path)


def test_write_tsv_gives_the_official_form(tmp_path):
    path = tmp_path / "anno.tsv"
    path.write_text("an older file")
    scores = {"a": np.array([[1, 2, 5], [3, 3, 3]], dtype=np.uint8), "b": np.array([[4, 4]])}
    write_tsv(path, scores, {"a": "VT"})
    assert path.read_bytes() == b"a\tVT\t1,2,5\na\tVT\t3,3,3\nb\t\t4,4\n"
    assert [p.name for p in tmp_path.iterdir()] == ["anno.tsv"]


def test_write_tsv_leaves_nothing_half_written(tmp_path, monkeypatch):
    path = tmp_path / "anno.tsv"
    path.write_text("kept")

    def fail(self, target):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_tsv(path, {"a": np.array([[1, 2]])})
    assert [p.name for p in tmp_path.iterdir()] == ["anno.tsv"]
    assert path.read_text() == "kept"


def _write_h5(path, **groups):
    """Write groups of `name -> value`; what is not given gets a value that is right."""
    with h5py.File(path, "w") as file:
        for key, given in groups.items():
            values = {"gtscore": [0.2, 0.4, 1.0], "picks": [0, 15, 30], "n_frames": 40} | given
            for name, value in values.items():
                if value is not None:
                    file[f"{key}/{name}"] = value


def test_eccv16_score_holds_until_the_next_pick(tmp_path):
    path = tmp_path / "eccv16_dataset_tvsum_google_pool5.h5"
    keyshots = np.ones((20, 40), dtype=np.float32)
    _write_h5(
        path, video_10={"user_summary": keyshots}, video_2={"n_frames": np.array([31]), "video_name": "98MoyGZKHXc"}
    )
    labels = read_labels(path)
    # Groups come in the order of N, not of the alphabet.
    assert list(labels) == ["98MoyGZKHXc", "video_10"]
    assert [one.category for one in labels.values()] == ["VT", ""]
    expected = np.array([0.2] * 15 + [0.4] * 15 + [1.0] * 10, dtype=np.float32)
    np.testing.assert_array_equal(labels["video_10"].importance, expected)
    np.testing.assert_array_equal(labels["98MoyGZKHXc"].importance, expected[:31])
    assert labels["video_10"].annotators.shape == (0, 40)


def test_eccv16_score_on_another_scale_is_brought_to_the_unit_interval(tmp_path):
    path = tmp_path / "a.h5"
    _write_h5(path, video_1={"gtscore": [2.0, 3.0, 4.0]}, video_2={"gtscore": [3.0, 3.0, 3.0]})
    labels = read_eccv16_h5(path)
    np.testing.assert_array_equal(labels["video_1"].importance[[0, 15, 30]], [0, 0.5, 1])
    np.testing.assert_array_equal(labels["video_2"].importance, np.zeros(40))


def test_eccv16_video_name_is_the_id(tmp_path):
    path = tmp_path / "summe.h5"
    _write_h5(path, video_1={"video_name": b"Air_Force_One"}, video_99={"video_name": "Base jumping"})
    labels = read_eccv16_h5(path)
    assert list(labels) == ["Air_Force_One", "Base jumping"]
    assert labels["Air_Force_One"].category == ""


def test_a_bad_eccv16_file_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    for groups, message in (
        ({}, "holds no group video_N"),
        ({"video_1": {"gtscore": None}}, "lacks the dataset /video_1/gtscore"),
        ({"video_1": {"picks": [0, 15]}}, "3 gtscores and 2 picks"),
        ({"video_1": {"gtscore": [0.1, np.nan, 1.0]}}, "one finite score per pick"),
        ({"video_1": {"n_frames": 30}}, "do not rise within its 30 frames"),
        ({"video_1": {"picks": [0, 30, 15]}}, "do not rise"),
        ({"video_1": {"video_name": "a"}, "video_2": {"video_name": "a"}}, "second video named a"),
    ):
        _write_h5(path, **groups)
        with pytest.raises(KeyframeError, match=rf"a\.h5.*{message}"):
            read_eccv16_h5(path)


def test_read_labels_refuses_other_suffixes(tmp_path):
    with pytest.raises(KeyframeError, match=r"there is no file .*labels\.xls: set data\.labels"):
        read_labels(tmp_path / "labels.xls")
    (tmp_path / "labels.xls").touch()
    with pytest.raises(KeyframeError, match=r"labels\.xls is not a label file: data\.labels"):
        read_labels(tmp_path / "labels.xls")
    with pytest.raises(KeyframeError, match=r"holds no label file .*set data\.labels"):
        read_labels(tmp_path)


def test_a_label_file_that_grows_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "labels.tsv"
    path.write_text("a\t\t1,2\n")
    opened = Path.open

    def meanwhile(self, *arguments, **options):
        file = opened(self, *arguments, **options)
        with opened(path, "a") as more:
            more.write("b\t\t1,2\n")
        return file

    monkeypatch.setattr(Path, "open", meanwhile)
    with pytest.raises(KeyframeError, match=r"labels\.tsv has changed while it was read"):
        read_labels(path)
