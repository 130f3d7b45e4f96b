"""keyframe-extract as users type it: whole results or one clear sentence, and nothing hangs or is half done."""

import csv
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch
from PIL import Image

from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.sampling import FpsSampling
from keyframe.runs import load_run
from tests.commands import Done, environment, in_process, script
from tests.strange_videos import NAMES, STRANGE, make, small, text
from tests.videos import write_video

# Seconds that a command may go without a line of log, which it writes for each video, before the watchdog kills it.
_PATIENCE = 90


class Command:
    """keyframe-extract in a process group of its own, under a watchdog."""

    def __init__(self, *arguments: object, cwd: Path, prefix: tuple[str, ...] = ()) -> None:
        folder = Path(mkdtemp(prefix=".said-", dir=cwd))
        self.said = folder / "out", folder / "err"
        with self.said[0].open("wb") as out, self.said[1].open("wb") as err:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, *script("extract"), *map(str, arguments)],
                cwd=cwd,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def end(self) -> Done:
        """Wait for the end; one that hangs is killed with all that it has started, and fails the test."""
        length, since = 0, time.monotonic()
        while self.process.poll() is None:
            time.sleep(0.02)
            written = sum(path.stat().st_size for path in self.said)
            if written != length:
                length, since = written, time.monotonic()
            elif time.monotonic() > since + _PATIENCE:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                pytest.fail(f"silent for {_PATIENCE} s\n{self.said[0].read_text()}\n{self.said[1].read_text()}")
        return Done(self.process.returncode, *(path.read_text(encoding="utf-8") for path in self.said))


@pytest.fixture
def here(tmp_path, monkeypatch, caplog):
    """Runs the task on arguments in this process, in an empty folder; the sentence that it refuses them with, or ""."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    return lambda *arguments: in_process("extract", *arguments, run_dir=tmp_path / "run")


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def require_whole(folder: Path) -> dict:
    """The summary of a folder that holds all it should: readable images, a page, and nothing that is not named."""
    summary = summary_of(folder)
    names = {path.name for path in folder.iterdir()}
    assert names == set(summary["files"])
    stills = {keyframe["file"] for keyframe in summary["keyframes"]}
    assert stills
    others = {"candidates.npy", "summary.json", "scores.csv", "index.html", "curve.png", "contact_sheet.jpg"}
    assert names == stills | others
    for name in (*stills, "curve.png", "contact_sheet.jpg"):
        with Image.open(folder / name) as image:
            image.load()
    assert (folder / "index.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    rows = list(csv.DictReader((folder / "scores.csv").open(encoding="utf-8")))
    assert len(rows) == summary["scored_frames"]
    assert sum(int(row["selected"]) for row in rows) == len(stills)
    times = [keyframe["seconds"] for keyframe in summary["keyframes"]]
    assert all(0 <= seconds <= summary["video"]["duration"] for seconds in times)
    return summary


def require_nothing_half_done(output: Path) -> None:
    """Each entry of an output folder is a whole folder of results, and no draft of one."""
    for folder in output.iterdir() if output.is_dir() else ():
        require_whole(folder)


def table(path: Path) -> dict[str, dict[str, str]]:
    """The rows of a videos.csv by the video's name."""
    with path.open(encoding="utf-8", newline="") as file:
        return {Path(row["video"]).name: row for row in csv.DictReader(file)}


def scores_of(folder):
    return [float(row["score"]) for row in csv.DictReader((folder / "scores.csv").open())]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return small(tmp_path_factory.mktemp("good") / "good.mp4")


def test_features_are_a_choice(here, good, tmp_path, monkeypatch):
    monkeypatch.setattr("keyframe.cli.extract.has_weights", lambda: False)
    assert not here(good, "output=out", "features=auto")
    assert summary_of(tmp_path / "out/good")["scorer"]["backbone"] is None
    assert here(good, "output=out", "features=clip") == "features=clip is not known: choose none, lite0 or auto."


