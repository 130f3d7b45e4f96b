"""What a cost is measured on: the weights, the input, the machine.

How long models take to score videos, measured in turns.

How much memory this process takes, told without torch, which alone takes hundreds of MB.

How much memory a model takes: its weights, and what scoring needs on top of them.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from math import nan
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from timeit import Timer

import numpy as np
import torch
from torch import Tensor, nn

from keyframe.system import cores
from keyframe.types import KeyframeError

MB = 1e6


def weights_mb(model: nn.Module) -> float:
    """Parameters and buffers in MB (10^6 bytes); what several modules share counts once."""
    tensors = (*model.parameters(), *model.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / MB


def random_videos(
    count: int, shape: tuple[int, int, int] = (60, 224, 224), device: str | torch.device = "cpu"
) -> Tensor:
    """The same noise at every call, to be scored.

    Args:
        count: videos, N.
        shape: frames a video, height and width: (T, H, W).
        device: where the pixels lie.

    Returns:
        uint8 (N, T, 3, H, W).
    """
    frames, height, width = shape
    generator = torch.Generator(device).manual_seed(0)
    size = (count, frames, 3, height, width)
    return torch.randint(0, 256, size, dtype=torch.uint8, device=device, generator=generator)


def machine() -> dict[str, str]:
    """What the figures were measured on; neither the machine's name nor the user's."""
    return {
        "CPU": _processor(),
        "cores": str(cores()),
        "threads": str(torch.get_num_threads()),
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def _processor() -> str:
    """The processor's trade name; Linux tells it in a file only."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8").splitlines() if table.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@dataclass(frozen=True)
class TimedModel:
    """A model and the input it takes.

    Attributes:
        score: frames (N, T, 3, H, W) -> scores (N, T).
        make_input: the number of videos N -> frames for `score`, on its device.
    """

    score: Callable[[Tensor], Tensor]
    make_input: Callable[[int], Tensor]


@dataclass(frozen=True)
class Timing:
    """How long one call took.

    Attributes:
        seconds: the median.
        spread: lower and upper quartile, in seconds.
        repeats: calls measured.
    """

    seconds: float
    spread: tuple[float, float]
    repeats: int


def speeds(
    models: Mapping[str, TimedModel], videos: Sequence[int] = (1, 4, 8), repeats: int = 5, budget_s: float = 60.0
) -> dict[tuple[str, int], Timing]:
    """Time models on 1, 4, 8 videos at once.

    Every model is called once to warm up. Then they take turns, so that a busy machine hurts all alike, and each is
    called equally often. As many threads are used as torch is set to (`torch.get_num_threads()`).

    Args:
        models: what to time, by name.
        videos: videos a call.
        repeats: rounds for each number of videos.
        budget_s: seconds that the calls of one model on one number of videos may take, warm-up apart. No round is
            begun that would exceed it for the slowest model; one round is always made.

    Returns:
        A timing by name and number of videos.

    Raises:
        ValueError: if a number is out of range, or a model is in training mode.
    """
    if repeats < 1 or min(videos, default=1) < 1:
        raise ValueError(f"repeats and videos must be at least 1, not {repeats} and {list(videos)}")
    for name, model in models.items():
        if isinstance(model.score, nn.Module) and model.score.training:
            raise ValueError(f"{name} is in training mode: call eval() first")
    with torch.inference_mode():
        return {
            (name, count): timing
            for count in videos
            for name, timing in _rounds(models, count, repeats, budget_s).items()
        }


def in_turns(
    calls: Mapping[str, Callable[[], object]], repeats: int, budget_s: float = 60.0, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds of each call, by name, one a round; each is made once before to warm up, then they take turns.

    Args:
        calls: what to time.
        repeats: rounds, at least 1.
        budget_s: as for `speeds`.
        warm_up: False where a call takes so many seconds that what it sets up does not count.
    """
    timers = {name: Timer(call, timer=_clock) for name, call in calls.items()}
    for timer in timers.values() if warm_up else ():
        timer.timeit(1)
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    for done in range(repeats):
        if done and max(sum(taken) + taken[-1] for taken in seconds.values()) > budget_s:
            break
        for name, timer in timers.items():
            seconds[name].append(timer.timeit(1))
    return seconds


def _rounds(models: Mapping[str, TimedModel], count: int, repeats: int, budget_s: float) -> dict[str, Timing]:
    calls = {name: partial(model.score, model.make_input(count)) for name, model in models.items()}
    return {name: _timing(taken) for name, taken in in_turns(calls, repeats, budget_s).items()}


def _clock() -> float:
    """Seconds, once the accelerator is done. torch's own Timer makes two more calls before each one it measures."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


def _timing(seconds: Sequence[float]) -> Timing:
    lower, median, upper = np.quantile(seconds, [0.25, 0.5, 0.75])
    return Timing(float(median), (float(lower), float(upper)), len(seconds))


_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_KIB_MB = 1024 / 1e6


def reset_peak() -> bool:
    """Let the peak start anew from what is resident now; whether that could be done (on Linux, mostly)."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def resident_mb() -> tuple[float, float]:
    """Resident memory of this process in MB: now, and its peak; NaN where the system does not tell."""
    if sys.platform == "linux":
        # not getrusage: its peak is handed down from the parent through fork and exec
        fields = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="utf-8").splitlines())
        now, peak = (fields[name].split()[0] if name in fields else nan for name in ("VmRSS", "VmHWM"))
        return float(now) * _KIB_MB, float(peak) * _KIB_MB
    if sys.platform == "darwin":
        import resource

        answer = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, check=True)
        return float(answer.stdout) * _KIB_MB, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return nan, nan


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
