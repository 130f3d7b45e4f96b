import warnings

import numpy as np
import pytest
from matplotlib.image import imread

from keyframe.drawing.curves import Prediction, draw_curves


def prediction(people, length=60, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.convolve(rng.random(length + 8), np.ones(9) / 9, "valid")
    annotators = np.clip(truth + 0.3 * rng.standard_normal((people, length)), 0, 1)
    importance = annotators.mean(0) if people else truth
    scores = np.clip(truth + 0.1 * rng.standard_normal(length), 0, 1)
    return Prediction(f"video-{people}", np.arange(length) * 2.0, scores, importance, annotators, 0.5)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_a_row_a_video_whatever_the_number_of_annotators(tmp_path):
    figure = draw_curves([prediction(people) for people in (0, 1, 20)], "epoch 3")
    assert [axis.get_title(loc="left").split()[0] for axis in figure.axes] == ["video-0", "video-1", "video-20"]
    assert [len(axis.collections) for axis in figure.axes] == [0, 0, 1]  # the band of the annotators
    assert [len(axis.lines) for axis in figure.axes] == [2, 2, 2]
    figure.savefig(tmp_path / "curves.png")
    picture = imread(tmp_path / "curves.png")
    assert picture.shape[0] > 400
    assert picture[..., :3].std() > 0.05


def test_curves_are_ranks_within_the_video():
    one = Prediction(
        "a", np.arange(4.0), np.array([0.9, 0.1, 0.2, 0.2]), np.array([4.0, 1, 2, 3]), np.zeros((0, 4)), -1.0
    )
    people, model = draw_curves([one]).axes[0].lines
    np.testing.assert_allclose(people.get_ydata(), [7 / 8, 1 / 8, 3 / 8, 5 / 8])
    np.testing.assert_allclose(model.get_ydata(), [7 / 8, 1 / 8, 4 / 8, 4 / 8])  # a tie shares its ranks
    np.testing.assert_allclose(model.get_xdata(), [0, 1, 2, 3])


def test_the_correlation_stands_in_the_title():
    one = Prediction("a", np.arange(4.0), np.arange(4.0), np.arange(4.0)[::-1], np.zeros((0, 4)), -1.0)
    assert draw_curves([one]).axes[0].get_title(loc="left").endswith("-1.00")


@pytest.mark.parametrize("length", [1, 2])
def test_very_short_and_constant_videos_are_drawn(tmp_path, length):
    one = Prediction(
        "a", np.arange(length) * 1.0, np.full(length, 0.5), np.full(length, 0.2), np.zeros((3, length)), np.nan
    )
    draw_curves([one]).savefig(tmp_path / "short.png")
    assert (tmp_path / "short.png").stat().st_size > 1000
