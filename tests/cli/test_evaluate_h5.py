"""keyframe-evaluate and keyframe-compare on runs on feature files, with the shots and summaries of the files."""

import json

import h5py
import numpy as np
import pytest

from keyframe.data.feature_file import read_feature_file
from keyframe.evaluation.keyshot import f1_user_max, hold_scores, keyshots
from tests.data.feature_files import WIDTH, write_summe, write_tvsum


def read(run):
    return json.loads((run / "metrics.json").read_text())


@pytest.fixture(scope="module")
def trained(command, tmp_path_factory):
    """Two runs on a TVSum-like file."""
    place = tmp_path_factory.mktemp("h5")
    path = write_tvsum(place / "features.h5", 15)
    common = ("data=h5", f"data.path={path}", f"data.width={WIDTH}", "trainer=cpu", "logger=csv", "optimizer.lr=1e-3")
    for head in ("dual", "framewise"):
        command(*common, f"head={head}", "trainer.max_epochs=4", f"hydra.run.dir={place / head}").good()
    return place


def test_the_files_own_shots_and_summaries_are_used(command, trained, tmp_path):
    out = tmp_path / "out"
    done = command(f"run={trained / 'dual'}", f"hydra.run.dir={out}", program="keyframe-evaluate").good()
    metrics, tested = read(out), read(trained / "dual")
    assert metrics["test/spearman"] == pytest.approx(tested["test/spearman"], abs=1e-5)
    assert metrics["test/annotator_spearman"] is None and "reference/one_annotator/spearman" not in metrics
    assert "no annotators" in (out / "report.txt").read_text() and "SumMe's the best user" in done.out + (
        out / "report.txt"
    ).read_text().replace("\n", " ")
    # the ceiling's F1 by hand: the file's gtscore, held, on its change points, against its user_summary
    with (out / "per_video.csv").open() as file:
        videos = [line.split(",")[0] for line in file][1:]
    best = []
    for video in videos:
        one = read_feature_file(trained / "features.h5")[video]
        with h5py.File(trained / "features.h5") as file:
            users = file[f"{one.key}/user_summary"][()] > 0
            shots = file[f"{one.key}/change_points"][()]
        summary = keyshots(hold_scores(one.importance, one.picks, one.n_frames), shots)
        best.append(f1_user_max(summary, users))
    assert metrics["reference/ceiling/f1_user_max"] == pytest.approx(np.mean(best))


def test_two_heads_are_compared_on_equal_features(command, trained, tmp_path):
    out = tmp_path / "out"
    pair = f"runs=[{trained / 'dual'},{trained / 'framewise'}]"
    command(pair, "speed.repeats=1", f"hydra.run.dir={out}", program="keyframe-compare").good()
    metrics = read(out)
    assert metrics["dual/params_backbone"] == 0 and metrics["framewise/seconds_1"] > 0
    assert metrics["difference/framewise-dual/spearman_p"] <= 1
    assert "peak memory" in (out / "report.txt").read_text().lower()


def test_sampled_is_not_for_feature_files(command, trained):
    done = command(f"run={trained / 'dual'}", "protocol=sampled", program="keyframe-evaluate")
    assert "protocol=sampled is for runs on pixels" in done.sentence()


def test_summe(command, tmp_path):
    path = write_summe(tmp_path / "eccv16_dataset_summe_google_pool5.h5", [f"clip {n}" for n in range(12)])
    common = ("data=h5", f"data.path={path}", f"data.width={WIDTH}", "trainer=cpu", "logger=csv")
    command(*common, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'run'}").good()
    command(f"run={tmp_path / 'run'}", f"hydra.run.dir={tmp_path / 'out'}", program="keyframe-evaluate").good()
    assert 0 <= read(tmp_path / "out")["test/f1_user_max"] <= 1


def test_a_moved_feature_file(command, trained, tmp_path):
    moved = write_tvsum(tmp_path / "moved (2).h5", 15)
    arguments = (f"run={trained / 'dual'}", f"data.root={moved}", f"hydra.run.dir={tmp_path / 'out'}")
    command(*arguments, program="keyframe-evaluate").good()
    gone = command(f"run={trained / 'dual'}", f"data.root={tmp_path / 'gone.h5'}", program="keyframe-evaluate")
    assert "gone.h5" in gone.sentence()
