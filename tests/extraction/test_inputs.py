"""What users name: files, folders, patterns and lists."""

import pytest

from keyframe.extraction.inputs import find_inputs
from keyframe.extraction.staging import Refused, Staging
from keyframe.types import KeyframeError


def touch(place, *names):
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()


def test_inputs(tmp_path):
    touch(
        tmp_path, "clip10.mp4", "clip2.MP4", "notes.txt", ".hidden.mp4", "deep/er/x.mkv", "out/a/skim.mp4", "[1] a.mp4"
    )
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "l.txt").write_text("# comment\n\n ../clip2.MP4 \n../deep/er\nmissing.mp4\n../clip2.MP4\n")

    def found(*inputs, recursive=False):
        paths = find_inputs([str(tmp_path / one) for one in inputs], recursive, [tmp_path / "out"], Staging(tmp_path))
        return [path.resolve().relative_to(tmp_path).as_posix() for path in paths]

    assert found("") == ["[1] a.mp4", "clip2.MP4", "clip10.mp4"]
    assert found("", recursive=True) == ["[1] a.mp4", "clip2.MP4", "clip10.mp4", "deep/er/x.mkv"]
    assert found("clip*") == ["clip2.MP4", "clip10.mp4"]
    assert found("[1] a.mp4", "gone.mp4") == ["[1] a.mp4", "gone.mp4"]
    assert found("**/*.mkv") == ["deep/er/x.mkv"]
    assert found("lists/l.txt") == ["clip2.MP4", "deep/er/x.mkv", "lists/missing.mp4"]
    assert found("out/a/skim.mp4") == ["out/a/skim.mp4"]


def test_an_input_without_a_video_is_refused_and_the_others_are_found(tmp_path):
    touch(tmp_path, "a.mp4", "deep/er/x.mkv", "out/a/skim.mp4")
    (tmp_path / "prose.txt").write_text("Dear diary,\nwhat a holiday!\nMore tomorrow?\n")
    (tmp_path / "binary.txt").write_bytes(b"a.mp4\n\0\n")
    (tmp_path / "latin.txt").write_bytes("été.mp4\n".encode("latin-1"))
    (tmp_path / "outer.txt").write_text("list.txt\n")
    (tmp_path / "list.txt").write_text("a.mp4\ndeep\nprose.txt\n")
    wrong = {
        "deep": "holds no videos",
        "no*thing": "matches no file",
        "prose.txt": "lists no file that exists",
        "binary.txt": "is not a readable list",
        "latin.txt": "is not a readable list",
        "outer.txt": "is a list within a list",
        "list.txt": "",
    }
    found = find_inputs([str(tmp_path / name) for name in wrong], False, [tmp_path / "out"], Staging(tmp_path / "in"))
    refused = {str(one.path): one.reason for one in found if isinstance(one, Refused)}
    assert [one.name for one in found if not isinstance(one, Refused)] == ["a.mp4"]
    assert len(refused) == 6
    for words, (path, reason) in zip(wrong.values(), refused.items(), strict=False):
        assert reason.startswith(path) and words in reason and reason.endswith(".")


def test_a_folder_that_only_leads_to_results_is_passed_over(tmp_path, caplog):
    touch(tmp_path, "a.mp4", "outputs/extract/a/skim.mp4", "outputs/logs/now/videos.csv")
    outputs, video = tmp_path / "outputs", tmp_path / "a.mp4"
    ours = [outputs / "extract", outputs / "logs" / "now"]
    for recursive in (False, True):
        caplog.clear()
        with caplog.at_level("INFO"):
            assert find_inputs([str(video), str(outputs)], recursive, ours, Staging(tmp_path / "in")) == [video]
        assert caplog.messages == [f"Skipped {outputs}: results are written there"]
        for place in ours:
            assert find_inputs([str(video), str(place)], recursive, ours, Staging(tmp_path / "in")) == [video]
        with pytest.raises(KeyframeError, match=r"outputs (holds|names) no video"):
            find_inputs([str(outputs)], recursive, ours, Staging(tmp_path / "in"))
