"""A training that resumes with other settings: what changes, what is refused, and what is said of it."""

import copy

import pytest
import torch
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from keyframe.config import plain
from keyframe.training.callbacks import StageAwareEarlyStopping, TwoStage
from keyframe.training.run import plan_resume, read_checkpoint, train_and_test
from keyframe.types import KeyframeError
from tests.commands import composed
from tests.training.test_stages import Watch
from tests.training.tiny import make_datamodule, make_module, make_trainer

SWITCH, EPOCHS = 2, 3
BEFORE = {"optimizer": {"lr": 1e-3, "weight_decay": 0.01}, "finetune": {"switch_epoch": SWITCH, "lr_factor": 0.1}}


def train(tiny_demo, directory, config, epochs, resume=None):
    """Train as `config` says, from a checkpoint if there is one; the rates and weight decays of each epoch."""
    torch.manual_seed(0)
    module = make_module(lr=config["optimizer"]["lr"], weight_decay=config["optimizer"]["weight_decay"], config=config)
    watch = Watch()
    every = ModelCheckpoint(directory, "{epoch}", save_top_k=-1, monitor="val/spearman", mode="max")
    stages = TwoStage(SWITCH, config["finetune"]["lr_factor"])
    trainer = make_trainer(directory, epochs, [stages, watch, every], enable_checkpointing=True)
    found = None if resume is None else plan_resume(resume, read_checkpoint(resume), config, config)
    train_and_test(trainer, module, make_datamodule(tiny_demo), directory, found)
    return watch, trainer


@pytest.fixture(scope="module")
def checkpoints(tiny_demo, tmp_path_factory):
    place = tmp_path_factory.mktemp("before")
    watch, _ = train(tiny_demo, place, BEFORE, EPOCHS)
    assert [rates["head"] for rates in watch.rates] == pytest.approx([1e-3, 1e-3, 1e-4])
    return place


@pytest.mark.parametrize(
    ("epoch", "new", "factor", "rates"),
    [
        (0, 3e-4, 0.1, [3e-4, 3e-5]),  # in stage 1, then at the switch
        (2, 3e-4, 0.5, [1.5e-4]),  # in stage 2
    ],
)
def test_both_groups_have_the_new_rate(checkpoints, tiny_demo, tmp_path, epoch, new, factor, rates):
    config = copy.deepcopy(BEFORE)
    config["optimizer"] |= {"lr": new, "weight_decay": 0.2}
    config["finetune"]["lr_factor"] = factor
    last = max(EPOCHS, epoch + 2)
    watch, trainer = train(tiny_demo, tmp_path, config, last, checkpoints / f"epoch={epoch}.ckpt")
    for group in ("head", "backbone"):
        assert [one[group] for one in watch.rates] == pytest.approx(rates)
    assert [group["weight_decay"] for group in trainer.optimizers[0].param_groups] == [0.2, 0.2]


def configured(*overrides):
    small = [
        "experiment=demo",
        "backbone=efficientnet_b0",
        "sampling=uniform",
        "optimizer.lr=3e-4",
        "trainer.max_epochs=16",
    ]
    return composed("train", [*small, "run_dir=/runs/1", *overrides])


@pytest.fixture(scope="module")
def checkpoint():
    """As a run of the demo writes it after its epoch 6."""
    return {
        "hyper_parameters": {**plain(configured()), "params": {"total": 3}},
        "loops": {"fit_loop": {"epoch_progress": {"current": {"processed": 7}}}},
        "callbacks": {"TwoStage": {"switched": False}},
    }


def compared(checkpoint, tmp_path, *overrides):
    now = configured(*overrides)
    return plan_resume(tmp_path / "last.ckpt", checkpoint, plain(now), OmegaConf.to_container(now))


def test_nothing_is_said_of_what_is_as_it_was(checkpoint, tmp_path):
    resume = compared(checkpoint, tmp_path, "ckpt_path=last", "run_dir=/runs/2", "name=again", "logger=csv")
    assert (resume.lines, resume.history, resume.epoch) == ([], [], 7)


