"""The page starts training in a process of its own, finds it again, and lists runs and their reports."""

import json
import shlex
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from keyframe.app.train import Training
from keyframe.extraction.extract import ExtractionSpec
from tests.app.conftest import RULE, serve_folder
from tests.videos import write_video

# Stands in for keyframe-train: the lock, the status and the lines of a run, and Ctrl-C.
TRAINER = """#!{python}
import json, sys, time
from pathlib import Path
from keyframe.system import lock_folder
run = Path(sys.argv[-1].removeprefix("hydra.run.dir="))
lock = lock_folder(run)
status = lambda state: (run / "status.json").write_text(json.dumps({{"state": state}}))
status("running")
(run / "arguments.json").write_text(json.dumps(sys.argv[1:]))
print("[10:00:00] epoch 1/3, stage 1: loss 0.5 <b>", flush=True)
try:
    while not (run / "go").exists():
        time.sleep(0.02)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "best.ckpt").touch()
    status("completed")
except KeyboardInterrupt:
    status("interrupted")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train") / "my videos, [1]"
    folder.mkdir()
    write_video(folder / "a.mp4", frames=10)

    def make_model(run, number):
        spec = ExtractionSpec(RULE.spec.shots, RULE.spec.selector, RULE.spec.reader)
        return replace(RULE, id=run.name, name=run.name, spec=replace(spec, checkpoint=run / "checkpoints/best.ckpt"))

    labels, runs = folder.parent / "labels.tsv", folder.parent / "outputs"
    page = serve_folder(folder, labels=labels, runs=runs, make_model=make_model, training=["logger=csv"])
    yield page
    page.close()


def wait_for(site, state):
    end = time.monotonic() + 60
    while (runs := site.json("training")["runs"])[0]["state"] != state:
        assert time.monotonic() < end, runs
        time.sleep(0.05)
    return runs[0]


def test_training_is_started_stopped_found_again_and_its_run_becomes_a_model(site, tmp_path, monkeypatch):
    trainer = tmp_path / "trainer"
    trainer.write_text(TRAINER.format(python=sys.executable))
    trainer.chmod(0o755)
    monkeypatch.setattr("keyframe.app.train.sys", SimpleNamespace(executable=str(trainer)))
    assert site.json("training")["command"] is None
    assert site.ask("/api/training", {"start": True})[0] == 400
    site.library.labels.write_text("a\t\t" + ",".join("1" * 10) + "\n")
    command = shlex.split(site.json("training")["command"])
    site.json("training", {"start": True})
    run = wait_for(site, "running")
    given = json.loads((site.library.folder / "train" / run["name"] / "arguments.json").read_text())
    assert given[:2] == ["-m", "keyframe.cli.train"] and given[2:-1] == command[1:]
    assert command[2] == f"data.root='{site.library.labels.parent.resolve() / 'my videos, [1]'}'"
    assert (run["done"], run["lines"]) == (0.5, ["[10:00:00] epoch 1/3, stage 1: loss 0.5 <b>"])
    assert b"a run is being trained already" in site.ask("/api/training", {"start": True})[2]
    other = Training(site.library)  # as after a new start of the server
    assert [one["state"] for one in other.runs()] == ["running"]
    other.stop(run["name"])
    wait_for(site, "interrupted")
    while site.ask("/api/training", {"stop": run["name"]})[0] != 404:  # its process is about to end
        time.sleep(0.02)
    assert site.ask("/api/training", {"stop": "../.."})[0] == 404
    site.json("training", {"start": True})
    run = wait_for(site, "running")
    (site.library.folder / "train" / run["name"] / "go").touch()
    wait_for(site, "completed")
    assert run["name"] in {model["id"] for model in site.json("library")["models"]}


def test_reports_are_listed_with_their_figures_and_do_nothing(site):
    good, bad = site.library.runs / "evaluate" / "A <b>", site.library.runs / "B"
    for run in (good, bad, site.library.runs / "cache" / "C", site.library.runs / "D"):
        run.mkdir(parents=True)
    (good / "metrics.json").write_text('{"test/spearman": 0.5, "name": "x", "bad": null, "flag": true}')
    (good / "report.html").write_text("<script>alert(1)</script>")
    (bad / "metrics.json").write_text("[" * 99_999)
    (site.library.runs / "cache" / "C" / "metrics.json").write_text("{}")
    (site.library.runs / "D" / "report.html").symlink_to("/etc/passwd")
    (site.library.runs / "D" / "metrics.json").write_text("{}")
    runs = {run["name"]: run for run in site.json("runs")["runs"]}
    assert set(runs) == {"evaluate/A <b>", "B", "D"}
    assert runs["evaluate/A <b>"]["figures"] == {"test/spearman": 0.5}
    assert "nested too deeply" in runs["B"]["fault"] and runs["D"]["reports"] == []
    id = runs["evaluate/A <b>"]["id"]
    status, headers, content = site.ask(f"/api/runs/{id}/reports/0")
    assert (status, content) == (200, b"<script>alert(1)</script>")
    assert headers["content-security-policy"].startswith("sandbox; default-src 'none'; ")
    for path in (f"/api/runs/{id}/reports/1", "/api/runs/x/reports/0", f"/api/runs/{id}/reports/..%2f"):
        assert site.ask(path)[0] == 404
