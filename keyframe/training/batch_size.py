"""The largest batch that fits, by trying."""

import logging
from math import ceil, log2
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.strategies import ParallelStrategy
from pytorch_lightning.tuner import Tuner

from keyframe.data.datamodule import KeyframeDataModule, VideoDataModule
from keyframe.data.dataset import VideoDataset
from keyframe.errors import KeyframeError
from keyframe.models.module import KeyframeModule

log = logging.getLogger(__name__)


def find_batch_size(
    trainer: Trainer, module: KeyframeModule, datamodule: KeyframeDataModule[Any], largest: int | None = None
) -> int:
    """Double the batch from one video on, three steps each, until memory runs out or all training videos are in it.

    The module is tried as it comes (with the backbone's tail unfrozen it takes what stage 2 will take), and on pixels,
    which take more memory than cached maps. Under a sampling that gives long videos more frames, a batch of
    the longest may need more than those that were tried: leave room by `largest`.

    Args:
        trainer: of one device, for this alone: without loggers, checkpoints or other callbacks.
        module: for this alone; it is trained for a few steps.
        datamodule: its `batch_size` is left as it was.
        largest: never more than this.

    Returns:
        A power of two, or `largest`, or the number of training videos.

    Raises:
        KeyframeError: not even one video fits, or there are several devices.
    """
    if isinstance(trainer.strategy, ParallelStrategy):
        raise KeyframeError(
            "tune.batch_size=true measures one device: find the size with trainer=auto, then set data.batch_size."
        )
    datamodule.prepare_data()
    datamodule.setup()
    train = datamodule.datasets["train"]
    if isinstance(datamodule, VideoDataModule) and isinstance(train, VideoDataset) and datamodule.cache is not None:
        datamodule.leave_out(train.check(datamodule.strict))  # so far only their packets were looked at
    videos = len(train)
    limit = min(videos, largest or videos)
    before, datamodule.batch_size = datamodule.batch_size, 1
    try:
        found = Tuner(trainer).scale_batch_size(
            module, datamodule=datamodule, init_val=1, max_trials=ceil(log2(limit)) + 1
        )
    except ValueError as error:
        if datamodule.batch_size >= 1:
            raise
        raise KeyframeError(
            "tune.batch_size=true: not even one video fits in memory: lower data.size or sampling.frames."
        ) from error
    finally:
        datamodule.batch_size = before
    assert found is not None
    size = min(found, limit)
    why = "memory" if found < limit else "tune.max_batch_size" if limit < videos else "all training videos"
    log.info("Batch size %d (%s)", size, why)
    return size
