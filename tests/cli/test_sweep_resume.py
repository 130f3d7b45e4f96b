"""Sweeps that were killed and go on, by every launcher; and a search that draws the same jobs again."""

import csv
import json
import shlex

import pytest
import yaml

from tests.data.feature_files import WIDTH, write_tvsum

pytestmark = pytest.mark.full

QUIET = ("trainer=cpu", "logger=csv", "optimizer.lr=1e-3")
EPOCHS = 3


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return write_tvsum(tmp_path_factory.mktemp("features") / "features.h5", 15)


@pytest.fixture(scope="module")
def sweep(features):
    """What sweeps here have in common: the head on a few features, a second a job."""
    return ("data=h5", f"data.path={features}", f"data.width={WIDTH}", *QUIET, f"trainer.max_epochs={EPOCHS}")


def files(job):
    """What the job itself has written, and when."""
    paths = [path for path in job.rglob("*") if path.is_file() and ".hydra" not in path.parts]
    return {path: path.stat().st_mtime_ns for path in paths}


def state(job):
    return json.loads((job / "status.json").read_text())["state"]


def table(place):
    with (place / "sweep.csv").open() as file:
        return {row["job"]: row for row in csv.DictReader(file)}


def test_a_killed_sweep_runs_only_what_is_missing(command, sweep, tmp_path):
    place, flags = tmp_path / "my sweep, that's it", tmp_path / "flags"
    flags.mkdir()
    for seed in (1, 3):
        (flags / str(seed)).touch()  # these two do not die
    dies = [
        "+callbacks.dies._target_=tests.cli.dying_training.DiesOnce",
        "+callbacks.dies.epoch=2",
        f"+callbacks.dies.file={flags}/${{seed}}",
    ]
    done = command("-m", *sweep, *dies, "seed=1,2,3", f"hydra.sweep.dir={place}")
    assert done.status == -9
    assert [state(place / job) for job in "01"] == ["completed", "running"]
    assert list(table(place)) == ["0"]  # written as the first job ended
    before = files(place / "0")

    other = command("-m", *sweep, *dies, "seed=1,2,4", f"sweep.resume={place}").sentence()
    assert "it had seed=1,2,3, now seed=1,2,4" in other
    assert files(place / "0") == before and not (place / "2").exists()

    # its overrides need not be repeated, but one of them adds a class; another launcher may run what is left
    assert f"resume it with keyframe-train sweep.resume={shlex.quote(str(place))} trust=true" in done.out
    refused = command(f"sweep.resume={place}").sentence()
    assert "its override '+callbacks.dies._target_=tests.cli.dying_training.DiesOnce' is more than" in refused
    joblib = ["trust=true", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1"]
    again = command(f"sweep.resume={place}", *joblib).good()
    assert files(place / "0") == before
    assert f"Resuming from {place / '1' / 'checkpoints' / 'last.ckpt'} after epoch 1" in again.out
    assert sorted(path.name for path in (place / "1").glob("csv*")) == ["csv", "csv-2"]
    assert (place / "2" / "metrics.json").is_file() and not (place / "2" / "csv-2").exists()
    rows = table(place)
    assert {job: (row["status"], row["seed"]) for job, row in rows.items()} == {
        "0": ("completed", "1"),
        "1": ("completed", "2"),
        "2": ("completed", "3"),
    }


def test_what_is_no_sweep_is_refused(command, tmp_path):
    assert "there is no sweep" in command(f"sweep.resume={tmp_path}").sentence()
    assert not list(tmp_path.iterdir())


def test_a_search_goes_on_with_the_jobs_it_has_drawn(command, sweep, tmp_path):
    place = tmp_path / "search"
    search = [*sweep[:-2], "trainer.max_epochs=1", "hparams_search=optuna"]
    command(*search, "hydra.sweeper.n_trials=1", f"hydra.sweep.dir={place}").good()
    before = table(place)
    assert list(before) == ["0"]

    # one more, by a launcher that gives each job a process of its own
    resume = [f"sweep.resume={place}", "hydra.sweeper.n_trials=2", "hydra/launcher=submitit_local"]
    command(*resume).good()
    after = table(place)
    # (a parameter that had the same value in all jobs may have a column now)
    assert {job: {name: after[job][name] for name in row} for job, row in before.items()} == before
    assert after["1"]["status"] == "completed"
    for row in after.values():
        assert 1e-5 <= float(row["optimizer.lr"]) <= 1e-3 and 0 <= float(row["head.dropout"]) <= 0.4
    assert after["0"]["optimizer.lr"] != after["1"]["optimizer.lr"]
    best = yaml.safe_load((place / "optimization_results.yaml").read_text())
    assert best["best_value"] == pytest.approx(max(float(row["val/spearman"]) for row in after.values()), abs=1e-4)
    assert (place / ".submitit").is_dir()
