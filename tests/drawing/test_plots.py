import warnings

import numpy as np
import pytest

from keyframe.drawing.plots import draw_bars, draw_per_video
from tests.drawing.drawn import clashes, texts

NAMES = [f"model_{index}-with-a-name-of-forty-characters-or-more"[:40] for index in range(6)]
LINES = {
    "random": 0.0,
    "one annotator": 0.204,
    "mean of the other 19 annotators": 0.396,
    "sampled at 60 frames": 0.4,
    "mean of all 20 (the ceiling)": 0.473,
    "unknown": np.nan,
}


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("count", [1, 2, 6])
@pytest.mark.parametrize("scale", [-1.0, 1.0, 3.0])
def test_no_text_of_the_bars_covers_another(count, scale):
    means = {name: scale * 0.05 * place for place, name in enumerate(NAMES[:count])}
    intervals = {name: (mean - 0.03, mean + 0.05) for name, mean in means.items()}
    figure = draw_bars(means, intervals, LINES, "a title of a figure " * 8, "annotator Spearman rho")
    assert not clashes(figure)
    said = {text for text, _ in texts(figure)}
    assert said >= {label for label in LINES if label != "unknown"} and "unknown" not in said


def test_bars_and_intervals_are_as_long_as_said():
    means = {"a": 0.3, "b": -0.1, "c": np.nan, "d": 0.2}
    intervals = {"a": (0.25, 0.4), "b": (np.nan, 0.0), "c": (0.1, 0.2)}
    (axis,) = draw_bars(means, intervals, {}, "", "rho").axes
    assert [bar.get_width() for bar in axis.patches] == [0.3, -0.1, 0.2]
    (error,) = [line for line in axis.lines if line.get_marker() == "|"]
    np.testing.assert_allclose(error.get_xdata(), [0.25, 0.4])
    assert [text.get_text() for text in axis.texts] == ["0.300 [0.250, 0.400]", "-0.100", "n/a", "0.200"]
    low, high = axis.get_xlim()
    assert low < -0.1 and high > 0.4


def test_a_reference_line_stands_at_its_value():
    (axis,) = draw_bars({"a": 0.3}, {}, {"people": 0.45}, "", "rho").axes
    assert [0.45, 0.45] in [list(line.get_xdata()) for line in axis.lines]
    assert axis.get_xlim()[1] > 0.45


def test_the_label_of_the_last_line_stays_on_the_page():
    assert not clashes(draw_bars({"a": 0.1}, {}, {"what the mean of all other annotators reaches": 0.9}, "", "rho"))


@pytest.mark.parametrize("means", [{"a": np.nan}, {"a": 0.0}])
def test_bars_of_nothing_are_drawn(means, tmp_path):
    draw_bars(means, {}, {}, "", "rho").savefig(tmp_path / "a.png")


def test_no_model_is_refused():
    with pytest.raises(ValueError, match="model"):
        draw_bars({}, {}, {}, "", "rho")
    with pytest.raises(ValueError, match="row"):
        draw_per_video({}, ["a"])
    with pytest.raises(ValueError, match="row"):
        draw_per_video({"v": [0.1]}, ["a", "b"])


@pytest.mark.parametrize(("videos", "models"), [(1, 1), (10, 2), (120, 6)])
def test_no_text_of_the_rows_covers_another(videos, models):
    rng = np.random.default_rng(0)
    rows = {f"{video} How to make a sandwich at home.mp4": rng.normal(0.3, 0.2, models) for video in range(videos)}
    assert not clashes(draw_per_video(rows, NAMES[:models], "title"))


def test_videos_are_sorted_by_the_mean_of_what_is_defined():
    rows = {"low": [0.1, 0.2], "none": [np.nan, np.nan], "high": [0.9, np.nan], "middle": [0.4, 0.6]}
    figure = draw_per_video(rows, ["a", "b"])
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["high", "middle", "low", "none"]
    assert axis.yaxis_inverted()
    dots = [line for line in axis.lines if line.get_linestyle() == "None"]
    np.testing.assert_array_equal(dots[1].get_xdata(), [np.nan, 0.6, 0.2, np.nan])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a   mean 0.467", "b   mean 0.400"]


def test_a_model_without_any_number_is_drawn(tmp_path):
    draw_per_video({"v": [np.nan, np.nan]}, ["a", "b"]).savefig(tmp_path / "a.png")
