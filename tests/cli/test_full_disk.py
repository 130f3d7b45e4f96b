"""A full disk, a folder without permission, and output that nobody reads: one sentence, nothing half-written."""

import logging
from pathlib import Path

import pytest

from keyframe.cli.main import JobLog
from tests.commands import TINY, cold, script


def left(run):
    """The hidden files of a run directory, among which every draft is."""
    return {path.name for path in run.rglob(".*") if path.name not in (".lock", ".hydra")}


def test_training_stops_with_a_sentence_and_the_same_command_succeeds_with_room(command, disk, tiny_demo):
    run = disk("4k") / "run"
    here = (*TINY, f"data.root={tiny_demo}", "trainer.max_epochs=1", "cache.dir=null", f"hydra.run.dir={run}")
    assert f"{run} cannot be written (No space left on device): make room" in command(*here).sentence()
    disk("1m")
    sentence = command(*here).sentence()
    assert f"{run / 'checkpoints' / 'best.ckpt'} cannot be written (No space left on device): make room" in sentence
    assert not left(run)
    assert not list(run.glob("checkpoints/*"))
    disk("300m")
    command(*here).good()


@pytest.mark.parametrize("size", ["4k", "28k", "36k"])
def test_reports(command, disk, tiny_demo, size):
    run = disk(size) / "run"
    labels = next(tiny_demo.rglob("*anno.tsv"))
    done = command(f"labels={labels}", f"hydra.run.dir={run}", program="keyframe-evaluate")
    assert "cannot be written (No space left on device): make room, or choose another directory" in done.sentence()
    assert not left(run)
    disk("10m")
    command(f"labels={labels}", f"hydra.run.dir={run}", program="keyframe-evaluate").good()


def test_exports(command, disk, old_run):
    folder = disk("200k") / "files"
    few = ("format=[torchscript]", "check.videos=1", "calibration.videos=1", "repeats=1", f"hydra.run.dir={folder}")
    sentence = command(f"run={old_run}", "trust=true", *few, program="keyframe-export").sentence()
    assert f"{folder} cannot be written (No space left on device)" in sentence
    assert not left(folder)
    assert not list(folder.glob("*.pt"))


@pytest.mark.parametrize("name", ["features", "extract"])
def test_other_commands(command, disk, tiny_demo, name):
    """None leaves half a file; each succeeds once there is room."""
    folder = disk("16k")
    video = sorted(tiny_demo.rglob("*.mp4"))[0]
    arguments = {
        "features": (video, f"out={folder / 'f.h5'}", "size=32", "backbone=resnet18", "backbone.pretrained=false"),
        "extract": (video, f"output={folder / 'results'}"),
    }[name]
    done = command(*arguments, program=f"keyframe-{name}")
    assert done.status == 1
    assert "No space left on device" in done.out + done.err
    assert "Traceback" not in done.out + done.err
    assert not list(folder.rglob("*.h5")) and not list(folder.rglob("*.jpg"))
    disk("50m")
    command(*arguments, program=f"keyframe-{name}").good()


def test_a_sweep_says_why_each_job_failed(command, disk, tiny_demo):
    sweep = disk("28k") / "sweep"
    labels = next(tiny_demo.rglob("*anno.tsv"))
    done = command("-m", f"labels={labels}", "seed=1,2", f"hydra.sweep.dir={sweep}", program="keyframe-evaluate")
    assert done.status == 1
    assert "Traceback" not in done.out + done.err
    assert "cannot be written (No space left on device)" in done.out + done.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_lines_that_a_full_disk_does_not_take_are_left_out_of_the_log(capsys):
    handler = JobLog("/dev/full")
    handler.emit(logging.makeLogRecord({"msg": "a line"}))
    assert handler.stream is None  # else its end would try again
    assert capsys.readouterr().err == ""


@pytest.mark.full
def test_output_that_nobody_reads_does_not_end_the_work(tmp_path):
    done = cold(
        [
            "-c",
            "import logging, os, sys\n"
            "from keyframe.cli.main import Console\n"
            "reader, writer = os.pipe()\n"
            "os.close(reader)\n"
            "os.dup2(writer, 1)\n"
            "logging.getLogger().addHandler(Console(sys.stdout))\n"
            "logging.warning('first')\n"
            "logging.warning('second')\n"
            "print('third')\n"
            "print('worked', file=sys.stderr)",
        ],
        tmp_path,
    )
    assert (done.status, done.err) == (0, "worked\n")


@pytest.mark.full
@pytest.mark.parametrize("start", [script("train"), ("-m", "keyframe.cli.train")], ids=["script", "module"])
def test_ctrl_c_during_the_imports(tmp_path, start):
    # a shell starts what it puts in the background with SIGINT ignored
    asked = "signal.signal(signal.SIGINT, signal.default_int_handler)\nsignal.raise_signal(signal.SIGINT)"
    (tmp_path / "hydra.py").write_text(f"import signal\n{asked}\n")
    done = cold(list(start), tmp_path)
    assert done.status == 130
    assert done.err.endswith(": interrupted\n")
    assert done.err.count("\n") == 1
