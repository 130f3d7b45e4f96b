import pytest

from keyframe.data import datamodule as module
from keyframe.types import KeyframeError
from tests.training.tiny import make_datamodule


def test_ranks_share_the_videos_of_an_evaluation(tiny_demo, monkeypatch):
    datamodule = make_datamodule(tiny_demo, batch_size=1)
    datamodule.setup()
    seen = []
    for rank in (0, 1):
        monkeypatch.setattr(module.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(module.distributed, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(module.distributed, "get_world_size", lambda: 2)
        seen += [video for batch in datamodule.test_dataloader() for video in batch.videos]
    assert sorted(seen) == sorted(video.id for video in datamodule.datasets["test"].videos)


def test_more_processes_than_videos_are_refused(tiny_demo, monkeypatch):
    datamodule = make_datamodule(tiny_demo)
    datamodule.setup()
    monkeypatch.setattr(module.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(module.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(module.distributed, "get_world_size", lambda: 8)
    with pytest.raises(KeyframeError, match=r"test split has 3 videos.*8 processes"):
        datamodule.test_dataloader()
