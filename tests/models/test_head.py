import math

import pytest
import torch
from torch import nn

from keyframe.models.head import (
    EncoderLayer,
    TemporalAttention,
    TemporalHead,
    similarities,
    sinusoids,
    visible_frames,
)
from keyframe.types import KeyframeError
from tests.models.build import HEADS, PUBLISHED, head_options, make_head

T = 9
ALL = torch.ones(1, T, dtype=torch.bool)
each_head = pytest.mark.parametrize("kind", [*HEADS, *PUBLISHED])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def real(*lengths, total):
    return torch.arange(total) < torch.tensor(lengths)[:, None]


def test_each_attention_head_sees_its_window_and_no_frame_more():
    for windows in ((0, 1, 3, None), (None, None), (5, 0)):
        width = 8 * len(windows)
        attention = TemporalAttention(width, len(windows)).eval()
        # the output is the heads' own outputs, side by side
        attention.project_out.weight.data.copy_(torch.eye(width))
        attention.project_out.bias.data.zero_()
        x = torch.randn(1, T, width)
        before = attention(x, windows, ALL)
        for changed in range(T):
            other = x.clone()
            other[0, changed] += 1
            moved = (attention(other, windows, ALL) != before).view(T, len(windows), 8).any(-1)
            for frame in range(T):
                expected = [window is None or abs(frame - changed) <= window for window in windows]
                assert moved[frame].tolist() == expected, (windows, frame, changed)


def test_window_0_passes_on_the_frame_itself():
    attention = TemporalAttention(8, 2).eval()
    x = torch.randn(2, T, 8)
    itself = attention.project_out(attention.project_in(x)[..., 16:])
    torch.testing.assert_close(attention(x, (0, 0), ALL.expand(2, T)), itself)


@pytest.mark.parametrize("total, windows", [(T, (2, None, 0, None)), (300, (2, None, 64, 70)), (257, (5, 5, 5, 0))])
def test_attention_equals_torch_multihead_attention(total, windows):
    lengths = (total, 5, 1, total - 3)
    ours = TemporalAttention(16, len(windows)).eval()
    theirs = nn.MultiheadAttention(16, len(windows), batch_first=True).eval()
    theirs.in_proj_weight.data.copy_(ours.project_in.weight)
    theirs.in_proj_bias.data.copy_(ours.project_in.bias)
    theirs.out_proj.load_state_dict(ours.project_out.state_dict())
    x = torch.randn(len(lengths), total, 16)
    hidden = torch.ones(len(lengths), len(windows), total, total, dtype=torch.bool)
    at = torch.arange(total)
    for video, length in enumerate(lengths):
        for head, window in enumerate(windows):
            near = (at[:, None] - at).abs() <= (total if window is None else window)
            hidden[video, head] = ~((near & (at < length)) | torch.eye(total, dtype=torch.bool))
    expected, _ = theirs(x, x, x, attn_mask=hidden.flatten(0, 1))
    torch.testing.assert_close(ours(x, windows, real(*lengths, total=total)), expected)


def test_padding_is_never_attended_to_and_no_row_is_empty():
    mask = torch.tensor([[True, False, True, False, False, False]])
    visible = visible_frames((2, None), mask)
    assert visible.shape == (1, 2, 6, 6)
    assert visible.any(-1).all()
    off_diagonal = visible & ~torch.eye(6, dtype=torch.bool)
    assert not off_diagonal[..., ~mask[0]].any()
    assert visible[0, 0, 0].tolist() == [True, False, True, False, False, False]
    assert visible[0, 0, 5].tolist() == [False, False, False, False, False, True]
    assert visible[0, 1, 5].tolist() == [True, False, True, False, False, True]
    # heads of one window share it
    mask = torch.tensor([[True, True, False], [True, True, True]])
    shared = visible_frames((1, 1, 1), mask)
    assert shared.shape == (2, 1, 3, 3)
    assert torch.equal(shared, visible_frames((1, None), mask)[:, :1])


def test_dropout_acts_in_training_alone():
    layer = EncoderLayer(8, 2, feedforward=16, dropout=0.5)
    x = torch.randn(1, T, 8), (None, None), ALL
    assert not torch.equal(layer(*x), layer(*x))
    layer.eval()
    assert torch.equal(layer(*x), layer(*x))


def test_encoder_layer_adds_to_its_input():
    layer = EncoderLayer(8, 2, feedforward=16).eval()
    x, along = torch.randn(2, T, 8), ((None, 1), ALL.expand(2, T))
    after = x + layer.attention(nn.functional.layer_norm(x, (8,)), *along)
    mlp = layer.mlp
    normed = nn.functional.layer_norm(after, (8,))
    expected = after + mlp[4](nn.functional.gelu(mlp[1](normed)))
    torch.testing.assert_close(layer(x, *along), expected)
    assert EncoderLayer(8, 1, feedforward=0).mlp is None


@each_head
def test_any_length_gives_a_score_in_0_to_1(kind):
    head = make_head(kind)
    for length in (1, 2, 7, 60) if kind == "csta" else (1, 2, 7, 60, 481):
        scores = head(torch.randn(2, length, 12) * 3)
        assert scores.shape == (2, length)
        assert scores.min() >= 0
        assert scores.max() <= 1
        assert scores.isfinite().all()


@each_head
def test_padding_changes_no_real_score_and_gives_none_itself(kind):
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


