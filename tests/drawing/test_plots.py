import numpy as np
import pytest

from keyframe.drawing.plots import (
    draw_bars,
    draw_parallel,
    draw_per_video,
    draw_scatter,
    draw_tradeoff,
)
from tests.drawing.drawn import clashes, texts

NAMES = [f"model_{index}-with-a-name-of-forty-characters-or-more"[:40] for index in range(10)]
TITLE = "a title of a figure " * 8
LINES = {
    "random": 0.0,
    "one annotator": 0.204,
    "mean of the other 19 annotators": 0.396,
    "sampled at 60 frames": 0.4,
    "mean of all 20 (the ceiling)": 0.473,
    "unknown": np.nan,
}


# Bars, and a row per video


def test_no_text_of_the_bars_covers_another():
    for count, scale in ((1, 1.0), (2, 3.0), (6, -1.0)):
        means = {name: scale * 0.05 * place for place, name in enumerate(NAMES[:count])}
        intervals = {name: (mean - 0.03, mean + 0.05) for name, mean in means.items()}
        figure = draw_bars(means, intervals, LINES, TITLE, "annotator Spearman rho")
        assert not clashes(figure)
        shown = {text for text, _ in texts(figure)}
        assert shown >= {label for label in LINES if label != "unknown"} and "unknown" not in shown
    assert not clashes(draw_bars({"a": 0.1}, {}, {"what the mean of all other annotators reaches": 0.9}, "", "rho"))


def test_bars_intervals_and_lines_stand_at_their_numbers():
    means = {"a": 0.3, "b": -0.1, "c": np.nan, "d": 0.2}
    intervals = {"a": (0.25, 0.4), "b": (np.nan, 0.0), "c": (0.1, 0.2)}
    (axis,) = draw_bars(means, intervals, {"annotators": 0.45}, "", "rho").axes
    assert [bar.get_width() for bar in axis.patches if hasattr(bar, "get_width")] == [0.3, -0.1, 0.2]
    (error,) = [line for line in axis.lines if line.get_marker() == "|"]
    np.testing.assert_allclose(error.get_xdata(), [0.25, 0.4])
    numbers = [text.get_text() for text in axis.texts]
    assert numbers == ["0.300 [0.250, 0.400]", "-0.100", "n/a", "0.200", " annotators"]
    assert [0.45, 0.45] in [list(line.get_xdata()) for line in axis.lines]
    low, high = axis.get_xlim()
    assert low < -0.1 and high > 0.45


def test_bars_of_nothing_are_drawn(tmp_path):
    for mean in (np.nan, 0.0):
        draw_bars({"a": mean}, {}, {}, "", "rho").savefig(tmp_path / "a.png")


def test_no_text_of_the_rows_covers_another():
    rng = np.random.default_rng(0)
    for videos, models in ((1, 1), (10, 2), (120, 6)):
        rows = {f"{video} How to make a sandwich at home.mp4": rng.normal(0.3, 0.2, models) for video in range(videos)}
        assert not clashes(draw_per_video(rows, NAMES[:models], TITLE))


def test_videos_are_sorted_by_the_mean_of_what_is_defined(tmp_path):
    rows = {"low": [0.1, 0.2], "none": [np.nan, np.nan], "high": [0.9, np.nan], "middle": [0.4, 0.6]}
    figure = draw_per_video(rows, ["a", "b"])
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["high", "middle", "low", "none"]
    assert axis.yaxis_inverted()
    dots = [line for line in axis.lines if line.get_linestyle() == "None"]
    np.testing.assert_array_equal(dots[1].get_xdata(), [np.nan, 0.6, 0.2, np.nan])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a   mean 0.467", "b   mean 0.400"]
    draw_per_video({"v": [np.nan, np.nan]}, ["a", "b"]).savefig(tmp_path / "a.png")


def test_names_of_any_characters_are_drawn(tmp_path):
    name = "a\x1b[2J\u202e\udce9\u65e5 $x^{"
    for figure in (
        draw_bars({name: 0.1}, {name: (0.0, 0.2)}, {}, name, "rho"),
        draw_per_video({name: [0.1], "b": [0.2]}, [name], name),
        draw_scatter({name: np.arange(3.0)}, np.arange(3.0), {name: 0.5}, name),
        draw_parallel([{name: name}, {name: "b"}], [0.1, 0.2], name, "rho"),
    ):
        figure.savefig(tmp_path / "a.png")


# Points


def test_a_panel_per_model_and_no_text_covers_another():
    rng = np.random.default_rng(0)
    for models in (1, 2, 4, 6):
        scores = {name: rng.random(1500) for name in NAMES[:models]}
        figure = draw_scatter(scores, rng.random(1500), dict.fromkeys(NAMES, 0.5), TITLE)
        assert len(figure.axes) == models
        assert not clashes(figure)


def test_every_defined_point_counts():
    rng = np.random.default_rng(0)
    x, y = rng.random(20_000), rng.random(20_000)
    x[:5] = np.nan
    (many,) = draw_scatter({"a": x}, y, {"a": np.nan}, "").axes[0].collections
    few = draw_scatter({"a": x[:50]}, y[:50], {"a": 0.123}, "").axes[0]
    # The colour of a cell is the logarithm of its count; the norm keeps the counts themselves.
    assert many.get_array().sum() == 19_995
    np.testing.assert_allclose(few.collections[0].get_offsets(), np.stack([x[5:50], y[5:50]], axis=1))
    assert few.get_title(loc="left").endswith("0.12")
    nothing = draw_scatter({"a": np.full(5, np.nan)}, np.arange(5.0), {"a": np.nan}, "")
    nothing.draw_without_rendering()
    assert nothing.axes[0].get_title(loc="left").endswith("n/a")


