"""`data=summe`: SumMe's layout, in two folders at once, through both stages, and F1 by its protocol."""

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
    # "clip 0" is another video in each folder.
    places = {"SumMe": names[:3], "more (1)": names[3:]}
    for place, own in places.items():
        called = {name if name != "clip 3" else "clip 0": name for name in own}
        videos = {new: files[names.index(name)] for new, name in called.items()}
        write_release(tmp_path / place, videos, {new: scores[name] for new, name in called.items()})
    root = f"[{','.join(str(tmp_path / place) for place in places)}]"
    run, report = tmp_path / "run", tmp_path / "report"
    small = [argument for argument in TINY if not argument.startswith(("experiment", "data.videos", "data.shots"))]
    settings = ["backbone.pretrained=false", "data.folds=2", "trainer.max_epochs=2", "finetune.switch_epoch=1"]
    settings.append("callbacks.curves=null")
    done = command("data=summe", f"data.root={root}", *small, *settings, f"hydra.run.dir={run}").good()
    assert "Stage 2" in done.out
    command(f"run={run}", "pictures=0", f"hydra.run.dir={report}", program="keyframe-evaluate").good()
    rows = {row["video"]: float(row["f1_user_max"]) for row in read_table(report / "per_video.csv")}
    loaded = load_run(run)
    expected = {}
    for id_, video in loaded.videos("test").items():
        seen = video.eval_video(KtsShots())
        gt = video.path.parents[1] / "GT" / f"{video.path.stem}.mat"
        expected[id_] = _f1_by_hand(video.score(loaded.model, seen), seen.entries, seen.shots, gt)
    assert len(rows) == 3 and max(expected.values()) > 0.2
    assert rows == pytest.approx(expected, abs=1e-6)
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["test/f1_user_max"] == pytest.approx(np.mean(list(expected.values())))
    text = (report / "report.md").read_text()
    assert "with the best user of a video" in text and all(f"Labels: {tmp_path / place}/GT" in text for place in places)
    # the run knows where each video came from, and those of one folder alone
    (split,) = json.loads((run / "split.json").read_text())
    ids = {*("SumMe/clip 0", "clip 1", "clip 2"), *("more (1)/clip 0", "clip 4", "clip 5")}
    assert set(split["origins"]) == {id_ for part in ("train", "val", "test") for id_ in split[f"{part}_keys"]} == ids
    assert split["origins"]["clip 1"] == "SumMe" and split["origins"]["clip 5"] == "more (1)"
    alone = load_run(run, root=str(tmp_path / "more (1)")).data
    assert set(alone.parts) == {"more (1)/clip 0", "clip 4", "clip 5"} and "new" not in alone.parts.values()
