"""Encoding videos: decode each once, run the frozen part of the model on it, and keep the result in the cache."""

import hashlib
import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NamedTuple

import torch
from pytorch_lightning import Trainer
from torch import Tensor, distributed
from tqdm import tqdm

from keyframe.data.cache import FORMAT, CachedVideo, CacheFullError, VideoCache
from keyframe.data.datamodule import VideoDataModule
from keyframe.data.dataset import Address, Kept, VideoDataset
from keyframe.models.backbone import Backbone
from keyframe.models.detector import KeyframeDetector
from keyframe.system import cores
from keyframe.types import KeyframeError, VideoError

log = logging.getLogger(__name__)

_MOST_THREADS = 16  # more threads decode faster than one model encodes, and each takes the memory of a decoder
# Ranks wait for the first one as long as it takes: a process group's own limit may be ten minutes.
_NO_LIMIT = timedelta(days=365)

# Entries by address, and the videos that do not decode, id -> reason.
Encoded = tuple[dict[Address, CachedVideo], dict[str, str]]


@dataclass(frozen=True)
class Request:
    """The entries needed of video `number` of a data set, in an augmented view, or (None) as it is."""

    dataset: VideoDataset
    number: int
    view: int | None
    kinds: tuple[Kept, ...]


class _Found(NamedTuple):
    """The cache's answer to a request: keys by kind, the entries it has, and decoded frames if it lacks any."""

    keys: dict[Kept, str]
    entries: dict[Kept, CachedVideo]
    decoded: CachedVideo | None


