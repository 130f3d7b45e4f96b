"""A sweep with a job that fails: the others run, the table is written and printed, and the command fails."""

import csv
import json
import re
import shutil

import pytest
from hydra.errors import MissingConfigException

from keyframe.cli.errors import sentence_of
from tests.commands import TINY
from tests.data.feature_files import WIDTH, write_tvsum


@pytest.fixture(scope="module")
def swept(command, tmp_path_factory):
    place = tmp_path_factory.mktemp("sweeps")
    features = write_tvsum(place / "features.h5", 15)
    done = command(
        *("-m", "data=h5", f"data.path={features}", f"data.width={WIDTH}", "trainer=cpu", "logger=csv"),
        "trainer.max_epochs=1",
        "data.fold=9,0,1",  # there is no fold 9
        f"hydra.sweep.dir={place / 'sweep'}",
    )
    return done, place / "sweep"


def metrics_of(job):
    return json.loads((job / "metrics.json").read_text())


def test_a_failed_job_does_not_end_the_rest(swept):
    done, sweep = swept
    assert {path.name for path in sweep.iterdir() if path.is_dir()} == {"0", "1", "2", "figures"}
    states = {job: json.loads((sweep / job / "status.json").read_text()) for job in "012"}
    assert [states[job]["state"] for job in "012"] == ["failed", "completed", "completed"]
    assert "data.fold=9" in states["0"]["error"]
    assert not (sweep / "0" / "metrics.json").exists()
    for job in "12":
        assert (sweep / job / "checkpoints" / "best.ckpt").is_file()
    assert "Job 0 failed" in done.out


def test_the_command_fails_with_one_sentence(swept):
    done, _ = swept
    assert done.status == 1
    assert done.err.splitlines()[-1] == "keyframe-train: 1 of 3 jobs failed: 0"
    assert "Traceback" not in done.out + done.err


def test_the_table_is_sorted_best_first_and_failed_last(swept):
    _, sweep = swept
    with (sweep / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["completed", "completed", "failed"]
    best, second, failed = rows
    assert failed["job"] == "0" and "data.fold=9" in failed["error"] and failed["val/spearman"] == ""
    assert metrics_of(sweep / best["job"])["val/spearman"] >= metrics_of(sweep / second["job"])["val/spearman"]
    for row in (best, second):
        metrics = metrics_of(sweep / row["job"])
        for name in ("val/spearman", "test/spearman", "test/kendall", "test/precision_at_15"):
            assert float(row[name]) == pytest.approx(metrics[name], abs=5e-5)
        assert row["data.fold"] == str(int(row["job"]) - 1)
        assert float(row["test/spearman_lo"]) <= float(row["test/spearman"]) <= float(row["test/spearman_hi"])
        assert "seed" not in row and "trainer.max_epochs" not in row  # what all jobs share is left out


def test_the_table_is_printed(swept):
    done, sweep = swept
    with (sweep / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = [line for line in done.out.splitlines() if re.match(r"\| +\d", line)]
    for row, line in zip(rows, lines, strict=True):
        assert [row["job"], row["status"], row["data.fold"]] == re.findall(r"[^| ]+", line)[:3]
        shown = [float(value) for value in re.findall(r"([-\d.]+) \[", line)[:1]]
        assert shown == pytest.approx([float(row["test/spearman"])] if row["test/spearman"] else [], abs=1e-3)
    assert "Best by val/spearman is job " in done.out and "Job 0 failed: " in done.out
    assert f"Sweep: {sweep}" in done.out
    assert str(sweep / "sweep.csv") in done.out


def test_the_report_shows_all_jobs_and_a_picture(swept):
    _, sweep = swept
    page = (sweep / "sweep.html").read_text()
    assert "Sweep of 3 jobs" in page and "data.fold" in page and "Job 0 failed" in page
    assert "data:image/png;base64," in page
    assert (sweep / "figures" / "parallel.png").read_bytes().startswith(b"\x89PNG")


def test_a_directory_that_holds_a_sweep_is_refused(command, swept):
    _, sweep = swept
    sentence = command("-m", *TINY, "seed=1,2", f"hydra.sweep.dir={sweep}").sentence()
    assert "holds a sweep already" in sentence and f"sweep.resume={sweep}" in sentence


def test_jobs_stay_in_the_folder_of_a_sweep_that_is_resumed(command, swept, tmp_path):
    done, original = swept
    assert f"resume it with keyframe-train sweep.resume={original}\n" in done.out
    sweep, outside = shutil.copytree(original, tmp_path / "sweep"), tmp_path / "outside"
    (sweep / "0").rename(outside)
    (sweep / "0").symlink_to(outside)
    before = {path: path.stat().st_mtime_ns for path in outside.rglob("*")}
    assert f"{sweep / '0'} is a link" in command(f"sweep.resume={sweep}").sentence()
    out = [f"sweep.resume={sweep}", "trust=true", "hydra.sweep.subdir=../x"]
    assert "hydra.sweep.subdir=../x is outside the sweep" in command(*out).sentence()
    assert {path: path.stat().st_mtime_ns for path in outside.rglob("*")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "sweep"]


@pytest.mark.parametrize(
    "several", [["trainer=ddp"], ["trainer.devices=[0,1]"]], ids=["ddp on all devices", "two devices"]
)
def test_several_processes_a_job_are_refused_before_any_starts(command, tmp_path, several):
    sentence = command("-m", *TINY, *several, "seed=1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}").sentence()
    assert "trainer=auto" in sentence and "submitit_slurm" in sentence
    assert not list(tmp_path.iterdir())


def test_jobs_that_would_start_processes_fail(command, tmp_path):
    sweep = tmp_path / "sweep"
    arguments = ["trainer.devices=2,3", "hydra/launcher=basic", f"hydra.sweep.dir={sweep}"]
    done = command("-m", *TINY, *arguments)
    assert done.status == 1 and done.out.count("trainer=auto") >= 2
    assert not list(sweep.glob("*/config.yaml"))


@pytest.mark.parametrize("option", ["hydra/launcher=joblib", "hydra/launcher=submitit_slurm", "hydra/sweeper=optuna"])
def test_without_the_extra_its_packages_are_named(option):
    group, _, name = option.partition("=")
    error = MissingConfigException("Could not find", f"{group}/{name}", ["basic"])
    sentence = sentence_of(error)
    assert f"{option} needs a plugin that is not installed: pip install 'keyframe-lightning[sweep]'" in str(sentence)


def test_a_job_that_cannot_be_composed_is_refused_before_any_starts(command, tmp_path):
    sweep = tmp_path / "sweep"
    sentence = command("-m", *TINY, "loss=mse,sperman", f"hydra.sweep.dir={sweep}").sentence()
    assert "loss=sperman" in sentence and "spearman" in sentence
    assert not list(tmp_path.iterdir())


def test_a_search_of_which_no_job_succeeds_ends_in_a_sentence(command, tmp_path):
    sweep = tmp_path / "search"
    arguments = ["data=h5", f"data.path={tmp_path / 'gone.h5'}", "trainer=cpu", "logger=csv", "hparams_search=optuna"]
    done = command(*arguments, "hydra.sweeper.n_trials=2", f"hydra.sweep.dir={sweep}")
    assert done.status == 1 and "Traceback" not in done.out + done.err
    assert done.err.splitlines()[-1].startswith("keyframe-train: no job of the search has completed: ")
    with (sweep / "sweep.csv").open() as file:
        assert ["gone.h5" in row["error"] for row in csv.DictReader(file)] == [True, True]
