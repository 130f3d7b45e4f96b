"""How much memory a model takes: its weights, and what scoring needs on top of them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from math import nan
from multiprocessing import get_context

import torch
from torch import nn

from keyframe.benchmark.cost import MB, random_videos, weights_mb
from keyframe.benchmark.resident import reset_peak, resident_mb
from keyframe.errors import KeyframeError


@dataclass(frozen=True)
class Memory:
    """Memory in MB (10^6 bytes), without what Python and torch take themselves.

    Attributes:
        weights_mb: parameters and buffers.
        working_mb: by number of videos scored at once, what a call adds at its peak: frames, activations, workspace.
            NaN where the system does not tell.
    """

    weights_mb: float
    working_mb: dict[int, float]

    def peak_mb(self, videos: int) -> float:
        """Weights and working memory while so many videos are scored."""
        return self.weights_mb + self.working_mb[videos]


def peak_memory(
    load: Callable[[], nn.Module],
    shape: tuple[int, int, int] = (60, 224, 224),
    videos: Sequence[int] = (1, 4),
    device: str = "cpu",
) -> Memory:
    """Measure the memory of scoring videos.

    On CUDA it is what torch allocates. Elsewhere it is the growth of a process's resident memory, one fresh process
    for each number of videos, with as many threads as here: a process hands freed memory out again, so that a second
    call would seem to need less. What the allocator holds back between chunks counts, as it does for the user.
    Linux tells it; macOS tells it less exactly; Windows does not.

    Args:
        load: gives the model; picklable, e.g. `functools.partial(load_detector, path)`.
        shape: frames a video, height and width: (T, H, W).
        videos: videos a call.
        device: where the model runs.

    Raises:
        KeyframeError: a process was killed, most likely because the memory did not suffice.
    """
    if torch.device(device).type == "cuda":
        return _on_cuda(load, shape, videos, device)
    weights, working = nan, {}
    for count in videos:
        try:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                weights, working[count] = pool.submit(_here, load, shape, count, torch.get_num_threads()).result()
        except BrokenProcessPool as error:
            raise KeyframeError(
                f"The process that measured the memory for {count} videos was killed, most likely for want of it: "
                "measure fewer videos at once, or free some memory."
            ) from error
    return Memory(weights, working)


@torch.inference_mode()
def _on_cuda(load: Callable[[], nn.Module], shape: tuple[int, int, int], videos: Sequence[int], device: str) -> Memory:
    model = load().to(device).eval()
    model(random_videos(1, (1, *shape[1:]), device))  # cuBLAS keeps its workspace from the first call on
    working = {}
    for count in videos:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        model(random_videos(count, shape, device))
        working[count] = (torch.cuda.max_memory_allocated(device) - before) / MB
    return Memory(weights_mb(model), working)


@torch.inference_mode()
def _here(load: Callable[[], nn.Module], shape: tuple[int, int, int], count: int, threads: int) -> tuple[float, float]:
    """Weights and working memory in MB. Runs in a process of its own."""
    torch.set_num_threads(threads)
    model = load().eval()
    model(random_videos(1, (1, *shape[1:])))  # what is imported and set up at the first call is no working memory
    reset = reset_peak()
    before, peak_before = resident_mb()
    model(random_videos(count, shape))
    peak = resident_mb()[1]
    # a peak of loading that was not passed hides the one of scoring
    return weights_mb(model), peak - before if reset or peak > peak_before else nan
