"""Videos of one split as samples of backbone features, read from a feature file beforehand."""

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from keyframe.data.batch import Sample
from keyframe.data.features_h5 import FeatureVideo

# Feature files know frame numbers, not times; the field takes 30 frames a second (a pick every 15th: two a second).
_FRAME_RATE = 30.0


class FeatureDataset(Dataset[Sample]):
    """Feature videos as samples, on the surface of `VideoDataset`.

    Args:
        name: of the split, for messages.
        videos: the videos.
    """

    # pictures are what augmentation changes, and there are none
    augmentation = None

    def __init__(self, name: str, videos: Sequence[FeatureVideo]) -> None:
        self.name = name
        self.videos = list(videos)
        self.held: list[Sample] = []

    def __len__(self) -> int:
        return len(self.videos)

    def check(self, strict: bool = False) -> dict[str, str]:
        """Keep every video's sample; a file that was read has no bad video, so none is left out."""
        self.held = [_sample(video, number) for number, video in enumerate(self.videos)]
        return {}

    def plain(self, number: int) -> Sample:
        """A sample; `seconds` are those of 30 frames a second, because the file holds no times."""
        return self.held[number] if self.held else _sample(self.videos[number], number)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        return self.plain(key[1] if isinstance(key, tuple) else key)


def _sample(video: FeatureVideo, number: int) -> Sample:
    return Sample(
        video=video.id,
        number=number,
        stage="features",
        inputs=torch.from_numpy(video.features),
        seconds=torch.from_numpy(video.picks / _FRAME_RATE).float(),
        importance=torch.from_numpy(video.importance),
        annotators=torch.from_numpy(video.annotators),
        visible=torch.ones(len(video.picks), dtype=torch.bool),
    )
