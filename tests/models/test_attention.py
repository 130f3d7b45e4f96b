import pytest
import torch
from torch import nn

from keyframe.models.head import EncoderLayer, TemporalAttention, visible_frames

T = 9
ALL = torch.ones(1, T, dtype=torch.bool)


def see_heads_apart(attention):
    """Make the output the heads' own outputs, side by side."""
    width = attention.project_out.in_features
    attention.project_out.weight.data.copy_(torch.eye(width))
    attention.project_out.bias.data.zero_()


@pytest.mark.parametrize("windows", [(0, 1, 3, None), (None, None), (5, 0)])
def test_each_head_sees_its_window_and_no_frame_more(windows):
    torch.manual_seed(0)
    attention = TemporalAttention(8 * len(windows), len(windows)).eval()
    see_heads_apart(attention)
    x, visible = torch.randn(1, T, 8 * len(windows)), visible_frames(windows, ALL)
    before = attention(x, visible)
    for changed in range(T):
        other = x.clone()
        other[0, changed] += 1
        moved = (attention(other, visible) != before).view(T, len(windows), 8).any(-1)
        for frame in range(T):
            expected = [window is None or abs(frame - changed) <= window for window in windows]
            assert moved[frame].tolist() == expected, (frame, changed)


def test_window_0_passes_on_the_frame_itself():
    torch.manual_seed(0)
    attention = TemporalAttention(8, 2).eval()
    x = torch.randn(2, T, 8)
    itself = attention.project_out(attention.project_in(x)[..., 16:])
    torch.testing.assert_close(attention(x, visible_frames((0, 0), ALL)), itself)


def test_equals_torch_multihead_attention():
    torch.manual_seed(0)
    windows, lengths = (2, None, 0, None), (T, 5, 1)
    ours = TemporalAttention(16, len(windows)).eval()
    theirs = nn.MultiheadAttention(16, len(windows), batch_first=True).eval()
    theirs.in_proj_weight.data.copy_(ours.project_in.weight)
    theirs.in_proj_bias.data.copy_(ours.project_in.bias)
    theirs.out_proj.load_state_dict(ours.project_out.state_dict())
    x = torch.randn(len(lengths), T, 16)
    hidden = torch.ones(len(lengths), len(windows), T, T, dtype=torch.bool)
    for video, length in enumerate(lengths):
        for head, window in enumerate(windows):
            for i in range(T):
                for j in range(T):
                    near = window is None or abs(i - j) <= window
                    hidden[video, head, i, j] = not (i == j or (near and j < length))
    expected, _ = theirs(x, x, x, attn_mask=hidden.flatten(0, 1))
    mask = torch.arange(T) < torch.tensor(lengths)[:, None]
    torch.testing.assert_close(ours(x, visible_frames(windows, mask)), expected)


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


def test_heads_of_one_window_share_what_they_see():
    mask = torch.tensor([[True, True, False], [True, True, True]])
    shared = visible_frames((1, 1, 1), mask)
    assert shared.shape == (2, 1, 3, 3)
    assert torch.equal(shared, visible_frames((1, None), mask)[:, :1])


def test_dropout_acts_in_training_alone():
    torch.manual_seed(0)
    attention = TemporalAttention(8, 2, dropout=0.5)
    x, visible = torch.randn(1, T, 8), visible_frames((None, None), ALL)
    assert not torch.equal(attention(x, visible), attention(x, visible))
    attention.eval()
    assert torch.equal(attention(x, visible), attention(x, visible))


def test_width_must_divide_among_heads():
    with pytest.raises(ValueError, match=r"10.*4 heads"):
        TemporalAttention(10, 4)


def test_encoder_layer_adds_to_its_input():
    torch.manual_seed(0)
    layer = EncoderLayer(8, 2, feedforward=16).eval()
    x, visible = torch.randn(2, T, 8), visible_frames((None, 1), ALL)
    after = x + layer.attention(nn.functional.layer_norm(x, (8,)), visible)
    mlp = layer.mlp
    normed = nn.functional.layer_norm(after, (8,))
    expected = after + mlp[4](nn.functional.gelu(mlp[1](normed)))
    torch.testing.assert_close(layer(x, visible), expected)
    assert EncoderLayer(8, 1, feedforward=0).mlp is None
