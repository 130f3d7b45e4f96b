from itertools import chain

import pytest

from keyframe.data.datamodule import EpochSampler


def numbers(sampler, epoch=0):
    sampler.set_epoch(epoch)
    drawn = list(sampler)
    assert {seen for seen, _ in drawn} <= {epoch}
    assert len(drawn) == len(sampler)
    return [number for _, number in drawn]


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("length", [1, 5, 12, 13])
def test_in_evaluation_each_sample_comes_once_over_all_ranks(length, world):
    ranks = [numbers(EpochSampler(length, False, rank=rank, world=world)) for rank in range(world)]
    assert sorted(chain.from_iterable(ranks)) == list(range(length))
    assert max(map(len, ranks)) - min(map(len, ranks)) <= 1


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7, 16])
@pytest.mark.parametrize("length", [1, 5, 12, 13])
def test_in_training_ranks_get_equally_many_and_every_sample_comes(length, world):
    ranks = [numbers(EpochSampler(length, True, 3, rank, world), epoch=2) for rank in range(world)]
    steps = -(-length // world)
    assert [len(rank) for rank in ranks] == [steps] * world
    drawn = list(chain.from_iterable(ranks))
    assert set(drawn) == set(range(length))
    counts = [drawn.count(number) for number in range(length)]
    assert max(counts) - min(counts) <= 1


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        return numbers(EpochSampler(50, True, seed), epoch)

    assert order(0, 3) == order(0, 3)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6
    assert sorted(order(0, 3)) == list(range(50))
    # nor does it depend on what was drawn before
    sampler = EpochSampler(50, True, 0)
    for epoch in (0, 1):
        numbers(sampler, epoch)
    assert numbers(sampler, 3) == order(0, 3)


def test_evaluation_keeps_the_order_in_every_epoch():
    sampler = EpochSampler(6, False, seed=5)
    assert numbers(sampler, 0) == numbers(sampler, 9) == [0, 1, 2, 3, 4, 5]
