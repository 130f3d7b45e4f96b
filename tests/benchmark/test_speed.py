"""How long models take: with a clock that only the models move, so that every figure is known."""

import pytest
import torch
from torch import nn

from keyframe import timing as speed
from keyframe.timing import TimedModel, Timing, speeds


class Stopwatch:
    """A clock, and models that take as long as they are told, call by call."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now

    def model(self, name, *seconds):
        """The last duration holds from then on."""
        left = list(seconds)

        def score(frames):
            assert torch.is_inference_mode_enabled()
            self.calls.append((name, len(frames)))
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return frames

        return TimedModel(score, lambda count: torch.zeros(count, 1))


@pytest.fixture
def clock(monkeypatch):
    clock = Stopwatch()
    monkeypatch.setattr(speed, "_clock", clock)
    return clock


def test_median_and_quartiles_leave_the_warm_up_out(clock):
    found = speeds({"a": clock.model("a", 100, 5, 1, 2, 4, 3)}, videos=[1])
    assert found == {("a", 1): Timing(seconds=3, spread=(2, 4), repeats=5)}


def test_models_take_turns(clock):
    models = {"a": clock.model("a", 1), "b": clock.model("b", 2)}
    found = speeds(models, videos=(1, 4), repeats=2)
    assert clock.calls == [("a", 1), ("b", 1)] * 3 + [("a", 4), ("b", 4)] * 3
    assert {cell: timing.seconds for cell, timing in found.items()} == {
        ("a", 1): 1,
        ("b", 1): 2,
        ("a", 4): 1,
        ("b", 4): 2,
    }


def test_the_slowest_model_bounds_the_rounds_of_all(clock):
    # three calls of 4 s fit into 13 s, a fourth does not
    models = {"fast": clock.model("fast", 1), "slow": clock.model("slow", 4)}
    found = speeds(models, videos=[1], repeats=9, budget_s=13)
    assert {name: timing.repeats for (name, _), timing in found.items()} == {"fast": 3, "slow": 3}


def test_one_round_is_made_whatever_it_takes(clock):
    found = speeds({"slow": clock.model("slow", 50, 40)}, videos=[8], budget_s=1)
    assert found == {("slow", 8): Timing(seconds=40, spread=(40, 40), repeats=1)}


def test_each_model_gets_its_own_input(clock):
    seen = {}
    models = {
        name: TimedModel(
            lambda frames, name=name: seen.update({name: frames.shape}),
            lambda count, size=size: torch.zeros(count, 60, 3, size, size),
        )
        for name, size in (("small", 4), ("large", 6))
    }
    speeds(models, videos=[2], repeats=1)
    assert seen == {"small": (2, 60, 3, 4, 4), "large": (2, 60, 3, 6, 6)}


def test_real_seconds():
    import time

    models = {
        "slow": TimedModel(lambda frames: time.sleep(0.05), torch.zeros),
        "fast": TimedModel(lambda frames: None, torch.zeros),
    }
    found = speeds(models, videos=[1], repeats=3)
    assert found["slow", 1].seconds >= 0.05
    assert 0 <= found["fast", 1].seconds < found["slow", 1].seconds


def test_training_mode_is_refused():
    with pytest.raises(ValueError, match="tiny is in training mode"):
        speeds({"tiny": TimedModel(nn.Linear(1, 1), lambda count: torch.zeros(count, 1))})


@pytest.mark.parametrize("wrong", [{"repeats": 0}, {"videos": [0, 1]}])
def test_numbers_out_of_range(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        speeds({}, **wrong)