@pytest.mark.full
class TestStrangeVideos:
    @pytest.fixture(scope="class")
    def batch(self, tmp_path_factory):
        """One command on all strange videos and names: the folder that it ran in, its table, and how it ended."""
        cwd = tmp_path_factory.mktemp("strange")
        strange = [make(cwd, name, maker) for name, (maker, _) in STRANGE.items()]
        named = [
            make(cwd, name, lambda path, shade=shade: small(path, frames=4, seed=shade))
            for shade, name in enumerate(NAMES.values())
        ]
        arguments = [path.name for path in [*strange, *named]]
        done = Command("output=found", "workers=1", "--", *arguments, cwd=cwd).end()
        [path] = cwd.glob("outputs/logs/extract/*/videos.csv")
        return cwd, table(path), done

    def test_the_batch_ends_with_one_sentence(self, batch):
        cwd, _, done = batch
        refused = sum(words is not None for _, words in STRANGE.values())
        assert f"{refused} of {len(STRANGE) + len(NAMES)} videos failed" in done.sentence()
        assert "bug in keyframe" not in done.out
        require_nothing_half_done(cwd / "found")

    def test_keyframes_or_a_reason(self, batch):
        cwd, rows, done = batch
        for name, (_, words) in STRANGE.items():
            row = rows[name]
            if words is None:
                assert row["result"] == "done", (name, row["notes"])
                assert summary_of(cwd / row["folder"])["video"]["name"] == name
            else:
                assert (row["result"], row["folder"]) == ("failed", ""), name
                assert row["notes"].startswith(f"{name} ") and words in row["notes"]
                assert row["notes"] in done.out

    def test_names(self, batch):
        summaries = [summary_of(folder) for folder in (batch[0] / "found").iterdir()]
        frames = {summary["video"]["name"]: summary["video"]["frames"] for summary in summaries}
        assert [frames.get(name) for name in NAMES.values()] == [4] * len(NAMES)


@pytest.mark.full
def test_a_second_start_a_folder_and_a_list(command, tmp_path):
    place, out = tmp_path / "a, b", tmp_path / "the output"
    for number, name in enumerate(("my holiday (1).mp4", "deep/été 🎬.mp4", "deep/a=b.mp4")):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(place / name, frames=8, seed=number)
    (place / "deep" / "list.txt").write_text("été 🎬.mp4\na=b.mp4\ngone.mp4\n")
    common = (f"output={out}", "workers=1")
    done = command(place / "my holiday (1).mp4", *common, program="keyframe-extract").good()
    assert "without a trained model" in done.out and f"see {out / 'my holiday (1)' / 'index.html'}" in done.out
    done = command(f"input={place}", "recursive=true", *common, program="keyframe-extract").good()
    assert "3 videos: 2 done, 1 skipped, 0 failed" in done.out
    done = command(place / "deep" / "list.txt", *common, program="keyframe-extract")
    assert "1 of 3 videos failed" in done.sentence() and "3 videos: 0 done, 2 skipped, 1 failed" in done.out
    assert "gone.mp4 does not exist" in done.out


@pytest.mark.full
class TestWithARun:
    @pytest.fixture(scope="class")
    def video(self, tmp_path_factory):
        """Six seconds: twelve frames at two per second, as many as a tiny run's model sees at once."""
        return write_video(tmp_path_factory.mktemp("video") / "six seconds.mp4", frames=150)

    @pytest.fixture(scope="class")
    def scored(self, command, runs, video, tmp_path_factory):
        place = tmp_path_factory.mktemp("scored") / "out"
        run = runs / "folds" / "0"
        arguments = (video, f"run={run}", f"output={place}", "summary_video=true", "threads=1")
        return command(*arguments, program="keyframe-extract").good(), run, place

    def test_it_scores_a_video_of_one_window_as_its_model_does(self, scored, video):
        _, path, place = scored
        run = load_run(path)
        index = index_packets(video)
        frames = PyAVReader().read(video, FpsSampling(2.0).indices(index), run.frame_shape[1:], index)
        with torch.inference_mode():
            expected = run.detector(torch.from_numpy(frames.pixels).permute(0, 3, 1, 2)[None])[0].numpy()
        assert len(expected) == run.frame_shape[0] == 12
        # decord and PyAV place chroma a little differently.
        np.testing.assert_allclose(scores_of(place / "six seconds"), expected, atol=5e-3)
        assert np.ptp(expected) > 2e-3

    def test_what_it_leaves(self, scored):
        done, run, place = scored
        summary = summary_of(place / "six seconds")
        assert summary["scorer"]["kind"] == "model" and len(summary["scorer"]["checkpoint_sha256"]) == 64
        assert {"torch", "timm"} <= summary["versions"].keys()
        assert str(run) not in json.dumps(summary)
        assert "skim.mp4" in summary["files"]
        assert "a trained model, test_efficientnet" in (place / "six seconds" / "index.html").read_text()
        assert "without a trained model" not in done.out

    def test_in_bfloat16_the_scores_are_nearly_those(self, here, scored, video, tmp_path):
        _, run, place = scored
        assert not here(video, f"run={run}", f"output={tmp_path / 'out'}", "threads=1", "bf16=true")
        ours, theirs = scores_of(tmp_path / "out" / "six seconds"), scores_of(place / "six seconds")
        assert not np.array_equal(ours, theirs)
        np.testing.assert_allclose(ours, theirs, atol=0.02)  # bfloat16 has 8 bits of precision
        assert summary_of(tmp_path / "out" / "six seconds")["scorer"]["bf16"] is True
        assert "bf16" not in summary_of(place / "six seconds")["scorer"]

    def test_another_run_is_other_work_and_the_same_is_none(self, here, scored, runs, video, caplog):
        _, run, place = scored
        common = (video, f"output={place}", "summary_video=true", "threads=1")
        assert not here(*common, f"run={run / 'checkpoints' / 'best.ckpt'}")
        assert "Done before" in caplog.text
        before = summary_of(place / "six seconds")["fingerprint"]
        assert not here(*common, f"run={runs / 'seed1'}")
        assert summary_of(place / "six seconds")["fingerprint"] != before


