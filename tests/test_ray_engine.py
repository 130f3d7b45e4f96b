"""The engine on Ray Data gives what processes of this machine give; whatever happens, it leaves nothing behind."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from keyframe.data.pyav_reader import PyAVReader
from keyframe.extraction.engines import ExtractionSpec, VideoJob
from keyframe.extraction.ray_engine import RayEngine, Share, share_of
from keyframe.summary.selection import UniformSelection
from keyframe.summary.shots import KtsShots
from keyframe.types import KeyframeError
from tests.commands import environment, hear_ctrl_c, script
from tests.videos import write_video

RECIPE = ExtractionSpec(KtsShots(), UniformSelection(k=1), PyAVReader())
MODEL = replace(RECIPE, checkpoint=Path("best.ckpt"))
SMALL, GPUS = {"CPU": 4.0}, {"CPU": 16.0, "GPU": 2.0}
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.mark.parametrize(
    ("recipe", "workers", "nodes", "share"),
    [
        (RECIPE, None, [SMALL, GPUS], Share(20, 1, 0)),
        (replace(RECIPE, threads=3), None, [SMALL, GPUS], Share(6, 3, 0)),
        (RECIPE, 7, [SMALL], Share(7, 1, 0)),
        (RECIPE, 300, [SMALL], Share(100, 1, 0)),
        (RECIPE, None, [], Share(1, 1, 0)),
        (MODEL, None, [SMALL, GPUS, GPUS], Share(4, 1, 1)),
        (MODEL, 3, [GPUS, GPUS], Share(3, 1, 1)),
        (MODEL, 5, [GPUS, GPUS], Share(5, 1, 1 / 2)),
        (replace(MODEL, device="cpu"), None, [GPUS], Share(16, 1, 0)),
    ],
)
def test_what_an_actor_is_given(recipe, workers, nodes, share):
    assert share_of(recipe, 100, workers, nodes) == share


def test_more_threads_than_a_machine_has_cores_would_wait_for_ever():
    with pytest.raises(KeyframeError, match="threads=5 is more than any machine of the cluster has: 4 at most"):
        share_of(replace(RECIPE, threads=5), 100, None, [SMALL, SMALL])


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(KeyframeError, match=r"pip install 'keyframe\[ray\]'"):
        RayEngine()


@needs_ray
def test_an_address_without_a_cluster(tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # And does not listen.
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(KeyframeError, match=rf"engine\.address={address} gives no Ray"):
            list(RayEngine(address)(RECIPE, [VideoJob(tmp_path / "a.mp4", tmp_path / "a")]))


@needs_ray
def test_it_gives_what_local_gives_and_a_process_that_dies_takes_only_its_video(command, tmp_path):
    names = ["it's #1, a=b (é) ${x}.mp4", "c.mp4"]
    videos = [write_video(tmp_path / name, frames=10, seed=seed) for seed, name in enumerate(names)]
    dying = write_video(tmp_path / "dying.mp4", frames=40)
    (tmp_path / "bad.mp4").write_text("not a video")
    (tmp_path / "empty").mkdir()
    arguments = [*videos, dying, tmp_path / "bad.mp4", tmp_path / "empty", "selection=uniform", "selection.k=1"]
    arguments += ["selection._target_=tests.dying.Dies", "workers=2", "threads=1"]
    files = {}
    for engine in ("local", "ray"):
        output = tmp_path / "out" / engine
        done = command(*arguments, f"engine={engine}", f"output={output}", program="keyframe-extract")
        assert "3 of 5 videos failed" in done.sentence()
        for why in ("dying.mp4 has ended the process", "bad.mp4 is not a video", "empty holds no videos"):
            assert why in done.out
        assert "5 videos: 2 done, 0 skipped, 3 failed" in done.out
        files[engine] = {path.relative_to(output): path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert files["ray"] == files["local"]
    assert {path.parts[0] for path in files["ray"]} == {"it's #1, a=b (é) ${x}", "c"}
    done_before = (*videos, *arguments[-5:], "engine=ray", f"output={tmp_path / 'out' / 'local'}")
    assert "2 videos: 0 done, 2 skipped, 0 failed" in command(*done_before, program="keyframe-extract").good().out


@needs_ray
def test_interrupted_it_leaves_neither_half_results_nor_processes(tmp_path):
    videos = [write_video(tmp_path / f"{name}.mp4", frames=200, seed=name) for name in range(3)]
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, *script("extract"), *map(str, videos), f"output={out}", "engine=ray", "workers=1"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )
    limit = time.monotonic() + 120
    while not any(out.glob(".*.draft-*/new")):
        assert process.poll() is None and time.monotonic() < limit, process.communicate()[0]
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert "Traceback" not in output and "the same command goes on from there" in output
    while running := in_session(process.pid):
        assert time.monotonic() < limit, running
        time.sleep(0.05)
    for folder in out.iterdir():
        assert (folder / "summary.json").is_file()
    assert len(list(out.iterdir())) < 3


def in_session(leader):
    """The command lines of all processes that still run in a session."""
    done = subprocess.run(
        ["ps", "-o", "stat=,args=", "--sid", str(leader)], capture_output=True, text=True, check=False
    )
    return [line for line in done.stdout.splitlines() if not line.startswith("Z")]
