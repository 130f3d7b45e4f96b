"""Accuracy of a comparison against latency at 224x224, where the demo's runs themselves see 96x96.

    python experiments/007_backbones/latency.py OUT RUNS NAME [NAME ...]

Of each model NAME the run RUNS/NAME/0 is timed; RUNS/compare is the comparison. One thread, models take turns on one
video of 60 frames. OUT gets the comparison's metrics.json with the latencies added, and tradeoff_224.png.
"""

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from keyframe.drawing.plots import draw_tradeoff
from keyframe.runs import load_detector
from keyframe.timing import TimedModel, random_videos, speeds

FRAMES, SIZE, REPEATS = 60, 224, 5
RHO = "test/annotator_spearman"


def main(out: Path, runs: Path, names: Sequence[str]) -> None:
    """Measure, write and draw."""
    torch.set_num_threads(1)
    videos = partial(random_videos, shape=(FRAMES, SIZE, SIZE))
    models = {name: TimedModel(load_detector(runs / name / "0"), videos) for name in names}
    seconds = {name: one.seconds for (name, _), one in speeds(models, [1], REPEATS, budget_s=300).items()}
    known = json.loads((runs / "compare" / "metrics.json").read_text())
    timed = {f"{name}/seconds_1_at_224": value for name, value in seconds.items()}
    (out / "metrics.json").write_text(json.dumps(dict(sorted({**known, **timed}.items())), indent=2) + "\n")
    figure = draw_tradeoff(
        {name: 1e3 * value for name, value in seconds.items()},
        {name: known[f"{name}/{RHO}"] for name in names},
        {name: (known[f"{name}/{RHO}_lo"], known[f"{name}/{RHO}_hi"]) for name in names},
        {name: known[f"{name}/params_total"] / 1e6 for name in names},
        f"Accuracy against latency: {FRAMES} frames of {SIZE}x{SIZE}, one thread",
        "Spearman's rho with each annotator",
    )
    figure.savefig(out / "tradeoff_224.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
