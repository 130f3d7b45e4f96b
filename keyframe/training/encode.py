"""Decode videos, run the frozen part of the model on them, and keep what comes out: each video once."""

import hashlib
import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from keyframe.data.cache import FORMAT, CachedVideo, CacheFullError, VideoCache
from keyframe.data.dataset import Address, Kept, VideoDataset
from keyframe.models.backbone import Backbone
from keyframe.models.detector import KeyframeDetector
from keyframe.system import cores
from keyframe.types import KeyframeError, VideoError

log = logging.getLogger(__name__)

# More decode faster than one model encodes, and each takes the memory of a decoder.
_MOST_THREADS = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Wanted:
    """A view of one video, and what is wanted of it.

    Attributes:
        dataset: that has the video.
        number: its place there.
        view: which augmented view; None for the pictures as they are.
        stages: what is wanted.
    """

    dataset: VideoDataset
    number: int
    view: int | None
    stages: tuple[Kept, ...]


@dataclass(frozen=True)
class Found:
    """What the cache has of a wanted view already.

    Attributes:
        keys: of each stage.
        entries: those that are there.
        pictures: decoded where any is missing.
    """

    keys: dict[Kept, str]
    entries: dict[Kept, CachedVideo]
    pictures: CachedVideo | None


class Encoder:
    """Gets encoded videos from a cache, and makes those that it lacks.

    Args:
        detector: the model.
        cache: where entries are found and kept.
        precision: of the arithmetic, as the trainer calls it; another one gives other entries.
        autocast: makes the context that the model runs in.
    """

    # who speaks in the line about what was found, and what was done to what was not
    name, made = "Cache", "decoded and encoded"

    def __init__(
        self,
        detector: KeyframeDetector,
        cache: VideoCache,
        precision: str = "32-true",
        autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.detector = detector
        self.cache = cache
        self.autocast = autocast
        self.device = detector.pixel_mean.device
        kind = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        self._model = self._weights({"device": kind, "precision": precision, "torch": str(torch.__version__)})

    def encode(
        self, wanted: list[Wanted], strict: bool, quiet: bool = False
    ) -> tuple[dict[Address, CachedVideo], dict[str, str]]:
        """Find or make all that is wanted, one video after the other; the next ones are decoded meanwhile.

        Args:
            wanted: the views.
            strict: raise at the first bad video.
            quiet: without a bar and a line.

        Returns:
            The entries, and the videos that do not decode, id -> why.

        Raises:
            VideoError: a bad video, if `strict`.
            KeyframeError: the cache cannot hold it all; what is on disk by then is found by the next start.
        """
        entries: dict[Address, CachedVideo] = {}
        skipped: dict[str, str] = {}
        there, made, started = 0, 0, time.monotonic()
        before = self.cache.nbytes
        bar = tqdm(_ahead(self._find, wanted), "Encoding", len(wanted), unit="video", disable=True if quiet else None)
        for view, found in zip(wanted, bar, strict=True):
            video = view.dataset.videos[view.number]
            if isinstance(found, VideoError):
                if strict:
                    raise found
                skipped[video.id] = str(found)
                continue
            try:
                kept = self._make(found) if found.pictures else found.entries
            except CacheFullError as full:
                so_far = sum(entry.nbytes for entry in entries.values()) + full.nbytes
                raise _too_small(full, before + so_far / (there + made + 1) * len(wanted)) from full
            made += found.pictures is not None
            there += found.pictures is None
            for stage, entry in kept.items():
                entries[video.id, stage, view.view] = entry
        if not quiet:
            unit = "videos" if all(view.view is None for view in wanted) else "views of videos"
            self._report(unit, there, made, time.monotonic() - started)
        return entries, skipped

    def key(self, view: Wanted, stage: Kept) -> str:
        """SHA-256 of all that an entry depends on: the pictures, the weights they pass through, the arithmetic.

        Raises:
            VideoError: the file cannot be read.
        """
        parts = [FORMAT, view.dataset.identity(view.number, view.view), stage, self._model[stage]]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _weights(self, arithmetic: dict[str, str]) -> dict[Kept, dict[str, str]]:
        """What each kind of entry depends on beside the pictures."""
        backbone = self.detector.backbone
        assert isinstance(backbone, Backbone)
        prefix, whole = (backbone.fingerprint(tail) for tail in (False, True))
        return {
            "pixels": {},
            "prefix": {**arithmetic, "weights": prefix, "dtype": str(self.cache.dtype)},
            "features": {**arithmetic, "weights": whole},
        }

    def _find(self, view: Wanted) -> Found | VideoError:
        try:
            keys = {stage: self.key(view, stage) for stage in view.stages}
            entries = {stage: entry for stage, key in keys.items() if (entry := self.cache.get(key)) is not None}
            pictures = view.dataset.decode(view.number, view.view) if len(entries) < len(keys) else None
        except VideoError as error:
            return error
        return Found(keys, entries, pictures)

    @torch.no_grad()
    def _make(self, found: Found) -> dict[Kept, CachedVideo]:
        """Run the model as far as is wanted, and keep what comes out."""
        assert found.pictures is not None
        with _eval_mode(self.detector), self.autocast():
            made = self._run(found.pictures.inputs, found.keys.keys())
        entries: dict[Kept, CachedVideo] = {}
        for stage, key in found.keys.items():
            entries[stage] = self.cache.put(key, replace(found.pictures, inputs=made[stage].contiguous()))
        return entries

    def _run(self, pictures: Tensor, stages: Collection[Kept]) -> dict[Kept, Tensor]:
        """What is wanted of pictures uint8 (T, 3, H, W), each (T, ...), on the CPU."""
        made: dict[Kept, Tensor] = {"pixels": pictures}
        frames = pictures[None].to(self.device)
        # The way of training, by the same chunks, so that the numbers are the same; each frame passes once.
        maps = self.detector.encode_prefix(frames) if "prefix" in stages else None
        if maps is not None:
            made["prefix"] = self._rounded(maps[0].cpu())
        if "features" in stages:
            features = self.detector.encode("pixels", frames) if maps is None else self.detector.encode_tail(maps)
            made["features"] = features[0].float().cpu()
        return made

    def _rounded(self, maps: Tensor) -> Tensor:
        rounded = maps.to(self.cache.dtype)
        if not rounded.isfinite().all():
            raise KeyframeError(
                f"The feature maps of {self.detector.backbone.name} are beyond float16: set cache.dtype=float32."
            )
        return rounded

    def _report(self, unit: str, there: int, made: int, seconds: float) -> None:
        log.info(
            "%s: %d of %d %s found%s; %s",
            self.name,
            there,
            there + made,
            unit,
            f", {made} {self.made} in {seconds:.1f} s" if made else ", nothing to decode",
            self.cache.describe(),
        )


def _too_small(full: CacheFullError, needed: float) -> KeyframeError:
    """What a user is told of a cache that would have to hold about so many bytes."""
    size = math.ceil(needed / 1e8) / 10
    return KeyframeError(
        f"Cache: {full}: the videos of this run need about {size:g} GB. Set cache.max_gb={size:g} with cache.dir on a "
        "disk that has the room, halve the maps with cache.dtype=float16, or train without a cache (cache=off)."
    )


@contextmanager
def _eval_mode(detector: KeyframeDetector) -> Iterator[None]:
    training = detector.training
    detector.eval()
    try:
        yield
    finally:
        detector.train(training)


def _ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results in order; threads are ahead by about one item each, so that few results wait in memory."""
    threads = min(cores(), _MOST_THREADS)
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
