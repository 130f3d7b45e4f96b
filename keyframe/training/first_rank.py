"""One process of a training encodes videos, and the others read what it has kept."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch.distributed as distributed

from keyframe.data.cache import VideoCache
from keyframe.data.datamodule import VideoDataModule
from keyframe.data.dataset import Address
from keyframe.data.encoded import Encoded
from keyframe.errors import KeyframeError

# Ranks wait for the first one as long as it takes: a process group's own limit may be ten minutes.
_NO_LIMIT = timedelta(days=365)

Encode = Callable[[], tuple[dict[Address, Encoded], dict[str, str]]]


def first_rank_first(
    first: bool, data: VideoDataModule, cache: VideoCache, encode: Encode, find: Encode
) -> dict[Address, Encoded]:
    """Have the first rank encode; the others leave out the same videos, and then find all the rest.

    On another machine, with another disk, finding is encoding too, of videos that the first rank could read.

    Args:
        first: whether this is the first rank.
        data: it goes on without videos that do not decode.
        cache: that `encode` and `find` use. What the first rank keeps in memory is sent to the others.
        encode: gives entries and the videos that do not decode, id -> why; called on the first rank.
        find: the same, called on the others.

    Raises:
        KeyframeError: on every rank, what the first one raises.
    """
    group = distributed.new_group(backend="gloo", timeout=_NO_LIMIT)
    assert isinstance(group, distributed.ProcessGroup)
    entries: dict[Address, Encoded] = {}
    told: list[Any] = [None, {}, []]  # an error, what was skipped, and which keys are new and only in memory
    if first:
        before = set(cache.in_memory)  # the others have them: they came by here
        try:
            entries, told[1] = encode()
        except KeyframeError as problem:
            told[0] = problem
        told[2] = sorted(cache.in_memory.keys() - before)
    distributed.broadcast_object_list(told, src=0, group=group)
    error, skipped, keys = told
    if error is not None:
        raise error
    for key in keys:
        entry: list[Any] = [cache.in_memory.get(key)]
        distributed.broadcast_object_list(entry, src=0, group=group)
        cache.in_memory[key] = entry[0]
    distributed.destroy_process_group(group)
    data.leave_out(skipped)
    return entries if first else find()[0]
