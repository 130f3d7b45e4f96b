from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.image import imread

from keyframe.drawing import PALETTE
from keyframe.drawing.curves import Prediction, draw_curves, draw_video, side_by_side
from keyframe.files import format_clock
from tests.drawing.drawn import clashes

NAMES = [f"model {index} with a name of forty characters"[:40] for index in range(6)]


def prediction(annotators, length=60):
    rng = np.random.default_rng(0)
    truth = np.convolve(rng.random(length + 8), np.ones(9) / 9, "valid")
    tracks = np.clip(truth + 0.3 * rng.standard_normal((annotators, length)), 0, 1)
    importance = tracks.mean(0) if annotators else truth
    scores = np.clip(truth + 0.1 * rng.standard_normal(length), 0, 1)
    return Prediction(f"video-{annotators}", np.arange(length) * 2.0, scores, importance, tracks, -1.0)


def test_a_row_per_video_whatever_the_number_of_annotators(tmp_path):
    figure = draw_curves([prediction(annotators) for annotators in (0, 1, 20)], "epoch 3")
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == [f"video-{annotators}   Spearman -1.00" for annotators in (0, 1, 20)]
    assert [len(axis.collections) for axis in figure.axes] == [0, 0, 1]  # the band of the annotators
    assert [len(axis.lines) for axis in figure.axes] == [2, 2, 2]
    assert not clashes(figure)
    figure.savefig(tmp_path / "curves.png")
    image = imread(tmp_path / "curves.png")
    assert image.shape[0] > 400 and image[..., :3].std() > 0.05


def test_curves_are_ranks_within_the_video():
    scores, importance = np.array([0.9, 0.1, 0.2, 0.2]), np.array([4.0, 1, 2, 3])
    one = Prediction("a", np.arange(4.0), scores, importance, np.zeros((0, 4)), 0.5)
    annotators, model = draw_curves([one]).axes[0].lines
    np.testing.assert_allclose(annotators.get_ydata(), [7 / 8, 1 / 8, 3 / 8, 5 / 8])
    np.testing.assert_allclose(model.get_ydata(), [7 / 8, 1 / 8, 4 / 8, 4 / 8])  # a tie shares its ranks
    np.testing.assert_allclose(model.get_xdata(), [0, 1, 2, 3])


def test_very_short_and_constant_videos_are_drawn(tmp_path):
    for length in (1, 2):
        flat = np.full(length, 0.5)
        one = Prediction("a", np.arange(length) * 1.0, flat, flat, np.zeros((3, length)), np.nan)
        draw_curves([one]).savefig(tmp_path / "short.png")
        figure = draw_video(**example(count=length, length=float(length - 1), thumbnails=length))
        figure.savefig(tmp_path / "short.png")


def example(models=2, count=60, length=120.0, annotators=20, thumbnails=12, shape=(18, 32)):
    rng = np.random.default_rng(0)
    tracks = rng.integers(1, 6, (annotators, count)) / 5
    return {
        "video": "a video",
        "seconds": np.linspace(0, length, count),
        "scores": {name: rng.random(count) for name in NAMES[:models]},
        "spearman": dict.fromkeys(NAMES[:models], 0.5),
        "annotators": tracks,
        "importance": tracks.mean(0) if annotators else rng.random(count),
        "keyframes": {name: np.sort(rng.choice(count, min(count, 9), replace=False)) for name in NAMES[:models]},
        "thumbnails": [
            (time, rng.integers(0, 255, (*shape, 3), dtype=np.uint8)) for time in np.linspace(0, length, thumbnails)
        ],
        "shots": np.linspace(0, length, 7),
    }


def curves_of(figure):
    """The models' curves, in the order of the models."""
    return [line for axis in figure.axes for line in axis.lines if line.get_linewidth() == 1.8]


def test_curves_of_any_length_are_ranks_whatever_the_scale_of_the_scores():
    for count in (60, 5000):
        one = example(count=count)
        before = curves_of(draw_video(**one))
        one["scores"] = {name: np.exp(7 * values) - 3 for name, values in one["scores"].items()}
        after = curves_of(draw_video(**one))
        assert [line.get_color() for line in before] == list(PALETTE[:2])
        for old, new in zip(before, after, strict=True):
            heights = old.get_ydata()
            np.testing.assert_allclose(heights, new.get_ydata())
            assert 0 < heights.min() < heights.max() < 1
            assert np.mean(heights) == pytest.approx(0.5, abs=0.01)
            assert len(heights) <= 400


