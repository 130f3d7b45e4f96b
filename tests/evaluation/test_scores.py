"""Score files of any system, in each form, as they come and as they should not."""

import csv
import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from keyframe.evaluation.scores import ScoreFile, check_new, read_scores_file, write_scores_file
from keyframe.evaluation.video import label_eval_video
from keyframe.types import KeyframeError, VideoError
from tests.evaluation.example import labels_of

FORMS = (".json", ".csv", ".npz", ".h5")


def video_of(frames, name="clip"):
    return label_eval_video(name, labels_of(np.random.default_rng(0).integers(0, 5, (3, frames)) / 4))


def at(scores, frames):
    return ScoreFile(Path("theirs.json"), {"clip": scores}).at(video_of(frames))


def test_what_is_written_is_read_again_to_the_bit(tmp_path):
    rng = np.random.default_rng(0)
    scores = {"file": rng.random(7), "=1+1": -1e9 * rng.random(3).astype(np.float32), "vidéo 2": np.array([0.1])}
    for form in FORMS:
        write_scores_file(tmp_path / f"a{form}", scores)
        read = read_scores_file(tmp_path / f"a{form}").scores
        assert set(read) == set(scores)
        for name, values in scores.items():
            np.testing.assert_array_equal(np.asarray(read[name], np.float64), values.astype(np.float64))


def test_forms_that_other_systems_write(tmp_path):
    expected = [0.5, 1.0, 0.25]
    (tmp_path / "a.json").write_text(json.dumps({"video_1": expected}))
    np.savez(tmp_path / "a.npz", video_1=np.array(expected, np.float16)[:, None])
    np.savez_compressed(tmp_path / "b.npz", video_1=expected)
    with h5py.File(tmp_path / "a.h5", "w") as file:  # as KaiyangZhou/pytorch-vsumm-reinforce writes its result.h5
        file["video_1/score"], file["video_1/machine_summary"] = expected, [0, 1]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["video", "score"], *(["video_1", score] for score in expected)])
    for path in tmp_path.iterdir():
        scores = read_scores_file(path).of({"xyz": "video_1"}).at(video_of(31, "xyz"))
        assert scores.tolist() == expected, path


def test_frames_picks_and_seconds_are_told_apart_by_length():
    # 10 s of 30 frames, and 25 frames a second: 0, 15, 30 ... are the picks
    assert at(np.arange(300), 300).tolist() == list(range(0, 300, 15))
    assert at(np.arange(20), 300).tolist() == list(range(20))
    assert at(np.arange(10), 300).tolist() == [pick // 30 for pick in range(0, 300, 15)]
    assert at(np.arange(12), 300).tolist() == [pick // 25 for pick in range(0, 300, 15)]
    for count in (1, 2, 19, 21, 299, 301):
        with pytest.raises(VideoError, match=f"has {count} scores of clip, which has 300 frames and 20 picks"):
            at(np.zeros(count), 300)
    kinds = {"a": np.zeros(300), "b": np.zeros(20), "c": np.zeros(20), "d": np.zeros(10)}
    note = ScoreFile(Path("theirs.json"), kinds).note([video_of(300, name) for name in "abcd"])
    assert "per frame (1 video), per pick (2 videos), per second (1 video)" in note


def test_scores_of_one_video_that_cannot_be_used():
    for bad, words in (
        ([0.1, float("nan"), 0.2], "score 1 of clip is not finite"),
        ([0.1, 0.2, 1e999], "score 2 of clip"),
        ([0.1, None, 0.2], "score 1 of clip"),
        ([], "no list of numbers"),
        ({"a": 1}, "no list of numbers"),
        ([[1, 2], [3]], "no list of numbers"),
        (np.zeros((3, 3)), "no list of numbers"),
        (["0.1", "high", "0.2"], "no list of numbers"),
        ([10**400, 0, 0], "no list of numbers"),
        ("text", "no list of numbers"),
    ):
        with pytest.raises(VideoError, match=words):
            at(bad, 45)


def test_unknown_videos_are_kept_apart_and_none_that_is_known_is_refused():
    file = ScoreFile(Path("theirs.json"), {"video_1": [1], "b": [2], "other": [3]})
    found = file.of({"a": "video_1", "b": "b", "c": "c"})
    assert (found.scores, found.others) == ({"a": [1], "b": [2]}, ["other"])
    with pytest.raises(KeyframeError, match=r"scores of video_1, b, other, and of none of the 1 videos .*\(c\)"):
        file.of({"c": "video_3"})


class Touch:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def npz(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)


def test_files_that_are_damaged_or_hostile(tmp_path):
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "deep.json").write_text("[" * 200_000)
    (tmp_path / "half.json").write_text('{"a": [1,')
    (tmp_path / "empty.json").write_text("{}")
    (tmp_path / "control.json").write_text('{"a\\u001b[2J": [1]}')
    (tmp_path / "columns.csv").write_text("video,frame,score\na,0,1\n")
    (tmp_path / "twice.json").write_text('{"a": [1], "b": [2], "a": [3]}')
    (tmp_path / "ragged.csv").write_text("video,score\n\na,1\na\n")
    (tmp_path / "none.csv").touch()
    (tmp_path / "text.npz").write_text("scores")
    (tmp_path / "text.h5").write_text("scores")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(2**40)
    np.savez(tmp_path / "pickle.npz", a=np.array([Touch(tmp_path / "pwned")], dtype=object))
    np.savez(tmp_path / "words.npz", a=np.array(["a"]))
    lie = io.BytesIO()
    np.lib.format.write_array_header_1_0(lie, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
    npz(tmp_path / "lie.npz", a=lie.getvalue())
    npz(tmp_path / "bomb.npz", a=b"\0" * (2**26 + 1))
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["a"] = h5py.ExternalLink("other.h5", "/a")
    for name, words in {
        "gone.json": "there is no file",
        "a.txt": "is not a score file: name a .json, .csv, .npz, .h5 file",
        "list.json": "not a JSON object",
        "deep.json": "nested too deeply",
        "half.json": "cannot be read as JSON",
        "empty.json": "holds no scores",
        "control.json": "control characters",
        "columns.csv": "has the columns video, frame, score: it needs video and score",
        "twice.json": "cannot be read as JSON .it has 'a' twice",
        "ragged.csv": "cannot be read as CSV .line 4 has 1 columns, the first line 2",
        "none.csv": "cannot be read as CSV .it is empty",
        "text.npz": "cannot be read as .npz",
        "text.h5": "cannot be read as HDF5",
        "large.json": "larger than 32 MiB",
        "pickle.npz": "without pickled objects",
        "words.npz": "not numbers",
        "lie.npz": "cannot be read as .npz",
        "bomb.npz": "larger than 64 MiB",
        "link.h5": "links are not followed",
    }.items():
        with pytest.raises(KeyframeError, match=words):
            read_scores_file(tmp_path / name)
    assert not (tmp_path / "pwned").exists()


def test_nothing_is_overwritten_and_an_id_that_a_form_cannot_hold(tmp_path):
    (tmp_path / "mine.json").write_text("mine")
    for name, words in {
        "mine.json": "exists already",
        "no/a.json": "there is no folder",
        "a.txt": "is not a score file",
    }.items():
        with pytest.raises(KeyframeError, match=words):
            check_new(tmp_path / name)
    check_new(tmp_path / "new.npz")
    with pytest.raises(KeyframeError, match="cannot hold the id a/b"):
        write_scores_file(tmp_path / "a.h5", {"a/b": np.zeros(1)})
    assert not (tmp_path / "a.h5").exists()
