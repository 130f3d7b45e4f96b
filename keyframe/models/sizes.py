"""How large a model is, and how much of it trains in each stage."""

from collections.abc import Iterable

from torch import nn

from keyframe.models.detector import KeyframeDetector


def sizes(detector: KeyframeDetector, two_stages: bool = True) -> dict[str, int]:
    """Parameter counts: `backbone`, `total`, `trainable_stage1`, `trainable_stage2` (0 where there is no stage 2)."""
    head = _count(detector.head.parameters())
    tail = _count(detector.backbone.tail_parameters())
    return {
        "backbone": _count(detector.backbone.parameters()),
        "total": _count(detector.parameters()),
        "trainable_stage1": head,
        "trainable_stage2": head + tail if two_stages and tail else 0,
    }


def size_table(name: str, counts: dict[str, int]) -> str:
    """The counts as lines of text, in millions."""
    rows = (
        ("backbone", "backbone"),
        ("total", "total"),
        ("trainable, stage 1", "trainable_stage1"),
        ("trainable, stage 2", "trainable_stage2"),
    )
    lines = [f"{'parameters':<20}{name:>18}"]
    lines += [f"{label:<20}{counts[key] / 1e6:>16.2f} M" for label, key in rows]
    return "\n".join(lines)


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)
