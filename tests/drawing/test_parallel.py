import warnings

import numpy as np
import pytest

from keyframe.drawing.plots import draw_parallel
from tests.drawing.drawn import clashes, texts


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def height_of(figure, label):
    (axis,) = figure.axes
    (text,) = [text for text in axis.texts if text.get_text() == label]
    return text.get_position()[1]


def runs(count):
    rng = np.random.default_rng(0)
    settings = [
        {
            "optimizer.lr": f"{10 ** rng.uniform(-5, -3):.6g}",
            "loss": str(rng.choice(["spearman", "pairwise", "mse", "weighted"])),
            "finetune.switch_epoch": str(rng.integers(3, 16)),
            "callbacks.early_stopping.patience_with_a_long_name": str(rng.integers(1, 4)),
            "backbone": "efficientnet_b0_with_a_name_of_forty_characters",
        }
        for _ in range(count)
    ]
    return settings, np.where(np.arange(count) % 7, rng.uniform(0.3, 0.7, count), np.nan)


@pytest.mark.parametrize("count", [1, 2, 60])
def test_no_text_covers_another(count):
    assert not clashes(draw_parallel(*runs(count), "a title of a figure " * 8, "val/spearman"))


def test_rates_stand_on_a_logarithmic_scale_seeds_and_values_on_a_linear_one():
    settings = [{"lr": lr, "seed": seed} for lr, seed in (("1e-5", "1"), ("0.0001", "2"), ("1e-3", "3"))]
    figure = draw_parallel(settings, [0.1, 0.11, 0.9], "", "val/spearman")
    low, middle, high = (height_of(figure, label) for label in ("1e-05", "0.0001", "0.001"))
    assert middle - low == pytest.approx(high - middle)
    low, middle, high = (height_of(figure, label) for label in "123")
    assert middle - low == pytest.approx(high - middle)
    assert height_of(figure, "0.9") - height_of(figure, "0.1") > 0.9


def lines(figure):
    """Where each run crosses the axes, and its style and colour, worst run first."""
    (axis,) = figure.axes
    return [
        ([float(y) for x, y in line.get_segments()[0] if x == int(x)], line.get_linestyle()[0], line.get_color()[0])
        for line in axis.collections
    ]


def test_a_line_goes_through_its_words_and_ends_at_its_value():
    settings = [{"loss": "mse", "head": "dual"}, {"loss": "spearman", "head": "dual"}, {"loss": "mse", "head": "x"}]
    figure = draw_parallel(settings, [0.2, 0.6, np.nan], "", "val/spearman")
    failed, worst, best = lines(figure)
    assert len(set(failed[0])) == 2 and failed[1][1] is not None  # dashed, and without an end on the last axis
    assert worst[1][1] is None and best[1][1] is None
    assert best[0][0] == pytest.approx(height_of(figure, "spearman"))
    assert abs(worst[0][0] - height_of(figure, "mse")) <= 0.05
    assert worst[0][-1] == pytest.approx(height_of(figure, "0.2")) and best[0][-1] > worst[0][-1]
    assert sum(best[2][:3]) < sum(worst[2][:3])  # darker
    assert "1 without a value" in " ".join(text for text, _ in texts(figure))


def test_runs_with_equal_settings_do_not_hide_each_other():
    figure = draw_parallel([{"loss": "mse"}] * 5, [0.1, 0.2, 0.3, 0.4, 0.5], "", "val/spearman")
    starts = [line[0][0] for line in lines(figure)]
    assert starts == sorted(set(starts))  # the better, the higher


@pytest.mark.parametrize("values", [[np.nan, np.nan], [0.3, 0.3]])
def test_runs_without_a_difference_are_drawn(values, tmp_path):
    draw_parallel([{"a": "1"}, {"a": ""}], values, "", "rho").savefig(tmp_path / "a.png")


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="parameter"):
        draw_parallel([{}], [0.1], "", "rho")
    with pytest.raises(ValueError, match="value"):
        draw_parallel([{"a": "1"}], [], "", "rho")