REFUSED = {
    "nothing": ([], "there is no video"),
    "bf16 without a run": (["good.mp4", "bf16=true"], "bf16=true is for the model of a run"),
    "missing": (["nowhere.mp4"], "nowhere.mp4 does not exist: check the path."),
    "address": (
        ["http://127.0.0.1:1/a.mp4?key=secret&x=1"],
        "127.0.0.1:1/a.mp4 cannot be reached (Connection refused)",
    ),
    "address with a password": (["https://me:secret@host/a.mp4"], "https://host/a.mp4 holds a user name, which logs"),
    "address of another kind": (["rtsp://camera/1"], "rtsp://camera/1 is not an http(s) address: "),
    "playlist that names a file elsewhere": (["a.m3u8"], "a.m3u8 names ../good.mp4, which is outside of its folder"),
    "playlist of itself": (["b.m3u8"], "b.m3u8 names playlists of playlists: name one of these instead."),
    "playlist for a player": (["c.m3u"], "c.m3u is a list of videos, not of segments (HLS): name its videos in"),
    "DASH": (["a.mpd"], "a.mpd is a playlist, which names other files, not a video: name a video file, or make one"),
    "images without a rate": (
        ["images"],
        "images holds no videos but 1 images: if they form a sequence, add image_rate",
    ),
    "image_rate": (["images", "image_rate=0"], "image_rate=0 must be a number above 0"),
    "numbered images": (["images/%04d.png"], "images/%04d.png matches no image: check the pattern."),
    "numbered, not images": (["videos/%d.mp4"], "videos/1.mp4 is not an image: name images that form a sequence, or "),
    "300 letters": (["n" * 300], "nnn cannot be read ("),
    "newline in the name": (["new\nline.mp4"], "new line.mp4 is not a video that FFmpeg can read: leave it out"),
    "folder without videos": (["empty"], "empty holds no videos: name another folder"),
    "link to itself": (["loops"], "loop.mp4 cannot be read"),
    "list within a list": (["outer.txt"], "inner.txt is a list within a list: name videos in the first one."),
    "binary list": (["binary.txt"], "binary.txt is not a readable list of videos"),
    "output is a file": (["good.mp4", "output=file"], "file cannot be written (file is not a folder): choose another"),
    "output within a file": (["good.mp4", "output=file/in"], "file/in cannot be written (file is not a folder)"),
    "home of nobody": (["good.mp4", "output=~nobody-here/x"], "there is no such user; choose another folder"),
    "keyframes": (["good.mp4", "selection=top", "selection.k=0"], "selection.k"),
    "selection": (["good.mp4", "selection=best"], "selection=best does not exist"),
    "rate": (["good.mp4", "rate=0"], "rate=0 must be a number above 0"),
    "quality": (["good.mp4", "quality=100"], "quality=100 must be a whole number from 1 to 95"),
    "cut_lists": (["good.mp4", "cut_lists=[edl,aaf]"], "must be a list of any of csv, edl, otio, vtt"),
    "workers": (["good.mp4", "workers=0"], "workers=0 must be a whole number from 1 on"),
    "engine": (["good.mp4", "engine=cloud"], "engine=cloud does not exist: choose one of local, ray"),
    "run": (["good.mp4", "run=nowhere"], "run=nowhere: there is no checkpoint"),
    "checkpoint": (["good.mp4", "run=x.ckpt"], "x.ckpt"),
    "key": (["good.mp4", "hight=3"], "hight"),
}