# Accuracy against cost


def marks(figure):
    return [line for line in figure.axes[0].lines if line.get_marker() in ("o", "s")]


def test_no_text_of_the_marks_covers_another():
    for count in (1, 2, 10):
        rng = np.random.default_rng(count)
        latency = {name: float(np.exp(rng.standard_normal())) for name in NAMES[:count]}
        accuracy = {name: 0.3 + 0.05 * rng.standard_normal() for name in NAMES[:count]}
        intervals = {name: (value - 0.03, value + 0.05) for name, value in accuracy.items()}
        figure = draw_tradeoff(latency, accuracy, intervals, dict.fromkeys(latency, 6.512), TITLE)
        assert not clashes(figure)
        assert [text for text, _ in texts(figure) if text.endswith(" M")] == [f"{name}   6.51 M" for name in latency]


def test_marks_stand_at_their_numbers_on_a_scale_that_shows_all():
    for slow, scale in ((50.0, "linear"), (5000.0, "log")):
        sizes = {"a": 6.5, "b": 26.0}
        figure = draw_tradeoff({"a": 10.0, "b": slow}, {"a": 0.2, "b": 0.3}, {"a": (0.1, 0.4)}, sizes, "")
        (axis,) = figure.axes
        assert axis.get_xscale() == scale
        small, large = marks(figure)
        assert [tuple(np.ravel(mark.get_data())) for mark in (small, large)] == [(10.0, 0.2), (slow, 0.3)]
        assert (large.get_markersize() / small.get_markersize()) ** 2 == pytest.approx(4)
        assert axis.get_xlim()[0] < 10 and axis.get_xlim()[1] > slow
        assert axis.get_ylim()[0] < 0.1 and axis.get_ylim()[1] > 0.4


def test_models_without_latency_or_accuracy_are_named():
    latency = {"a": 10.0, "b": np.nan, "c": 3.0, "d": 4.0, "e": 0.0}
    accuracy = {"a": 0.2, "b": 0.3, "c": np.nan, "e": 0.1}
    figure = draw_tradeoff(latency, accuracy, {"a": (np.nan, 0.3)}, {}, "title")
    assert len(marks(figure)) == 1
    assert any(text.endswith("without latency or accuracy: b, c, d, e") for text, _ in texts(figure))
    assert not marks(draw_tradeoff({}, {}, {}, {}, ""))


# Parallel coordinates


def height_of(figure, label):
    (axis,) = figure.axes
    (text,) = [text for text in axis.texts if text.get_text() == label]
    return text.get_position()[1]


def lines(figure):
    """Where each run crosses the axes, and its style and colour, worst run first."""
    (axis,) = figure.axes
    return [
        ([float(y) for x, y in line.get_segments()[0] if x == int(x)], line.get_linestyle()[0], line.get_color()[0])
        for line in axis.collections
    ]


def test_no_text_of_a_sweep_covers_another():
    rng = np.random.default_rng(0)
    for count in (1, 2, 60):
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
        values = np.where(np.arange(count) % 7, rng.uniform(0.3, 0.7, count), np.nan)
        assert not clashes(draw_parallel(settings, values, TITLE, "val/spearman"))


def test_parameters_stand_in_their_order_and_values_on_a_linear_scale():
    settings = [{"lr": lr, "seed": seed} for lr, seed in (("1e-3", "10"), ("1e-5", "9"), ("0.0001", "11"))]
    figure = draw_parallel(settings, [0.1, 0.3, 0.5], "", "val/spearman")
    for labels in (("1e-5", "0.0001", "1e-3"), ("9", "10", "11"), ("0.16", "0.32", "0.48")):
        low, middle, high = (height_of(figure, label) for label in labels)
        assert middle - low == pytest.approx(high - middle) and high > low
    assert [line[0][-1] for line in lines(figure)] == pytest.approx([1 / 27, 0.5, 26 / 27])


def test_a_line_goes_through_its_words_and_ends_at_its_value():
    settings = [{"loss": "mse", "head": "dual"}, {"loss": "spearman", "head": "dual"}, {"loss": "mse", "head": "x"}]
    figure = draw_parallel(settings, [0.2, 0.6, np.nan], "", "val/spearman")
    failed, worst, best = lines(figure)
    assert len(set(failed[0])) == 2 and failed[1][1] is not None  # dashed, and without an end on the last axis
    assert worst[1][1] is None and best[1][1] is None
    assert best[0][0] == pytest.approx(height_of(figure, "spearman"))
    assert abs(worst[0][0] - height_of(figure, "mse")) <= 0.05
    assert worst[0][-1] < height_of(figure, "0.24") < height_of(figure, "0.56") < best[0][-1]
    assert sum(best[2][:3]) < sum(worst[2][:3])  # darker
    assert "1 without a value" in " ".join(text for text, _ in texts(figure))


def test_runs_with_equal_settings_do_not_hide_each_other():
    figure = draw_parallel([{"loss": "mse"}] * 5, [0.1, 0.2, 0.3, 0.4, 0.5], "", "val/spearman")
    starts = [line[0][0] for line in lines(figure)]
    assert starts == sorted(set(starts))  # the better, the higher


def test_runs_without_a_difference_are_drawn(tmp_path):
    for values in ([np.nan, np.nan], [0.3, 0.3]):
        draw_parallel([{"a": "1"}, {"a": ""}], values, "", "rho").savefig(tmp_path / "a.png")
