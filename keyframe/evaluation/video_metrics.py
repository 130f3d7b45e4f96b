"""Per-video metrics gathered over batches and ranks, each video counted once."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from keyframe.evaluation.metrics import VIDEO_METRICS, video_metrics
from keyframe.types import FloatArray


class VideoMetrics(Metric):
    """A row of `VIDEO_METRICS` for every video.

    torchmetrics' own rank metrics pool the frames of all videos, so each video is measured by scipy and only the
    rows are gathered.
    """

    full_state_update = False
    rows: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, number: int, scores: FloatArray, importance: FloatArray, annotators: FloatArray) -> None:
        """Add a video: its place in the data set, then what `video_metrics` takes."""
        row = [float(number), *video_metrics(scores, importance, annotators).values()]
        self.rows.append(torch.tensor([row], dtype=torch.float32, device=self.device))

    def compute(self) -> dict[int, dict[str, float]]:
        """The metrics of each video by its place in the data set, in that order."""
        if not len(self.rows):
            return {}
        rows = dim_zero_cat(self.rows).cpu().numpy()
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        return {int(row[0]): dict(zip(VIDEO_METRICS, row[1:].tolist(), strict=True)) for row in rows}
