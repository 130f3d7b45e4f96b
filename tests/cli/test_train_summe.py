"""`data=summe`: SumMe's layout through both stages, and F1 by its protocol."""

import itertools
import json

import numpy as np
import pytest
from scipy.io import loadmat

from keyframe.data.packets import index_packets
from keyframe.files import read_table
from keyframe.runs import load_run
from keyframe.summary.shots import KtsShots
from tests.commands import TINY
from tests.data.summe import write_release

pytestmark = pytest.mark.full


def _f1_by_hand(scores, picks, shots, gt):
    """Keyshot F1 with the best user, from the definition: all sets of shots are tried, and frames counted."""
    users = loadmat(gt)["user_score"] > 0
    frames = len(users)
    held = np.array([scores[np.flatnonzero(picks <= frame)[-1]] for frame in range(frames)])
    ranges = [range(first, last + 1) for first, last in shots]
    sets = (kept for count in range(len(ranges) + 1) for kept in itertools.combinations(ranges, count))
    fitting = (kept for kept in sets if sum(map(len, kept)) <= int(0.15 * frames))
    best = max(fitting, key=lambda kept: sum(np.mean(held[list(shot)]) for shot in kept))
    chosen = {frame for shot in best for frame in shot}
    values = []
    for user in users.T:
        selected = set(np.flatnonzero(user).tolist())
        both = len(chosen & selected)
        precision, recall = both / max(len(chosen), 1), both / max(len(selected), 1)
        values.append(2 * precision * recall / (precision + recall) if both else 0.0)
    return max(values)


def test_summe_through_both_stages(command, tiny_demo, tmp_path):
    files = sorted(tiny_demo.rglob("*.mp4"))[:6]
    names = [f"clip {number}" for number in range(6)]
    rng = np.random.default_rng(0)
    # Shots of about two seconds; each user keeps some of them whole.
    scores = {}
    for name, path in zip(names, files, strict=True):
        shots = np.arange(index_packets(path).n_frames) // 16
        scores[name] = 2.0 * (rng.random((shots[-1] + 1, 3)) < 0.3)[shots]
    root = write_release(tmp_path / "SumMe", dict(zip(names, files, strict=True)), scores)
    run, report = tmp_path / "run", tmp_path / "report"
    small = [argument for argument in TINY if not argument.startswith(("experiment", "data.videos", "data.shots"))]
    settings = ["backbone.pretrained=false", "data.folds=2", "trainer.max_epochs=2", "finetune.switch_epoch=1"]
    done = command("data=summe", f"data.root={root}", *small, *settings, f"hydra.run.dir={run}").good()
    assert "Stage 2" in done.out
    command(f"run={run}", f"hydra.run.dir={report}", program="keyframe-evaluate").good()
    rows = {row["video"]: float(row["f1_user_max"]) for row in read_table(report / "per_video.csv")}
    loaded = load_run(run)
    expected = {}
    for id_, video in loaded.videos("test").items():
        seen = video.eval_video(KtsShots())
        expected[id_] = _f1_by_hand(
            video.score(loaded.model, seen), seen.entries, seen.shots, root / "GT" / f"{id_}.mat"
        )
    assert len(rows) == 3 and max(expected.values()) > 0.2
    assert rows == pytest.approx(expected, abs=1e-6)
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["test/f1_user_max"] == pytest.approx(np.mean(list(expected.values())))
    assert "with the best user of a video" in (report / "report.md").read_text()
