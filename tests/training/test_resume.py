import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint

from keyframe.training.plateau import PlateauSchedule
from keyframe.training.two_stage import TwoStage
from tests.training.tiny import make_datamodule, make_module, make_trainer

EPOCHS, SWITCH = 4, 2


class KilledError(Exception):
    pass


class Kill(Callback):
    """Ends training in the middle of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx == 2:
            raise KilledError


def fit(tiny_demo, directory, *extra, resume=None):
    torch.manual_seed(0)
    module = make_module("efficientnet_b0")
    last = ModelCheckpoint(directory, filename="last", enable_version_counter=False)
    trainer = make_trainer(
        directory, EPOCHS, [PlateauSchedule(patience=0), TwoStage(SWITCH), last, *extra], enable_checkpointing=True
    )
    trainer.fit(module, make_datamodule(tiny_demo), ckpt_path=resume, weights_only=True)
    return module, trainer


@pytest.fixture(scope="module")
def uninterrupted(tiny_demo, tmp_path_factory):
    return fit(tiny_demo, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("epoch", [1, SWITCH, 3], ids=["stage 1", "switch epoch", "stage 2"])
def test_a_killed_run_ends_as_if_it_had_not_been_killed(tiny_demo, tmp_path, uninterrupted, epoch):
    with pytest.raises(KilledError):
        fit(tiny_demo, tmp_path, Kill(epoch))
    module, trainer = fit(tiny_demo, tmp_path, resume=tmp_path / "last.ckpt")
    reference, whole = uninterrupted
    for (name, ours), theirs in zip(module.state_dict().items(), reference.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert rates == [group["lr"] for group in whole.optimizers[0].param_groups]
    assert trainer.callback_metrics["val/spearman"] == whole.callback_metrics["val/spearman"]
