"""The order of samples as a function of (seed, epoch, rank), told to the workers with every index."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, number); Lightning calls `set_epoch`.

    The epoch travels with the index because persistent workers keep the data set, and its epoch, as it was when
    they started.

    Args:
        length: number of samples in the data set.
        shuffle: in a new order every epoch, or as they come.
        seed: of the order.
        rank: of this process.
        world: number of processes. In training (`shuffle`) the ranks get equally many samples, wrapping around
            where needed, because DDP needs equally many steps; otherwise each sample goes to exactly one rank.
    """

    def __init__(self, length: int, shuffle: bool, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        self.length = length
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0
        self.done = 0

    def set_epoch(self, epoch: int) -> None:
        """Use the order of that epoch from the next iteration on."""
        self.epoch = epoch

    def skip(self, done: int) -> None:
        """Leave out the first samples of the next iteration, which were seen before an interruption."""
        self.done = done

    def _numbers(self) -> list[int]:
        if not self.shuffle:
            return list(range(self.rank, self.length, self.world))
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        count = -(-self.length // self.world) * self.world
        return [int(n) for n in np.resize(order, count)[self.rank :: self.world]]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first, self.done = self.done, 0
        return iter([(self.epoch, number) for number in self._numbers()[first:]])

    def __len__(self) -> int:
        return len(self._numbers())