@pytest.mark.parametrize(("arguments", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(here, good, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setenv("no_proxy", "*")
    shutil.copy(good, tmp_path / "good.mp4")
    text(tmp_path / "new\nline.mp4")
    (tmp_path / "file").touch()
    for folder in ("empty", "loops", "images", "videos"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "images" / "1.png")
    shutil.copy(good, tmp_path / "videos" / "1.mp4")
    for name, segment in (("a.m3u8", "../good.mp4"), ("b.m3u8", "b.m3u8")):
        (tmp_path / name).write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{segment}\n")
    (tmp_path / "c.m3u").write_text("#EXTM3U\ngood.mp4\n")
    (tmp_path / "a.mpd").write_text("<MPD></MPD>")
    (tmp_path / "loops" / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "outer.txt").write_text("inner.txt\n")
    (tmp_path / "inner.txt").write_text("good.mp4\n")
    (tmp_path / "binary.txt").write_bytes(b"good.mp4\n\0\n")
    torch.save({"state_dict": {}}, tmp_path / "x.ckpt")
    sentence = here(*arguments)
    assert words in sentence and "\n" not in sentence
    assert not list((tmp_path / "outputs").glob("extract/*"))


def test_one_bad_among_good_in_a_list_that_leads_elsewhere(here, good, tmp_path):
    (tmp_path / "lists").mkdir()
    text(tmp_path / "text.mp4")
    shutil.copy(good, tmp_path / "good.mp4")
    path = tmp_path / "lists" / "all.txt"
    path.write_text("# holidays\n\n../text.mp4\n  ../good.mp4\n../lists/../good.mp4\n../nowhere.mp4", "utf-8-sig")
    assert "2 of 3 videos failed" in here(path, "output=found", "workers=1")
    assert [folder.name for folder in (tmp_path / "found").iterdir()] == ["good"]
    require_whole(tmp_path / "found" / "good")


def test_full_disk(here, good, tmp_path, monkeypatch):
    """A limit on the size of a file stands in for it: the first stills fit, the curve does not."""
    assert not here(good, "output=before")  # All that is imported late may write files of bytecode.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        sentence = here(good, "output=found")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "found/good cannot be written (File too large): make room or choose another output." in sentence
    assert list((tmp_path / "found").iterdir()) == []


def test_skim_of_which_no_shot_is_short_enough(here, good, tmp_path):
    assert not here(good, "selection=knapsack", "summary_video=true", "output=found")
    [note] = require_whole(tmp_path / "found" / "good")["notes"]
    assert "15% of the video" in note


@pytest.mark.full
def test_real_clips(here, clips, tmp_path):
    videos = sorted(path for path in clips.iterdir() if path.suffix != ".md")
    assert not here(*videos, "output=found", "workers=1", "rate=1")
    rows = table(tmp_path / "run" / "videos.csv")
    assert [row["result"] for row in rows.values()] == ["done"] * len(videos)
    require_nothing_half_done(tmp_path / "found")


def unprivileged() -> tuple[str, ...]:
    """What to put before a command so that permissions hold for it, also where the tests run as root."""
    if os.geteuid():
        return ()
    drop = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
    if shutil.which("setpriv") is None or subprocess.run([*drop, "true"], check=False).returncode:
        pytest.skip("root may read everything, and setpriv, which could forbid it, is not here")
    return drop


@pytest.mark.full
def test_permissions(good, tmp_path):
    locked = [tmp_path / "locked.mp4", tmp_path / "folder" / "within.mp4"]
    for path in locked:
        path.parent.mkdir(exist_ok=True)
        shutil.copy(good, path)
    for path, mode in ((locked[0], 0), (locked[1].parent, 0), (tmp_path / "output", 0o555)):
        if not path.exists():
            path.mkdir()
        path.chmod(mode)
    try:
        found = Command(*locked, good, "output=found", "workers=1", cwd=tmp_path, prefix=unprivileged())
        refused = Command(good, "output=output", cwd=tmp_path, prefix=unprivileged()).end()
        done = found.end()
    finally:
        locked[1].parent.chmod(0o755)
    assert "2 of 3 videos failed" in done.sentence()
    assert done.out.count("cannot be read: give yourself read permission.") >= 2
    require_whole(tmp_path / "found" / "good")
    assert "output=output cannot be written (Permission denied): choose another folder." in refused.sentence()


@pytest.mark.full
@pytest.mark.parametrize(("sent", "workers"), [(signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_stopped_midway(tmp_path, sent, workers):
    videos = [small(tmp_path / f"{number}.mp4", seed=number) for number in range(4)]
    output = tmp_path / "found"
    stopped = Command(*videos, f"output={output}", f"workers={workers}", cwd=tmp_path)
    process = stopped.process
    deadline = time.monotonic() + 2 * _PATIENCE
    while process.poll() is None and not (output.is_dir() and any(output.glob(".*.draft-*/*/*"))):
        assert time.monotonic() < deadline, "no draft was seen"
        time.sleep(0.001)
    # A terminal's Ctrl-C reaches all processes, `kill` only the one that it names.
    if sent == signal.SIGINT:
        os.killpg(process.pid, sent)
    else:
        process.send_signal(sent)
    done = stopped.end()
    assert done.status == 130, done.out + done.err
    assert "Traceback" not in done.out + done.err
    assert "the same command continues from there" in done.out
    require_nothing_half_done(output)
    assert len(list(output.iterdir())) < len(videos)
