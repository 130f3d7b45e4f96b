"""HDF5 files from anywhere: what is in them is read, and nothing else; names of videos."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from keyframe.data.feature_file import read_feature_files
from keyframe.data.hdf5 import TVSUM_CATEGORIES, TVSUM_FRAMES, TVSUM_IDS
from keyframe.data.labels import read_eccv16_h5, read_tvsum_mat
from keyframe.types import KeyframeError
from tests.commands import ROOT, environment
from tests.conftest import SHARED
from tests.data.feature_files import video, write_features
from tests.data.hostile import HOSTILE, write_hostile

READ = """
import json, resource, sys
from keyframe.data.feature_file import read_feature_files
from keyframe.system import resident_mb
from keyframe.types import KeyframeError
for path in sys.argv[1:]:
    print(path, flush=True)
    try:
        print(f"read {len(read_feature_files(path))}", flush=True)
    except KeyframeError as error:
        print(json.dumps(str(error)), flush=True)
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, resident_mb()[1])
"""


def write_damaged(place, count):
    """Copies of a good file, each with a few bytes changed."""
    rng = np.random.default_rng(0)
    good = np.fromfile(write_features(place / "good.h5", {"video_1": video(8, 0)}), np.uint8)
    paths = [place / f"damaged{number}.h5" for number in range(count)]
    for path in paths:
        changed = good.copy()
        for first in rng.integers(0, len(good), rng.choice([1, 3, 10])):
            some = changed[first : first + rng.choice([1, 8])]
            some[:] = rng.choice([0, 255, rng.integers(256)])
        changed.tofile(path)
    return paths


def write_circles(place):
    """Two files in which HDF5 never ends: a text of no size, and a free block of names that is followed by itself."""
    good = write_features(place / "good.h5", {"video_1": {**video(8, 0), "video_name": "a video"}}).read_bytes()
    texts, names = bytearray(good), bytearray(good)
    first = texts.index(b"GCOL") + 16
    texts[first : first + 2] = bytes(2)
    texts[first + 8 : first + 16] = bytes(8)
    heap = names.index(b"HEAP")
    block, values = (int.from_bytes(names[heap + at : heap + at + 8], "little") for at in (16, 24))
    names[values + block : values + block + 8] = block.to_bytes(8, "little")
    for name, content in (("texts", texts), ("names", names)):
        (place / f"{name}.h5").write_bytes(content)
    return [place / "texts.h5", place / "names.h5"]


def test_a_hostile_file_is_refused_in_one_sentence_in_little_memory_and_time(tmp_path):
    paths = [write_hostile(tmp_path, name) for name in HOSTILE]
    os.mkfifo(tmp_path / "pipe.h5")
    damaged, circles = write_damaged(tmp_path, 50), write_circles(tmp_path)
    # In a process of its own: what is not refused may crash it, fill the memory, or wait for ever.
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, [*paths, tmp_path / "pipe.h5", *damaged, *circles])],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    *lines, used = done.stdout.splitlines()
    said = dict(zip(lines[::2], lines[1::2], strict=True))
    for path, (words, _) in zip(paths, HOSTILE.values(), strict=True):
        assert words in said[str(path)] and str(path) in said[str(path)], said[str(path)]
    assert all("is damaged" in said[str(path)] or "are damaged" in said[str(path)] for path in circles)
    of_damaged = " ".join(said[str(path)] for path in damaged)
    assert "read 1" in of_damaged and "cannot be read as HDF5" in of_damaged
    assert "there is no file" in said[str(tmp_path / "pipe.h5")]
    seconds, megabytes = map(float, used.split())
    assert seconds < 10 and megabytes < 300, used


@pytest.fixture(scope="module")
def missing(command):
    """What a command takes itself, which is mostly torch."""
    return command("data=h5", "data.path=gone.h5", "logger=csv")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("virtual_self.h5", "takes its values from other files"),
        ("gts_huge.h5", "1000000000000 gtscores and 40 picks"),
        ("us_huge.h5", "more than is left for a file of this size"),
        ("nframes_1e12.h5", "more than is left for a file of this size"),
        ("huge_16TB.mat", "more than is left for a file of this size"),
        ("surrogate.mat", "is not text"),
        ("esc_error.tsv", "holds control characters"),
    ],
)
def test_a_hostile_label_file_is_refused_in_little_memory_and_time(command, missing, tmp_path, name, words):
    file = SHARED / "faults" / "labels" / name
    if not file.is_file():
        pytest.skip("the hostile label files (../shared/faults/labels) are not on this machine")
    (tmp_path / "a.mp4").touch()
    if file.suffix == ".h5":
        refused = command("data=h5", f"data.path={file}", "logger=csv")
    else:
        own = ("data=labelled", f"data.root={tmp_path}", "backbone=resnet18", "backbone.pretrained=false", "logger=csv")
        refused = command(*own, f"data.labels={file}")
    assert words in refused.sentence() and name in refused.sentence()
    assert "\x1b" not in refused.out + refused.err
    assert refused.seconds < missing.seconds + 5 and refused.peak_mb < missing.peak_mb + 300


def test_what_is_not_read_does_no_harm(tmp_path):
    """Members that no reader asks for, and links inside the same file to groups above."""
    path = write_features(tmp_path / "a.h5", {"video_1": video(8, 0)})
    with h5py.File(path, "r+") as file:
        file["video_1/loop"] = file["/"]
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
        file["video_1/deep" + "/d" * 500] = 1
        file.create_dataset("video_1/notes", (10**12,), np.float64)
    assert list(read_feature_files(path)) == ["video_1"]


def test_arrays_that_shrink_as_labels_do_are_read(tmp_path):
    """A long video of 20 users: their summaries take 240 times as much in memory as in the file."""
    values = video(700, 0)
    users = np.zeros((20, values["n_frames"]), np.float32)
    users[:, 3000:4500] = 1
    with h5py.File(write_features(tmp_path / "a.h5", {"video_1": {**values, "user_summary": None}}), "r+") as file:
        stored = file.create_dataset("video_1/user_summary", data=users, compression="gzip")
        assert users.nbytes > 200 * stored.id.get_storage_size()
    (read,) = read_feature_files(tmp_path / "a.h5").values()
    np.testing.assert_array_equal(read.user_summaries, users > 0)


def write_mat(path, **changes):
    """A file like the official one, of the videos `a` and `b`; a change replaces what the second video refers to."""
    with h5py.File(path, "w") as file:
        codes = {"video": ("a", "b"), "category": ("VT", "VT")}
        values = {key: [np.array([[ord(c)] for c in text], np.uint16) for text in both] for key, both in codes.items()}
        values["user_anno"] = [np.full((2, 9), 3.0)] * 2
        for field, both in values.items():
            references = file.create_dataset(f"tvsum50/{field}", (2, 1), h5py.ref_dtype)
            for number, value in enumerate(both):
                references[number, 0] = file.create_dataset(f"#refs#/{field}{number}", data=value).ref
            if field in changes:
                changes[field](file, references)
    return path


def test_what_a_mat_refers_to_is_looked_at_before_it_is_read(tmp_path):
    assert list(read_tvsum_mat(write_mat(tmp_path / "right.mat"))) == ["a", "b"]

    def refer(**options):
        def change(file, references):
            references[1, 0] = file.create_dataset("#refs#/x", **options).ref

        return change

    def to_a_group(file, references):
        references[1, 0] = file["#refs#"].ref

    def to_nothing(file, references):
        references[1, 0] = h5py.Reference()

    def regions(file, references):
        del file["tvsum50/user_anno"]
        made = file.create_dataset("tvsum50/user_anno", (2, 1), h5py.regionref_dtype)
        made[0, 0] = made[1, 0] = file["#refs#/video0"].regionref[:]

    def one_fewer(file, references):
        references.file.create_dataset("tvsum50/other", (1, 1), h5py.ref_dtype)
        file.move("tvsum50/category", "tvsum50/old")
        file.move("tvsum50/other", "tvsum50/category")

    layout = h5py.VirtualLayout((2, 9), np.float64)
    layout[:] = h5py.VirtualSource(str(tmp_path / "right.mat"), "#refs#/user_anno0", (2, 9))

    def virtual(file, references):
        references[1, 0] = file.create_virtual_dataset("#refs#/x", layout).ref

    for name, change, words in (
        ("user_anno", refer(shape=(20, 10**11), dtype=np.float64), "more than is left"),
        ("user_anno", refer(data=np.array(3.0)), "is not one array"),
        ("user_anno", refer(data="text"), "holds no numbers"),
        ("user_anno", virtual, "takes its values from other files"),
        ("user_anno", to_a_group, "lacks the dataset an array that it refers to"),
        ("user_anno", to_nothing, "cannot be read as HDF5"),
        ("user_anno", regions, "/tvsum50/user_anno holds no references"),
        ("category", one_fewer, "2 videos, 1 categories and 2 user_anno"),
        ("video", refer(data=np.full((10**6, 1), 65, np.uint16)), "is not text"),
        ("video", refer(data=np.array([[0xD800]], np.uint16)), "is not text"),
        ("video", refer(data=np.array([[97]], np.uint16)), "user_anno of a is not one array"),
        ("video", refer(data=np.array([[27], [91]], np.uint16)), "holds control characters"),
    ):
        with pytest.raises(KeyframeError, match=words) as caught:
            read_tvsum_mat(write_mat(tmp_path / "a.mat", **{name: change}))
        assert "a.mat" in str(caught.value)
    # Two codes of UTF-16 for one character.
    emoji = np.frombuffer("\N{CLAPPER BOARD}".encode("utf-16-le"), np.uint16)[:, None]
    assert list(read_tvsum_mat(write_mat(tmp_path / "a.mat", video=refer(data=emoji)))) == ["a", "\N{CLAPPER BOARD}"]


def test_no_library_is_loaded_that_a_file_asks_for(tmp_path):
    """HDF5 looks for filters in these folders, and again after the reading."""
    folders = [h5py.h5pl.get(number) for number in range(h5py.h5pl.size())]
    with pytest.raises(KeyframeError, match="plugins are not loaded"):
        read_feature_files(write_hostile(tmp_path, "plugin"))
    assert folders == [h5py.h5pl.get(number) for number in range(h5py.h5pl.size())] != []


def test_the_lengths_of_tvsum_are_those_of_its_labels(official_labels):
    assert {name: len(labels) for name, labels in read_tvsum_mat(official_labels).items()} == TVSUM_FRAMES


def _tvsum_like(path, frames):
    """A file without names whose videos have these frames."""
    track = {"gtscore": [0.5, 1.0], "picks": [0, 15]}
    return write_features(path, {f"video_{number}": {**track, "n_frames": n} for number, n in frames.items()})


def test_a_file_without_names_is_tvsums_if_its_videos_are_as_long(tmp_path):
    official = {number: TVSUM_FRAMES[name] for number, name in enumerate(TVSUM_IDS, start=1)}
    found = read_eccv16_h5(_tvsum_like(tmp_path / "a.h5", official))
    assert {name: one.category for name, one in found.items()} == TVSUM_CATEGORIES and list(found) == list(TVSUM_IDS)
    some = {number: official[number] for number in (7, 30)}
    assert list(read_eccv16_h5(_tvsum_like(tmp_path / "a.h5", some))) == [TVSUM_IDS[6], TVSUM_IDS[29]]
    for other in ({**official, 50: official[50] + 1}, {**official, 51: 900}, {1: official[2]}):
        found = read_eccv16_h5(_tvsum_like(tmp_path / "eccv16_dataset_tvsum_google_pool5.h5", other))
        assert list(found) == [f"video_{number}" for number in other]
        assert {one.category for one in found.values()} == {""}
