"""Where labelled videos come from: a directory, or the demo generator that writes one."""

import logging
from pathlib import Path
from typing import Protocol

from keyframe.data.demo.generate import DemoSet, generate
from keyframe.data.labels import find_label_file, read_labels
from keyframe.data.videos import find_videos, match
from keyframe.errors import KeyframeError
from keyframe.types import LabelledVideo

log = logging.getLogger(__name__)


class Source(Protocol):
    """Labelled videos to train on."""

    def prepare(self) -> None:
        """Make what must be made once on a machine; called by one process before `videos`."""
        ...

    def videos(self) -> list[LabelledVideo]:
        """All labelled videos, in the order of the label file."""
        ...


class DirectorySource:
    """Videos and a label file in a directory: TVSum as released, or a user's own in the same form.

    Args:
        root: the directory; see `find_videos` and `find_label_file` for where things may lie in it.
        labels: the label file, `None` to find it under `root`.
        allow_missing: leave out videos without labels and labels without videos, instead of refusing.
        lowest: the score in the label file that means "not important at all".
        highest: the score in the label file that means "as important as can be".
    """

    def __init__(
        self,
        root: str,
        labels: str | None = None,
        allow_missing: bool = False,
        lowest: float = 1.0,
        highest: float = 5.0,
    ) -> None:
        self.root = Path(root).expanduser()
        self.labels = Path(labels).expanduser() if labels is not None else None
        self.allow_missing = allow_missing
        self.lowest = lowest
        self.highest = highest

    def prepare(self) -> None:
        """Nothing to make."""

    def videos(self) -> list[LabelledVideo]:
        """All labelled videos.

        Raises:
            KeyframeError: no directory, no videos, no labels, or the two do not match.
        """
        videos = find_videos(self.root)
        labels = self.labels or find_label_file(self.root)
        if not labels.is_file():
            raise KeyframeError(f"data.labels={labels} is not a file.")
        return match(videos, read_labels(labels, self.lowest, self.highest), self.allow_missing)


class DemoSource:
    """A generated data set, made once and kept under `root`; read back by `DirectorySource`.

    Args:
        root: where demo sets are kept.
        seed: other seeds give other videos of the same kind.
        videos: how many videos.
        shots: length of the shortest video, in shots of two seconds.
        workers: processes that generate; all cores by default.
    """

    def __init__(
        self, root: str, seed: int = 0, videos: int = 120, shots: int = 36, workers: int | None = None
    ) -> None:
        self.root = Path(root).expanduser()
        self.demo = DemoSet(seed=seed, videos=videos, shots=shots)
        self.workers = workers

    def prepare(self) -> None:
        """Generate the set unless it is there.

        Raises:
            KeyframeError: `root` cannot be written.
        """
        try:
            generate(self.root, self.demo, self.workers)
        except OSError as error:
            raise KeyframeError(
                f"data.root={self.root} cannot be written ({error.strerror}): choose another directory."
            ) from error

    def videos(self) -> list[LabelledVideo]:
        """All videos of the set."""
        return DirectorySource(str(generate(self.root, self.demo, self.workers))).videos()
