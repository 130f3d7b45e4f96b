"""What int8 takes from each model over several seeds: differences paired over videos, of the mean over the seeds.

    python experiments/006_int8/pooled.py COMPARISON/per_video.csv [...]

Each comparison holds runs of one seed and their int8 files.
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keyframe.evaluation.metrics import paired_difference

METRICS = ("annotator_spearman", "spearman")
INT8 = " (onnx_int8)"


def main(tables: Sequence[Path]) -> None:
    """Print a line a model and metric."""
    values = defaultdict(list)
    for table in tables:
        with table.open() as file:
            for row in csv.DictReader(file):
                for metric in METRICS:
                    values[row["model"], metric, row["video"]].append(float(row[metric]))
    videos = sorted({video for _, _, video in values})
    for model in sorted({model for model, _, _ in values if not model.endswith(INT8)}):
        for metric in METRICS:
            own, int8 = ([np.mean(values[name, metric, one]) for one in videos] for name in (model, model + INT8))
            change = paired_difference(int8, own)
            print(
                f"{model} {metric}: {np.mean(own):.4f}, int8 {np.mean(int8):.4f}, change {change.value:+.4f} "
                f"({change.lo:+.4f} to {change.hi:+.4f}), p = {change.p_value:.3f}"
            )


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
