import copy

import pytest
import torch
from pytorch_lightning import Callback
from torch import nn

from keyframe.training.callbacks import StageAwareEarlyStopping, TwoStage, cosine
from keyframe.types import KeyframeError
from tests.training.tiny import make_datamodule, make_module, make_trainer


class Watch(Callback):
    """Notes the backbone's state and the learning rates at the end of every epoch, and every training loss."""

    def __init__(self):
        self.states, self.rates, self.losses = [], [], []

    def on_train_epoch_end(self, trainer, pl_module):
        self.states.append(copy.deepcopy(pl_module.detector.backbone.state_dict()))
        self.rates.append({group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups})

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.fixture(scope="module", params=["test_efficientnet", pytest.param("test_resnet", marks=pytest.mark.full)])
def watched(request, tiny_demo, tmp_path_factory):
    torch.manual_seed(0)
    module = make_module(request.param, lr=1e-3)
    start = copy.deepcopy(module.detector.backbone.state_dict())
    watch = Watch()
    trainer = make_trainer(tmp_path_factory.mktemp("run"), 4, [TwoStage(switch_epoch=2, lr_factor=0.1), watch])
    trainer.fit(module, make_datamodule(tiny_demo))
    return module, start, watch


def test_backbone_is_bit_identical_after_stage_1(watched):
    _, start, watch = watched
    assert not changed(start, watch.states[0])
    assert not changed(start, watch.states[1])


def test_only_the_tail_trains_in_stage_2_and_no_norm_layer(watched):
    module, start, watch = watched
    backbone = module.detector.backbone
    moved = changed(start, watch.states[3])
    prefixes = tuple(f"model.{path}." for path in backbone._tail)
    norms = {
        f"{name}.{entry}"
        for name, layer in backbone.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
        for entry in layer.state_dict()
    }
    assert moved
    assert all(name.startswith(prefixes) for name in moved)
    assert not moved & norms
    weights = {name for name, _ in backbone.named_parameters() if name.startswith(prefixes)} - norms
    assert moved == weights


def test_learning_rates_of_both_groups_drop_at_the_switch(watched):
    _, _, watch = watched
    assert watch.rates[1] == {"head": 1e-3, "backbone": 1e-3}
    assert watch.rates[2] == pytest.approx({"head": 1e-4, "backbone": 1e-4})


def test_stage_2_from_a_random_backbone_does_not_blow_up(watched):
    _, _, watch = watched
    half = len(watch.losses) // 2
    before = sum(watch.losses[half - 3 : half]) / 3
    assert max(watch.losses[half:]) < 2 * before


def test_one_stage_if_no_switch_is_given(tiny_demo, tmp_path):
    torch.manual_seed(0)
    module = make_module()
    start = copy.deepcopy(module.detector.backbone.state_dict())
    watch = Watch()
    make_trainer(tmp_path, 2, [TwoStage(switch_epoch=None), watch]).fit(module, make_datamodule(tiny_demo))
    assert not changed(start, watch.states[-1])
    with pytest.raises(KeyframeError, match=r"finetune\.lr_factor=0 must be a number above 0"):
        TwoStage(lr_factor=0)
    with pytest.raises(KeyframeError, match=r"finetune\.switch_epoch=1\.5 must be a whole number from 0 on, or null"):
        TwoStage(switch_epoch=1.5)
    for schedule in (object(), lambda: 1, lambda done: "half", lambda done: -1):
        with pytest.raises(KeyframeError, match=r"^scheduler: a schedule is a function of the share of training"):
            TwoStage(schedule=schedule)


def test_early_stopping_waits_for_stage_2(tiny_demo, tmp_path):
    for switch_epoch, epochs in ((3, 5), (None, 2)):
        torch.manual_seed(0)
        # no epoch is ever better by 10: the first one that counts starts the clock, the next one stops
        stopping = StageAwareEarlyStopping(monitor="val/spearman", mode="max", patience=1, min_delta=10.0)
        trainer = make_trainer(tmp_path, 9, [TwoStage(switch_epoch=switch_epoch), stopping])
        trainer.fit(make_module(), make_datamodule(tiny_demo))
        assert trainer.current_epoch == epochs


def test_rates_fall_along_a_cosine_within_each_stage(tiny_demo, tmp_path):
    seen, epochs = [], 4

    class Look(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    stages = TwoStage(switch_epoch=2, lr_factor=0.1, schedule=cosine)
    make_trainer(tmp_path, epochs, [stages, Look()]).fit(make_module(lr=1e-3), make_datamodule(tiny_demo))
    # torch's own, stepped after every batch
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(seen))
    expected = []
    for step in range(len(seen)):
        expected.append(schedule.get_last_lr()[0] * (0.1 if step >= len(seen) / 2 else 1))
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx(expected)
    with pytest.raises(KeyframeError, match=r"set trainer\.max_epochs, or use scheduler=none"):
        make_trainer(tmp_path, -1, [TwoStage(schedule=cosine)]).fit(make_module(), make_datamodule(tiny_demo))
