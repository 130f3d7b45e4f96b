"""A video in a feature file: features at its picks, shots, and what its labels become."""

import itertools

import numpy as np
import pytest
import torch

from keyframe.data.labels import read_tvsum_tsv, write_tsv
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.evaluation.metrics import f1_user
from keyframe.extraction.features import FeatureEncoder, orthonormal, principal
from keyframe.models.backbone import Backbone, NoBackbone
from keyframe.models.detector import KeyframeDetector
from keyframe.models.head import TemporalHead
from keyframe.summary.shots import KtsShots
from keyframe.types import KeyframeError
from tests.data.feature_files import write_features
from tests.videos import write_video

FRAMES = 403
PICKS = np.arange(0, FRAMES, 15)  # 0 ... 390
STARTS = np.array([0, 1, 3, 6, 7, 11, 13, 14, 17, 23])  # first picks of ten shots
SHOTS = np.stack([STARTS, np.append(STARTS[1:], 27) - 1], axis=1)
CHANGE_POINTS = [
    *([0, 14], [15, 44], [45, 89], [90, 104], [105, 164], [165, 194], [195, 209], [210, 254], [255, 344], [345, 402]),
]


class Cut:
    """Always the same shots."""

    def of_video(self, index, frames, look, reader):
        np.testing.assert_array_equal(frames, PICKS)
        assert len(look) == len(frames)
        return SHOTS


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "a.mp4", frames=FRAMES, size=(80, 48))


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return KeyframeDetector(Backbone("resnet18", pretrained=False), TemporalHead, chunk=4).eval()


def encoder(detector, reader=None, shots=None, step=15):
    return FeatureEncoder(detector, (32, 40), reader or PyAVReader(), shots or Cut(), step)


@pytest.fixture(scope="module")
def scores():
    """The scores of 4 annotators, 1 to 5, constant over 20 frames: the best summaries differ, also by the scale."""
    return np.repeat(np.random.default_rng(32).integers(1, 6, (4, 21)), 20, axis=1)[:, :FRAMES]


@pytest.fixture(scope="module")
def labelled(path, detector, scores, tmp_path_factory):
    tsv = tmp_path_factory.mktemp("labels") / "labels.tsv"
    write_tsv(tsv, {"a": scores})
    labels = read_tvsum_tsv(tsv)["a"]
    return encoder(detector)("a", path, labels)


def test_features_are_the_backbones_of_normalised_frames(path, detector, labelled):
    frames = PyAVReader().read(path, PICKS, (32, 40))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet's
    pictures = torch.from_numpy((frames.pixels / 255 - mean) / std).float().permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = detector.backbone.model(pictures).numpy()
    assert labelled.features.shape == (27, 512) and labelled.features.dtype == np.float32
    assert expected.std(axis=0).max() > 1e-3
    np.testing.assert_allclose(labelled.features, expected, rtol=1e-3, atol=1e-5)


def test_picks_and_shots(labelled):
    assert labelled.n_frames == FRAMES
    np.testing.assert_array_equal(labelled.picks, PICKS)
    np.testing.assert_array_equal(labelled.change_points, CHANGE_POINTS)


def best_value(track):
    """The greatest total of shot means that fits into 15 %, and the lengths, by trying all sets of shots."""
    lengths = [last - first + 1 for first, last in CHANGE_POINTS]
    means = [track[first : last + 1].mean() for first, last in CHANGE_POINTS]
    sets = itertools.chain.from_iterable(itertools.combinations(range(10), count) for count in range(11))
    fit = [chosen for chosen in sets if sum(lengths[shot] for shot in chosen) <= int(0.15 * FRAMES)]
    return max(sum(means[shot] for shot in chosen) for chosen in fit), means


def value(summary, means):
    """The total of the shots that are kept; each is kept whole or not at all."""
    parts = [summary[first : last + 1] for first, last in CHANGE_POINTS]
    assert all(part.all() or not part.any() for part in parts)
    return sum(mean for part, mean in zip(parts, means, strict=True) if part.all())


def test_labels_become_scores_and_summaries(labelled, scores):
    np.testing.assert_allclose(labelled.truth.gtscore, (scores.mean(0)[::15] - 1) / 4, atol=1e-6)
    assert labelled.truth.user_summary.shape == (4, FRAMES)
    for summary, track in zip(labelled.truth.user_summary, scores, strict=True):
        best, means = best_value(track)
        assert summary.sum() <= 60 and value(summary, means) == pytest.approx(best)
    # the reference summary is known at the picks only, and no shot lies between two
    held = np.repeat(labelled.truth.gtsummary, 15)[:FRAMES]
    best, means = best_value(scores.mean(0))
    assert value(held, means) == pytest.approx(best) and held.any()


