"""Losses against scipy, numpy and finite differences; what the teacher's share of a student's loss is.

`torch.autograd.gradcheck` compares gradients with finite differences in float64, which the losses keep where they
are given it: in float32 a difference quotient has three digits at best, too few to see a wrong term.
"""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.special import expit, huber, rel_entr
from scipy.stats import spearmanr

from keyframe.training.losses import (
    Distillation,
    MSELoss,
    PairwiseKLLoss,
    PairwiseLoss,
    RelationLoss,
    SpearmanLoss,
    WeightedSum,
)


def weighted():
    return WeightedSum({"rank": SpearmanLoss(), "error": MSELoss()}, {"rank": 0.7, "error": 2.0})


LOSSES = {
    "spearman": SpearmanLoss,
    "pairwise": PairwiseLoss,
    "pairwise_kl": PairwiseKLLoss,
    "mse": MSELoss,
    "weighted": weighted,
}
each = pytest.mark.parametrize("loss", [make() for make in LOSSES.values()], ids=list(LOSSES))


def videos(*lengths, dtype=torch.float32, seed=0):
    """Distinct scores, tied targets, and the mask, padded with values that must not matter."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    scores = torch.rand(shape, dtype=dtype, generator=generator)
    targets = torch.randint(0, 5, shape, generator=generator).to(dtype) / 4
    return scores, targets, torch.arange(shape[1]) < torch.tensor(lengths)[:, None]


def gradient(loss, scores, targets, mask):
    scores = scores.clone().requires_grad_()
    loss(scores, targets, mask).backward()
    return scores.grad


@each
def test_gradient_is_that_of_finite_differences(loss):
    scores, targets, mask = videos(9, 5, dtype=torch.float64)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, targets, mask), (scores,), atol=1e-6, rtol=1e-4)
    assert gradient(loss, scores.detach(), targets, mask)[mask].abs().min() > 0


@each
def test_gradient_in_float32_is_near_that_in_float64(loss):
    scores, targets, mask = videos(30, 11)
    exact = gradient(loss, scores.double(), targets.double(), mask)
    torch.testing.assert_close(gradient(loss, scores, targets, mask).double(), exact, rtol=1e-3, atol=1e-6)


@each
def test_masked_frames_have_no_influence_and_no_gradient(loss):
    scores, targets, mask = videos(12, 5, 1)
    value, slope = loss(scores, targets, mask), gradient(loss, scores, targets, mask)
    assert not slope[~mask].any()
    other_scores = torch.where(mask, scores, torch.full_like(scores, 77.0))
    other_targets = torch.where(mask, targets, torch.full_like(targets, -13.0))
    torch.testing.assert_close(loss(other_scores, other_targets, mask), value)
    torch.testing.assert_close(gradient(loss, other_scores, other_targets, mask), slope)


@each
def test_padding_and_company_change_no_videos_loss(loss):
    scores, targets, mask = videos(12, 5, 7)
    alone = [
        loss(scores[row : row + 1, :length], targets[row : row + 1, :length], mask[row : row + 1, :length])
        for row, length in enumerate((12, 5, 7))
    ]
    torch.testing.assert_close(loss(scores, targets, mask), torch.stack(alone).mean())


@each
def test_frames_may_be_hidden_anywhere(loss):
    scores, targets, mask = videos(12)
    mask[0, [0, 4, 5]] = False
    kept = mask[0]
    expected = loss(scores[:, kept], targets[:, kept], mask[:, kept])
    torch.testing.assert_close(loss(scores, targets, mask), expected)


@each
def test_loss_and_gradient_stay_finite(loss):
    scores, targets, mask = videos(60, 41)
    constant_scores, constant_targets = torch.full_like(scores, 0.7), torch.full_like(targets, 0.3)
    cases = {
        "constant targets": (scores, constant_targets, mask),
        "constant scores": (constant_scores, targets, mask),
        "both constant": (constant_scores, constant_targets, mask),
        "one frame": videos(1),
        "all masked": (scores, targets, torch.zeros_like(mask)),
    }
    for name, (given, *others) in cases.items():
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            assert loss(given.to(dtype), *others).isfinite(), (name, dtype)
            assert gradient(loss, given.to(dtype), *others).isfinite().all(), (name, dtype)


def test_constant_targets_teach_no_order_and_constant_scores_have_none():
    scores, targets, mask = videos(60, 41)
    for value in (0.0, 0.3, 1.0):
        constant = torch.full_like(targets, value)
        for loss, expected in ((SpearmanLoss(), 1.0), (PairwiseLoss(), 0.0)):
            assert loss(scores, constant, mask).item() == expected
            assert not gradient(loss, scores, constant, mask).any()
    assert SpearmanLoss()(torch.full_like(scores, 0.7), targets, mask).item() == pytest.approx(1.0)


def test_spearman_tends_to_scipys_as_the_temperature_falls():
    for seed in range(4):
        for levels in (2, 5, 1000):
            rng = np.random.default_rng(seed)
            lengths, total = (40, 23), 40
            # distinct, at least 1/80 apart: far against the smallest temperature
            scores = torch.tensor(np.stack([rng.permutation(total) for _ in lengths]) / (2 * total) + 0.1)
            targets = torch.tensor(rng.integers(0, levels, (2, total)) / levels)
            targets[:, 0], targets[:, 1] = 0.0, 0.999  # never constant
            mask = torch.arange(total) < torch.tensor(lengths)[:, None]
            rho = [spearmanr(s[m], t[m]).statistic for s, t, m in zip(scores, targets, mask, strict=True)]
            errors = [
                abs(SpearmanLoss(temperature)(scores, targets, mask).item() - (1 - np.mean(rho)))
                for temperature in (0.1, 0.01, 0.0005)
            ]
            assert errors[2] < 1e-6
            assert errors[2] < errors[1] < 0.02


def test_spearman_of_a_perfect_and_of_a_reversed_order():
    targets = torch.linspace(0, 1, 20)[None]
    mask = torch.ones(1, 20, dtype=torch.bool)
    assert SpearmanLoss(0.001)(targets, targets, mask).item() == pytest.approx(0, abs=1e-5)
    assert SpearmanLoss(0.001)(1 - targets, targets, mask).item() == pytest.approx(2, abs=1e-5)


def test_spearman_does_not_depend_on_the_targets_scale():
    scores, targets, mask = videos(30, 20)
    loss = SpearmanLoss()
    torch.testing.assert_close(loss(scores, targets, mask), loss(scores, (3 * targets).exp(), mask))


def test_pairwise_is_the_double_loop():
    temperature = 0.02
    scores, targets, mask = videos(12, 7, dtype=torch.float64)
    values = []
    for row in range(2):
        real = [i for i in range(12) if mask[row, i]]
        total, weights = 0.0, 0.0
        for i in real:
            for j in real:
                gap = float(targets[row, i] - targets[row, j])
                if gap > 0:
                    margin = float(scores[row, i] - scores[row, j]) / temperature
                    total += gap * np.log1p(np.exp(-margin))  # Burges et al. (2005): -log sigmoid(margin)
                    weights += gap
        values.append(total / weights)
    assert PairwiseLoss(temperature)(scores, targets, mask).item() == pytest.approx(np.mean(values), rel=1e-9)


def test_pairwise_kl_is_scipys_mean_over_pairs():
    temperature = 0.02
    scores, targets, mask = videos(12, 7, 1, dtype=torch.float64)
    values = []
    for s, t, m in zip(scores.numpy(), targets.numpy(), mask.numpy(), strict=True):
        real = np.flatnonzero(m)
        divergences = []
        for place, i in enumerate(real):
            for j in real[:place]:
                q, p = (expit((x[i] - x[j]) / temperature) for x in (s, t))
                divergences.append(rel_entr(p, q) + rel_entr(1 - p, 1 - q))
        values.append(np.mean(divergences) if divergences else 0.0)
    assert values[2] == 0 < values[1]
    loss = PairwiseKLLoss(temperature)
    assert loss(scores, targets, mask).item() == pytest.approx(np.mean(values), rel=1e-9)
    assert loss(targets + 0.2, targets, mask).item() == pytest.approx(0, abs=1e-12)


def test_mse_is_numpys():
    scores, targets, mask = videos(12, 7)
    rows = [np.mean((s[m] - t[m]) ** 2) for s, t, m in zip(scores.numpy(), targets.numpy(), mask.numpy(), strict=True)]
    assert MSELoss()(scores, targets, mask).item() == pytest.approx(np.mean(rows), rel=1e-6)


def test_weighted_sum_is_the_sum_of_its_terms():
    given = videos(12, 7)
    loss = WeightedSum({"a": SpearmanLoss(), "b": MSELoss(), "c": PairwiseLoss()}, {"a": 1.0, "b": 0.5, "c": 0.0})
    torch.testing.assert_close(loss(*given), SpearmanLoss()(*given) + 0.5 * MSELoss()(*given))
    with pytest.raises(ValueError, match="same names"):
        WeightedSum({"a": MSELoss()}, {"b": 1.0})


def test_values_out_of_range_are_refused():
    for loss in (SpearmanLoss, PairwiseLoss, PairwiseKLLoss):
        for temperature in (0.0, -0.1):
            with pytest.raises(ValueError, match=r"^temperature must"):
                loss(temperature)
    for word, weight, hint_weight in (
        ("weight", 1.5, 0),
        ("weight", -0.1, 0),
        ("hint_weight", 0.5, -1.0),
        ("weight", 0, 0),
    ):
        with pytest.raises(ValueError, match=f"^{word} must"):
            Distillation(weight, SpearmanLoss(), hint_weight)


@each
def test_float32_inside_and_outside_under_autocast(loss):
    scores, targets, mask = videos(40, 23)
    plain, slope = loss(scores, targets, mask), gradient(loss, scores, targets, mask)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(scores, targets, mask)
        mixed_slope = gradient(loss, scores, targets, mask)
    assert mixed.dtype == plain.dtype == torch.float32
    assert torch.equal(mixed, plain)
    assert torch.equal(mixed_slope, slope)
    assert loss(scores.bfloat16(), targets, mask).dtype == torch.float32


@pytest.mark.parametrize("loss", [SpearmanLoss(), PairwiseLoss(), PairwiseKLLoss()])
def test_a_few_steps_on_free_scores_put_them_in_order(loss):
    generator = torch.Generator().manual_seed(3)
    targets = torch.stack([torch.randperm(40, generator=generator) / 40 for _ in range(2)])
    mask = torch.arange(40) < torch.tensor([40, 30])[:, None]
    logits = (0.1 * torch.randn(2, 40, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.1)

    def rho():
        scores = logits.detach().sigmoid()
        return [spearmanr(s[m], t[m]).statistic for s, t, m in zip(scores, targets, mask, strict=True)]

    assert max(rho()) < 0.5
    for _ in range(60):
        optimizer.zero_grad()
        loss(logits.sigmoid(), targets, mask).backward()
        optimizer.step()
    assert min(rho()) > 0.98


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


def test_relations_that_are_not_there_teach_nothing():
    for equal, real in ((True, 5), (False, 1), (False, 0)):
        ours, theirs, mask = frames(5, 5, dtype=torch.float32)
        ours = torch.zeros_like(ours) if equal else ours
        mask[:, real:] = False
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
    target = torch.cat([theirs[..., :1].sigmoid(), theirs], -1)
    soft, hint = SpearmanLoss()(scores, target[..., 0], mask), RelationLoss()(ours, theirs, mask)

    def blend(weight, hint_weight=0.0, embeddings=None):
        return Distillation(weight, SpearmanLoss(), hint_weight)(labels, scores, embeddings, target, mask)

    torch.testing.assert_close(blend(0.0, 2.0, ours), labels + 2 * hint)
    assert torch.equal(blend(1.0), soft)
    torch.testing.assert_close(blend(0.3), 0.7 * labels + 0.3 * soft)
    torch.testing.assert_close(blend(0.3, 2.0, ours), 0.7 * labels + 0.3 * soft + 2 * hint)
