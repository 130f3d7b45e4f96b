"""`seed=` and `deterministic=true`: the same numbers to the bit."""

import torch

from keyframe.data.dataset import Augmentation
from tests.commands import TINY
from tests.training.tiny import make_datamodule, make_module, make_trainer


def test_metrics_are_the_same_to_the_byte_when_a_run_is_repeated(command, tiny_demo, tmp_path):
    same = ["augmentation=clip", "seed=3", "deterministic=true", "trainer.max_epochs=1", "finetune.switch_epoch=0"]
    same.append("callbacks.curves=null")
    for name in ("first", "again"):
        command(*TINY, f"data.root={tiny_demo}", *same, f"hydra.run.dir={tmp_path / name}").good()
    first, again = ((tmp_path / name / "metrics.json").read_bytes() for name in ("first", "again"))
    assert first == again


def test_workers_change_no_bit(tiny_demo, tmp_path):
    weights = []
    for workers in (0, 2):
        torch.manual_seed(0)
        module = make_module()
        datamodule = make_datamodule(tiny_demo, workers=workers, augmentation=Augmentation())
        make_trainer(tmp_path, 2, limit_val_batches=0, deterministic=True).fit(module, datamodule)
        weights.append(module.state_dict())
    assert all(torch.equal(ours, weights[1][name]) for name, ours in weights[0].items())
