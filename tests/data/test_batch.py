from dataclasses import replace

import pytest
import torch

from keyframe.data.dataset import Sample, collate


def sample(number, length, people, kind="pixels"):
    generator = torch.Generator().manual_seed(number)
    shape = {"pixels": (3, 4, 5), "prefix": (6, 2, 2), "features": (7,)}[kind]
    inputs = torch.rand(length, *shape, generator=generator)
    return Sample(
        video=f"v{number}",
        number=number,
        kind=kind,
        inputs=(inputs * 255).to(torch.uint8) if kind == "pixels" else inputs,
        seconds=torch.arange(length) * 0.5,
        importance=torch.rand(length, generator=generator),
        annotators=torch.rand(people, length, generator=generator),
        visible=torch.ones(length, dtype=torch.bool),
    )


@pytest.mark.parametrize("kind", ["pixels", "prefix", "features"])
def test_videos_are_padded_to_the_longest_and_masked(kind):
    samples = [sample(4, 3, 2, kind), sample(1, 6, 0, kind), sample(7, 1, 5, kind)]
    batch = collate(samples)
    assert batch.videos == ("v4", "v1", "v7")
    assert batch.numbers.tolist() == [4, 1, 7]
    assert batch.kind == kind
    assert batch.inputs.dtype == samples[0].inputs.dtype
    assert batch.inputs.shape == (3, 6, *samples[0].inputs.shape[1:])
    assert batch.annotators.shape == (3, 5, 6)
    for row, one in enumerate(samples):
        length, people = len(one.inputs), len(one.annotators)
        assert batch.mask[row].tolist() == [True] * length + [False] * (6 - length)
        for name in ("inputs", "seconds", "importance"):
            assert torch.equal(getattr(batch, name)[row, :length], getattr(one, name))
            assert not getattr(batch, name)[row, length:].any()
        assert torch.equal(batch.annotators[row, :people, :length], one.annotators)
        assert batch.annotators[row, people:].isnan().all()
        assert batch.annotators[row, :, length:].isnan().all()


def test_hidden_frames_are_masked():
    hidden = replace(sample(0, 4, 1), visible=torch.tensor([True, False, True, False]))
    assert collate([hidden, sample(1, 5, 1)]).mask.tolist() == [
        [True, False, True, False, False],
        [True, True, True, True, True],
    ]


def test_samples_of_two_kinds_do_not_mix():
    with pytest.raises(ValueError, match="not several"):
        collate([sample(0, 3, 1, "pixels"), sample(1, 3, 1, "features")])


def test_a_batch_moves_with_all_its_tensors():
    batch = collate([sample(0, 3, 2), sample(1, 2, 0)])
    moved = batch.to("meta")
    tensors = {name: value for name, value in vars(moved).items() if isinstance(value, torch.Tensor)}
    assert set(tensors) == {"numbers", "inputs", "mask", "seconds", "importance", "annotators"}
    assert {value.device.type for value in tensors.values()} == {"meta"}
    assert (moved.videos, moved.kind) == (batch.videos, batch.kind)
    assert batch.inputs.device.type == "cpu"
