"""Where time goes, part by part, with nothing left over.

What a training is made of, whoever runs it.

Frames of a video as people take them with OpenCV: the baseline of decoding in the suite `train`.

KTS as its paper states it: the baseline that `keyframe.summary.shots.kts` is timed against.

Two-stage training as people write it: the baseline of the suite `train`.

The baseline's part of the suite `train`, in a process of its own.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from keyframe.config import load_training_parts
from keyframe.evaluation.metrics import spearman
from keyframe.models.detector import KeyframeDetector, find_device
from keyframe.system import cores
from keyframe.timing import Timer
from keyframe.types import FloatArray, KeyframeError, LabelledVideo, VideoError


@dataclass(frozen=True)
class TrainingParts:
    """The parts and numbers of a training as `keyframe-train` would have them; see `load_training_parts`.

    Attributes:
        detector: the model, not trained yet.
        loss: called with scores, targets and mask, each (B, T).
        make_optimizer: makes the optimizer from parameter groups.
        frames: of each video, T.
        size: (height, width) of a frame in pixels.
        batch_size: videos a step.
        lr_factor: the learning rate of stage 2 as a multiple of that of stage 1.
        clip: largest norm of the gradient; None does not clip.
        device: "auto" or "cpu".
    """

    detector: KeyframeDetector
    loss: nn.Module
    make_optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer]
    frames: int
    size: tuple[int, int]
    batch_size: int
    lr_factor: float
    clip: float | None
    device: str


# Wanted frames by which the two ways are compared.
_TRIED = 5


def require_opencv() -> None:
    """Check that OpenCV is there.

    Raises:
        KeyframeError: it is not.
    """
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise KeyframeError("This suite measures against OpenCV: pip install 'keyframe[benchmark]'.") from error


def read_plainly(
    path: Path, frames: int, size: tuple[int, int], seek: bool, first: int | None = None
) -> npt.NDArray[np.uint8]:
    """Uniformly spaced frames, resized.

    Args:
        path: a video file.
        frames: T, spread as `keyframe.data.sampling.UniformSampling` spreads them.
        size: (height, width) of the answer in pixels.
        seek: jump to each wanted frame, instead of decoding all up to it and converting the wanted ones only.
        first: read the first so many of the wanted frames; None reads all.

    Returns:
        uint8 RGB (T, height, width, 3).

    Raises:
        VideoError: OpenCV cannot read a wanted frame.
    """
    import cv2

    capture = cv2.VideoCapture(str(path))
    try:
        count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        wanted = (2 * np.arange(frames) + 1) * count // (2 * frames)
        pictures = np.empty((len(wanted[:first]), *size, 3), np.uint8)
        position = 0
        for row, number in enumerate(wanted[:first]):
            if seek:
                capture.set(cv2.CAP_PROP_POS_FRAMES, int(number))
                position = int(number)
            while position <= number and capture.grab():
                position += 1
            good, picture = capture.retrieve()
            if position <= number or not good:
                raise VideoError(f"OpenCV does not give frame {number} of {path}: generate it again.")
            cv2.cvtColor(cv2.resize(picture, size[::-1]), cv2.COLOR_BGR2RGB, dst=pictures[row])
    finally:
        capture.release()
    return pictures


def seconds_of_ways(path: Path, frames: int, size: tuple[int, int]) -> dict[str, float]:
    """Seconds for a few of a video's frames, `sequential` and with a `seek` a frame."""
    seconds = {}
    for way in ("sequential", "seek"):
        start = perf_counter()
        read_plainly(path, frames, size, way == "seek", min(frames, _TRIED))
        seconds[way] = perf_counter() - start
    return seconds


Floats = npt.NDArray[np.float64]


def plain_kts(features: FloatArray, penalty: float) -> npt.NDArray[np.int64]:
    """Cut a sequence by the textbook's dynamic programme over the number of change points, O(m n^2), m = n - 1.

    Potapov et al., Category-specific video summarization, ECCV 2014, algorithm 1, without a bound on the change
    points, as public scripts call it. A number of change points is one pass of numpy over all segments, four times as
    fast as a pass for each of their ends; the scatters are computed once.

    Args:
        features: one row a step, none of them zeros, (n, d), n at least 2; scaled to length 1 first.
        penalty: as for `keyframe.summary.shots.kts`.

    Returns:
        First and last step of each segment, both inclusive, (m + 1, 2).
    """
    n = len(features)
    scatters = np.ascontiguousarray(_scatters(features.astype(np.float64)).T)  # [end, start]
    best = scatters[:, 0]  # of the first t steps, in one segment
    totals = [best[n]]
    last = np.zeros((n, n + 1), dtype=np.int64)
    for changes in range(1, n):
        sums = scatters[changes + 1 :, changes:] + best[changes:]
        last[changes, changes + 1 :] = changes + sums.argmin(axis=1)
        best = np.append(np.full(changes + 1, np.inf), sums.min(axis=1))
        totals.append(best[n] + penalty / 2 * changes * (np.log(n / changes) + 1))
    starts = [n]
    for changes in range(int(np.argmin(totals)), 0, -1):
        starts.append(int(last[changes, starts[-1]]))
    first = np.array([0, *starts[:0:-1]])
    return np.stack([first, np.append(first[1:], n) - 1], axis=1)


