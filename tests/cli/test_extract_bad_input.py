"""keyframe-extract on bad and strange input: whole results or one clear sentence, and nothing hangs or is half done."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

import pytest
from PIL import Image

from tests.commands import Done, environment, hear_ctrl_c, script
from tests.strange_videos import NAMES, STRANGE, make, small, text

# Seconds that a command may go without a line of log, which it writes for each video, before the watchdog kills it.
_PATIENCE = 30


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
                preexec_fn=hear_ctrl_c,
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


def require_whole(folder: Path) -> dict:
    """The summary of a folder that holds all it should: readable pictures, a page, and nothing that is not named."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    names = {path.name for path in folder.iterdir()}
    assert names == set(summary["files"])
    stills = {keyframe["file"] for keyframe in summary["keyframes"]}
    assert stills
    assert names == stills | {"summary.json", "scores.csv", "index.html", "curve.png", "contact_sheet.jpg"}
    for name in (*stills, "curve.png", "contact_sheet.jpg"):
        with Image.open(folder / name) as picture:
            picture.load()
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


def table(cwd: Path) -> dict[str, dict[str, str]]:
    """The rows of videos.csv by the video's name."""
    [path] = cwd.glob("outputs/logs/extract/*/videos.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return {Path(row["video"]).name: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return small(tmp_path_factory.mktemp("good") / "good.mp4")


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """One command on all strange videos: the folder that it ran in, and how it ended."""
    cwd = tmp_path_factory.mktemp("strange")
    strange = [make(cwd, name, maker) for name, (maker, _) in STRANGE.items()]
    named = [
        make(cwd, name, lambda path, shade=shade: small(path, frames=4, seed=shade))
        for shade, name in enumerate(NAMES.values())
    ]
    arguments = [path.name for path in [*strange, *named]]
    done = Command("output=found", "workers=1", "--", *arguments, cwd=cwd).end()
    return cwd, done


class TestStrangeVideos:
    def test_the_batch_ends_with_one_sentence(self, batch):
        cwd, done = batch
        refused = sum(words is not None for _, words in STRANGE.values())
        assert f"{refused} of {len(STRANGE) + len(NAMES)} videos failed" in done.sentence()
        assert "fault of ours" not in done.out
        require_nothing_half_done(cwd / "found")

    @pytest.mark.parametrize("name", [name for name, (_, words) in STRANGE.items() if words is None])
    def test_keyframes(self, batch, name):
        row = table(batch[0])[name]
        assert row["result"] == "done", row["notes"]
        summary = require_whole(batch[0] / row["folder"])
        assert summary["video"]["name"] == name

    @pytest.mark.parametrize("name", [name for name, (_, words) in STRANGE.items() if words is not None])
    def test_refused(self, batch, name):
        row = table(batch[0])[name]
        assert row["result"] == "failed"
        assert row["folder"] == ""
        assert row["notes"].startswith(f"{name} ")
        assert STRANGE[name][1] in row["notes"]
        assert row["notes"] in batch[1].out

    @pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
    def test_names(self, batch, name):
        cwd, _ = batch
        summaries = [json.loads(path.read_text(encoding="utf-8")) for path in cwd.glob("found/*/summary.json")]
        [summary] = [summary for summary in summaries if summary["video"]["name"] == name]
        assert summary["video"]["frames"] == 4


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of things that make no batch."""
    folder = tmp_path_factory.mktemp("place")
    small(folder / "good.mp4")
    text(folder / "text.mp4")
    text(folder / "new\nline.mp4")
    (folder / "file").touch()
    (folder / "empty").mkdir()
    (folder / "loops").mkdir()
    (folder / "loops" / "loop.mp4").symlink_to("loop.mp4")
    (folder / "outer.txt").write_text("inner.txt\n")
    (folder / "inner.txt").write_text("good.mp4\n")
    (folder / "binary.txt").write_bytes(b"good.mp4\n\0\n")
    (folder / "lists").mkdir()
    return folder


REFUSED = {
    "missing": ("nowhere.mp4", "found", "nowhere.mp4 does not exist: check the path."),
    "300 letters": ("n" * 300, "found", "nnn cannot be read ("),
    "newline in the name": ("new\nline.mp4", "found", "new line.mp4 is not a video that FFmpeg can read: leave it out"),
    "folder without videos": ("empty", "found", "empty holds no videos: name another folder"),
    "folder with a link to itself": ("loops", "found", "loop.mp4 cannot be read"),
    "output is a file": ("good.mp4", "file", "file cannot be written (File exists): choose another folder."),
    "output within a file": (
        "good.mp4",
        "file/in",
        "file/in cannot be written (Not a directory): choose another folder.",
    ),
    "list within a list": ("outer.txt", "found", "inner.txt is a list within a list: name videos in the first one."),
    "binary list": ("binary.txt", "found", "binary.txt is not a readable list of videos"),
}


@pytest.mark.parametrize(("name", "output", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(command, place, name, output, words):
    done = command(place / name, f"output={place / output}", program="keyframe-extract")
    assert words in done.sentence()
    assert not list((place / "found").glob("*"))


def test_one_bad_among_good_in_a_list_that_leads_elsewhere(command, place, tmp_path):
    path = place / "lists" / "all.txt"
    path.write_text("# holidays\n\n../text.mp4\n  ../good.mp4\n../lists/../good.mp4\n../nowhere.mp4", "utf-8-sig")
    done = command(path, f"output={tmp_path / 'found'}", "workers=1", program="keyframe-extract")
    assert "2 of 3 videos failed" in done.sentence()
    assert [folder.name for folder in (tmp_path / "found").iterdir()] == ["good"]
    require_whole(tmp_path / "found" / "good")


def unprivileged() -> tuple[str, ...]:
    """What to put before a command so that permissions hold for it, also where the tests run as root."""
    if os.geteuid():
        return ()
    drop = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
    if shutil.which("setpriv") is None or subprocess.run([*drop, "true"], check=False).returncode:
        pytest.skip("root may read everything, and setpriv, which could forbid it, is not here")
    return drop


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
    notes = [row["notes"] for row in table(tmp_path).values() if row["result"] == "failed"]
    assert len(notes) == 2
    assert all("may not be read: give yourself read permission on it." in note for note in notes)
    require_whole(tmp_path / "found" / "good")
    assert "output=output cannot be written (Permission denied): choose another folder." in refused.sentence()


def test_full_disk(good, tmp_path):
    """A limit on the size of a file stands in for it: the first stills fit, the curve does not."""
    limit = ("prlimit", f"--fsize={10_000}")
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit, which stands in for a full disk, is not here")
    done = Command(good, "output=found", cwd=tmp_path, prefix=limit).end()
    assert "found/good cannot be written (File too large): make room or choose another output." in done.sentence()
    assert list((tmp_path / "found").iterdir()) == []


def test_skim_of_which_no_shot_is_short_enough(command, good, tmp_path):
    skim = ("selection=knapsack", "summary_video=true", f"output={tmp_path}")
    command(good, *skim, program="keyframe-extract").good()
    [note] = require_whole(tmp_path / "good")["notes"]
    assert note == "no shot that scores is as short as 15% of the video"


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
    assert "the same command goes on from there" in done.out
    require_nothing_half_done(output)
    assert len(list(output.iterdir())) < len(videos)


def test_real_clips(clips, tmp_path):
    videos = sorted(path for path in clips.iterdir() if path.suffix != ".md")
    done = Command(*videos, "output=found", "workers=1", "rate=1", cwd=tmp_path).end()
    rows = table(tmp_path)
    failed = {name: row["notes"] for name, row in rows.items() if row["result"] == "failed"}
    assert "1 of" in done.sentence()
    assert list(failed) == ["decord_corrupted.mp4"]
    assert "is damaged, " in failed["decord_corrupted.mp4"]
    assert len(rows) == len(videos)
    require_nothing_half_done(tmp_path / "found")
    assert len(list((tmp_path / "found").iterdir())) == len(videos) - 1
