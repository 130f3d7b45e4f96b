"""What the samples of an epoch are made of, where videos are kept encoded."""

from dataclasses import dataclass

from keyframe.types import Stage


@dataclass(frozen=True)
class Schedule:
    """A function of the epoch alone, because the epoch travels with every index and nothing else does.

    Attributes:
        before: what samples hold in the epochs before `switch_epoch`.
        after: what they hold from then on.
        switch_epoch: None never switches.
        views: how many augmented views there are, taken in turn; None for pictures as they are.
    """

    before: Stage
    after: Stage
    switch_epoch: int | None
    views: int | None = None

    def stage(self, epoch: int) -> Stage:
        """What the samples of an epoch hold."""
        return self.after if self.switch_epoch is not None and epoch >= self.switch_epoch else self.before

    def view(self, epoch: int) -> int | None:
        """Which augmented view the samples of an epoch show; None for pictures as they are."""
        return None if self.views is None else epoch % self.views
