"""The contract of label files: every form that says the same gives the same labels, found by itself or by its key."""

import json
import logging

import numpy as np
import pytest

from keyframe.data.folder import DirectorySource
from keyframe.data.labels import read_labels
from keyframe.types import KeyframeError
from tests.conftest import made_once
from tests.data.summe import write_gt
from tests.videos import write_video

# Two videos of 10 frames per second; two annotators, what each keeps of a (6 s) in seconds. One keeps a part of b.
FRAMES = {"a": 60, "b": 50}
KEPT = {"a": [[(1, 2), (4, 6)], [(0, 2)]], "b": [[(3, 4)], [(0, 1)]]}
SCORES = {"a": [1, 5, 3, 2, 2, 4], "b": [5, 1, 1, 3, 3]}  # one per second, on 1 ... 5


def kept(name):
    """Whether each annotator keeps each frame: the seconds of KEPT at 10 frames per second."""
    tracks = np.zeros((2, FRAMES[name]))
    for track, spans in zip(tracks, KEPT[name], strict=True):
        for start, end in spans:
            track[10 * start : 10 * end] = 1
    return tracks


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    def make(root):
        for name, frames in FRAMES.items():
            write_video(root / f"{name}.mp4", frames=frames, size=(64, 48), fps=10)

    return made_once(tmp_path_factory, "label_forms", make)


@pytest.fixture
def root(videos, tmp_path):
    (tmp_path / "videos").symlink_to(videos)
    return tmp_path


def _summe(root):
    (root / "GT").mkdir()
    for name in FRAMES:
        write_gt(root / "GT" / f"{name}.mat", 3 * kept(name).T)
    return root / "GT"


def _tsv(root):
    rows = [f"{name}\t\t{','.join(f'{x:g}' for x in track)}\n" for name in FRAMES for track in kept(name)]
    (root / "anno.tsv").write_text("".join(rows))
    return root / "anno.tsv"


def _dsnet_folder(root):
    (root / "labels").mkdir()
    for name in FRAMES:
        content = {"user_summary": kept(name).astype(int).tolist()}
        (root / "labels" / f"{name}.json").write_text(json.dumps(content))
    return root / "labels"


def _json(root):
    content = {name: {"user_summary": kept(name).tolist()} for name in FRAMES}
    (root / "labels.json").write_text(json.dumps(content))
    return root / "labels.json"


SPANS = [
    (name, start, end, f"user {user}")
    for name in FRAMES
    for user, spans in enumerate(KEPT[name])
    for start, end in spans
]


def _csv(root, delimiter=",", suffix="csv"):
    rows = [("Video", "start", "end", "annotator"), *SPANS]
    text = "".join(delimiter.join(map(str, row)) + "\r\n" for row in rows)
    (root / f"labels.{suffix}").write_text(text, encoding="utf-8-sig", newline="")
    return root / f"labels.{suffix}"


def _segments_tsv(root):
    return _csv(root, "\t", "tsv")


def _records(root):
    rows = [dict(zip(("video", "start", "end", "annotator"), span, strict=True)) for span in SPANS]
    (root / "labels.json").write_text(json.dumps(rows))
    return root / "labels.json"


@pytest.mark.parametrize("write", [_summe, _tsv, _dsnet_folder, _json, _csv, _segments_tsv, _records])
def test_what_annotators_have_selected(write, root):
    path = write(root)
    for labels in (None, str(path)):
        found = {video.id: video.labels for video in DirectorySource(str(root), labels).videos()}
        assert list(found) == ["a", "b"]
        for name, one in found.items():
            assert one.selections
            np.testing.assert_array_equal(one.annotators, kept(name))
            np.testing.assert_array_equal(one.importance, kept(name).mean(0).astype(np.float32))


def _scores_csv(root):
    rows = [f"{name};{second};{second + 1};{x}" for name in FRAMES for second, x in enumerate(SCORES[name])]
    (root / "labels.csv").write_text("\n".join(["video;start;end;score", *rows]))


def _scores_json(root):
    content = {name: {"scores": np.repeat(SCORES[name], 10).tolist()} for name in FRAMES}
    (root / "labels.json").write_text(json.dumps(content))


def _segments_json(root):
    content = {name: {"segments": [[n, n + 1, x] for n, x in enumerate(SCORES[name])]} for name in FRAMES}
    (root / "labels.json").write_text(json.dumps(content))


def _scores_per_second(root):
    (root / "a.tsv").write_text("".join(f"{name}\t\t{','.join(map(str, SCORES[name]))}\n" for name in FRAMES))


@pytest.mark.parametrize("write", [_scores_csv, _scores_json, _segments_json, _scores_per_second])
def test_what_annotators_have_scored(write, root):
    write(root)
    for video in DirectorySource(str(root)).videos():
        expected = np.repeat((np.array(SCORES[video.id]) - 1) / 4, 10)
        assert not video.labels.selections
        np.testing.assert_allclose(video.labels.annotators, [expected], atol=1e-7)
        np.testing.assert_allclose(video.labels.importance, expected, atol=1e-7)
    # the same file on a scale of 0 to 10
    for video in DirectorySource(str(root), lowest=0, highest=10).videos():
        np.testing.assert_allclose(video.labels.importance, np.repeat(np.array(SCORES[video.id]) / 10, 10), atol=1e-7)


