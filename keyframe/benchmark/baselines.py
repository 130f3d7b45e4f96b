"""The baseline of the suite `train`: two-stage training as it is commonly written, without a cache."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from keyframe.benchmark.decode import read_with_opencv
from keyframe.config import compose_training
from keyframe.evaluation.metrics import spearman
from keyframe.models.detector import KeyframeDetector, find_device
from keyframe.system import cores
from keyframe.timing import Timer
from keyframe.types import LabelledVideo

# The videos of each split, by `train`, `val` and `test`.
SplitVideos = Mapping[str, Sequence[LabelledVideo]]


class PlainVideos(Dataset[tuple[Tensor, Tensor, float]]):
    """Opens a video in every epoch: its pixels, uint8 (T, 3, H, W), importance (T,), and the seconds of reading."""

    def __init__(self, videos: Sequence[LabelledVideo], frames: int, size: tuple[int, int], seek: bool) -> None:
        self.videos, self.frames, self.size, self.seek = list(videos), frames, size, seek

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, float]:
        video, start = self.videos[number], perf_counter()
        pixels = read_with_opencv(video.path, self.frames, self.size, self.seek)
        seconds = perf_counter() - start
        at = (2 * np.arange(self.frames) + 1) * len(video.labels) // (2 * self.frames)
        importance = torch.from_numpy(video.labels.importance[at])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2), importance, seconds


class PlainLoop:
    """Decodes every video and runs the whole backbone in every step; otherwise it trains what `keyframe-train` does.

    `reading` holds the seconds to read five frames, `sequential` and by `seek`; the loop takes the faster way.
    """

    def __init__(self, overrides: Sequence[str], videos: SplitVideos, checkpoint: Path, workers: int) -> None:
        torch.manual_seed(0)
        self.config, parts = compose_training(overrides)
        size = self.config.data.size
        self.frames, self.size = self.config.sampling.frames, (size, size) if isinstance(size, int) else tuple(size)
        self.device = find_device("cpu" if self.config.trainer.accelerator == "cpu" else "auto")
        self.model: KeyframeDetector = parts["model"].to(self.device)
        self.loss: nn.Module = parts["loss"]
        head, tail = list(self.model.head.parameters()), self.model.backbone.tail_parameters()
        self.optimizer = parts["optimizer"]([{"params": head}, {"params": tail}])
        self.checkpoint = checkpoint
        self.reading = {}
        for way in ("sequential", "seek"):
            start = perf_counter()
            read_with_opencv(videos["train"][0].path, self.frames, self.size, way == "seek", first=5)
            self.reading[way] = perf_counter() - start
        self.loaders = {
            split: DataLoader(
                PlainVideos(chosen, self.frames, self.size, self.reading["seek"] < self.reading["sequential"]),
                self.config.data.batch_size,
                shuffle=split == "train",
                num_workers=workers,
                persistent_workers=workers > 0,
                # Linux's habit, whatever started this process: elsewhere each worker imports torch first
                multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
                pin_memory=self.device.type == "cuda",
            )
            for split, chosen in videos.items()
        }

    def epoch(self, stage: int) -> dict[str, float]:
        """Train for an epoch of stage 1 or 2, validate, and write a checkpoint.

        Returns seconds by `keyframe.benchmark.train.EPOCH_PARTS`; and, not to be added to them, the mean `loss` and
        `decode`, the seconds that all workers together took to read the training videos.
        """
        self.model.backbone.train_tail(stage == 2)
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.optimizer.defaults["lr"] * (self.config.finetune.lr_factor if stage == 2 else 1)
        timer, decode, losses = Timer(), 0.0, []
        for pixels, targets, seconds in self.loaders["train"]:
            timer.lap("wait")
            loss = self._loss(self.model(pixels.to(self.device, non_blocking=True)), targets)
            timer.lap("forward")
            self.optimizer.zero_grad()
            loss.backward()
            timer.lap("backward")
            if self.config.trainer.gradient_clip_val is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.config.trainer.gradient_clip_val)
            self.optimizer.step()
            losses.append(loss.item())
            decode += float(seconds.sum())
            timer.lap("step")
        timer.lap("other")
        self.measure("val")
        timer.lap("validation")
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, self.checkpoint)
        timer.lap("checkpoint")
        return timer.seconds | {"decode": decode, "loss": float(np.mean(losses))}

    @torch.no_grad()
    def measure(self, split: str) -> float:
        """Mean over the videos of a split of Spearman's correlation with their importance."""
        self.model.eval()
        found = []
        for pixels, targets, _ in self.loaders[split]:
            scores = self.model(pixels.to(self.device, non_blocking=True)).cpu().double().numpy()
            found += [spearman(row, target) for row, target in zip(scores, targets.double().numpy(), strict=True)]
        return float(np.mean(found))

    def time_model(self, repeats: int = 3) -> dict[str, float]:
        """Median seconds per part of the model for one batch in stage 2; `head` is forward, loss and backward."""
        self.model.backbone.train_tail(True)
        self.model.train()
        shape = (self.config.data.batch_size, self.frames, 3, *self.size)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8).to(self.device)
        targets = torch.rand(shape[:2])
        rounds = []
        for _ in range(repeats):
            timer = Timer()
            maps = self.model.encode_prefix(pixels)
            timer.lap("prefix_forward")
            features = self.model.encode_tail(maps)
            timer.lap("tail_forward")
            seen = features.detach().requires_grad_()
            self._loss(self.model.score(seen), targets).backward()
            timer.lap("head")
            features.backward(seen.grad)
            timer.lap("tail_backward")
            rounds.append(timer.seconds)
        self.optimizer.zero_grad()
        return {part: median(seconds[part] for seconds in rounds) for part in rounds[0]}

    def _loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        mask = torch.ones(scores.shape, dtype=torch.bool, device=self.device)
        loss: Tensor = self.loss(scores, targets.to(self.device), mask)
        return loss


def train_plainly(
    overrides: Sequence[str], videos: SplitVideos, rounds: int, checkpoint: Path
) -> Iterator[tuple[str, dict[str, float]]]:
    """Run the plain loop's side of the suite `train`; yield names and seconds.

    These are `reading` of `PlainLoop`; `stage1` and `stage2` of `PlainLoop.epoch`, in each round; `test`; and `model`
    of `PlainLoop.time_model`, with the `videos` of a batch.
    """
    loop = PlainLoop(overrides, videos, checkpoint, cores())
    yield "reading", loop.reading
    loop.time_model(repeats=2)  # what is done once (memory, primitives of the convolutions) belongs to no epoch
    for _ in range(rounds):
        for stage in (1, 2):
            yield f"stage{stage}", loop.epoch(stage)
    timer = Timer()
    loop.measure("test")
    timer.lap("test")
    yield "test", timer.seconds
    yield "model", loop.time_model() | {"videos": float(loop.config.data.batch_size)}
