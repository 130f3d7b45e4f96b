"""Two-stage training as people write it: the baseline of the suite `train`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from keyframe.benchmark.laps import Laps
from keyframe.benchmark.plain_frames import read_plainly
from keyframe.benchmark.recipe import Recipe
from keyframe.evaluation.metrics import spearman
from keyframe.models.device import find_device
from keyframe.types import LabelledVideo

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

    def __init__(self, recipe: Recipe, parts: Parts, seek: bool, checkpoint: Path, workers: int) -> None:
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
            Seconds by part, as `keyframe.benchmark.epoch_laps.EpochLaps` has them, and the mean `loss`. Besides, not
            to be added to them, those that all workers together took to read the training videos, `decode`.
        """
        self.model.backbone.train_tail(stage == 2)
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.optimizer.defaults["lr"] * (self.recipe.lr_factor if stage == 2 else 1)
        laps, decode, losses = Laps(), 0.0, []
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
