"""What the product measures of a model: size, speed and peak memory, and the machine they were measured on."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import nan
from pathlib import Path
from time import perf_counter
from timeit import timeit

import torch
from torch import Tensor, nn

from keyframe.system import cores, in_child, reset_peak, resident_mb

MB = 1e6


def weights_mb(model: nn.Module) -> float:
    """Parameters and buffers in MB (10^6 bytes); what several modules share counts once."""
    tensors = (*model.parameters(), *model.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / MB


def random_videos(
    count: int, shape: tuple[int, int, int] = (60, 224, 224), device: str | torch.device = "cpu"
) -> Tensor:
    """Noise for N videos of `shape` (T, H, W), the same at every call, uint8 (N, T, 3, H, W)."""
    frames, height, width = shape
    generator = torch.Generator(device).manual_seed(0)
    size = (count, frames, 3, height, width)
    return torch.randint(0, 256, size, dtype=torch.uint8, device=device, generator=generator)


def machine() -> dict[str, str]:
    """Hardware and software that figures were measured on; neither host nor user name."""
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
    """The processor's trade name; Linux has it in a file only."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8").splitlines() if table.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@dataclass(frozen=True)
class TimedModel:
    """A model and the input it takes."""

    score: Callable[[Tensor], Tensor]  # frames (N, T, 3, H, W) -> scores (N, T)
    make_input: Callable[[int], Tensor]  # the number of videos N -> frames for `score`, on its device


@torch.inference_mode()
def speeds(
    models: Mapping[str, TimedModel], videos: Sequence[int] = (1, 4, 8), repeats: int = 5, budget_s: float = 60.0
) -> dict[tuple[str, int], list[float]]:
    """Time models, in eval mode: seconds of each round by name and number of videos at once; see `in_turns`."""
    seconds: dict[tuple[str, int], list[float]] = {}
    for count in videos:
        calls = {name: partial(model.score, model.make_input(count)) for name, model in models.items()}
        seconds |= {(name, count): taken for name, taken in in_turns(calls, repeats, budget_s).items()}
    return seconds


def in_turns(
    calls: Mapping[str, Callable[[], object]], repeats: int, budget_s: float = 60.0, warm_up: bool = True
) -> dict[str, list[float]]:
    """Time calls that take turns, so that a busy machine slows all alike: seconds by name, one per round.

    All rounds of the slowest call, of which there are `repeats`, may take `budget_s` seconds; one round always runs.
    Before them each call runs once to `warm_up`.
    """
    for call in calls.values() if warm_up else ():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for done in range(repeats):
        if done and max(sum(taken) + taken[-1] for taken in seconds.values()) > budget_s:
            break
        for name, call in calls.items():
            seconds[name].append(timeit(call, timer=clock, number=1))
    return seconds


def clock() -> float:
    """Seconds, read when the accelerator is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


class Timer:
    """Adds up `seconds` by part; the parts together are the time since the start."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = clock()

    def lap(self, part: str) -> None:
        """Count the time since the last lap, or the start, to a part."""
        before, self._last = self._last, clock()
        self.seconds[part] = self.seconds.get(part, 0.0) + self._last - before

    def collect(self) -> dict[str, float]:
        """Return the parts so far, and start again from none."""
        collected, self.seconds = self.seconds, {}
        return collected


def peak_memory(
    load: Callable[[], nn.Module],
    shape: tuple[int, int, int] = (60, 224, 224),
    videos: Sequence[int] = (1, 4),
    device: str = "cpu",
) -> dict[int, float]:
    """Measure the peak memory of scoring videos, weights and frames included, in MB (10^6 bytes) by number of videos.

    On CUDA it is what torch allocates. Elsewhere it is the growth of resident memory, in a fresh process per number of
    videos, because a process reuses freed memory. Exact on Linux, less exact on macOS, NaN on Windows. `load` returns
    the model and is picklable; `shape` is frames per video, height and width: (T, H, W).
    """
    if torch.device(device).type == "cuda":
        return dict(zip(videos, _peaks(load, shape, videos, device, torch.get_num_threads()), strict=True))
    peaks = {}
    for count in videos:
        task = partial(_peaks, load, shape, [count], device, torch.get_num_threads())
        (peaks[count],) = in_child(task, f"the memory for {count} videos")
    return peaks


@torch.inference_mode()
def _peaks(
    load: Callable[[], nn.Module], shape: tuple[int, int, int], videos: Sequence[int], device: str, threads: int
) -> Iterator[float]:
    """Yield weights and working memory in MB, for each number of videos."""
    torch.set_num_threads(threads)
    model = load().to(device).eval()
    model(random_videos(1, (1, *shape[1:]), device))  # what the first call imports and sets up is no working memory

    def score(count: int) -> None:
        model(random_videos(count, shape, device))

    for count in videos:
        yield weights_mb(model) + added_peak_mb(partial(score, count), device)


def added_peak_mb(call: Callable[[], object], device: str | torch.device = "cpu") -> float:
    """Measure what a call adds to memory at its peak, in MB; NaN if it is unknown or hidden by an earlier peak."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - allocated) / MB
    reset = reset_peak()
    before, peak_before = resident_mb()
    call()
    peak = resident_mb()[1]
    return peak - before if reset or peak > peak_before else nan
