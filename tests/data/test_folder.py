"""Where videos and labels are found, and how they are paired; the files are empty, only their names matter."""

import logging

import numpy as np
import pytest

from keyframe.data.container import VIDEO_SUFFIXES
from keyframe.data.folder import DirectorySource, find_label_file, find_videos, match
from keyframe.types import KeyframeError, Labels

RELEASE = "ydata-tvsum50-v1_1"


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _labels(*names):
    return {name: Labels(np.zeros(3, np.float32), np.zeros((0, 3), np.float32), name) for name in names}


def test_videos_are_found_by_suffix_and_sorted(tmp_path):
    _touch(
        tmp_path,
        "d.mp4",
        "videos/c.MKV",
        "video/b.webm",
        "a.AVI",
        "e.Mov",
        "notes.txt",
        "._d.mp4",
        "f.mp4.part",
    )
    _touch(tmp_path, "deep/er/g.mp4")
    videos = find_videos(tmp_path)
    assert list(videos) == ["a", "b", "c", "d", "e"]
    assert videos["c"] == tmp_path / "videos" / "c.MKV"
    _touch(tmp_path / "all", *(f"{suffix[1:]}{suffix}" for suffix in VIDEO_SUFFIXES), "qt.gif")
    assert find_videos(tmp_path / "all").keys() == {suffix[1:] for suffix in VIDEO_SUFFIXES}


def test_videos_of_the_official_release_are_found(tmp_path):
    folders = ("video", f"{RELEASE}/video", f"{RELEASE}/ydata-tvsum50-video/video", f"tvsum50_ver_1_1/{RELEASE}/video")
    for number, folder in enumerate(folders):
        root = _touch(tmp_path / str(number), f"{folder}/-esJrBWj2d8.mp4", f"{folder}/_xMr-HKMfVA.mp4")
        found = {name: root / folder / f"{name}.mp4" for name in ("-esJrBWj2d8", "_xMr-HKMfVA")}
        assert find_videos(root) == found


def test_two_files_of_one_video(tmp_path):
    _touch(tmp_path, "a.mp4", "videos/a.mkv")
    with pytest.raises(KeyframeError) as caught:
        find_videos(tmp_path)
    assert str(tmp_path / "a.mp4") in str(caught.value)
    assert str(tmp_path / "videos" / "a.mkv") in str(caught.value)


def test_a_webm_beside_another_file_of_its_name_is_a_copy(tmp_path):
    _touch(tmp_path, "videos/a.mp4", "videos/a.webm", "videos/b.webm")
    assert [path.name for path in find_videos(tmp_path).values()] == ["a.mp4", "b.webm"]
    _touch(tmp_path, "b.mp4")
    with pytest.raises(KeyframeError, match=r"are both the video b"):
        find_videos(tmp_path)