def test_a_users_own_summary_is_what_is_stored(path, detector, tmp_path):
    """Selections as SumMe's, of frames that no shots bound and of more or less than 15 %: none is cut again."""
    rng = np.random.default_rng(0)
    kept = np.repeat(rng.random((4, 31)) < np.array([[0.05], [0.1], [0.15], [0.4]]), 13, axis=1)
    (tmp_path / "labels.tsv").write_text("".join(f"a\t\t{','.join(map(str, row))}\n" for row in kept.astype(int)))
    labels = read_tvsum_tsv(tmp_path / "labels.tsv")["a"]
    truth = encoder(detector)("a", path, labels).truth
    assert kept.any(axis=1).all()
    for user, stored in zip(kept, truth.user_summary, strict=True):
        assert f1_user(user, stored[None]) == 1.0
    # The reference summary is of the users' mean: the shots that most frames are kept of.
    np.testing.assert_allclose(truth.gtscore, kept.mean(axis=0)[PICKS])
    best, means = best_value(kept.mean(axis=0))
    assert value(np.repeat(truth.gtsummary, 15)[:FRAMES], means) == pytest.approx(best)


def test_another_step_and_no_labels(path, detector):
    video = encoder(detector, shots=KtsShots(), step=200)("a", path)
    np.testing.assert_array_equal(video.picks, [0, 200, 400])
    assert video.features.shape == (3, 512) and video.truth is None
    starts, ends = video.change_points.T
    assert starts[0] == 0 and ends[-1] == FRAMES - 1 and (starts[1:] == ends[:-1] + 1).all()


def test_labels_of_another_cut_are_refused_before_anything_is_decoded(path, detector, tmp_path, monkeypatch):
    monkeypatch.setattr(PyAVReader, "stream", pytest.fail)
    write_tsv(tmp_path / "labels.tsv", {"a": np.ones((1, 2 * FRAMES), int)})
    with pytest.raises(KeyframeError, match=rf"a\.mp4 has {FRAMES} frames and its labels {2 * FRAMES}"):
        encoder(detector)("a", path, read_tvsum_tsv(tmp_path / "labels.tsv")["a"])


def test_labels_of_a_frame_more_are_read_by_time(path, detector, scores, tmp_path):
    longer = np.concatenate([scores, scores[:, -1:]], axis=1)
    write_tsv(tmp_path / "labels.tsv", {"a": longer})
    labels = read_tvsum_tsv(tmp_path / "labels.tsv")["a"]
    video = encoder(detector)("a", path, labels)
    assert video.truth.user_summary.shape == (4, FRAMES) == (4, index_packets(path).n_frames)
    entries = PICKS * (FRAMES + 1) // FRAMES
    np.testing.assert_allclose(video.truth.gtscore, (longer.mean(0)[entries] - 1) / 4, atol=1e-6)


def test_picks_move_to_i_frames(detector, tmp_path):
    video = write_video(
        tmp_path / "b.mp4", frames=100, size=(80, 48), options={"g": "18", "keyint_min": "18", "sc_threshold": "0"}
    )
    picks = [0, 18, 36, 45, 54, 72, 90]  # wanted: 0, 15, 30, 45, 60, 75, 90
    found = encoder(detector, PyAVReader(exact=False), KtsShots())("b", video)
    assert found.picks.tolist() == picks
    pixels = PyAVReader().read(video, found.picks, (32, 40)).pixels
    with torch.inference_mode():
        features = detector.encode("pixels", torch.from_numpy(pixels).permute(0, 3, 1, 2)[None])[0]
    np.testing.assert_allclose(found.features, features, atol=1e-5)


def test_a_model_without_an_image_backbone_is_refused():
    with pytest.raises(KeyframeError, match="has no image backbone"):
        encoder(KeyframeDetector(NoBackbone(8), TemporalHead))


def test_another_width_keeps_lengths_and_angles():
    rng = np.random.default_rng(1)
    features = rng.standard_normal((30, 512)).astype(np.float32)
    wider = features @ orthonormal(512, 1024).matrix
    assert wider.shape == (30, 1024) and wider.dtype == np.float32
    np.testing.assert_allclose(wider @ wider.T, features @ features.T, atol=1e-2)
    narrow = orthonormal(2048, 1024).matrix
    np.testing.assert_allclose(narrow.T @ narrow, np.eye(1024), atol=1e-5)
    np.testing.assert_array_equal(orthonormal(20, 30).matrix, orthonormal(20, 30).matrix)


def test_principal_components_are_those_of_the_singular_value_decomposition(tmp_path):
    rng = np.random.default_rng(2)
    features = (rng.standard_normal((60, 8)) * np.arange(1, 9) + 5).astype(np.float32)
    groups = {f"video_{n}": {"features": part} for n, part in enumerate(np.split(features, [20, 35]), start=1)}
    path = write_features(tmp_path / "raw.h5", groups)
    found = principal(path, 8, 3)
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(found.matrix.T @ directions[:3].T), np.eye(3), atol=1e-4)
    assert (found.matrix[np.abs(found.matrix).argmax(0), range(3)] > 0).all()
    np.testing.assert_allclose(found.mean, features.mean(0), atol=1e-5)
    share = (values[:3] ** 2).sum() / (values**2).sum()
    assert found.about == f"PCA of raw.h5 (3 videos, {share:.1%} of the variance), from 8 channels"
    for given, width, says in ((9, 3, "of 8 channels and the backbone gives 9"), (8, 9, "too few for width=9")):
        with pytest.raises(KeyframeError, match=says):
            principal(path, given, width)