def _scatters(rows: Floats) -> Floats:
    """The scatter of every segment [s, t), (n + 1, n + 1), from sums over the kernel matrix; infinite for t <= s."""
    n = len(rows)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    kernel = rows @ rows.T
    diagonal = np.append(0.0, np.cumsum(np.diag(kernel)))
    sums = np.zeros((n + 1, n + 1))
    sums[1:, 1:] = kernel.cumsum(axis=0).cumsum(axis=1)
    corners = np.diag(sums)
    inside = corners[None, :] + corners[:, None] - sums - sums.T
    lengths = np.arange(n + 1)[None, :] - np.arange(n + 1)[:, None]
    scatter = diagonal[None, :] - diagonal[:, None] - inside / np.where(lengths > 0, lengths, 1)
    return np.where(lengths > 0, scatter, np.inf)


# The videos of each split, by `train`, `val` and `test`.
Parts = Mapping[str, Sequence[LabelledVideo]]


class PlainVideos(Dataset[tuple[Tensor, Tensor, float]]):
    """Opens a video in every epoch.

    An item is its pixels, uint8 (T, 3, H, W), their importance (T,), and the seconds that reading took.

    Args:
        videos: the videos.
        frames: of each, T.
        size: (height, width) of a frame in pixels.
        seek: see `read_plainly`.
    """

    def __init__(self, videos: Sequence[LabelledVideo], frames: int, size: tuple[int, int], seek: bool) -> None:
        self.videos, self.frames, self.size, self.seek = list(videos), frames, size, seek

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, float]:
        video = self.videos[number]
        start = perf_counter()
        pixels = read_plainly(video.path, self.frames, self.size, self.seek)
        seconds = perf_counter() - start
        at = (2 * np.arange(self.frames) + 1) * len(video.labels) // (2 * self.frames)
        importance = torch.from_numpy(video.labels.importance[at])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2), importance, seconds


