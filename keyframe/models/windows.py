"""Score the features of any number of frames with a model that was trained on windows; see `keyframe.windows`."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from keyframe.types import FloatArray
from keyframe.windows import SPAN, average_windows


def score_windows(
    score: Callable[[Tensor], Tensor], features: Tensor, length: int | None = None, span: int = SPAN, batch: int = 16
) -> npt.NDArray[np.float32]:
    """A score for every frame: the windows' scores, averaged by weight.

    Args:
        score: features of windows (B, T, width) -> scores in [0, 1], (B, T); e.g. `KeyframeDetector.score`.
        features: backbone features of all frames, (N, width), on the model's device.
        length: frames a window holds, see `keyframe.windows.windows`.
        span: most frames of a section.
        batch: windows scored at once.

    Returns:
        Scores in [0, 1], float32 (N,).
    """

    @torch.inference_mode()
    def score_frames(places: npt.NDArray[np.int64]) -> FloatArray:
        scores: FloatArray = score(features[torch.from_numpy(places).to(features.device)]).float().cpu().numpy()
        return scores

    return average_windows(score_frames, len(features), length, span, batch)
