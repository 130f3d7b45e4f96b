"""Seconds of keyframe-train add up, and figures from seconds that are known."""

import json
from time import perf_counter

import pytest

from keyframe.benchmark import SuiteResult
from keyframe.benchmark.train import EPOCH_PARTS, Contest, EpochTimer, Side, add_sides, multiplied
from keyframe.training.callbacks import TwoStage
from tests.training.tiny import make_datamodule, make_module, make_trainer


def test_parts_add_up_to_the_whole(tiny_demo, tmp_path):
    datamodule, module = make_datamodule(tiny_demo), make_module()
    begin = perf_counter()
    timer = EpochTimer(str(tmp_path / "times.jsonl"))
    trainer = make_trainer(tmp_path, 2, [TwoStage(1), timer])
    trainer.fit(module, datamodule)
    trainer.validate(module, datamodule, verbose=False)
    trainer.test(module, datamodule, verbose=False)
    took = perf_counter() - begin

    before, *epochs, after = map(json.loads, (tmp_path / "times.jsonl").read_text().splitlines())
    assert list(before) == ["before"] and list(after) == ["after", "peak_mb"] and len(epochs) == 2
    assert all(epoch.keys() == EPOCH_PARTS.keys() for epoch in epochs)
    assert all(seconds >= 0 for epoch in epochs for seconds in epoch.values())
    whole = before["before"] + sum(sum(epoch.values()) for epoch in epochs) + after["after"]
    assert 0.5 * took < whole <= took  # all but Lightning's own start and end, which a busy machine stretches


def epoch(seconds, **parts):
    return {"wait": 0.25 * seconds, "forward": 0.75 * seconds, **parts}


def test_what_was_not_run_is_multiplied():
    stages = [epoch(10, decode=99, loss=1), epoch(20)], [epoch(30), epoch(40)]
    assert multiplied(stages, {"before": 3, "after": 2}, (1, 2)).totals == [10 + 2 * 30 + 5, 20 + 2 * 40 + 5]


def test_figures_of_a_contest():
    """Three epochs, one of stage 1."""
    sides = {
        "plain": Side(([epoch(10, decode=99), epoch(20, decode=99)], [epoch(30), epoch(40)]), {"test": 5}, [75, 105]),
        "cached": Side(([epoch(1)], [epoch(2), epoch(2)]), {"before": 4, "after": 1}, [10]),
        "uncached": Side(([epoch(8), epoch(7)], [epoch(6), epoch(5)]), {"before": 7}, [29, 27]),
    }
    model = {"tail_forward": 0.25, "tail_backward": 0.5, "head": 0.1, "prefix_forward": 1.0, "videos": 2.0}
    result = SuiteResult("train")
    add_sides(result, Contest("small", "tiny", 64, 32, uncached=True), sides, model, videos=4)
    values = {key.removeprefix("train/"): figure.values for key, figure in result.figures.items()}
    assert values["speedup_over_plain_small"] == (7.5, 10.5)
    assert values["stage1_epoch_speedup"] == (10, 20)
    assert values["speedup_over_uncached"] == (2.9, 2.7)
    # four videos, two per batch: two batches of .25 s in an epoch of 2 s
    assert values["tail_forward_share_of_stage2_small"] == (0.25,)
    assert values["tail_backward_share_of_stage2_small"] == (0.5,)
    assert values["seconds_plain_stage1_epoch_forward_small"] == (7.5, 15)
    assert values["seconds_plain_stage1_epoch_decode_small"] == (99, 99)
    assert values["seconds_cached_stage2_epoch_small"] == (2, 2)
    assert values["seconds_cached_before_small"] == (4,)
    assert result.bars == {"plain small": 90, "uncached small": 28, "cached small": 10}

    keys = list(result.figures)
    add_sides(result, Contest("large", "tiny", 128, 64), {**sides, "uncached": sides["cached"]}, model, 4)
    others = list(result.figures)[len(keys) :]
    assert {"train/speedup_over_plain_large", "train/stage1_epoch_speedup_large"} <= set(others)
    with pytest.raises(KeyError):
        result["seconds_model_videos_large"]
