from functools import partial

import pytest
import torch

from keyframe.models.backbone import Backbone, NoBackbone
from keyframe.models.detector import KeyframeDetector, sizes
from keyframe.models.head import TemporalHead
from keyframe.types import KeyframeError
from tests.models.build import make_backbone, make_detector


def make(width=6):
    head = partial(TemporalHead, projection=(16, 16), layers=1, heads=4, local_heads=2, feedforward=16)
    return KeyframeDetector(NoBackbone(width), head).eval()


def test_features_are_scored():
    detector = make()
    features = torch.randn(2, 5, 6)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    scores = detector.enter("features", features, mask)
    assert scores.shape == (2, 5)
    assert bool(((scores[mask] > 0) & (scores[mask] < 1)).all()) and not scores[~mask].any()
    assert torch.equal(scores, detector.score(features, mask))
    # what is behind the mask does not matter
    changed = torch.where(mask[..., None], features, torch.full_like(features, 9.0))
    torch.testing.assert_close(detector.enter("features", changed, mask), scores)


def test_encoding_goes_on_where_a_batch_stands():
    detector = make_detector().eval()
    frames = torch.rand(1, 3, 3, 32, 32)
    with torch.no_grad():
        maps = detector.encode_prefix(frames)
        features = detector.encode_tail(maps)
        for stage, values in (("pixels", frames), ("prefix", maps), ("features", features)):
            torch.testing.assert_close(detector.encode(stage, values), features)
    assert detector.encode("features", features) is features


def test_pictures_are_refused_in_one_sentence():
    detector = make()
    with pytest.raises(KeyframeError, match="no backbone and scores features only"):
        detector(torch.zeros(1, 2, 3, 8, 8))
    with pytest.raises(KeyframeError, match="no backbone and scores features only"):
        detector.enter("prefix", torch.zeros(1, 2, 4, 4, 4))


def test_it_has_the_surface_of_a_backbone_and_nothing_to_train():
    none, real = NoBackbone(6), make_backbone()
    for name in ("name", "width", "mean", "std", "is_cut"):
        assert type(getattr(none, name)) is type(getattr(real, name)), name
    # a fingerprint is asked of what pictures pass through
    other = ("train", "forward", "fingerprint")
    own = [name for name in vars(Backbone) if not name.startswith("_") and name not in other]
    assert all(hasattr(none, name) for name in own)
    none.train_tail(True)
    assert not list(none.parameters()) and not none.state_dict() and not none.tail_parameters()
    counts = sizes(make(), two_stages=True)
    assert counts["backbone"] == counts["trainable_stage2"] == 0
    assert counts["total"] == counts["trainable_stage1"] > 0


def test_a_width_below_one_is_refused():
    with pytest.raises(ValueError, match="width must be at least 1"):
        NoBackbone(0)
