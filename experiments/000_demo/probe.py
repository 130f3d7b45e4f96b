"""Linear probes: which pattern and which object a frame of the demo shows, by what a backbone's features tell.

    python experiments/000_demo/probe.py [data.seed]

One frame of each shot's middle; multinomial logistic regression on features of deviation 1, its weight decay chosen on
the validation videos, accuracy on the test videos of fold 0.
"""

import sys

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor
from torch.nn.functional import cross_entropy

from keyframe.config import conf_dir
from keyframe.data.demo import OBJECTS, PATTERNS, DemoSet, begin
from keyframe.data.packets import index_packets
from keyframe.models.detector import KeyframeDetector

BACKBONES = {
    "EfficientNet-Lite0, ImageNet": ["backbone=efficientnet_lite0"],
    "EfficientNet-Lite0, random": ["backbone=efficientnet_lite0", "backbone.pretrained=false"],
    "EfficientNet-B0, random": ["backbone=efficientnet_b0", "backbone.pretrained=false"],
}
DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)


def accuracy(rows: dict[str, Tensor], kinds: dict[str, Tensor], classes: int) -> float:
    """Share of test frames whose kind a linear map of their features (N, width) gives; `kinds` are (N,)."""
    mean, deviation = rows["train"].mean(0), rows["train"].std(0) + 1e-12
    inputs = {part: (values - mean) / deviation for part, values in rows.items()}
    tried = []
    for decay in DECAYS:
        weights, bias = fit(inputs["train"], kinds["train"], classes, decay)
        right = {part: (inputs[part] @ weights + bias).argmax(1) == kinds[part] for part in ("val", "test")}
        tried.append((right["val"].float().mean().item(), right["test"].float().mean().item()))
    return max(tried)[1]


def fit(rows: Tensor, kinds: Tensor, classes: int, decay: float) -> tuple[Tensor, Tensor]:
    """Weights (width, classes) and bias (classes,) of a multinomial logistic regression."""
    weights, bias = torch.zeros(rows.shape[1], classes, requires_grad=True), torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = cross_entropy(rows @ weights + bias, kinds) + decay / 2 * weights.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return weights.detach(), bias.detach()


@torch.inference_mode()
def encode(detector: KeyframeDetector, frames: np.ndarray) -> Tensor:
    """Features (N, width) of frames (N, H, W, 3), uint8."""
    return detector.encode("pixels", torch.from_numpy(frames).permute(0, 3, 1, 2)[None])[0].clone()


def main(seed: int) -> None:
    """Print one line per backbone."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        configs = {
            name: compose("train", ["experiment=demo", f"data.seed={seed}", *overrides])
            for name, overrides in BACKBONES.items()
        }
    config = next(iter(configs.values()))
    data = instantiate(config.datamodule)
    data.prepare_data()
    demo = DemoSet(seed=seed)
    frames, patterns, objects = {}, {}, {}
    for part in ("train", "val", "test"):
        videos, scenarios = data.split_videos(part), []
        pixels = []
        for video in videos:
            index = index_packets(video.path)
            scenarios.append(begin(demo, int(video.id[-3:]))[1])
            shots = len(scenarios[-1].patterns)
            middles = ((np.arange(shots) + 0.5) * index.n_frames / shots).astype(np.int64)
            pixels.append(data.reader.read(video.path, middles, (config.data.size,) * 2, index).pixels)
        frames[part] = np.concatenate(pixels)
        patterns[part] = torch.from_numpy(np.concatenate([scenario.patterns for scenario in scenarios]))
        objects[part] = torch.from_numpy(np.concatenate([scenario.objects for scenario in scenarios]))
    print("frames:", ", ".join(f"{len(values)} {part}" for part, values in frames.items()))
    for name, one in configs.items():
        torch.manual_seed(one.seed)
        detector = instantiate(one.model).eval()
        rows = {part: encode(detector, values) for part, values in frames.items()}
        of_patterns = accuracy(rows, patterns, len(PATTERNS))
        of_objects = accuracy(rows, objects, len(OBJECTS))
        print(f"{name:30} patterns {of_patterns:.3f}  objects {of_objects:.3f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 0)
