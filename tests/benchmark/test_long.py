import pytest

from keyframe.benchmark.scale import Cost, long_figures


def test_figures():
    costs = {10: Cost(30, 600), 30: Cost(90, 660), 120: Cost(450, 750)}
    values = {figure.key: figure.value for figure in long_figures(costs, "")}
    assert values == pytest.approx(
        {
            "long/seconds_10min": 30,
            "long/seconds_30min": 90,
            "long/seconds_120min": 450,
            "long/peak_rss_mb_10min": 600,
            "long/peak_rss_mb_30min": 660,
            "long/peak_rss_mb_120min": 750,
            "long/time_ratio_30_over_10": 3,
            "long/time_ratio_120_over_30": 5,
            "long/rss_ratio_to_limit": 0.5,
        }
    )
    assert all(figure.key.endswith("_training_free") for figure in long_figures(costs, "_training_free"))
