"""The temporal head: scores frames by attention along time, over the whole video or within a local window."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from keyframe.files import one_line
from keyframe.types import KeyframeError, check_number

_CONTRACT = (
    "a head is a torch module, built with `features`, the channels W of a frame, that takes features (B, T, W) and a "
    "bool mask (B, T) and returns scores in [0, 1], (B, T)"
)


_BLOCK = 64  # frames that local heads of a long video look at together


class TemporalAttention(nn.Module):
    """Multi-head self-attention over frames (Vaswani et al., 2017), each head with its own window.

    Attention weights are not dropped out: with that a step of 470 frames takes 1.6 to 2.4 times as long on a CPU.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise KeyframeError(f"head.heads={heads} must divide the width of the head, {width}.")
        self.heads = heads
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)

    def forward(self, x: Tensor, windows: Sequence[int | None], mask: Tensor) -> Tensor:
        """Frames (B, T, width); `windows` and `mask` as of `visible_frames` -> (B, T, width)."""
        batch, length, width = x.shape
        qkv = self.project_in(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = attend(q, k, v, windows, mask)
        return self.project_out(attended.transpose(1, 2).reshape(batch, length, width))


def attend(q: Tensor, k: Tensor, v: Tensor, windows: Sequence[int | None], mask: Tensor) -> Tensor:
    """Attention of q, k and v, (B, heads, T, channels) each, along `visible_frames` -> (B, heads, T, channels).

    In a long video local heads compare each block of frames with its neighbours alone: time and memory are linear in T.
    """
    # an exported program is for any T and has one way
    any_length = torch.compiler.is_exporting() or torch.jit.is_tracing()
    if any_length or q.shape[2] <= 4 * _BLOCK or set(windows) == {None}:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visible_frames(windows, mask))
    parts, first = [], 0
    for window, equal in itertools.groupby(windows):
        heads = slice(first, first + len(list(equal)))
        part = q[:, heads], k[:, heads], v[:, heads]
        if window is None or window > _BLOCK:
            parts.append(F.scaled_dot_product_attention(*part, attn_mask=visible_frames([window], mask)))
        else:
            parts.append(_attend_in_blocks(*part, window, mask))
        first = heads.stop
    return torch.cat(parts, dim=1)


def _attend_in_blocks(q: Tensor, k: Tensor, v: Tensor, window: int, mask: Tensor) -> Tensor:
    """Attention of frames at most `window` away, which is at most a block."""
    batch, heads, length, width = q.shape
    count = -(-length // _BLOCK)
    ends = _BLOCK, (count + 1) * _BLOCK - length  # a block before the first, and what fills up the last and one more

    def neighbours(x: Tensor) -> Tensor:
        """Blocks with those before and after them: (B, n, ...) -> (B, blocks, 3 * block, ...)."""
        blocks = F.pad(x.flatten(2), (0, 0, *ends)).view(batch, count + 2, _BLOCK, *x.shape[2:])
        return torch.cat([blocks[:, :-2], blocks[:, 1:-1], blocks[:, 2:]], dim=2)

    queries = F.pad(q.transpose(1, 2).flatten(2), (0, 0, 0, ends[1] - _BLOCK)).view(-1, _BLOCK, heads, width)
    keys, values = (neighbours(x.transpose(1, 2)).view(-1, 3 * _BLOCK, heads, width) for x in (k, v))
    position = torch.arange(3 * _BLOCK, device=q.device)
    distance = (position[_BLOCK : 2 * _BLOCK, None] - position).abs()
    real = neighbours(mask[..., None]).view(-1, 1, 1, 3 * _BLOCK)
    visible = (distance <= window) & real | (distance == 0)
    attended = F.scaled_dot_product_attention(
        queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), attn_mask=visible
    )
    return attended.transpose(1, 2).reshape(batch, count * _BLOCK, heads, width)[:, :length].transpose(1, 2)


def visible_frames(windows: Sequence[int | None], mask: Tensor) -> Tensor:
    """Which frame (row) attends to which (column): bool (B, heads, T, T), or (B, 1, T, T) if all windows are equal.

    The local windows follow PGL-SUM (Apostolidis et al., 2021), as a band around each frame instead of fixed segments.
    Padding is attended to only by itself, so no row is empty.

    Args:
        windows: one entry per head: None attends to every frame, w to frames at most w away (0: to itself alone).
        mask: bool (B, T), True where a frame is real.
    """
    position = torch.arange(mask.shape[1], device=mask.device)
    distance = (position[:, None] - position[None, :]).abs()
    if len(set(windows)) == 1:
        windows = windows[:1]
    bands = torch.stack([torch.ones_like(distance, dtype=torch.bool) if w is None else distance <= w for w in windows])
    return (bands[None] & mask[:, None, None, :]) | (distance == 0)


