"""What the teacher's share of the loss is, against scipy; and a student that learns from a teacher alone."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.special import huber

from keyframe.training.losses import Distillation, RelationLoss, SpearmanLoss


def frames(*lengths, widths=(3, 7), dtype=torch.float64):
    """Embeddings of two widths, and the mask, padded with values that must not matter."""
    generator = torch.Generator().manual_seed(0)
    shape = (len(lengths), max(lengths))
    ours, theirs = (torch.randn(*shape, width, dtype=dtype, generator=generator) for width in widths)
    return ours, theirs, torch.arange(shape[1]) < torch.tensor(lengths)[:, None]


def test_relations_are_scipys():
    ours, theirs, mask = frames(9, 4)
    expected = []
    for a, b, m in zip(ours.numpy(), theirs.numpy(), mask.numpy(), strict=True):
        ours_apart, theirs_apart = pdist(a[m]), pdist(b[m])
        gap = ours_apart / ours_apart.mean() - theirs_apart / theirs_apart.mean()
        expected.append(huber(1, gap).mean())  # Park et al. (2019), equation 7
    assert RelationLoss()(ours, theirs, mask).item() == pytest.approx(np.mean(expected), rel=1e-6)


def test_only_distances_matter_and_only_of_real_frames():
    ours, theirs, mask = frames(9, 4)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    loss = RelationLoss()
    assert loss(2 * ours @ turn + 5, ours, mask).item() == pytest.approx(0, abs=1e-6)
    ours.requires_grad_()
    value = loss(ours, theirs, mask)
    value.backward()
    assert ours.grad[mask].abs().min() > 0 and not ours.grad[~mask].any()
    others = [torch.where(mask[..., None], values.detach(), 77.0) for values in (ours, theirs)]
    torch.testing.assert_close(loss(*others, mask), value)


def test_the_gradient_of_relations_is_that_of_finite_differences():
    ours, theirs, mask = frames(6, 4)
    assert torch.autograd.gradcheck(lambda x: RelationLoss()(x, theirs, mask), (ours.requires_grad_(),), atol=1e-5)


@pytest.mark.parametrize("case", ["equal embeddings", "one frame", "none"])
def test_relations_that_are_not_there_teach_nothing(case):
    ours, theirs, mask = frames(5, 5, dtype=torch.float32)
    ours = torch.zeros_like(ours) if case == "equal embeddings" else ours
    mask[:, {"equal embeddings": 5, "one frame": 1, "none": 0}[case] :] = False
    ours.requires_grad_()
    loss = RelationLoss()(ours, theirs, mask)
    loss.backward()
    assert loss.isfinite() and not ours.grad.any()


def test_relations_are_float32_under_autocast():
    ours, theirs, mask = frames(9, 4, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = RelationLoss()(ours, theirs, mask)
    assert torch.equal(mixed, RelationLoss()(ours, theirs, mask)) and mixed.dtype == torch.float32


def test_the_blend():
    ours, theirs, mask = frames(9, 4, dtype=torch.float32)
    scores, labels = ours[..., 0].sigmoid(), torch.tensor(0.25)
    lesson = torch.cat([theirs[..., :1].sigmoid(), theirs], -1)
    soft, hint = SpearmanLoss()(scores, lesson[..., 0], mask), RelationLoss()(ours, theirs, mask)

    def blend(weight, hint_weight=0.0, embeddings=None):
        return Distillation(weight, SpearmanLoss(), hint_weight)(labels, scores, embeddings, lesson, mask)

    assert torch.equal(blend(0.0), labels)
    assert torch.equal(blend(1.0), soft)
    torch.testing.assert_close(blend(0.3), 0.7 * labels + 0.3 * soft)
    torch.testing.assert_close(blend(0.3, 2.0, ours), 0.7 * labels + 0.3 * soft + 2 * hint)


@pytest.mark.parametrize(("options", "word"), [((1.5,), "weight"), ((-0.1,), "weight"), ((0.5, -1.0), "hint_weight")])
def test_weights_out_of_range(options, word):
    weight, *hint = options
    with pytest.raises(ValueError, match=f"^{word} must"):
        Distillation(weight, SpearmanLoss(), *hint)
