"""Labelled footage to train on: four minutes a video, annotators made up."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keyframe.benchmark.copies import write_copies
from keyframe.benchmark.footage import Footage
from keyframe.data.labels_tsv import read_tvsum_tsv, write_tsv
from keyframe.errors import KeyframeError
from keyframe.files import write_text
from keyframe.types import LabelledVideo

_ANNOTATORS = 20
_HELD_S = 2  # as TVSum's labels


@dataclass(frozen=True)
class TrainData:
    """So many videos to train on, and a few more to validate and to test.

    All show the same, which changes no cost: they are copies that differ in a number at the end of the file, so that
    to a cache each is another video. Their labels differ.

    Args:
        footage: the folder in which the footage is kept; one that is there is not made again.
        videos: to train on.
        seconds: length of each, a multiple of 40.
        width: of a picture in pixels.
        height: of a picture in pixels.
        seed: of the pictures and the labels.
        held_out: videos to validate, and as many to test.
    """

    footage: Path
    videos: int
    seconds: int
    width: int
    height: int
    seed: int
    held_out: int = 1

    def write(self, directory: Path) -> None:
        """Make the videos, their `labels.tsv` and `splits.json` in a directory.

        Raises:
            KeyframeError: they cannot be as long, or as large, as asked; or cannot be written.
        """
        try:
            original = Footage(self.seconds, self.width, self.height, seed=self.seed)
        except ValueError as error:
            raise KeyframeError(f"train.seconds={self.seconds} must be a multiple of 40.") from error
        try:
            path = original.write(self.footage)
        except OSError as error:
            raise KeyframeError(f"footage={self.footage} cannot be written ({error.strerror}).") from error
        ids = [copy.stem for copy in write_copies([path], directory, self.videos + 2 * self.held_out)]
        rng = np.random.default_rng(self.seed)
        steps, held = self.seconds // _HELD_S, _HELD_S * original.rate
        opinions = {id_: np.repeat(rng.integers(1, 6, (_ANNOTATORS, steps)), held, axis=1) for id_ in ids}
        write_tsv(directory / "labels.tsv", opinions)
        splits = {f"{part}_keys": keys for part, keys in self._parts(ids).items()}
        write_text(directory / "splits.json", json.dumps([splits]))

    def videos_of(self, directory: Path) -> dict[str, list[LabelledVideo]]:
        """The videos of each split, as `write` has made them in a directory."""
        labels = read_tvsum_tsv(directory / "labels.tsv")
        videos = {id_: LabelledVideo(id_, directory / f"{id_}.mp4", labels[id_]) for id_ in labels}
        return {part: [videos[key] for key in keys] for part, keys in self._parts(list(labels)).items()}

    def _parts(self, ids: list[str]) -> dict[str, list[str]]:
        return {
            "train": ids[: self.videos],
            "val": ids[self.videos : self.videos + self.held_out],
            "test": ids[self.videos + self.held_out :],
        }
