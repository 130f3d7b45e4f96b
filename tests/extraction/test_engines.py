"""Many videos: their folders, what is skipped, and that no video stops another."""

import dataclasses
import os
import pickle
import shutil
from collections.abc import Callable

import pytest
import torch

from keyframe.data.pyav_reader import PyAVReader
from keyframe.extraction import engines
from keyframe.extraction.engines import Extractor, VideoJob, VideoResult, plan, run_local
from keyframe.extraction.extract import ExtractionSpec
from keyframe.files import content_hash
from keyframe.summary.selection import UniformSelection
from keyframe.summary.shots import KtsShots
from keyframe.types import KeyframeError
from tests.extraction.dying import Dies
from tests.videos import write_video

SPEC = ExtractionSpec(KtsShots(), UniformSelection(k=1), PyAVReader())


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three different videos, a, b and c; b lasts 1.6 seconds."""
    place = tmp_path_factory.mktemp("videos")
    return [
        write_video(place / f"{name}.mp4", frames=frames, seed=seed)
        for seed, (name, frames) in enumerate({"a": 10, "b": 40, "c": 10}.items())
    ]


def copied(video, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return shutil.copy(video, path)


def do(paths, output, spec=SPEC, **options):
    """Plan and do; the results in order."""
    extractor = Extractor(spec)
    entries = plan(paths, output, spec, **options)
    return [extractor(entry) if isinstance(entry, VideoJob) else entry for entry in entries]


def test_a_second_start_skips_what_is_done(videos, tmp_path):
    assert [one.status for one in do(videos[:2], tmp_path)] == ["done", "done"]
    before = (tmp_path / "a" / "summary.json").stat().st_mtime_ns
    again = do(videos, tmp_path)
    assert [one.status for one in again] == ["skipped", "skipped", "done"]
    assert again[0].keyframes == 1 and "done before" in again[0].notes
    assert (tmp_path / "a" / "summary.json").stat().st_mtime_ns == before
    assert isinstance(plan(videos[:1], tmp_path, dataclasses.replace(SPEC, rate=3.0))[0], VideoJob)
    assert isinstance(plan(videos[:1], tmp_path, dataclasses.replace(SPEC, threads=7))[0], VideoResult)
    assert [one.status for one in do(videos[:1], tmp_path, overwrite=True)] == ["done"]


def test_what_lacks_a_file_or_its_content_is_done_again(videos, tmp_path):
    video = copied(videos[0], tmp_path / "in" / "v.mp4")
    out = tmp_path / "out"
    do([video], out)
    next((out / "v").glob("keyframe_*.jpg")).unlink()
    assert isinstance(plan([video], out, SPEC)[0], VideoJob)
    copied(videos[1], video)  # Another video under the same name does not replace the first one's results.
    (job,) = plan([video], out, SPEC)
    assert job.directory.name == f"v-{content_hash(video)[:8]}"


def test_videos_of_one_name_have_folders_of_their_own_in_any_order(videos, tmp_path):
    one = copied(videos[0], tmp_path / "1" / "v.mp4")
    two = copied(videos[1], tmp_path / "2" / "v.mkv")
    three = copied(videos[2], tmp_path / "3" / "V.mp4")
    first = do([one, two, three], tmp_path / "out")
    names = [entry.directory.name for entry in first]
    assert names == ["v", f"v-{content_hash(two)[:8]}", f"V-{content_hash(three)[:8]}"]
    again = do([three, two, one], tmp_path / "out")
    assert [entry.directory.name for entry in again] == names[::-1]
    assert {entry.status for entry in again} == {"skipped"}


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


def test_folders_that_are_links(videos, tmp_path):
    disk, out = tmp_path / "disk", tmp_path / "out"
    for place in (disk / "a", out):
        place.mkdir(parents=True)
    for name, target in {"a": disk / "a", "b": disk / "a", "c": tmp_path / "unmounted" / "c"}.items():
        (out / name).symlink_to(target)
    (tmp_path / "precious").write_text("mine")
    (out / ".writable").symlink_to(tmp_path / "precious")
    results = do(videos, out)
    assert [one.status for one in results] == ["done", "done", "failed"]
    assert (disk / "a" / "index.html").is_file() and results[0].directory == out / "a"
    assert results[1].directory == out / f"b-{content_hash(videos[1])[:8]}"  # `b` leads into the folder of `a`.
    assert "is a link to" in results[2].notes and not (tmp_path / "unmounted").exists()
    assert (tmp_path / "precious").read_text() == "mine" and (out / ".writable").is_symlink()
    assert [one.status for one in do(videos[:2], out)] == ["skipped", "skipped"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Meanwhile(UniformSelection):
    """Between scoring and saving something happens."""

    happens: Callable[[], object]

    def __call__(self, candidates):
        self.happens()
        return super().__call__(candidates)


def test_a_video_that_changes_before_it_is_saved(videos, tmp_path):
    video = copied(videos[1], tmp_path / "in" / "v.mp4")
    other = copied(videos[0], tmp_path / "in" / "w.mp4")
    output = tmp_path / "out"
    for change in (lambda: other.replace(video), lambda: video.open("ab").write(b"x")):
        extractor = Extractor(dataclasses.replace(SPEC, selector=Meanwhile(k=1, happens=change)))
        result = extractor(VideoJob(video, output / "v"))
        assert result.status == "failed" and "v.mp4 has changed while it was read" in result.notes
        assert not list(output.glob("*"))
    assert do([video], output)[0].status == "done"


def test_a_checkpoint_that_changes_after_the_batch_was_planned(old_run, tmp_path):
    checkpoint = copied(old_run / "checkpoints" / "best.ckpt", tmp_path / "best.ckpt")
    spec = dataclasses.replace(SPEC, checkpoint=checkpoint, device="cpu")
    assert plan([], tmp_path / "out", spec) == []
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "epoch": -1}, checkpoint)
    with pytest.raises(KeyframeError, match=r"best\.ckpt has changed since this command started: run it again"):
        Extractor(pickle.loads(pickle.dumps(spec)))


def test_bad_files_among_good_ones(videos, tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(videos[1].read_bytes()[:-2000])
    results = do([tmp_path / "missing.mp4", text, videos[0], tmp_path, cut], tmp_path / "out")
    assert [one.status for one in results] == ["failed", "failed", "done", "failed", "failed"]
    reasons = [one.notes for one in results if one.status == "failed"]
    for path, reason in zip(["missing.mp4", "text.mp4", str(tmp_path), "cut.mp4"], reasons, strict=True):
        assert path in reason and reason.endswith(".")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_a_bug_and_a_full_disk_fail_one_video(videos, tmp_path, monkeypatch):
    errors = {IndexError("no\nsuch"): "failed because of a bug in keyframe (IndexError: no such): report it."}
    full = OSError(28, "No space left on device")
    errors |= {full: "out cannot be written (No space left on device): make room or choose another output."}
    for error, sentence in errors.items():
        monkeypatch.setattr(engines, "extract_video", lambda *args, error=error: (_ for _ in ()).throw(error))
        result = Extractor(SPEC)(VideoJob(videos[0], tmp_path / "out"))
        assert result.status == "failed" and result.notes.endswith(sentence)


def test_an_output_that_cannot_be_written(videos, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "unmounted")
    for output, why in {
        tmp_path / "file": "file is not a folder",
        tmp_path / "file" / "below": "file is not a folder",
        tmp_path / "link": "link is a link to .*/unmounted, which is not a folder",
    }.items():
        with pytest.raises(KeyframeError, match=rf"output=.*cannot be written \(.*{why}\)"):
            plan(videos, output, SPEC)


@pytest.mark.full
def test_processes_give_what_one_gives_and_one_that_dies_takes_only_its_video(videos, tmp_path):
    spec = dataclasses.replace(SPEC, selector=Dies(k=1))
    a, b, c = videos
    threads = os.environ.get("OMP_NUM_THREADS")
    do([a, c], tmp_path / "one", spec)
    jobs = plan([b, a, c], tmp_path / "many", spec)
    results = {one.path: one for one in run_local(spec, jobs, 2)}
    assert {path: one.status for path, one in results.items()} == {a: "done", b: "failed", c: "done"}
    assert "crashed its worker (exit status -9)" in results[b].notes
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == ["a", "c"]
    for name in ("a", "c"):
        for file in ("summary.json", "scores.csv"):
            assert (tmp_path / "one" / name / file).read_bytes() == (tmp_path / "many" / name / file).read_bytes()
    assert os.environ.get("OMP_NUM_THREADS") == threads


def test_a_checkpoint_that_is_none_stops_all_at_once(videos, tmp_path):
    (tmp_path / "x.ckpt").write_text("no checkpoint")
    spec = dataclasses.replace(SPEC, checkpoint=tmp_path / "x.ckpt")
    with pytest.raises(KeyframeError, match=r"x\.ckpt"):
        list(run_local(spec, [VideoJob(videos[0], tmp_path / "out")]))
