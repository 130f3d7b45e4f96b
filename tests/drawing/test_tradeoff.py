import warnings

import numpy as np
import pytest

from keyframe.drawing.plots import draw_tradeoff
from tests.drawing.drawn import clashes, texts

NAMES = [f"model_{index}-with-a-name-of-forty-characters-or-more"[:40] for index in range(10)]


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def discs(figure):
    return [line for line in figure.axes[0].lines if line.get_marker() == "o"]


@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 3.0])
@pytest.mark.parametrize("count", [1, 2, 6, 10])
def test_labels_cover_neither_each_other_nor_a_disc(count, spread):
    rng = np.random.default_rng(count)
    latency = {name: float(np.exp(spread * rng.standard_normal())) for name in NAMES[:count]}
    accuracy = {name: 0.3 + 0.05 * spread * rng.standard_normal() for name in NAMES[:count]}
    intervals = {name: (value - 0.03, value + 0.05) for name, value in accuracy.items()}
    sizes = {name: float(rng.uniform(1, 30)) for name in latency}
    figure = draw_tradeoff(latency, accuracy, intervals, sizes, "title")
    assert not clashes(figure)
    labels = [box for text, box in texts(figure) if text.endswith(" M")]
    assert len(labels) == count
    (axis,) = figure.axes
    for disc in discs(figure):
        x, y = axis.transData.transform(np.array(disc.get_data()).ravel())
        radius = disc.get_markersize() / 2 / 72 * figure.dpi
        for box in labels:
            assert np.hypot(x - np.clip(x, box.x0, box.x1), y - np.clip(y, box.y0, box.y1)) >= 0.9 * radius


def test_a_label_cannot_be_taken_for_that_of_another_disc():
    # there is room for two labels between two discs; which name belongs to which must be seen
    names = ("conv_small_of_length", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "conv_medium", "resnet50")
    latency = dict(zip(names, (1290.0, 3670.0, 6160.0, 6730.0, 4000.0, 15300.0), strict=True))
    accuracy = dict(zip(names, (0.315, 0.336, 0.329, 0.342, 0.303, 0.340), strict=True))
    intervals = {name: (value - 0.0175, value + 0.0175) for name, value in accuracy.items()}
    sizes = dict(zip(names, (5.0, 6.5, 9.0, 10.2, 10.9, 26.4), strict=True))
    figure = draw_tradeoff(latency, accuracy, intervals, sizes, "title")
    (axis,) = figure.axes
    centres = [axis.transData.transform(np.ravel(disc.get_data())) for disc in discs(figure)]
    for index, name in enumerate(latency):
        (box,) = [box for text, box in texts(figure) if text.startswith(name)]
        gaps = [np.hypot(*(np.clip(c, (box.x0, box.y0), (box.x1, box.y1)) - c)) for c in centres]
        assert all(gap > 1.5 * gaps[index] for other, gap in enumerate(gaps) if other != index)


def test_the_area_goes_with_the_parameters():
    figure = draw_tradeoff({"a": 10, "b": 20}, {"a": 0.2, "b": 0.3}, {}, {"a": 6.5, "b": 26.0}, "")
    small, large = discs(figure)
    assert (large.get_markersize() / small.get_markersize()) ** 2 == pytest.approx(4)


@pytest.mark.parametrize(("slow", "scale"), [(50.0, "linear"), (5000.0, "log")])
def test_discs_stand_at_their_numbers_on_a_scale_that_shows_all(slow, scale):
    figure = draw_tradeoff({"a": 10.0, "b": slow}, {"a": 0.2, "b": 0.3}, {"a": (0.1, 0.4)}, {}, "")
    (axis,) = figure.axes
    assert axis.get_xscale() == scale
    assert [tuple(np.ravel(disc.get_data())) for disc in discs(figure)] == [(10.0, 0.2), (slow, 0.3)]
    assert axis.get_xlim()[0] < 10 and axis.get_xlim()[1] > slow
    assert axis.get_ylim()[0] < 0.1 and axis.get_ylim()[1] > 0.4


def test_what_is_not_defined_is_named_not_drawn():
    latency = {"a": 10.0, "b": np.nan, "c": 3.0, "d": 4.0, "e": 0.0}
    accuracy = {"a": 0.2, "b": 0.3, "c": np.nan, "e": 0.1}
    figure = draw_tradeoff(latency, accuracy, {"a": (np.nan, 0.3)}, {}, "title")
    assert len(discs(figure)) == 1
    assert figure.texts[1].get_text().endswith("without latency or accuracy: b, c, d, e")
    assert not discs(draw_tradeoff({}, {}, {}, {}, ""))
