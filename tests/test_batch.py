"""Many videos: names of folders, what is skipped, and that no video stops another."""

import dataclasses
import json
import shutil

import pytest

from keyframe.data.pyav_reader import PyAVReader
from keyframe.extraction.engines import ExtractionSpec, Extractor, VideoJob, VideoResult, plan, run_local
from keyframe.extraction.extract import Settings
from keyframe.extraction.inputs import Refused, find_inputs
from keyframe.files import content_hash
from keyframe.summary.selection import UniformSelection
from keyframe.summary.shots import KtsShots
from keyframe.types import KeyframeError
from tests.dying import Dies
from tests.videos import write_video

RECIPE = ExtractionSpec(KtsShots(), UniformSelection(k=1), PyAVReader())


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three different videos, a, b and c; b lasts longer than a second."""
    place = tmp_path_factory.mktemp("videos")
    return [
        write_video(place / f"{name}.mp4", frames=frames, seed=seed)
        for seed, (name, frames) in enumerate({"a": 10, "b": 40, "c": 10}.items())
    ]


def copied(video, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return shutil.copy(video, path)


def names(entries):
    return [entry.directory.name if entry.directory else None for entry in entries]


def do(paths, output, recipe=RECIPE, **options):
    """Plan and do; the outcomes in order."""
    extractor = Extractor(recipe)
    entries = plan(paths, output, recipe, **options)
    return [extractor(entry) if isinstance(entry, VideoJob) else entry for entry in entries]


def test_a_second_start_skips_what_is_done(videos, tmp_path):
    assert [one.status for one in do(videos[:2], tmp_path)] == ["done", "done"]
    before = (tmp_path / "a" / "summary.json").stat().st_mtime_ns
    again = do(videos, tmp_path)
    assert [one.status for one in again] == ["skipped", "skipped", "done"]
    assert again[0].keyframes == 1 and "done before" in again[0].notes
    assert (tmp_path / "a" / "summary.json").stat().st_mtime_ns == before
    assert [one.status for one in do(videos[:1], tmp_path, overwrite=True)] == ["done"]


@pytest.mark.parametrize(
    "change",
    [
        {"selector": UniformSelection(k=1, min_distance=2)},
        {"shots": KtsShots(penalty=0.2)},
        {"settings": Settings(rate=3.0)},
        {"settings": Settings(summary_video=True)},
        {"reader": PyAVReader(max_missing=0.5)},
    ],
)
def test_other_settings_are_other_work(change, videos, tmp_path):
    do(videos[:1], tmp_path)
    assert isinstance(plan(videos[:1], tmp_path, dataclasses.replace(RECIPE, **change))[0], VideoJob)
    same = dataclasses.replace(RECIPE, threads=7, reader=PyAVReader(threads=7), device="cpu")
    assert isinstance(plan(videos[:1], tmp_path, same)[0], VideoResult)


def test_what_lacks_a_file_or_its_content_is_done_again(videos, tmp_path):
    video = copied(videos[0], tmp_path / "in" / "v.mp4")
    out = tmp_path / "out"
    do([video], out)
    next((out / "v").glob("keyframe_*.jpg")).unlink()
    assert isinstance(plan([video], out, RECIPE)[0], VideoJob)
    copied(videos[1], video)  # Another video under the same name does not replace the first one's results.
    (job,) = plan([video], out, RECIPE)
    assert job.directory.name == f"v-{content_hash(video)[:8]}"


def test_videos_of_one_name_have_folders_of_their_own_in_any_order(videos, tmp_path):
    one = copied(videos[0], tmp_path / "1" / "v.mp4")
    two = copied(videos[1], tmp_path / "2" / "v.mkv")
    three = copied(videos[2], tmp_path / "3" / "V.mp4")
    out = tmp_path / "out"
    first = names(do([one, two, three], out))
    assert first == ["v", f"v-{content_hash(two)[:8]}", f"V-{content_hash(three)[:8]}"]
    again = do([three, two, one], out)
    assert names(again) == first[::-1] and {one.status for one in again} == {"skipped"}


def test_the_same_video_twice_is_done_once(videos, tmp_path):
    copy = copied(videos[0], tmp_path / "2" / "a.mp4")
    done, skipped = do([videos[0], copy], tmp_path / "out")
    assert (done.status, skipped.status) == ("done", "skipped")
    assert "same video" in skipped.notes


def test_a_folder_that_is_not_ours_is_left_alone(videos, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "summary.json").write_text('{"mine": true}')
    (done,) = do(videos[:1], tmp_path)
    assert done.directory.name == f"a-{content_hash(videos[0])[:8]}"
    assert (tmp_path / "a" / "summary.json").read_text() == '{"mine": true}'


def test_bad_files_among_good_ones(videos, tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(videos[1].read_bytes()[:-2000])
    outcomes = do([tmp_path / "missing.mp4", text, videos[0], tmp_path, cut], tmp_path / "out")
    assert [one.status for one in outcomes] == ["failed", "failed", "done", "failed", "failed"]
    reasons = [one.notes for one in outcomes if one.status == "failed"]
    for path, reason in zip(["missing.mp4", "text.mp4", str(tmp_path), "cut.mp4"], reasons, strict=True):
        assert path in reason and reason.endswith(".")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_every_byte_of_a_small_file_counts_and_the_size_of_a_large_one(tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(bytes(5000))
    before = content_hash(small)
    small.write_bytes(bytes(2500) + b"\x01" + bytes(2499))
    assert content_hash(small) != before
    large.write_bytes(bytes(3 << 20))
    before = content_hash(large)
    large.write_bytes(bytes((3 << 20) + 1))
    assert content_hash(large) != before


def test_an_output_that_cannot_be_written(videos, tmp_path):
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(KeyframeError, match=r"output=.*cannot be written"):
            plan(videos, output, RECIPE)


def test_processes_give_what_one_gives_and_one_that_dies_takes_only_its_video(videos, tmp_path):
    recipe = dataclasses.replace(RECIPE, selector=Dies(k=1))
    a, b, c = videos
    do([a, c], tmp_path / "one", recipe)
    jobs = plan([b, a, c], tmp_path / "many", recipe)
    outcomes = {one.path: one for one in run_local(recipe, jobs, 2)}
    assert {path: one.status for path, one in outcomes.items()} == {a: "done", b: "failed", c: "done"}
    assert "exit status -9" in outcomes[b].notes
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == ["a", "c"]
    for name in ("a", "c"):
        for file in ("summary.json", "scores.csv"):
            assert (tmp_path / "one" / name / file).read_bytes() == (tmp_path / "many" / name / file).read_bytes()


def test_a_checkpoint_that_is_none_stops_all_at_once(videos, tmp_path):
    (tmp_path / "x.ckpt").write_text("no checkpoint")
    recipe = dataclasses.replace(RECIPE, checkpoint=tmp_path / "x.ckpt")
    with pytest.raises(KeyframeError, match=r"x\.ckpt"):
        list(run_local(recipe, [VideoJob(videos[0], tmp_path / "out")]))


def test_inputs(tmp_path):
    for name in ("clip10.mp4", "clip2.MP4", "notes.txt", ".hidden.mp4", "deep/er/x.mkv", "out/a/skim.mp4", "[1] a.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "l.txt").write_text("# comment\n\n ../clip2.MP4 \n../deep/er\nmissing.mp4\n../clip2.MP4\n")

    def found(*inputs, recursive=False):
        paths = find_inputs([str(tmp_path / one) for one in inputs], recursive, [tmp_path / "out"])
        return [path.resolve().relative_to(tmp_path).as_posix() for path in paths]

    assert found("") == ["[1] a.mp4", "clip2.MP4", "clip10.mp4"]
    assert found("", recursive=True) == ["[1] a.mp4", "clip2.MP4", "clip10.mp4", "deep/er/x.mkv"]
    assert found("clip*") == ["clip2.MP4", "clip10.mp4"]
    assert found("[1] a.mp4", "gone.mp4") == ["[1] a.mp4", "gone.mp4"]
    assert found("**/*.mkv") == ["deep/er/x.mkv"]
    assert found("lists/l.txt") == ["clip2.MP4", "deep/er/x.mkv", "lists/missing.mp4"]
    assert found("out/a/skim.mp4") == ["out/a/skim.mp4"]


def test_an_input_that_leads_to_no_video_is_told_and_the_others_are_found(tmp_path):
    for name in ("a.mp4", "deep/er/x.mkv", "out/a/skim.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "prose.txt").write_text("Dear diary,\nwhat a holiday!\nMore tomorrow?\n")
    (tmp_path / "binary.txt").write_bytes(b"a.mp4\n\0\n")
    (tmp_path / "list.txt").write_text("a.mp4\ndeep\nprose.txt\n")
    wrong = {
        "deep": "holds no videos",
        "no*thing": "matches no file",
        "prose.txt": "lists no file that is there",
        "binary.txt": "is not a readable list",
        "list.txt": "",
    }
    found = find_inputs([str(tmp_path / name) for name in wrong], False, [tmp_path / "out"])
    refused = {one.path.name: one.reason for one in found if isinstance(one, Refused)}
    assert [one.name for one in found if not isinstance(one, Refused)] == ["a.mp4"]
    assert refused.keys() == wrong.keys() - {"list.txt"}
    for name, reason in refused.items():
        assert str(tmp_path / name) in reason and wrong[name] in reason and reason.endswith(".")


@pytest.mark.parametrize("recursive", [False, True])
def test_a_folder_that_only_leads_to_results_is_passed_over(recursive, tmp_path, caplog):
    for name in ("a.mp4", "outputs/extract/a/skim.mp4", "outputs/logs/now/videos.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    outputs, ours = tmp_path / "outputs", [tmp_path / "outputs" / "extract", tmp_path / "outputs" / "logs" / "now"]
    with caplog.at_level("INFO"):
        assert find_inputs([str(tmp_path / "a.mp4"), str(outputs)], recursive, ours) == [tmp_path / "a.mp4"]
    assert caplog.messages == [f"Passed over {outputs}: results go there"]
    for place in ours:
        assert find_inputs([str(tmp_path / "a.mp4"), str(place)], recursive, ours) == [tmp_path / "a.mp4"]
    with pytest.raises(KeyframeError, match=r"outputs (holds|names) no video"):
        find_inputs([str(outputs)], recursive, ours)


def test_a_summary_is_json_that_others_can_read(videos, tmp_path):
    do(videos[:1], tmp_path)
    summary = json.loads((tmp_path / "a" / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["video"]["name"] == "a.mp4"