def thumbnail_boxes(figure):
    figure.draw_without_rendering()
    (strip,) = [axis for axis in figure.axes if axis.images]
    return strip, sorted((image.get_window_extent() for image in strip.images), key=lambda box: box.x0)


def test_thumbnails_do_not_overlap_and_keep_their_shape():
    for shape, length in (((18, 32), 5.0), ((32, 18), 10_800.0), ((10, 200), 5.0), ((20, 20), 10_800.0)):
        strip, boxes = thumbnail_boxes(draw_video(**example(length=length, thumbnails=600, shape=shape)))
        for box in boxes:
            assert box.width / box.height == pytest.approx(shape[1] / shape[0], rel=1e-3)
            assert strip.bbox.x0 - 1e-6 <= box.x0 and box.x1 <= strip.bbox.x1 + 1e-6
        assert all(a.x1 <= b.x0 for a, b in pairwise(boxes))
        used = sum(box.width for box in boxes) / strip.bbox.width
        assert used + boxes[0].width / strip.bbox.width > 0.85  # not one more fits


def test_thumbnails_stand_below_their_times():
    one = example(thumbnails=0, length=100.0)
    one["thumbnails"] = [(time, np.zeros((18, 18, 3), np.uint8)) for time in (25.0, 50.0, 75.0)]
    figure = draw_video(**one)
    _, boxes = thumbnail_boxes(figure)
    expected = [figure.axes[0].transData.transform((time, 0))[0] for time in (25, 50, 75)]
    np.testing.assert_allclose([(box.x0 + box.x1) / 2 for box in boxes], expected, atol=0.5)


def test_many_evenly_spread_intervals_stand_side_by_side():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        lefts = rng.uniform(0, 8, 9)
        rights = lefts + rng.uniform(0.3, 3, 9)
        chosen = side_by_side(lefts, rights, 0.2)
        assert chosen and all(rights[a] + 0.2 <= lefts[b] for a, b in combinations(chosen, 2))
    lefts = np.linspace(0, 9, 91)
    middles = lefts[side_by_side(lefts, lefts + 1.6)] + 0.8
    assert len(middles) == 6
    np.testing.assert_allclose(np.diff(middles), 10.6 / 6, atol=0.11)


def test_keyframes_stand_at_their_times_in_their_models_look():
    one = example()
    figure = draw_video(**one)
    rows = [line for axis in figure.axes for line in axis.lines if line.get_linestyle() == "None"]
    assert len(rows) == 2 and len({line.get_ydata()[0] for line in rows}) == 2
    for name, row, curve in zip(one["scores"], rows, curves_of(figure), strict=True):
        np.testing.assert_allclose(row.get_xdata(), one["seconds"][one["keyframes"][name]])
        assert row.get_color() == curve.get_color()
    (legend,) = figure.legends
    assert [handle.get_marker() for handle in legend.legend_handles[:2]] == [line.get_marker() for line in rows]


def test_no_text_of_a_video_covers_another():
    for models, length in ((1, 5.0), (2, 145.0), (3, 10_800.0), (6, 145.0)):
        one = example(models=models, length=length)
        one["video"] = "a $video$ with a very long name " * 6
        assert not clashes(draw_video(**one))


def test_the_key_names_rho_and_a_band_of_two_annotators():
    for annotators in (0, 1, 2):
        labels = [text.get_text() for text in draw_video(**example(annotators=annotators)).legends[0].get_texts()]
        assert ("middle half of annotators" in labels) == (annotators > 1)
    one = example()
    one["scores"] = {"same": np.exp(one["importance"]), "opposite": -one["importance"], "constant": np.full(60, 0.5)}
    one["spearman"] = {"same": 1.0, "opposite": -1.0, "constant": np.nan}
    one["keyframes"] = {}
    labels = [text.get_text() for text in draw_video(**one).legends[0].get_texts()]
    assert labels[:3] == ["same   1.00", "opposite   -1.00", "constant   n/a"]


def test_times_are_read_as_on_a_clock():
    times = [format_clock(seconds) for seconds in (0, 65, 3599.6, 3785, 10_800)]
    assert times == ["0:00", "1:05", "1:00:00", "1:03:05", "3:00:00"]
    assert format_clock(83.44, 1) == "1:23.4" and format_clock(3723.96, 1) == "1:02:04.0"
