"""Heads of published systems, written from their papers and checked against their authors' code.

All see a whole video without padding, as their authors trained them, and start with their authors' widths and settings.
What differs here is outside of them: the protocol, the loss, features standardized per channel, and a linear
projection where a feature is not as wide as the paper's.
"""

import itertools
import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import GoogLeNet

from keyframe.models.head import Head, sinusoids
from keyframe.types import KeyframeError, check_number


class WholeVideoHead(Head):
    """A head that knows no padding: the videos of a padded batch are scored one by one.

    Frames that the mask hides are cut out, so a video is as long as its mask has entries. `features` are the channels
    of a backbone feature, `width` those that the head's layers take.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        check_number("head.width", width, 1)
        self.projection = nn.Identity() if features == width else nn.Linear(features, width)

    @abstractmethod
    def logits(self, x: Tensor) -> Tensor:
        """Projected features (B, T, width) of whole videos -> logits of their scores, (B, T, 1)."""

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.projection(features)
        if mask is None:
            return torch.sigmoid(self.logits(x).squeeze(-1).float())
        scores = torch.zeros(mask.shape, device=x.device)
        for video, real in enumerate(mask):
            if real.any():
                scores[video, real] = torch.sigmoid(self.logits(x[video, real][None])[0, :, 0].float())
        return scores


class VASNet(WholeVideoHead):
    """Attention and a two-layer regressor (Fajtl et al., 2018, "Summarizing Videos with Attention").

    As in the authors' code each frame spreads its value over the video: the weights of a frame sum to 1 over the frames
    that it gives to. `width` is of all layers; `dropout` is of attention weights too.
    """

    scale = 0.06

    def __init__(self, features: int, width: int = 1024, dropout: float = 0.5) -> None:
        super().__init__(features, width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.drop = nn.Dropout(dropout)
        self.norm = _SampleNorm(width)
        self.regressor = _regressor(width, dropout, _SampleNorm(width))
        _initialise(self)

    def logits(self, x: Tensor) -> Tensor:
        given = torch.softmax(self.scale * self.query(x) @ self.key(x).mT, dim=-1)
        attended = self.out(self.drop(given).mT @ self.value(x))
        return self.regressor(self.norm(self.drop(attended + x)))


class PGLSUM(WholeVideoHead):
    """Attention over the video and within equal parts of it, added up (Apostolidis et al., 2021, "PGL-SUM").

    Args:
        width: of the regressor and of the attention over the video.
        heads: of the attention over the video.
        segments: equal parts of the video, each with its own attention, `width / segments` wide.
        local_heads: of the attention within a part.
        dropout: probability, of attention weights too.
    """

    def __init__(
        self,
        features: int,
        width: int = 1024,
        heads: int = 8,
        segments: int = 4,
        local_heads: int = 4,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(features, width)
        for key, value in {"heads": heads, "segments": segments, "local_heads": local_heads}.items():
            check_number(f"head.{key}", value, 1)
        if width % heads or width % (segments * local_heads):
            raise KeyframeError(
                f"head.width={width} must be a multiple of head.heads={heads} and of head.segments * head.local_heads="
                f"{segments * local_heads}."
            )
        self.attention = _SegmentAttention(width, heads, 1, dropout)
        self.local = _SegmentAttention(width, local_heads, segments, dropout)
        self.drop = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.regressor = _regressor(width, dropout, nn.LayerNorm(width, eps=1e-6))
        _initialise(self, nn.Linear, nn.LayerNorm)

    def logits(self, x: Tensor) -> Tensor:
        attended = F.normalize(self.attention(x), dim=-1) + F.normalize(self.local(x), dim=-1)
        return self.regressor(self.norm(self.drop(attended + x)))


class VsLSTM(WholeVideoHead):
    """Two LSTMs, forward and backward in time, and an MLP on both states and the feature (Zhang et al., 2016).

    Both start from a layer on the mean feature, as in the authors' code, whose output has no sigmoid.

    `hidden` is the width of each LSTM and of the MLP's hidden layer.
    """

    def __init__(self, features: int, hidden: int = 256) -> None:
        super().__init__(features, features)
        check_number("head.hidden", hidden, 1)
        self.start = nn.ModuleList(nn.Sequential(nn.Linear(features, hidden), nn.Tanh()) for _ in range(2))
        self.lstm = nn.LSTM(features, hidden, batch_first=True, bidirectional=True)
        self.mlp = nn.Sequential(nn.Linear(features + 2 * hidden, hidden), nn.Sigmoid(), nn.Linear(hidden, 1))

    def logits(self, x: Tensor) -> Tensor:
        state, cell = (start(x.mean(1)).expand(2, -1, -1).contiguous() for start in self.start)
        states, _ = self.lstm(x, (state, cell))
        return self.mlp(torch.cat([x, states], dim=-1))


class MLP(WholeVideoHead):
    """An MLP on a few frames around each, the MLP-Frame of Zhang et al. (2016); zeros stand beyond the video's ends.

    `hidden` are the widths of the hidden layers; `window` is the odd number of frames that it sees at once.
    """

    def __init__(self, features: int, hidden: Sequence[int] = (256, 256), window: int = 5) -> None:
        super().__init__(features, features)
        check_number("head.window", window, 1)
        if not window % 2 or not hidden:
            raise KeyframeError(f"head.window={window} must be odd, and head.hidden={list(hidden)} name a width.")
        for width in hidden:
            check_number("head.hidden", width, 1)
        self.first = nn.Conv1d(features, hidden[0], window, padding=window // 2)
        layers = [layer for pair in itertools.pairwise(hidden) for layer in (nn.Linear(*pair), nn.Sigmoid())]
        self.rest = nn.Sequential(nn.Sigmoid(), *layers, nn.Linear(hidden[-1], 1))

    def logits(self, x: Tensor) -> Tensor:
        return self.rest(self.first(x.mT).mT)


class CSTA(WholeVideoHead):
    """A CNN over the image that a video's features make, as attention over time and channels (Son et al., 2024).

    The video's features, (T, 1024), are three equal channels of an image, with a learned row above it. GoogLeNet's maps
    of the image, stretched to as many rows, weigh the values. The authors start it from ImageNet; here it starts at
    random. `dropout` is of attention weights.
    """

    width = 1024  # of GoogLeNet's last maps

    def __init__(self, features: int, dropout: float = 0.6, regressor_dropout: float = 0.5) -> None:
        super().__init__(features, self.width)
        self.row = nn.Parameter(torch.zeros(1, 3, 1, self.width))
        self.key, self.value = nn.Linear(self.width, self.width), nn.Linear(self.width, self.width)
        whole = GoogLeNet(aux_logits=False, init_weights=False)
        self.cnn = nn.Sequential(*[part for name, part in whole.named_children() if name not in _CLASSIFIER])
        self.norm = nn.BatchNorm2d(1)
        self.drop = nn.Dropout(dropout)
        self.regressor = _regressor(self.width, regressor_dropout, nn.LayerNorm(self.width, eps=1e-6))
        _initialise(self.regressor)

    def logits(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        image = torch.cat([self.row.expand(batch, -1, -1, -1), x[:, None].expand(-1, 3, -1, -1)], dim=2)
        key = self.key(image)
        missing = torch.arange(_LEAST_ROWS, device=x.device) < _LEAST_ROWS - length - 1
        zeros = torch.zeros_like(key[:, :, :1]).expand(-1, -1, _LEAST_ROWS, -1)[:, :, missing]
        maps = self.cnn(torch.cat([key, zeros], dim=2))
        maps = F.adaptive_avg_pool2d(maps, (length + 1, 1)).squeeze(-1).mT
        energy = self.norm((maps + key[:, 0])[:, None])[:, 0]
        energy = energy + sinusoids(length + 1, self.width, x.device)
        weights = self.drop(torch.softmax(energy, 1)) + self.drop(torch.softmax(energy, 2))
        mixed = self.value(image[:, 0]) * weights
        return self.regressor((mixed[:, 1:] + mixed[:, :-1]) / 2)  # T + 1 rows to T


# Parts of GoogLeNet that CSTA has no use for. It halves the rows five times, and from fewer it has none left.
_CLASSIFIER = ("aux1", "aux2", "avgpool", "dropout", "fc")
_LEAST_ROWS = 15


class _SegmentAttention(nn.Module):
    """Attention within each of equal segments of a video (the last may be shorter), each with weights of its own.

    It has no scale. Sinusoids are added to the energies: of a frame's place in its segment, along the other's.
    """

    def __init__(self, width: int, heads: int, segments: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.segments = heads, segments
        # the outputs, and the inputs of the last, belong to the segments one after the other
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Frames (B, T, width) -> (B, T, width)."""
        length, width = x.shape[1:]
        size = (length + self.segments - 1) // self.segments
        frame = torch.arange(length, device=x.device)
        segment = frame // size
        place = frame - segment * size
        own = F.one_hot(segment, self.segments).to(x.dtype)
        q, k, v = (
            torch.einsum("btshc,ts->bhtc", layer(x).unflatten(-1, (self.segments, self.heads, -1)), own)
            for layer in (self.query, self.key, self.value)
        )
        angle = place[:, None] * torch.exp(-math.log(10000.0) * (place // 2 * 2) / width)
        positions = torch.where(place % 2 == 0, angle.sin(), angle.cos())
        # as in the authors' code, the last frame of a segment of an odd number has none
        positions = positions * (place < (length - segment * size).clamp(max=size) // 2 * 2)
        energies = (q @ k.mT + positions).masked_fill(segment[:, None] != segment, torch.finfo(x.dtype).min)
        attended = self.drop(torch.softmax(energies, dim=-1)) @ v
        return self.out(torch.einsum("bhtc,ts->btshc", attended, own).flatten(2))


class _SampleNorm(nn.LayerNorm):
    """A LayerNorm that divides by the deviation of a sample, of n - 1 channels."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * math.sqrt(1 - 1 / x.shape[-1])
        return F.layer_norm(x, self.normalized_shape, weight, self.bias, self.eps)


def _regressor(width: int, dropout: float, norm: nn.Module) -> nn.Sequential:
    """The two layers that score a frame, (..., width) -> (..., 1), in VASNet, PGL-SUM and CSTA."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), norm, nn.Linear(width, 1))


def _initialise(module: nn.Module, *with_bias: type[nn.Module]) -> None:
    """Start weights of linear layers by Xavier's rule for ReLU, biases at 0.1."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(2))
        if isinstance(layer, with_bias or nn.Linear) and isinstance(layer.bias, Tensor):
            nn.init.constant_(layer.bias, 0.1)


PUBLISHED_HEADS = (VASNet, PGLSUM, VsLSTM, MLP, CSTA)
