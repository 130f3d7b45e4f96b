"""A batch is done as keyframe-extract does it; figures from seconds and memory that are known."""

from statistics import linear_regression

import numpy as np
import pytest

from keyframe.benchmark import SuiteResult
from keyframe.benchmark.footage import Footage, write_clips
from keyframe.benchmark.scale import (
    BatchRun,
    Cost,
    FeatureScaleSuite,
    add_batches,
    add_lengths,
    add_trainings,
    run_batch,
)
from keyframe.benchmark.train import Trained
from keyframe.data.feature_file import read_feature_files
from keyframe.data.pyav_reader import PyAVReader
from keyframe.extraction.extract import ExtractionSpec
from keyframe.summary.selection import UniformSelection
from keyframe.summary.shots import KtsShots


def values(result):
    return {key: figure.value for key, figure in result.figures.items()}


def test_a_batch_is_planned_and_done(tmp_path):
    clips = write_clips(Footage(seconds=40, width=96, height=64, rate=5, key_every=25), tmp_path)
    planning, *videos = run_batch(ExtractionSpec(KtsShots(), UniformSelection(k=1), PyAVReader()), clips, 2)
    assert len(videos) == 2
    assert all(step.seconds > 0 for step in (planning, *videos))


def test_figures_of_batches():
    few = BatchRun(Cost(0.5, 90), [Cost(1, 100)] * 10)
    many = BatchRun(Cost(5, 90), [Cost(2, 100)] * 20 + [Cost(2, 110)] * 230)
    result = SuiteResult("scale")
    add_batches(result, {10: few, 250: many})
    assert values(result) == pytest.approx(
        {
            "scale/seconds_a_video_10": 1.05,
            "scale/seconds_a_video_250": 2.02,
            "scale/ratio_250_over_10": 2.02 / 1.05,
            "scale/exponent_seconds": np.log(25 * 2.02 / 1.05) / np.log(25),
            "scale/rss_growth_mb_20_to_250": 10,
            "scale/seconds_a_video_planning": 0.02,
        }
    )


def test_figures_of_long_videos():
    costs = {10: Cost(30, 600), 30: Cost(90, 660), 120: Cost(450, 750)}
    result, other = SuiteResult("long"), SuiteResult("long")
    add_lengths(result, costs, "")
    assert values(result) == pytest.approx(
        {
            "long/seconds_10min": 30,
            "long/seconds_30min": 90,
            "long/seconds_120min": 450,
            "long/peak_rss_mb_10min": 600,
            "long/peak_rss_mb_30min": 660,
            "long/peak_rss_mb_120min": 750,
            "long/time_ratio_30_over_10": 3,
            "long/time_ratio_120_over_30": 5,
            "long/exponent_seconds": linear_regression(*np.log([[10, 30, 120], [30, 90, 450]])).slope,
            "long/rss_ratio_to_limit": 0.5,
        }
    )
    add_lengths(other, costs, "_training_free")
    assert list(other.figures) == [f"{key}_training_free" for key in result.figures]


def test_figures_of_trainings_on_feature_files(tmp_path):
    runs = {20: Trained(3, [{"wait": 1, "forward": 4}], 1, 900), 80: Trained(9, [{"wait": 1, "step": 9}], 1, 950)}
    result = SuiteResult("feature_scale")
    add_trainings(result, runs)
    found = {key.removeprefix("feature_scale/"): value for key, value in values(result).items()}
    few = {"seconds_epoch_20": 5, "waiting_share_20": 0.2, "seconds_before_20": 3, "peak_rss_mb_20": 900}
    many = {"seconds_epoch_80": 10, "waiting_share_80": 0.1, "seconds_before_80": 9, "peak_rss_mb_80": 950}
    assert found == pytest.approx({**few, "ratio_80_over_20": 0.5, **many})
    FeatureScaleSuite(str(tmp_path), [], counts=[20], features=25, width=3)._write(tmp_path / "a.h5", 20)
    videos = read_feature_files(tmp_path / "a.h5")
    assert len(videos) == 20 and all(one.features.shape == (25, 3) and one.rate == 1 for one in videos.values())
