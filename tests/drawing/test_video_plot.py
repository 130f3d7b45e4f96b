import warnings
from itertools import pairwise

import numpy as np
import pytest

from keyframe.drawing.curves import draw_video
from keyframe.files import format_clock
from tests.drawing.drawn import clashes

NAMES = [f"model {index} with a name of forty characters"[:40] for index in range(6)]


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def example(models=2, count=60, length=120.0, people=20, pictures=12, shape=(18, 32), seed=0):
    rng = np.random.default_rng(seed)
    annotators = rng.integers(1, 6, (people, count)) / 5
    return {
        "video": "a video",
        "seconds": np.linspace(0, length, count),
        "scores": {name: rng.random(count) for name in NAMES[:models]},
        "spearman": dict.fromkeys(NAMES[:models], 0.5),
        "annotators": annotators,
        "importance": annotators.mean(0) if people else rng.random(count),
        "keyframes": {name: np.sort(rng.choice(count, min(count, 9), replace=False)) for name in NAMES[:models]},
        "thumbnails": [
            (time, rng.integers(0, 255, (*shape, 3), dtype=np.uint8)) for time in np.linspace(0, length, pictures)
        ],
        "shots": np.linspace(0, length, 7),
    }


def curve(figure, name):
    (line,) = [line for axis in figure.axes for line in axis.lines if line.get_label() == name]
    return line


@pytest.mark.parametrize("count", [60, 5000])
def test_curves_are_ranks_whatever_the_scale_of_the_scores(count):
    one = example(count=count)
    before = draw_video(**one)
    one["scores"] = {name: np.exp(7 * values) - 3 for name, values in one["scores"].items()}
    after = draw_video(**one)
    for name in one["scores"]:
        heights = curve(before, name).get_ydata()
        np.testing.assert_allclose(heights, curve(after, name).get_ydata())
        assert 0 < heights.min() < heights.max() < 1
        assert np.mean(heights) == pytest.approx(0.5, abs=0.01)
        assert len(heights) <= 400


@pytest.mark.parametrize("shape", [(18, 32), (32, 18), (10, 200), (20, 20)])
@pytest.mark.parametrize("length", [5.0, 10_800.0])
def test_thumbnails_do_not_overlap_and_keep_their_shape(shape, length):
    figure = draw_video(**example(length=length, pictures=600, shape=shape))
    figure.draw_without_rendering()
    (strip,) = [axis for axis in figure.axes if axis.images]
    boxes = sorted((image.get_window_extent() for image in strip.images), key=lambda box: box.x0)
    for box in boxes:
        assert box.width / box.height == pytest.approx(shape[1] / shape[0])
        assert strip.bbox.x0 - 1e-6 <= box.x0 and box.x1 <= strip.bbox.x1 + 1e-6
    assert all(a.x1 <= b.x0 for a, b in pairwise(boxes))
    used = sum(box.width for box in boxes) / strip.bbox.width
    assert used + boxes[0].width / strip.bbox.width > 0.85  # not one more fits


def test_thumbnails_stand_below_their_times():
    one = example(pictures=0, length=100.0)
    one["thumbnails"] = [(time, np.zeros((18, 18, 3), np.uint8)) for time in (25.0, 50.0, 75.0)]
    figure = draw_video(**one)
    figure.draw_without_rendering()
    (strip,) = [axis for axis in figure.axes if axis.images]
    middles = [(box.x0 + box.x1) / 2 for box in (image.get_window_extent() for image in strip.images)]
    expected = [figure.axes[0].transData.transform((time, 0))[0] for time in (25, 50, 75)]
    np.testing.assert_allclose(middles, expected, atol=0.5)


def test_keyframes_stand_at_their_times_in_their_models_look():
    one = example()
    figure = draw_video(**one)
    rows = [line for axis in figure.axes for line in axis.lines if line.get_linestyle() == "None"]
    assert len(rows) == 2 and len({line.get_ydata()[0] for line in rows}) == 2
    for name, row in zip(NAMES, rows, strict=False):
        np.testing.assert_allclose(row.get_xdata(), one["seconds"][one["keyframes"][name]])
        assert row.get_color() == curve(figure, name).get_color()
    (legend,) = figure.legends
    assert [handle.get_marker() for handle in legend.legend_handles[:2]] == [line.get_marker() for line in rows]


@pytest.mark.parametrize("models", [1, 2, 3, 6])
@pytest.mark.parametrize("length", [5.0, 145.0, 10_800.0])
def test_no_text_covers_another(models, length):
    one = example(models=models, length=length)
    one["video"] = "a $video$ with a very long name " * 6
    assert not clashes(draw_video(**one))


@pytest.mark.parametrize("people", [0, 1, 2])
def test_a_band_needs_two_annotators(people):
    figure = draw_video(**example(people=people))
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("middle half of annotators" in said) == (people > 1)


def test_the_key_says_rho_and_what_is_not_defined():
    one = example()
    one["scores"] = {"same": np.exp(one["importance"]), "opposite": -one["importance"], "constant": np.full(60, 0.5)}
    one["spearman"] = {"same": 1.0, "opposite": -1.0, "constant": np.nan}
    one["keyframes"] = {}
    said = [text.get_text() for text in draw_video(**one).legends[0].get_texts()]
    assert said[:3] == ["same   1.00", "opposite   -1.00", "constant   n/a"]


@pytest.mark.parametrize("count", [1, 2])
def test_a_video_of_one_or_two_frames_is_drawn(count, tmp_path):
    draw_video(**example(count=count, length=float(count - 1), pictures=count)).savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_series_of_other_lengths_are_refused():
    one = example()
    one["scores"][NAMES[1]] = np.zeros(59)
    with pytest.raises(ValueError, match="60 numbers"):
        draw_video(**one)


def test_times_are_read_as_on_a_clock():
    assert [format_clock(seconds) for seconds in (0, 65, 3599.6, 3785, 10_800)] == [
        "0:00", "1:05", "1:00:00", "1:03:05", "3:00:00",
    ]  # fmt: skip