@each_head
def test_padding_gives_and_gets_no_gradient_and_may_be_a_whole_video(kind):
    head = make_head(kind)
    features = torch.randn(2, 12, 12, requires_grad=True)
    mask = real(12, 3, total=12)
    head(features, mask).sum().backward()
    assert features.grad[mask].abs().sum(-1).min() > 0
    assert not features.grad[~mask].any()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    head.train().zero_grad()
    scores = head(torch.zeros(2, 6, 12), real(6, 0, total=6))
    assert scores.isfinite().all()
    assert not scores[1].any()
    scores.sum().backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())


@each_head
def test_hidden_frames_inside_a_video_are_not_seen(kind):
    head, features = make_head(kind), torch.randn(1, 10, 12)
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
    # two encoder layers and the dual block, three frames each; running sums of similarities round everywhere
    assert reach(make_head("local", window=3, encoder_window=3, similarity=())) == (9, 9)
    assert reach(make_head("framewise")) == (0, 0)
    assert reach(make_head("global")) == (20, 19)
    assert reach(make_head("dual")) == (20, 19)
    # without an encoder the dual block's local heads are bounded, its global heads are not
    assert reach(make_head("local", layers=0, window=5, similarity=())) == (5, 5)
    assert reach(make_head("dual", layers=0, window=5)) == (20, 19)


def test_the_yaml_files_say_what_their_names_promise():
    heads = {kind: TemporalHead(1280, **head_options(kind)) for kind in HEADS}
    assert heads["dual"].dual_windows == [5, 5, 5, 5, None, None, None, None]
    assert heads["dual"].encoder_windows == [None] * 8 and len(heads["dual"].encoder) == 1
    for kind, window in (("local", 5), ("global", None), ("framewise", 0)):
        assert heads[kind].encoder_windows == heads[kind].dual_windows == [window] * 8
    reaches = {kind: head.reaches for kind, head in heads.items()}
    assert reaches == {"dual": [5, None], "local": [5], "global": [5, None], "framewise": []}
    sizes = [sum(p.numel() for p in head.parameters()) for head in heads.values()]
    assert max(sizes) < 1.01 * min(sizes)


def test_framewise_head_does_not_know_the_order_and_the_others_do():
    features, order = torch.randn(2, 30, 12), torch.randperm(30)
    framewise = make_head("framewise")
    torch.testing.assert_close(framewise(features[:, order]), framewise(features)[:, order])
    for kind in ("dual", "local", "global"):
        head = make_head(kind)
        assert (head(features[:, order]) - head(features)[:, order]).abs().max() > 1e-3, kind


def test_similarities_are_cosines_with_the_mean_frame_of_each_band():
    x, mask = torch.randn(2, 12, 6), real(12, 7, total=12)
    mask[0, 5] = False
    found = similarities(x, mask, (1, 3, None))
    assert found.shape == (2, 12, 6)
    for video in range(2):
        unit = x[video] / x[video].norm(dim=-1, keepdim=True)
        for t in mask[video].nonzero().flatten().tolist():
            bands = []
            for near, far in ((1, 1), (2, 3), (4, 12)):
                bands += [range(t - far, t - near + 1), range(t + near, t + far + 1)]
            for band, value in zip(bands, found[video, t], strict=True):
                frames = [f for f in band if 0 <= f < 12 and mask[video, f]]
                mean = unit[frames].sum(0)
                expected = nn.functional.cosine_similarity(unit[t], mean, dim=0) if frames else torch.tensor(0.0)
                torch.testing.assert_close(value, expected, rtol=0, atol=1e-5)


def test_sinusoids_are_those_of_the_paper():
    for width in (16, 256, 7):
        table = sinusoids(50, width, torch.device("cpu"))
        assert table.shape == (50, width)
        for position in (0, 1, 13, 49):
            for channel in range(width):
                # Vaswani et al. (2017), section 3.5: PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos of it
                angle = position / 10000 ** (2 * (channel // 2) / width)
                expected = math.cos(angle) if channel % 2 else math.sin(angle)
                assert table[position, channel].item() == pytest.approx(expected, abs=1e-5)


def test_scores_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert make_head("dual")(torch.randn(1, 5, 12)).dtype == torch.float32


def test_numbers_out_of_range_are_refused_by_their_key():
    for name, value in (
        ("layers", -1),
        ("heads", 0),
        ("heads", 7),
        ("local_heads", -1),
        ("local_heads", 9),
        ("window", 0.5),
        ("encoder_window", -1),
        ("feedforward", True),
    ):
        with pytest.raises(KeyframeError, match=rf"head\.{name}={value} must"):
            TemporalHead(8, **({"local_heads": 0} if name == "heads" else {}) | {name: value})
    for reaches in ((5, 5), (None, 5), (None, None)):
        with pytest.raises(KeyframeError, match=r"head\.similarity=\[.*\] must ascend"):
            TemporalHead(8, similarity=reaches)
    with pytest.raises(KeyframeError, match=r"head\.similarity=0 must be a whole number from 1 on"):
        TemporalHead(8, similarity=(0,))


def test_a_head_without_similarity_has_the_weights_of_older_checkpoints():
    older, head = TemporalHead(8), TemporalHead(8, similarity=(5, None))
    assert set(head.state_dict()) - set(older.state_dict()) == {"similarity.weight", "similarity.bias"}
