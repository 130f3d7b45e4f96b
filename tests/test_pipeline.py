"""The straight line, from a file to scores."""

from functools import partial

import numpy as np
import pytest
import torch

from keyframe.data.datamodule import VideoDataModule
from keyframe.data.sampling import average_windows, windows
from keyframe.pipeline import encode_images, score_frames, score_windows
from keyframe.runs import load_run
from keyframe.training.losses import SpearmanLoss
from keyframe.training.module import KeyframeModule
from keyframe.types import KeyframeError
from tests.training.tiny import make_trainer


def test_a_loaded_model_gives_the_scores_that_are_tested(old_run, tmp_path):
    run = load_run(old_run)
    module = KeyframeModule(run.detector, SpearmanLoss(), partial(torch.optim.AdamW, lr=1e-3))
    module.drawn = 2
    data = run.video_data
    division = {name: getattr(data, name) for name in ("folds", "fold", "val_fraction")}
    batches = VideoDataModule(data.source, data.reader, data.sampling, data.size, **division)
    make_trainer(tmp_path, 1).test(module, batches, verbose=False)
    videos = run.videos("test")
    assert len(videos) == 3
    assert sorted(module.predictions) == sorted(videos)[:2]  # of thousands of videos no more are kept
    run.detector.eval()
    for id_ in module.predictions:
        video = videos[id_]
        frames = run.video_data.sampling.indices(video.index)
        scores = score_frames(run.scorer, video.index, frames, run.video_data.reader)
        np.testing.assert_allclose(scores, module.predictions[id_].scores, atol=1e-5)


def covered(count, length, span=1200):
    """How often each frame is looked at."""
    seen = np.zeros(count, dtype=int)
    for frames, weights in windows(count, length, span):
        assert frames.min() >= 0 and frames.max() < count and (np.diff(frames) >= 0).all()
        assert (weights > 0).all() and (weights <= 1).all()
        np.add.at(seen, frames, 1)
    return seen


def test_every_frame_is_in_a_window():
    for count in (1, 2, 59, 60, 61, 119, 120, 121, 707, 1200, 1201, 5000):
        for length in (None, 1, 12, 60):
            assert covered(count, length).min() >= 1
            assert {len(frames) for frames, _ in windows(count, length)} == {length or min(count, 1200)}


def test_one_window_is_all_frames_in_order():
    [(frames, weights)] = windows(60, 60)
    assert frames.tolist() == list(range(60))
    assert (weights > 0).all()


def test_windows_are_spread_as_in_training():
    # UniformSampling takes the centres of T equal spans: each window must do so too, up to its phase
    for frames, _ in windows(600, 60):
        assert set(np.diff(frames)) == {10}
    assert sorted(frames[0] for frames, _ in windows(600, 60)) == list(range(10))


def test_long_videos_are_cut_into_sections_that_overlap_by_half():
    starts = sorted({int(frames[0]) for frames, _ in windows(3000, None)})
    assert starts == [0, 600, 1200, 1800]
    assert covered(3000, None)[600:2400].tolist() == [2] * 1800


def test_an_image_that_equals_the_one_before_it_is_not_encoded_again():
    shown = [0, 0, 1, 1, 1, 0, 2, 2, 2, 2, 3]
    distinct = np.random.default_rng(0).integers(0, 256, (4, 6, 8, 3), np.uint8)
    distinct[1] = distinct[0]
    distinct[1, 5, 7, 2] ^= 1  # the least that a picture can change
    images = distinct[shown]
    counts = []

    def means(pixels):
        counts.append(len(pixels))
        return pixels.float().mean(dim=(-2, -1))

    features = encode_images(iter([images[:4], images[4:7], images[7:9], images[9:]]), means)
    assert counts == [2, 2, 1]
    np.testing.assert_allclose(features, images.mean(axis=(1, 2)), rtol=1e-6)


def test_a_video_of_one_window_gives_the_models_own_scores():
    torch.manual_seed(0)
    head = torch.nn.Sequential(torch.nn.Linear(8, 1), torch.nn.Sigmoid(), torch.nn.Flatten(-2))
    features = torch.randn(60, 8)
    own = head(features[None])[0].detach().numpy()
    np.testing.assert_array_equal(score_windows(head, features, 60), own)
    np.testing.assert_array_equal(score_windows(head, features), own)


def test_scores_of_overlapping_sections_are_averaged_by_their_nearness_to_the_middle():
    # by hand: 6 frames, sections 0-3 and 2-5, weights 2/5 4/5 4/5 2/5; the first section says 0, the second 1
    answers = iter([0.0, 1.0])

    merged = average_windows(lambda places: np.full(places.shape, next(answers)), 6, span=4)
    np.testing.assert_allclose(merged, [0, 0, (2 / 5) / (4 / 5 + 2 / 5), (4 / 5) / (2 / 5 + 4 / 5), 1, 1], atol=1e-6)


def test_how_many_windows_are_scored_at_once_changes_nothing():
    values = np.random.default_rng(0).random(500)

    def score(places):
        return (values[places] + values[places].mean(1, keepdims=True)) / 2

    alone = average_windows(score, 500, 60, batch=1)
    np.testing.assert_allclose(average_windows(score, 500, 60, batch=16), alone, atol=1e-6)


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(KeyframeError, match="scores are not numbers"):
        score_windows(lambda features: features.sum(2), torch.tensor([[0.1], [float("nan")]]))