def similarities(x: Tensor, mask: Tensor, reaches: Sequence[int | None]) -> Tensor:
    """Cosine similarity of each frame to the mean of those before and of those after it, near and far.

    A frame unlike all before it shows something new; a scene begins where only the frames after resemble it. Attention
    can learn both, but not from a few dozen videos. Time and memory are linear in T.

    Frames (B, T, W), `mask` as of `visible_frames`, and `reaches`, the ends of the bands of distance in frames,
    ascending, None for the whole video ((5, None) has the bands 1 to 5 and 6 or more) -> float32 (B, T, 2 * bands) in
    [-1, 1]: before, after, for each band; 0 where a band holds no frame.
    """
    length = x.shape[1]
    unit = F.normalize(x.float(), dim=-1) * mask[..., None]
    sums = F.pad(unit.cumsum(1), (0, 0, 1, 0))
    position = torch.arange(length, device=x.device)
    cosines, nearest = [], 1
    for reach in reaches:
        farthest = length if reach is None else reach
        for first, last in ((-farthest, -nearest), (nearest, farthest)):
            start, end = (position + first).clamp(0, length), (position + last + 1).clamp(0, length)
            band = sums.index_select(1, end) - sums.index_select(1, start)
            cosines.append((unit * band).sum(-1) / band.norm(dim=-1).clamp(min=1e-6))
        nearest = farthest + 1
    return torch.stack(cosines, dim=-1)


class EncoderLayer(nn.Module):
    """Pre-norm Transformer layer: attention, then a two-layer MLP (unless `feedforward` is 0), both residual."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = TemporalAttention(width, heads)
        self.drop = nn.Dropout(dropout)
        self.mlp: nn.Module | None = None
        if feedforward:
            self.mlp = nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, feedforward),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(feedforward, width),
                nn.Dropout(dropout),
            )

    def forward(self, x: Tensor, windows: Sequence[int | None], mask: Tensor) -> Tensor:
        """Frames (B, T, width); `windows` and `mask` as of `visible_frames` -> (B, T, width)."""
        x = x + self.drop(self.attention(self.norm_attention(x), windows, mask))
        if self.mlp is not None:
            x = x + self.mlp(x)
        return x


class Head(nn.Module, ABC):
    """What scores the frames of videos."""

    projection: nn.Module  # what each frame passes through alone, before it sees others

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, T, `features`), any T -> scores in [0, 1], float32 (B, T).

        `mask`, bool (B, T), is True where a frame is real (None: all are); elsewhere scores are 0.
        """


