"""Accuracy of a comparison against latency at 224x224, where the demo's runs themselves see 96x96.

    OMP_NUM_THREADS=1 python experiments/007_backbones/latency.py COMPARISON NAME=RUN [NAME=RUN ...]

Models take turns on one video of 60 frames. Into the comparison's folder go latency.json and figures/tradeoff_224.png.
"""

import json
import sys
from functools import partial
from pathlib import Path

import torch

from keyframe.benchmark.cost import random_videos
from keyframe.benchmark.speed import Contender, speeds
from keyframe.config import load_detector
from keyframe.drawing.tradeoff import draw_tradeoff
from keyframe.evaluation.record import write_metrics

FRAMES, SIZE, REPEATS = 60, 224, 5


def main(comparison: Path, runs: dict[str, str]) -> None:
    """Measure, write and draw."""
    torch.set_num_threads(1)
    videos = partial(random_videos, shape=(FRAMES, SIZE, SIZE))
    models = {name: Contender(load_detector(run), videos) for name, run in runs.items()}
    timings = {name: timing for (name, _), timing in speeds(models, [1], REPEATS, budget_s=300).items()}
    known = json.loads((comparison / "metrics.json").read_text())
    flat = {}
    for name, timing in timings.items():
        flat[f"{name}/seconds_1_at_224"] = timing.seconds
        flat[f"{name}/seconds_1_at_224_p25"], flat[f"{name}/seconds_1_at_224_p75"] = timing.spread
        print(f"{name:28} {1e3 * timing.seconds / FRAMES:6.1f} ms a frame")
    write_metrics(comparison / "latency.json", flat)
    rho = "test/annotator_spearman"
    figure = draw_tradeoff(
        {name: 1e3 * timing.seconds for name, timing in timings.items()},
        {name: known[f"{name}/{rho}"] for name in runs},
        {name: (known[f"{name}/{rho}_lo"], known[f"{name}/{rho}_hi"]) for name in runs},
        {name: known[f"{name}/params_total"] / 1e6 for name in runs},
        f"Accuracy against latency: {FRAMES} frames of {SIZE}x{SIZE}, one thread",
        "Spearman's rho with each annotator",
    )
    figure.savefig(comparison / "figures" / "tradeoff_224.png", dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1]), dict(entry.split("=", 1) for entry in sys.argv[2:]))