def test_a_score_per_shot_is_told_by_length_and_duration(root, caplog):
    # 6 s and 5 s in shots of 2 s: the last of b is half as long
    (root / "a.tsv").write_text("a\t\t1,5,3\nb\t\t5,1,3\n")
    with caplog.at_level(logging.INFO, "keyframe.data.sampling"):
        a, b = DirectorySource(str(root)).videos()
    np.testing.assert_array_equal(a.labels.importance, np.repeat([0, 1, 0.5], 20))
    np.testing.assert_array_equal(b.labels.importance, np.repeat([1, 0, 0.5], 20)[:50])
    assert "a.mp4 has 60 frames, 6.0 s, and 3 labels: taken as one per shot of 2 seconds" in caplog.text


def test_a_keyframe_stands_for_the_second_around_it(root):
    (root / "labels.json").write_text(json.dumps({"a": {"keyframes": [0.2, 3]}, "b": {"keyframes": [4.9]}}))
    (root / "labels.csv").write_text("video,time\na,0.2\na,3\nb,4.9\n")
    for labels in ("labels.json", "labels.csv"):
        a, b = DirectorySource(str(root), str(root / labels)).videos()
        assert a.labels.selections
        assert np.flatnonzero(a.labels.annotators[0]).tolist() == [*range(7), *range(25, 35)]
        assert np.flatnonzero(b.labels.annotators[0]).tolist() == list(range(44, 50))


HEADER = "video,start,end,score,annotator\n"
BAD = {
    "overlapping segments": ("labels.csv", HEADER + "a,0,2,1,x\na,1.5,3,1,x\n", r"line 3: .* 1\.5 to 3 s overlaps"),
    "a segment that ends before it starts": ("labels.csv", HEADER + "a,2,1,1,x\n", "line 2: the segment starts at 2 s"),
    "scores of some": ("labels.csv", HEADER + "a,0,1,1,x\na,1,2,,x\n", "line 3 has end, start, video, the rows before"),
    "another scale": ("labels.csv", HEADER + "a,0,1,1,x\na,1,2,7,x\n", r"line 3: score 7 lies outside \[1, 5\]"),
    "no number": ("labels.csv", HEADER + "a,0,1:30,1,x\n", "line 2: end '1:30' is not a number"),
    "before the video": ("labels.csv", HEADER + "a,-1,1,1,x\n", "line 2: start -1 lies before the video"),
    "another video's length": (
        "labels.csv",
        HEADER + "a,0,90,1,x\nb,0,1,1,x\n",
        r"goes to 90 s, and .*a\.mp4 lasts 6 s",
    ),
    "a column too many": ("labels.csv", HEADER + "a,0,1,1,x,y\n", "line 2: a row needs 5 columns"),
    "a misspelt column": ("labels.csv", "video,start,end,scroe\na,0,1,1\n", "line 2: the columns must be video"),
    "no rows": ("labels.csv", HEADER, "holds no labels"),
    "an escape": ("labels.csv", HEADER + "\x1b[2J,0,1,1,x\n", "holds control characters"),
    "no table": ("labels.csv", "id,score\na,3\n", r"line 1: a row needs 3 columns separated by tabs"),
    "cut off": ("labels.json", '{"a": {"scores": [1, 2', "cannot be read as JSON"),
    "nested": ("labels.json", "[" * 100000, "nested too deeply"),
    "a number": ("labels.json", "3", "needs an object per video"),
    "uneven lists": ("labels.json", '{"a": {"user_summary": [[0, 1], [1]]}}', "a list of one length per annotator"),
    "a scale as selections": ("labels.json", '{"a": {"user_summary": [[0, 3]]}}', "must be 0 and 1: call it scores"),
    "texts": ("labels.json", '{"a": {"scores": ["1", "2"]}}', "scores must be numbers"),
    "NaN": ("labels.json", '{"a": {"scores": [1, NaN]}}', "score nan of frame 1 lies outside"),
    "two forms": ("labels.json", '{"a": {"scores": [1], "keyframes": [1]}}', "needs one of user_summary"),
    "a list": ("labels.json", '{"a": [1, 2]}', "needs one of user_summary"),
    "half a segment": ("labels.json", '{"a": {"segments": [[1]]}}', r"must be \[start, end, score\]"),
    "a row that is none": ("labels.json", "[1]", "row 1 is not an object"),
    "an unknown video": ("labels.json", '{"c": {"scores": [1]}}', r"none of the 1 labelled videos \(c\)"),
    "too many annotators": (
        "labels.csv",
        HEADER + "".join(f"a,0,1,1,{n}\n" for n in range(1001)),
        "has 1001 annotators, over 1000",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_is_wrong_is_one_sentence(fault, root):
    name, text, message = BAD[fault]
    (root / name).write_text(text)
    with pytest.raises(KeyframeError, match=rf"{'' if 'unknown' in fault else name}.*{message}") as caught:
        DirectorySource(str(root)).videos()
    assert "\n" not in str(caught.value)


def test_times_without_videos_and_huge_files_are_refused(root):
    with pytest.raises(KeyframeError, match=r"labels\.csv holds times, which need the videos"):
        read_labels(_csv(root))
    with (root / "labels.json").open("wb") as file:
        file.truncate(4 << 30)
    with pytest.raises(KeyframeError, match=r"labels\.json cannot be read as JSON \(it is larger than 64 MiB\)"):
        read_labels(root / "labels.json")


def test_a_video_that_cannot_be_read_does_not_stop_the_others(videos, tmp_path):
    for path in videos.glob("*.mp4"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "c.mp4").write_text("no video")
    (tmp_path / "labels.csv").write_text("video,start,end\na,0,1\nb,0,1\nc,0,1\n")
    assert [video.id for video in DirectorySource(str(tmp_path)).videos()] == ["a", "b", "c"]
