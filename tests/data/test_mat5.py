"""SumMe's MATLAB 5 files, against what scipy has written; damaged and hostile ones."""

import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from keyframe.data.labels import read_labels, read_mat5
from keyframe.types import KeyframeError
from tests.data.summe import write_gt

# Three users; what a user keeps has the number of its segment.
SCORE = np.array([[0, 1, 0], [3, 1, 0], [3, 0, 0], [0, 0, 2]])


def test_a_folder_of_summe_is_read(tmp_path):
    for name in ("Base jumping", "Air_Force_One"):
        write_gt(tmp_path / f"{name}.mat", SCORE)
    (tmp_path / "._Base jumping.mat").write_bytes(b"of macOS")
    labels = read_labels(tmp_path)
    assert list(labels) == ["Air_Force_One", "Base jumping"]
    for one in labels.values():
        assert one.selections and one.category == ""
        np.testing.assert_array_equal(one.annotators, (SCORE > 0).T)
        # the release's own gt_score is the share of users that keep a frame
        np.testing.assert_allclose(one.importance, [1 / 3, 2 / 3, 1 / 3, 1 / 3])
    assert list(read_labels(tmp_path / "Base jumping.mat")) == ["Base jumping"]


def _bomb(path):
    """32 MB of zeros, of which zlib makes a thousandth."""
    content = zlib.compress(struct.pack("<II", 14, 2**25) + bytes(2**25))
    path.write_bytes(path.read_bytes() + struct.pack("<II", 15, len(content)) + content)


def _huge_cells(path):
    """A cell array that says it has 10^9 cells."""
    array = struct.pack("<IIIIIIiiII10s6x", 6, 8, 1, 0, 5, 8, 10**9, 1, 1, 10, b"user_score")
    path.write_bytes(path.read_bytes()[:128] + struct.pack("<II", 14, len(array)) + array)


def test_what_is_no_label_of_summe_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "a.mat"
    for changes, message in (
        ({"user_score": None}, r"holds no user_score \(frames, users\)"),
        ({"user_score": np.zeros((0, 3))}, "holds no user_score"),
        ({"user_score": np.zeros((2, 2, 2))}, "holds no user_score"),
        ({"user_score": np.array([["a"], ["b"]], dtype=object)}, "user_score is not an array of real numbers"),
        ({"user_score": {"a": 1.0}}, "user_score is not an array of real numbers"),
        ({"user_score": SCORE * np.nan}, "user_score holds NaN or infinity"),
        ({"user_score": SCORE * 1j}, "user_score is not an array of real numbers"),
        ({"nFrames": 5.0}, "a user_score of 4 rows and nFrames"),
    ):
        write_gt(path, SCORE, **changes)
        with pytest.raises(KeyframeError, match=rf"a\.mat.*{message}"):
            read_labels(path)
    for change, message in (
        (_bomb, "it would fill more memory"),
        (_huge_cells, "user_score is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "it ends within an array"),
        (lambda path: path.write_bytes(path.read_bytes()[:126] + b"??"), "its header is damaged"),
    ):
        write_gt(path, SCORE)
        change(path)
        with pytest.raises(KeyframeError, match=rf"a\.mat.*{message}"):
            read_labels(path)
    with (tmp_path / "sparse.mat").open("wb") as file:
        file.write(b"MATLAB 5.0 MAT-file")
        file.truncate(4 << 30)
    with pytest.raises(KeyframeError, match=r"sparse\.mat is larger than 256 MiB"):
        read_labels(tmp_path / "sparse.mat")
    with pytest.raises(KeyframeError, match="has a scale of its own"):
        read_labels(write_gt(path, SCORE), 0, 10)


def test_numbers_are_those_that_scipy_has_written(tmp_path):
    """Of every type and order of bytes, compressed or not, in the small form or not."""
    path, rng = tmp_path / "a.mat", np.random.default_rng(0)
    kinds = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "?")
    arrays = {
        f"{kind if kind != '?' else 'b'}_{n}": rng.integers(0, 2, (n, 3)).astype(kind) for kind in kinds for n in (1, 4)
    }
    for compressed in (True, False):
        savemat(path, arrays, do_compression=compressed)
        read = read_mat5(path, arrays, "labels")
        assert read.keys() == arrays.keys()
        for name, values in arrays.items():
            np.testing.assert_array_equal(read[name], values)
    # by hand: 1 as a big-endian double
    array = struct.pack(">IIIIIIiiI4sIId", 6, 8, 6, 0, 5, 8, 1, 1, 1 << 16 | 1, b"x", 9, 8, 1.0)
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\1\0MI" + struct.pack(">II", 14, len(array)) + array)
    np.testing.assert_array_equal(read_mat5(path, ["x"], "labels")["x"], [[1.0]])


def test_damaged_files_are_read_or_refused(tmp_path):
    path, rng = tmp_path / "a.mat", np.random.default_rng(0)
    for compressed in (True, False):
        savemat(path, {"nFrames": 4.0, "user_score": SCORE}, do_compression=compressed)
        whole = path.read_bytes()
        for _ in range(300):
            content = bytearray(whole)
            for place in rng.integers(19, len(content), rng.integers(1, 4)):
                content[place] = rng.integers(256)
            path.write_bytes(content)
            try:
                read_labels(path)
            except KeyframeError as error:
                assert "\n" not in str(error)
