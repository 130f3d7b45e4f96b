"""What the reference design of the two models claimed, beside what a comparison measures.

The project starts from a written design of a ResNet50 model and an EfficientNet-B0 twin, whose figures cannot be
reproduced from its public code. They are shown as claims, never as results.
"""

import math
from collections.abc import Mapping

from keyframe.evaluation.cells import NONE

# Claim, as the change from Model 1 (ResNet50) to Model 2 (EfficientNet-B0), and which cost it is about.
_CLAIMS = (
    ("parameters in all", -0.70, "params_total"),
    ("time for one video", -0.28, "seconds_1"),
    ("time for four videos", -0.29, "seconds_4"),
    ("time for eight videos", -0.29, "seconds_8"),
    ("memory, one video", -0.37, "peak_mb_1"),
    ("memory, four videos", -0.37, "peak_mb_4"),
)
_ACCURACY_KEPT = 0.97
MODELS = ("resnet50", "efficientnet_b0")


def claim_rows(model1: Mapping[str, float], model2: Mapping[str, float]) -> list[dict[str, str]]:
    """One row a claim: what was said, and what this comparison measured.

    Args:
        model1: costs of the ResNet50 model by name, and its `spearman`.
        model2: the same of the EfficientNet-B0 model.
    """
    rows = [
        {
            "claim of the reference design": what,
            "said": f"{said:+.0%}",
            "measured here": _share(model2.get(key, math.nan) / model1.get(key, math.nan) - 1, sign=True),
        }
        for what, said, key in _CLAIMS
    ]
    kept = model2["spearman"] / model1["spearman"] if model1["spearman"] > 0 else math.nan
    rows.append(
        {
            "claim of the reference design": "accuracy kept (Spearman, annotators' mean)",
            "said": f"{_ACCURACY_KEPT:.0%}",
            "measured here": _share(kept),
        }
    )
    return rows


def _share(value: float, sign: bool = False) -> str:
    if math.isnan(value):
        return NONE
    return f"{value:+.0%}" if sign else f"{value:.0%}"
