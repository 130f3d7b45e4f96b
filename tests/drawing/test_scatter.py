import warnings

import numpy as np
import pytest

from keyframe.drawing.plots import draw_pairs, draw_scatter
from tests.drawing.drawn import clashes

NAMES = [f"model_{index}-with-a-name-of-forty-characters-or-more"[:40] for index in range(6)]


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("models", [1, 2, 4, 6])
def test_a_panel_a_model_and_no_text_covers_another(models):
    rng = np.random.default_rng(0)
    figure = draw_scatter(
        {name: rng.random(1500) for name in NAMES[:models]}, rng.random(1500), dict.fromkeys(NAMES, 0.5), "title " * 30
    )
    assert len(figure.axes) == models
    assert not clashes(figure)


def test_every_defined_point_counts():
    rng = np.random.default_rng(0)
    x, y = rng.random(20_000), rng.random(20_000)
    x[:5] = np.nan
    (many,) = draw_scatter({"a": x}, y, {"a": np.nan}, "").axes[0].collections
    few = draw_scatter({"a": x[:50]}, y[:50], {"a": 0.123}, "")
    # The colour of a cell is the logarithm of its count; the norm keeps the counts themselves.
    assert many.get_array().sum() == 19_995
    np.testing.assert_allclose(few.axes[0].collections[0].get_offsets(), np.stack([x[5:50], y[5:50]], axis=1))
    assert few.axes[0].get_title(loc="left").endswith("0.12")


def test_constant_scores_have_no_rho():
    figure = draw_scatter(
        {"a": np.full(5, 0.5), "b": np.full(5, np.nan)}, np.arange(5.0), dict.fromkeys("ab", np.nan), ""
    )
    figure.draw_without_rendering()
    assert [axis.get_title(loc="left").endswith("n/a") for axis in figure.axes] == [True, True]


def test_pairs_are_counted_on_either_side():
    a = np.array([0.1, 0.2, 0.3, 0.4, 0.5, np.nan])
    b = np.array([0.2, 0.1, 0.4, 0.4, 0.9, 0.1])
    figure = draw_pairs(a, b, ("A", "B"), "title")
    note = figure.texts[1].get_text().replace("\n", " ")
    assert note == "B is better in 3 of 5 videos (above the diagonal), A in 1, equal: 1, not defined: 1"
    (axis,) = figure.axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("A", "B")
    assert axis.get_xlim() == axis.get_ylim()
    np.testing.assert_allclose(axis.collections[0].get_offsets(), np.stack([a, b], axis=1)[:5])


@pytest.mark.parametrize("values", [[], [np.nan], [0.5]])
def test_pairs_of_nothing_are_drawn(values):
    assert not clashes(draw_pairs(np.array(values), np.array(values), (NAMES[0], NAMES[1]), "title " * 30))


def test_other_lengths_are_refused():
    with pytest.raises(ValueError, match="every video"):
        draw_pairs(np.zeros(2), np.zeros(3), ("A", "B"), "")
    with pytest.raises(ValueError, match="every frame"):
        draw_scatter({"a": np.zeros(2)}, np.zeros(3), {"a": 0.0}, "")