def test_one_folder_under_two_names_is_one_folder(tmp_path):
    _touch(tmp_path, "video/a.mp4")
    try:
        (tmp_path / "videos").symlink_to(tmp_path / "video", target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    assert list(find_videos(tmp_path)) == ["a"]


def test_no_videos(tmp_path):
    with pytest.raises(KeyframeError, match=r"no directory .*gone.*data\.root"):
        find_videos(tmp_path / "gone")
    _touch(tmp_path, "videos/readme.txt", "deep/er/a.mp4")
    with pytest.raises(KeyframeError, match=r"no video .*data\.root") as caught:
        find_videos(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_match_pairs_by_id_in_the_order_of_the_labels(tmp_path):
    videos = find_videos(_touch(tmp_path, "a.mp4", "b.mp4", "c.mp4"))
    labels = _labels("c", "a", "b")
    matched = match(videos, labels)
    assert [video.id for video in matched] == ["c", "a", "b"]
    assert all(video.path == videos[video.id] and video.labels is labels[video.id] for video in matched)


def test_match_refuses_what_has_no_counterpart(tmp_path):
    videos = find_videos(_touch(tmp_path, "a.mp4", "b.mp4", "c.mp4"))
    with pytest.raises(KeyframeError, match=r"4 labels without a video \(d, e, f \.\.\.\).*data\.allow_missing"):
        match(videos, _labels("a", "b", "c", "d", "e", "f", "g"))
    with pytest.raises(KeyframeError, match=r"2 videos without labels \(b, c\).*data\.allow_missing=true"):
        match(videos, _labels("a"), allow_missing=False)
    with pytest.raises(KeyframeError, match=r"1 labels .*\(x\) and 1 videos .*\(c\)"):
        match(videos, _labels("a", "b", "x"))


def test_match_leaves_out_counts_and_tells_where_allowed(tmp_path, caplog):
    videos = find_videos(_touch(tmp_path, "a.mp4", "b.mp4", "c.mp4"))
    with caplog.at_level(logging.INFO, "keyframe.data.folder"):
        matched = match(videos, _labels("x", "b", "y", "a"), allow_missing=True)
    assert [video.id for video in matched] == ["b", "a"]
    message = caplog.records[-1].getMessage()
    assert "2 labels without a video (x, y)" in message
    assert "1 videos without labels (c)" in message


def test_match_with_nothing_in_common(tmp_path):
    videos = find_videos(_touch(tmp_path, "a.mp4"))
    with pytest.raises(KeyframeError, match=r"none of the 1 labelled videos \(x\).*data\.root") as caught:
        match(videos, _labels("x"), allow_missing=True)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(KeyframeError, match=r"data\.root"):
        match({}, _labels("x"), allow_missing=True)


LABEL_FILES = [
    (["anno.tsv"], "anno.tsv"),
    (["data/anno.TSV", "a.h5"], "data/anno.TSV"),
    (["a.h5", "anno.tsv", "matlab/ydata-tvsum50.mat"], "matlab/ydata-tvsum50.mat"),
    (["matlab/ydata-tvsum50.mat", "matlab/._ydata-tvsum50.mat"], "matlab/ydata-tvsum50.mat"),
    (["GT/b.mat", "GT/a.mat", "GT/._a.mat", "videos/a.mp4"], "GT"),
    (["anno.tsv", "GT/a.mat"], "anno.tsv"),
    # the release as its archives unpack: in place, each into its own folder, or below the outer folder
    ([f"{RELEASE}/data/anno.tsv", f"{RELEASE}/data/ydata-tvsum50-info.tsv"], f"{RELEASE}/data/anno.tsv"),
    ([f"{RELEASE}/data/anno.tsv", f"{RELEASE}/matlab/a.mat"], f"{RELEASE}/matlab/a.mat"),
    (["ydata-tvsum50-matlab/matlab/a.mat"], "ydata-tvsum50-matlab/matlab/a.mat"),
    (
        [f"tvsum50_ver_1_1/{RELEASE}/ydata-tvsum50-data/data/anno.tsv"],
        f"tvsum50_ver_1_1/{RELEASE}/ydata-tvsum50-data/data/anno.tsv",
    ),
]


def test_a_label_file_is_found(tmp_path):
    for number, (files, expected) in enumerate(LABEL_FILES):
        root = _touch(tmp_path / str(number), *files)
        assert find_label_file(root) == root / expected


def test_label_file_is_not_guessed(tmp_path):
    _touch(tmp_path, "elsewhere/ydata-tvsum50.mat", "data/ydata-tvsum50-info.tsv")
    with pytest.raises(KeyframeError, match=r"no label file .*data\.labels") as caught:
        find_label_file(tmp_path)
    assert str(tmp_path) in str(caught.value)
    _touch(tmp_path, "a.tsv", "data/b.tsv")
    with pytest.raises(KeyframeError, match=r"2 \.tsv files \(a\.tsv, data.b\.tsv\).*data\.labels") as caught:
        find_label_file(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(KeyframeError, match=r"no directory .*gone.*data\.root"):
        find_label_file(tmp_path / "gone")


def test_several_folders_are_one_data_set(tmp_path):
    labels = ",".join(["1"] * 60)
    for place, names in {"a/set": ["x", "y"], "b/set": ["x", "z"]}.items():
        root = _touch(tmp_path / place, *(f"videos/{name}.mp4" for name in names))
        (root / "anno.tsv").write_text("".join(f"{name}\tnews\t{labels}\n" for name in names))
    roots = [str(tmp_path / "a" / "set"), str(tmp_path / "b" / "set")]
    (tmp_path / "b" / "set" / "anno.tsv").rename(tmp_path / "b.tsv")
    videos = DirectorySource(roots, [None, str(tmp_path / "b.tsv")]).videos()
    assert [(video.id, video.folder) for video in videos] == [
        *(("a/set/x", "a/set"), ("y", "a/set")),
        *(("b/set/x", "b/set"), ("z", "b/set")),
    ]
    assert [(video.id, video.folder) for video in DirectorySource(roots[:1]).videos()] == [("x", "set"), ("y", "set")]
    # each with a scale of its own
    for place, score in (("a/set/anno.tsv", 4), ("b.tsv", 7)):
        text = (tmp_path / place).read_text()
        (tmp_path / place).write_text(text.replace("1", str(score)))
    both = DirectorySource(roots, [None, str(tmp_path / "b.tsv")], lowest=[1, 0], highest=[5, 10])
    found = {video.folder: video.labels.importance for video in both.videos()}
    assert [one[0] for one in found.values()] == pytest.approx([0.75, 0.7])
    with pytest.raises(KeyframeError, match=r"b\.tsv, line 1: score 7 of frame 0 lies outside \[1, 5\]"):
        DirectorySource(roots, [None, str(tmp_path / "b.tsv")]).videos()
    with pytest.raises(KeyframeError, match=r"data\.highest=\[5\] must be one number, or a list .* there are 2"):
        DirectorySource(roots, highest=[5])
    for given, named, says in (
        (roots, str(tmp_path / "b.tsv"), r"labels of each of the 2 folders.*null for those"),
        (roots, [None], r"labels of each of the 2 folders"),
        ([roots[0], roots[0] + "/"], None, r"each once"),
        ([], None, r"one folder or several"),
        (roots, None, rf"no label file .* in {roots[1]}"),
        ([roots[0], roots[0] + "/videos"], [None, roots[0] + "/anno.tsv"], r"x.mp4 is in 2 folders"),
    ):
        with pytest.raises(KeyframeError, match=says):
            DirectorySource(given, named).videos()
