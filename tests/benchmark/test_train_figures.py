"""Figures of the suite train, from seconds that are known."""

import pytest

from keyframe.benchmark.train import Contest, Outcome, Trained, figures_of, notes_of, summary_of


def epoch(seconds, **parts):
    return {"wait": 0.25 * seconds, "forward": 0.75 * seconds, **parts}


@pytest.fixture
def outcome():
    """Three epochs, one of stage 1."""
    plain = {
        "ways": [{"sequential": 1.0, "seek": 2.0}],
        "stage1": [epoch(10, decode=99, loss=1), epoch(20, decode=99, loss=1)],
        "stage2": [epoch(30), epoch(40)],
        "test": [{"test": 5}],
        "model": [{"tail_forward": 0.25, "tail_backward": 0.5, "head": 0.1, "prefix_forward": 1.0, "videos": 2.0}],
    }
    cached = Trained(before=4, epochs=[epoch(1), epoch(2), epoch(2)], after=1)
    uncached = Trained(before=7, epochs=[epoch(9), epoch(8), epoch(7), epoch(6), epoch(5)], after=1)
    return Outcome(Contest("small", "tiny", 64, 32, uncached=True), 4, 3, 1, plain, cached, uncached)


def test_what_was_not_run_is_multiplied(outcome):
    # 1 epoch of stage 1, 2 of stage 2, and the test; without a cache an epoch of stage 1 was run already
    assert outcome.plain_totals() == [10 + 2 * 30 + 5, 20 + 2 * 40 + 5]
    assert outcome.uncached_totals() == [7 + 9 + 2 * 6 + 1, 7 + 9 + 2 * 5 + 1]
    assert outcome.totals() == {"plain": 90, "uncached": 28, "cached": 10}


def test_ratios(outcome):
    found = {figure.key: figure for figure in figures_of([outcome])}
    assert found["train/speedup_over_plain_small"].values == (7.5, 10.5)
    assert found["train/stage1_epoch_speedup"].values == (10, 20)
    assert found["train/speedup_over_uncached"].values == (2.9, 2.7)
    # four videos, two a batch: two batches of .25 s in an epoch of 2 s
    assert found["train/tail_forward_share_of_stage2_small"].value == 0.25
    assert found["train/tail_backward_share_of_stage2_small"].value == 0.5
    assert found["train/seconds_plain_stage1_epoch_forward_small"].values == (7.5, 15)
    assert found["train/seconds_plain_stage1_epoch_decode_small"].values == (99, 99)
    assert found["train/seconds_cached_stage2_epoch_small"].values == (2, 2)


def test_the_second_contest_has_names_of_its_own(outcome):
    other = Outcome(Contest("large", "tiny", 128, 64), 4, 3, 1, outcome.plain, outcome.cached)
    keys = [figure.key for figure in figures_of([outcome, other])]
    assert len(set(keys)) == len(keys)
    assert {"train/speedup_over_plain_large", "train/stage1_epoch_speedup_large"} <= set(keys)
    assert "9.0 times as fast as the plain loop (90 s)" in summary_of([outcome, other])
    assert any("0.50 for 64x32" in note for note in notes_of([outcome, other], 2, ["data.size=224"]))