class PlainLoop:
    """Decodes every video and runs the whole backbone in every step; otherwise it trains what `keyframe-train` does.

    The same model, loss, optimizer, clipping, batches and stages, validation and a checkpoint after every epoch.
    Worker processes decode, as many as there are cores, and live as long as the loop. The backbone takes uint8
    pictures in the layout that is fastest (channels_last), its frozen part without gradients.

    Args:
        recipe: what is trained.
        parts: the videos of each split.
        seek: see `read_plainly`.
        checkpoint: the file that is written after every epoch.
        workers: processes that decode.
    """

    def __init__(self, recipe: TrainingParts, parts: Parts, seek: bool, checkpoint: Path, workers: int) -> None:
        self.recipe = recipe
        self.device = find_device(recipe.device)
        self.model = recipe.detector.to(self.device)
        head, tail = list(self.model.head.parameters()), self.model.backbone.tail_parameters()
        self.optimizer = recipe.make_optimizer([{"params": head}, {"params": tail}])
        self.checkpoint = checkpoint
        self.loaders = {
            name: DataLoader(
                PlainVideos(videos, recipe.frames, recipe.size, seek),
                recipe.batch_size,
                shuffle=name == "train",
                num_workers=workers,
                persistent_workers=workers > 0,
                # Linux's habit, whoever started this process: elsewhere each worker imports torch first
                multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
                pin_memory=self.device.type == "cuda",
            )
            for name, videos in parts.items()
        }

    def epoch(self, stage: int) -> dict[str, float]:
        """Train for an epoch of stage 1 or 2, validate, and write a checkpoint.

        Returns:
            Seconds by part, as `keyframe.benchmark.train.EpochTimer` has them, and the mean `loss`. Besides, not
            to be added to them, those that all workers together took to read the training videos, `decode`.
        """
        self.model.backbone.train_tail(stage == 2)
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.optimizer.defaults["lr"] * (self.recipe.lr_factor if stage == 2 else 1)
        laps, decode, losses = Timer(), 0.0, []
        for pixels, targets, seconds in self.loaders["train"]:
            laps.lap("wait")
            loss = self.loss_of(self._scores(pixels), targets)
            laps.lap("forward")
            self.optimizer.zero_grad()
            loss.backward()
            laps.lap("backward")
            if self.recipe.clip is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
            self.optimizer.step()
            losses.append(loss.item())
            decode += float(seconds.sum())
            laps.lap("step")
        laps.lap("other")
        self.measure("val")
        laps.lap("validation")
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, self.checkpoint)
        laps.lap("checkpoint")
        return laps.seconds | {"decode": decode, "loss": float(np.mean(losses))}

    @torch.no_grad()
    def measure(self, split: str) -> float:
        """Mean over the videos of a split of Spearman's correlation with their importance."""
        self.model.eval()
        found = []
        for pixels, targets, _ in self.loaders[split]:
            scores = self._scores(pixels).cpu().double().numpy()
            for row, target in zip(scores, targets.double().numpy(), strict=True):
                found.append(spearman(row, target))
        return float(np.mean(found))

    def loss_of(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Scores and targets (B, T) -> scalar."""
        mask = torch.ones(scores.shape, dtype=torch.bool, device=self.device)
        loss: Tensor = self.recipe.loss(scores, targets.to(self.device), mask)
        return loss

    def _scores(self, pixels: Tensor) -> Tensor:
        scores: Tensor = self.model(pixels.to(self.device, non_blocking=True))
        return scores


@dataclass(frozen=True)
class PlainTraining:
    """The baseline's part of a contest, in pieces that a suite asks for one by one.

    Args:
        overrides: of `keyframe-train`: what is trained.
        parts: the videos of each split.
        rounds: epochs of each stage.
        directory: for checkpoints.
    """

    overrides: tuple[str, ...]
    parts: Parts
    rounds: int
    directory: Path

    def __call__(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Yield what was measured, each with its name.

        Yields:
            `ways`: seconds for a few frames, `sequential` and by `seek`; the faster way is taken from then on.
            `stage1` and `stage2`: what `PlainLoop.epoch` gives, in each round.
            `test`: seconds to measure the test videos, as `test`.
            `model`: see `seconds_of_model`.
        """
        recipe = load_training_parts(self.overrides)
        ways = seconds_of_ways(self.parts["train"][0].path, recipe.frames, recipe.size)
        yield "ways", ways
        seek = ways["seek"] < ways["sequential"]
        loop = PlainLoop(recipe, self.parts, seek, self.directory / "plain.pt", cores())
        _warm_up(loop)
        for _ in range(self.rounds):
            for stage in (1, 2):
                yield f"stage{stage}", loop.epoch(stage)
        laps = Timer()
        loop.measure("test")
        laps.lap("test")
        yield "test", laps.seconds
        yield "model", seconds_of_model(loop)


def seconds_of_model(loop: PlainLoop, repeats: int = 3) -> dict[str, float]:
    """Seconds of each part of the model for the frames of one batch in stage 2, the median of a few repeats.

    The parts are `prefix_forward`, `tail_forward`, `tail_backward`, `head` (forward, loss and backward); `videos` is
    how many videos the batch has.
    """
    recipe, model = loop.recipe, loop.model
    model.backbone.train_tail(True)
    model.train()
    pixels = torch.randint(0, 256, (recipe.batch_size, recipe.frames, 3, *recipe.size), dtype=torch.uint8)
    pixels = pixels.to(loop.device)
    targets = torch.rand(pixels.shape[:2])
    rounds = []
    for _ in range(repeats):
        laps = Timer()
        maps = model.encode_prefix(pixels)
        laps.lap("prefix_forward")
        features = model.encode_tail(maps)
        laps.lap("tail_forward")
        seen = features.detach().requires_grad_()
        loop.loss_of(model.score(seen), targets).backward()
        laps.lap("head")
        features.backward(seen.grad)
        laps.lap("tail_backward")
        rounds.append(laps.seconds)
    medians = {part: float(np.median([seconds[part] for seconds in rounds])) for part in rounds[0]}
    return medians | {"videos": float(recipe.batch_size)}


def _warm_up(loop: PlainLoop) -> None:
    """What is done once and for all (memory, primitives of the convolutions) belongs to no epoch."""
    for _ in range(2):
        seconds_of_model(loop, repeats=1)
    loop.optimizer.zero_grad()
