"""Numbers as the cells of a report's tables."""

import math
from collections.abc import Mapping

NONE = "not available"


def number(value: float, digits: int = 3) -> str:
    """A number to so many decimals; says so where there is none."""
    return NONE if math.isnan(value) else f"{value:z.{digits}f}"


def span(metrics: Mapping[str, float], key: str) -> str:
    """The interval of a metric."""
    lo, hi = metrics[f"{key}_lo"], metrics[f"{key}_hi"]
    return NONE if math.isnan(lo) else f"{lo:z.3f} to {hi:z.3f}"


def with_span(metrics: Mapping[str, float], key: str) -> str:
    """A metric and its interval in one cell."""
    value, lo, hi = metrics[key], metrics[f"{key}_lo"], metrics[f"{key}_hi"]
    if math.isnan(value):
        return NONE
    return f"{value:z.3f}" if math.isnan(lo) else f"{value:z.3f} [{lo:z.3f}, {hi:z.3f}]"


def with_spread(metrics: Mapping[str, float], key: str) -> str:
    """A metric and its standard deviation over videos in one cell."""
    value, spread = metrics[key], metrics[f"{key}_std"]
    if math.isnan(value):
        return NONE
    return f"{value:z.3f}" if math.isnan(spread) else f"{value:z.3f} ± {spread:.3f}"