class Encoder:
    """Gets encoded videos from a cache, and makes those that it lacks.

    `precision` of the arithmetic, by the trainer's name, is part of an entry's key; the model runs in an `autocast`
    context.
    """

    # labels of the log line
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

    def encode(self, requests: list[Request], strict: bool, quiet: bool = False) -> Encoded:
        """Find or make all entries, one video after the other; the next ones are decoded meanwhile.

        With `strict` the first bad video raises its VideoError; `quiet` shows no progress bar and no log line. A cache
        that cannot hold all entries raises KeyframeError; the next start finds those on disk.
        """
        entries: dict[Address, CachedVideo] = {}
        skipped: dict[str, str] = {}
        there, made, started = 0, 0, time.monotonic()
        before = self.cache.nbytes
        found_ahead = self._find_ahead(requests)
        bar = tqdm(found_ahead, "Encoding", len(requests), unit="video", disable=True if quiet else None)
        for request, found in zip(requests, bar, strict=True):
            video = request.dataset.videos[request.number]
            if isinstance(found, VideoError):
                if strict:
                    raise found
                skipped[video.id] = str(found)
                continue
            try:
                kept = self._make(found) if found.decoded else found.entries
            except CacheFullError as full:
                so_far = sum(entry.nbytes for entry in entries.values()) + full.nbytes
                size = math.ceil((before + so_far / (there + made + 1) * len(requests)) / 1e8) / 10
                raise KeyframeError(
                    f"Cache: {full}: the videos of this run need about {size:g} GB. Set cache.max_gb={size:g} with "
                    "cache.dir on a disk that has the room, halve the maps with cache.dtype=float16, or train without "
                    "a cache (cache=off)."
                ) from full
            made += found.decoded is not None
            there += found.decoded is None
            for kind, entry in kept.items():
                entries[video.id, kind, request.view] = entry
        if not quiet:
            what = "videos" if all(request.view is None for request in requests) else "views of videos"
            rest = f"{made} {self.made} in {time.monotonic() - started:.1f} s" if made else "nothing to decode"
            found_there = f"{there} of {there + made} {what} found"
            log.info("%s: %s, %s; %s", self.name, found_there, rest, self.cache.describe())
        return entries, skipped

    def key(self, request: Request, kind: Kept) -> str:
        """SHA-256 of all that an entry depends on: decoded frames, weights, arithmetic; VideoError if unreadable."""
        parts = [FORMAT, request.dataset.identity(request.number, request.view), kind, self._model[kind]]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _weights(self, arithmetic: dict[str, str]) -> dict[Kept, dict[str, str]]:
        """What each kind of entry depends on beside the frames."""
        backbone = self.detector.backbone
        assert isinstance(backbone, Backbone)
        prefix = {"weights": backbone.fingerprint(tail=False), "dtype": str(self.cache.dtype)}
        whole = {"weights": backbone.fingerprint(tail=True)}
        return {"pixels": {}, "prefix": arithmetic | prefix, "features": arithmetic | whole}

    def _find_ahead(self, requests: list[Request]) -> Iterator[_Found | VideoError]:
        """The cache's answers in order; threads are ahead by about one request each, so few videos wait in memory."""
        threads = min(cores(), _MOST_THREADS)
        waiting: deque[Future[_Found | VideoError]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            try:
                for request in requests:
                    waiting.append(pool.submit(self._find, request))
                    if len(waiting) > threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _find(self, request: Request) -> _Found | VideoError:
        try:
            keys = {kind: self.key(request, kind) for kind in request.kinds}
            entries = {kind: entry for kind, key in keys.items() if (entry := self.cache.get(key)) is not None}
            complete = len(entries) == len(keys)
            return _Found(keys, entries, None if complete else request.dataset.decode(request.number, request.view))
        except VideoError as error:
            return error

    @torch.no_grad()
    def _make(self, found: _Found) -> dict[Kept, CachedVideo]:
        assert found.decoded is not None
        with eval_mode(self.detector), self.autocast():
            made = self._run(found.decoded.inputs, found.keys.keys())
        return {
            kind: self.cache.put(key, replace(found.decoded, inputs=made[kind].contiguous()))
            for kind, key in found.keys.items()
        }

    def _run(self, frames: Tensor, kinds: Collection[Kept]) -> dict[Kept, Tensor]:
        """The inputs of those kinds, each (T, ...) on the CPU, from frames uint8 (T, 3, H, W)."""
        made: dict[Kept, Tensor] = {"pixels": frames}
        batch = frames[None].to(self.device)
        # as in training, in the same chunks, so that the numbers are the same; each frame passes once
        maps = self.detector.encode_prefix(batch) if "prefix" in kinds else None
        if maps is not None:
            made["prefix"] = maps[0].cpu().to(self.cache.dtype)
            if not made["prefix"].isfinite().all():
                raise KeyframeError(
                    f"The feature maps of {self.detector.backbone.name} are beyond float16: set cache.dtype=float32."
                )
        if "features" in kinds:
            features = self.detector.encode("pixels", batch) if maps is None else self.detector.encode_tail(maps)
            made["features"] = features[0].float().cpu()
        return made


@contextmanager
def eval_mode(detector: KeyframeDetector) -> Iterator[None]:
    """Have a detector in eval mode within the block."""
    training = detector.training
    detector.eval()
    try:
        yield
    finally:
        detector.train(training)


def rank_zero_first(
    trainer: Trainer, data: VideoDataModule, cache: VideoCache, encode: Callable[[bool], Encoded], strict: bool
) -> dict[Address, CachedVideo]:
    """Encode on the first rank; the others leave out the same videos, then find the entries of the rest.

    On another machine with another disk, finding means encoding. What the first rank keeps in memory is sent to the
    others. `encode` is called with whether to raise at a bad video. An error of the first rank is raised on every rank.
    """
    if trainer.world_size == 1:
        entries, skipped = encode(strict)
        data.leave_out(skipped)
        return entries
    group = distributed.new_group(backend="gloo", timeout=_NO_LIMIT)
    assert isinstance(group, distributed.ProcessGroup)
    entries = {}
    message: list[Any] = [None, {}, []]  # an error, the skipped videos, and the keys that are new and only in memory
    if trainer.is_global_zero:
        before = set(cache.in_memory)  # the other ranks have these from earlier calls
        try:
            entries, message[1] = encode(strict)
        except KeyframeError as problem:
            message[0] = problem
        message[2] = sorted(cache.in_memory.keys() - before)
    distributed.broadcast_object_list(message, src=0, group=group)
    error, skipped, keys = message
    if error is not None:
        raise error
    for key in keys:
        entry: list[Any] = [cache.in_memory.get(key)]
        distributed.broadcast_object_list(entry, src=0, group=group)
        cache.in_memory[key] = entry[0]
    distributed.destroy_process_group(group)
    data.leave_out(skipped)
    return entries if trainer.is_global_zero else encode(True)[0]