class TemporalHead(Head):
    """Projection, Transformer encoder, one dual attention block, and a two-layer scorer.

    Args:
        features: channels of a backbone feature.
        projection: widths of the projection's layers; the last one is the width of the Transformer.
        layers: encoder layers before the dual block, 0 or more.
        heads: attention heads per layer, 1 or more.
        local_heads: heads of the dual block with a local window, 0 to `heads`; the others see the whole video.
        window: frames to each side that a local head sees, 0 or more.
        encoder_window: the same for the encoder layers' heads; None sees the whole video.
        feedforward: hidden width of the encoder layers' MLP; 0 leaves it out.
        positions: add sinusoidal positions (Vaswani et al., 2017).
        similarity: reaches of `similarities` of the features, which are added to the projected frames; none if empty.
        dropout: probability, after every layer; attention weights are kept.
        feature_dropout: probability of each channel of each frame's feature. Few videos are learnt by heart by single
            channels of a wide feature.
    """

    def __init__(
        self,
        features: int,
        projection: Sequence[int] = (256, 256),
        layers: int = 1,
        heads: int = 8,
        local_heads: int = 4,
        window: int = 5,
        encoder_window: int | None = None,
        feedforward: int = 256,
        positions: bool = True,
        similarity: Sequence[int | None] = (),
        dropout: float = 0.1,
        feature_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_number("head.layers", layers, 0)
        check_number("head.heads", heads, 1)
        check_number("head.local_heads", local_heads, 0)
        check_number("head.window", window, 0)
        check_number("head.feedforward", feedforward, 0)
        check_number("head.encoder_window", encoder_window, 0, optional=True)
        if local_heads > heads:
            raise KeyframeError(f"head.local_heads={local_heads} must be at most head.heads={heads}.")
        for reach in similarity:
            check_number("head.similarity", reach, 1, optional=True)
        limits = [math.inf if reach is None else reach for reach in similarity]
        if limits != sorted(set(limits)):
            raise KeyframeError(f"head.similarity={list(similarity)} must ascend; null, the whole video, stands last.")
        # not a step of the projection, whose weights have the names that they have in older checkpoints
        self.drop_features = nn.Dropout(feature_dropout)
        widths = [features, *projection]
        steps: list[nn.Module] = []
        for width_in, width_out in itertools.pairwise(widths):
            steps += [nn.Linear(width_in, width_out), nn.LayerNorm(width_out), nn.GELU(), nn.Dropout(dropout)]
        self.projection = nn.Sequential(*steps)
        width = widths[-1]
        self.positions = positions
        self.reaches = list(similarity)
        self.similarity = nn.Linear(2 * len(self.reaches), width) if similarity else None
        self.encoder = nn.ModuleList(EncoderLayer(width, heads, feedforward, dropout) for _ in range(layers))
        self.dual = EncoderLayer(width, heads, feedforward=0, dropout=dropout)
        # after the layers, which refuse more heads than channels
        self.encoder_windows = [encoder_window] * heads
        self.dual_windows = [window] * local_heads + [None] * (heads - local_heads)
        self.norm = nn.LayerNorm(width)
        self.scorer = nn.Sequential(
            nn.Linear(width, width // 2), nn.GELU(), nn.Dropout(dropout), nn.Linear(width // 2, 1)
        )

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            mask = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        x = self.projection(self.drop_features(features))
        if self.similarity is not None:
            # times 4, a typical cosine is about as large as a channel of a projected frame
            x = x + self.similarity(4 * similarities(features, mask, self.reaches))
        if self.positions:
            x = x + sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype)
        for layer in self.encoder:
            x = layer(x, self.encoder_windows, mask)
        x = self.norm(self.dual(x, self.dual_windows, mask))
        scores = torch.sigmoid(self.scorer(x).squeeze(-1).float())
        return scores.masked_fill(~mask, 0.0)


def build_head(make: Callable[..., nn.Module], features: int) -> nn.Module:
    """What `make(features=...)` builds; a head that is not of keyframe is tried on two short videos.

    Raises KeyframeError unless it takes features (B, T, W) and a bool mask (B, T), and gives scores in [0, 1], (B, T).
    """
    if isinstance(make, nn.Module):
        raise KeyframeError(f"head: {type(make).__name__} is built without features: add _partial_: true to its YAML.")
    if str(getattr(getattr(make, "func", make), "__module__", "")).startswith("keyframe."):
        return make(features=features)
    try:
        head = make(features=features)
    except TypeError as error:
        raise KeyframeError(f"head cannot be built ({one_line(str(error))}): {_CONTRACT}.") from error
    name = type(head).__name__
    if not isinstance(head, nn.Module):
        raise KeyframeError(f"head: {name} is not a torch module: {_CONTRACT}.")
    values = torch.linspace(-3, 3, 6 * features).view(2, 3, features)
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            scores = head.eval()(values.clone(), torch.tensor([[True, True, True], [True, True, False]]))
            alone = head(values[1:, :2].clone(), None)
    except Exception as error:  # whatever a user's own code raises
        reason = f"{type(error).__name__}: {one_line(str(error))[:200]}"
        raise KeyframeError(f"head: {name} fails on features {tuple(values.shape)} ({reason}): {_CONTRACT}.") from error
    head.train()
    if not isinstance(scores, Tensor) or scores.shape != (2, 3):
        given = tuple(scores.shape) if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise KeyframeError(f"head: {name} gives {given} for features {tuple(values.shape)}: {_CONTRACT}.")
    if not (scores.isfinite() & (scores >= 0) & (scores <= 1)).all():
        lowest, highest = scores.aminmax()
        raise KeyframeError(f"head: {name} gives scores from {lowest:.3g} to {highest:.3g}: {_CONTRACT}.")
    if not (scores.requires_grad or torch.is_inference_mode_enabled()):  # a run may be loaded to be used alone
        raise KeyframeError(f"head: {name} gives scores without a gradient, so nothing of it can train.")
    if not torch.allclose(scores[1, :2], alone[0], rtol=1e-3, atol=1e-5):
        raise KeyframeError(
            f"head: {name} gives other scores to a video that is padded to the length of another: use the mask, "
            "which is False at padding."
        )
    return head


def sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """Sinusoidal positions (length, width), float32; Vaswani et al. (2017), section 3.5."""
    position = torch.arange(length, device=device)[:, None]
    channel = torch.arange(width, device=device)
    angle = position * torch.exp(-math.log(10000.0) * (channel // 2 * 2) / width)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())
