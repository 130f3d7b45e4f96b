"""Score a video's frames with a file of keyframe-export; copy what you need. Nothing of keyframe is used.

python examples/run_exported.py efficientnet_b0.onnx frames.npy scores.npy

frames.npy holds uint8 (videos, frames, 3, height, width), RGB, of the height and width that the file's card (.json)
names; spread as many frames as its "window" says evenly over each video. scores.npy gets float32 (videos, frames) in
[0, 1]. An .onnx file needs `onnxruntime` alone, the others torch. Load .pt and .pt2 files only if you trust who made
them: they are programs, and loading runs them.
"""

import sys

import numpy as np


def score_onnx(path: str, frames: np.ndarray) -> np.ndarray:
    """By ONNX Runtime: *.onnx and *.int8.onnx."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["scores"], {"frames": frames})[0]


def score_torch_export(path: str, frames: np.ndarray) -> np.ndarray:
    """By torch: *.pt2."""
    import torch

    model = torch.export.load(path).module()
    with torch.inference_mode():
        return model(torch.from_numpy(frames)).numpy()


def score_torchscript(path: str, frames: np.ndarray) -> np.ndarray:
    """By torch: *.torchscript.pt; C++ and phones load the same file."""
    import torch

    model = torch.jit.load(path)
    with torch.inference_mode():
        return model(torch.from_numpy(frames)).numpy()


if __name__ == "__main__":
    model_file, frames_file, scores_file = sys.argv[1:]
    by_suffix = {"onnx": score_onnx, "pt2": score_torch_export, "pt": score_torchscript}
    score = by_suffix[model_file.rsplit(".", 1)[1]]
    np.save(scores_file, score(model_file, np.load(frames_file)))