def test_each_change_is_said_and_kept(checkpoint, tmp_path):
    changes = {
        "optimizer.lr=1e-4": "optimizer.lr is now 0.0001, was 0.0003",
        "optimizer.weight_decay=0": "optimizer.weight_decay is now 0, was 0.01",
        "+optimizer.betas=[0.9,0.95]": "optimizer.betas is now [0.9, 0.95], was not set",
        "scheduler=none": "scheduler is now null, was cosine",
        "finetune.lr_factor=0.5": "finetune.lr_factor is now 0.5, was 0.3",
        "finetune.switch_epoch=12": "finetune.switch_epoch is now 12, was 10",
        "trainer.max_epochs=40": "trainer.max_epochs is now 40, was 16",
        "trainer.precision=bf16-mixed": "trainer.precision is now bf16-mixed, was 32-true",
        "data.root=/moved": "data.root is now /moved, was outputs/data",
        "reader=decord": "reader is now DecordReader, was PyAVReader",
    }
    resume = compared(checkpoint, tmp_path, *changes)
    assert sorted(resume.lines) == sorted(f"{line}, from epoch 7" for line in changes.values())
    again = {**checkpoint, "hyper_parameters": {**checkpoint["hyper_parameters"], "resumed": resume.history}}
    first, second = compared(again, tmp_path, "optimizer.lr=1e-5").history
    assert first == resume.history[0] and first["changes"]["optimizer.lr"] == ["0.0003", "0.0001"]
    assert second == {"epoch": 7, "changes": {"optimizer.lr": ["0.0003", "1e-05"]}}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("loss=spearman", "loss=MSELoss, now SpearmanLoss"),
        ("head.layers=3", "head.layers=1, now 3"),
        ("backbone=resnet50", "backbone.name=efficientnet_b0, now resnet50"),
        ("data.fold=1", "data.fold=0, now 1"),
        ("data.batch_size=8", "data.batch_size=2, now 8"),
        ("sampling.frames=30", "sampling.frames=60, now 30"),
        ("augmentation=clip", "augmentation=null, now Augmentation"),
        ("seed=1", "seed=0, now 1"),
        ("finetune.norm=train", "finetune.norm=frozen, now train"),
        ("optimizer._target_=torch.optim.SGD", "optimizer=AdamW, now SGD"),
        ("+optimizer.amsgrad=true", "optimizer.amsgrad=not set, now true"),
    ],
)
def test_what_cannot_change_is_refused_by_name(checkpoint, tmp_path, override, words):
    with pytest.raises(KeyframeError, match="a resumed run keeps these, give them as they were") as error:
        compared(checkpoint, tmp_path, override)
    assert f"last.ckpt was trained with {words}" in str(error.value)


def test_the_switch_cannot_be_moved_once_it_is_behind(checkpoint, tmp_path):
    switched = {**checkpoint, "callbacks": {"TwoStage": {"switched": True}}}
    with pytest.raises(KeyframeError, match=r"finetune\.switch_epoch=10, now 20"):
        compared(switched, tmp_path, "finetune.switch_epoch=20")
    with pytest.raises(KeyframeError, match=r"has trained 7 epochs: trainer\.max_epochs=6 is too low"):
        compared(checkpoint, tmp_path, "trainer.max_epochs=6")


@pytest.mark.parametrize("before", [None, 3, {}])
def test_a_checkpoint_that_knows_no_configuration_changes_nothing(checkpoint, tmp_path, before):
    assert compared({**checkpoint, "hyper_parameters": before, "loops": 3}, tmp_path).epoch == 0


def test_early_stopping_counts_by_the_settings_of_now():
    stopping = StageAwareEarlyStopping(monitor="val/spearman", patience=9)
    stopping.load_state_dict(EarlyStopping("val/spearman", patience=2).state_dict() | {"wait_count": 1})
    assert (stopping.patience, stopping.wait_count) == (9, 1)
