"""The place of a backbone in a model that is given features instead of pictures."""

from typing import NoReturn

from torch import Tensor, nn

from keyframe.errors import KeyframeError


class NoBackbone(nn.Module):
    """Has the surface of `Backbone` and no parameters: somebody else's backbone has run already.

    Args:
        width: channels of the features that the model is given.
    """

    name = "features"
    # pictures are never normalised; a detector wants the numbers all the same
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    is_cut = False

    def __init__(self, width: int) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be at least 1, not {width}")
        self.width = width

    def encode_prefix(self, pictures: Tensor) -> NoReturn:
        """Refuses.

        Raises:
            KeyframeError: always: there is nothing that could see pictures.
        """
        raise KeyframeError(
            "This model has no backbone and scores features only (backbone=none): give it a feature file, or train one "
            "with a backbone on videos."
        )

    def encode_tail(self, maps: Tensor) -> NoReturn:
        """Refuses, as `encode_prefix` does."""
        self.encode_prefix(maps)

    def tail_parameters(self) -> list[nn.Parameter]:
        """None: stage 2 has nothing to train."""
        return []

    def train_tail(self, trains: bool) -> None:
        """Nothing to freeze or release."""
