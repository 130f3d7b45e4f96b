import math

import pytest
import torch

from keyframe.models.head import TemporalHead, sinusoids
from keyframe.types import KeyframeError
from tests.models.build import HEADS, head_options, make_head


def real(*lengths, total):
    return torch.arange(total) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("length", [1, 2, 7, 60, 481])
def test_any_length_gives_a_score_in_0_to_1(kind, length):
    torch.manual_seed(0)
    scores = make_head(kind)(torch.randn(2, length, 12) * 3)
    assert scores.shape == (2, length)
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert scores.isfinite().all()


@pytest.mark.parametrize("kind", HEADS)
def test_padding_changes_no_real_score_and_gives_none_itself(kind):
    torch.manual_seed(0)
    head = make_head(kind)
    features = torch.randn(3, 40, 12)
    features[1, 17:] = 1e4  # whatever a padded frame holds
    features[2, 1:] = -1e4
    lengths = (40, 17, 1)
    padded = head(features, real(*lengths, total=40))
    for row, length in enumerate(lengths):
        alone = head(features[row : row + 1, :length])[0]
        torch.testing.assert_close(padded[row, :length], alone, rtol=0, atol=1e-6)
        assert not padded[row, length:].any()


@pytest.mark.parametrize("kind", HEADS)
def test_padding_gives_and_gets_no_gradient(kind):
    torch.manual_seed(0)
    head = make_head(kind)
    features = torch.randn(2, 12, 12, requires_grad=True)
    mask = real(12, 3, total=12)
    scores = head(features, mask)
    scores.sum().backward()
    assert features.grad[mask].abs().sum(-1).min() > 0
    assert not features.grad[~mask].any()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("kind", HEADS)
def test_a_video_of_padding_alone_gives_zeros_and_finite_gradients(kind):
    torch.manual_seed(0)
    head = make_head(kind).train()
    scores = head(torch.zeros(2, 6, 12), real(6, 0, total=6))
    assert scores.isfinite().all()
    assert not scores[1].any()
    scores.sum().backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())


def test_hidden_frames_inside_a_video_are_not_seen():
    torch.manual_seed(0)
    head, features = make_head("dual", positions=False), torch.randn(1, 10, 12)
    mask = torch.ones(1, 10, dtype=torch.bool)
    mask[0, 4] = False
    other = features.clone()
    other[0, 4] += 5
    assert torch.equal(head(features, mask), head(other, mask))


def reach(head, length=40, at=20):
    """How many frames away a change at one frame is seen, to the left and to the right."""
    torch.manual_seed(1)
    features = torch.randn(1, length, 12)
    other = features.clone()
    other[0, at] += 3
    moved = (head(features) != head(other))[0].nonzero().flatten()
    return at - int(moved.min()), int(moved.max()) - at


def test_reach_of_the_heads():
    torch.manual_seed(0)
    # two encoder layers and the dual block, three frames each
    assert reach(make_head("local", window=3, encoder_window=3)) == (9, 9)
    assert reach(make_head("framewise")) == (0, 0)
    assert reach(make_head("global")) == (20, 19)
    assert reach(make_head("dual")) == (20, 19)
    # without an encoder the dual block's local heads are bounded, its global heads are not
    assert reach(make_head("local", layers=0, window=5)) == (5, 5)
    assert reach(make_head("dual", layers=0, window=5)) == (20, 19)


def test_the_yaml_files_say_what_their_names_promise():
    dual, local = TemporalHead(8, **head_options("dual")), TemporalHead(8, **head_options("local"))
    whole, single = TemporalHead(8, **head_options("global")), TemporalHead(8, **head_options("framewise"))
    assert dual.dual_windows == [5, 5, 5, 5, None, None, None, None]
    assert dual.encoder_windows == [None] * 8 and len(dual.encoder) == 3
    for head, window in ((local, 5), (whole, None), (single, 0)):
        assert head.encoder_windows == head.dual_windows == [window] * 8


def test_framewise_head_does_not_know_the_order_and_the_others_do():
    torch.manual_seed(0)
    features, order = torch.randn(2, 30, 12), torch.randperm(30)
    framewise = make_head("framewise")
    torch.testing.assert_close(framewise(features[:, order]), framewise(features)[:, order])
    for kind in ("dual", "local", "global"):
        head = make_head(kind)
        assert (head(features[:, order]) - head(features)[:, order]).abs().max() > 1e-3, kind


def test_the_heads_have_equal_sizes():
    sizes = {kind: sum(p.numel() for p in TemporalHead(1280, **head_options(kind)).parameters()) for kind in HEADS}
    assert len(set(sizes.values())) == 1, sizes


@pytest.mark.parametrize("width", [16, 256, 7])
def test_sinusoids_are_those_of_the_paper(width):
    table = sinusoids(50, width, torch.device("cpu"))
    assert table.shape == (50, width)
    for position in (0, 1, 13, 49):
        for channel in range(width):
            # Vaswani et al. (2017), section 3.5: PE(pos, 2i) = sin(pos / 10000^(2i / d)), PE(pos, 2i + 1) = cos of it
            angle = position / 10000 ** (2 * (channel // 2) / width)
            expected = math.cos(angle) if channel % 2 else math.sin(angle)
            assert table[position, channel].item() == pytest.approx(expected, abs=1e-5)


def test_scores_are_float32_under_autocast():
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        assert make_head("dual")(torch.randn(1, 5, 12)).dtype == torch.float32


def test_numbers_out_of_range_are_refused_by_their_key():
    for name, value in (
        ("layers", -1),
        ("heads", 0),
        ("local_heads", -1),
        ("local_heads", 9),
        ("window", 0.5),
        ("encoder_window", -1),
        ("feedforward", True),
    ):
        with pytest.raises(KeyframeError, match=rf"head\.{name}={value} must be"):
            TemporalHead(8, **{name: value})
