"""A run that is stopped, by whatever and whenever, ends as if it had not been; and the largest batch that fits."""

import os
import signal
from functools import partial

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint

from keyframe.data.datamodule import FeatureDataModule
from keyframe.models.backbone import NoBackbone
from keyframe.models.detector import KeyframeDetector
from keyframe.models.head import TemporalHead
from keyframe.models.weights import read_checkpoint
from keyframe.training import run as run_file
from keyframe.training.callbacks import SaveOnSignal, TwoStage, cosine
from keyframe.training.losses import SpearmanLoss
from keyframe.training.module import KeyframeModule
from keyframe.training.run import AtomicCheckpointIO, find_batch_size, resume_split
from keyframe.types import KeyframeError
from tests.data.feature_files import WIDTH, write_summe, write_tvsum
from tests.training.tiny import killed_by, make_datamodule, make_module, make_trainer

EPOCHS, SWITCH = 4, 2


class Die(Callback):
    """Kills the process at some point of an epoch, as a power cut does."""

    def __init__(self, point, epoch):
        self.point, self.epoch = point, epoch

    def at(self, trainer, point):
        if (point, trainer.current_epoch) == (self.point, self.epoch) and not trainer.sanity_checking:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 2:
            self.at(trainer, "mid-epoch")

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        if (self.point, self.epoch) == ("checkpoint", trainer.current_epoch):
            run_file.torch = HalfWriter

    def on_train_epoch_end(self, trainer, pl_module):
        self.at(trainer, "epoch end")


class HalfWriter:
    """Stands for torch, and dies while it saves."""

    @staticmethod
    def save(checkpoint, file):
        file.write(b"PK, and then nothing")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


class Send(Callback):
    """Sends a signal while a batch is on its way, once."""

    def __init__(self, number, epoch, batch):
        self.number, self.when = number, (epoch, batch)

    def on_before_backward(self, trainer, pl_module, loss):
        if (trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_idx) == self.when:
            os.kill(os.getpid(), self.number)


class CountSteps(Callback):
    def __init__(self):
        self.steps = 0

    def on_train_batch_end(self, *_):
        self.steps += 1


@pytest.fixture(autouse=True)
def hears_ctrl_c():
    """A shell starts what runs in the background deaf to SIGINT, and that is inherited."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def fit(tiny_demo, directory, *extra, resume=None):
    torch.manual_seed(0)
    module = make_module()
    last = ModelCheckpoint(directory, filename="last", enable_version_counter=False)
    stop = SaveOnSignal(str(directory / "last.ckpt"))
    trainer = make_trainer(
        directory,
        EPOCHS,
        [TwoStage(SWITCH, schedule=cosine), last, *extra, stop],
        enable_checkpointing=True,
        plugins=[AtomicCheckpointIO()],
    )
    trainer.fit(module, make_datamodule(tiny_demo), ckpt_path=resume, weights_only=True)
    return module, trainer


@pytest.fixture(scope="module")
def uninterrupted(tiny_demo, tmp_path_factory):
    return fit(tiny_demo, tmp_path_factory.mktemp("whole"))


def assert_same_end(ended, uninterrupted):
    (module, trainer), (reference, whole) = ended, uninterrupted
    for (name, ours), theirs in zip(module.state_dict().items(), reference.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert rates == [group["lr"] for group in whole.optimizers[0].param_groups]
    assert trainer.callback_metrics["val/spearman"] == whole.callback_metrics["val/spearman"]
    assert trainer.callback_metrics["val/loss"] == whole.callback_metrics["val/loss"]


# Other points leave the checkpoint of one of these: the last one that was whole.
@pytest.mark.full
@pytest.mark.parametrize(("point", "epoch"), [("mid-epoch", SWITCH), ("epoch end", 1), ("checkpoint", 3)])
def test_a_killed_run_ends_as_if_it_had_not_been_killed(tiny_demo, tmp_path, uninterrupted, point, epoch):
    assert killed_by(fit, tiny_demo, tmp_path, Die(point, epoch)) == signal.SIGKILL
    assert read_checkpoint(tmp_path / "last.ckpt")["epoch"] == epoch - 1
    assert_same_end(fit(tiny_demo, tmp_path, resume=tmp_path / "last.ckpt"), uninterrupted)
    assert [path.name for path in tmp_path.glob("*.ckpt*")] == ["last.ckpt"]


@pytest.mark.parametrize(("number", "epoch"), [(signal.SIGINT, 0), (signal.SIGUSR1, SWITCH)])
def test_a_signal_saves_within_the_epoch_and_no_batch_is_done_twice(
    tiny_demo, tmp_path, tmp_path_factory, uninterrupted, monkeypatch, number, epoch
):
    queue = tmp_path_factory.mktemp("queue")
    (queue / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {queue}/calls\n')
    (queue / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{queue}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    before, after = CountSteps(), CountSteps()
    with pytest.raises(SystemExit):
        fit(tiny_demo, tmp_path, before, Send(number, epoch, 1))
    if number != signal.SIGUSR1:  # which a SLURM job hears to its end
        assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    calls = (queue / "calls").read_text() if (queue / "calls").exists() else ""
    assert calls == ("requeue 42\n" if number == signal.SIGUSR1 else "")
    checkpoint = read_checkpoint(tmp_path / "last.ckpt")
    split = make_datamodule(tiny_demo).split
    assert checkpoint["VideoDataModule"] == {"batches_done": 2, "split": split.to_plain()}
    ended = fit(tiny_demo, tmp_path, after, resume=tmp_path / "last.ckpt")
    assert before.steps == epoch * 5 + 2 and before.steps + after.steps == EPOCHS * 5
    assert_same_end(ended, uninterrupted)


def test_a_signal_in_the_last_batch_stops_after_validation(tiny_demo, tmp_path, uninterrupted):
    with pytest.raises(SystemExit):
        fit(tiny_demo, tmp_path, Send(signal.SIGTERM, 1, 4))
    assert read_checkpoint(tmp_path / "last.ckpt")["epoch"] == 1
    assert_same_end(fit(tiny_demo, tmp_path, resume=tmp_path / "last.ckpt"), uninterrupted)


def test_workers_that_load_ahead_know_the_epoch_that_goes_on(tiny_demo, tmp_path):
    """Without a cache, where workers begin before Lightning sets the epoch."""

    class Seen(Callback):
        def __init__(self):
            self.numbers = []

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.numbers.append((trainer.current_epoch, *batch.numbers.tolist()))

    def order(directory, *extra, resume=None):
        torch.manual_seed(0)
        seen = Seen()
        stop = SaveOnSignal(str(tmp_path / "last.ckpt"))
        trainer = make_trainer(directory, 2, [TwoStage(None), seen, *extra, stop], limit_val_batches=0)
        data = make_datamodule(tiny_demo, workers=1)
        try:
            trainer.fit(make_module(), data, ckpt_path=resume, weights_only=True)
        except SystemExit:
            assert extra
        return seen.numbers

    whole = order(tmp_path)
    first = order(tmp_path, Send(signal.SIGTERM, 1, 1))
    assert first + order(tmp_path, resume=tmp_path / "last.ckpt") == whole


def test_a_second_ctrl_c_stops_at_once(tiny_demo, tmp_path):
    class Impatient(Send):
        def on_before_backward(self, trainer, pl_module, loss):
            super().on_before_backward(trainer, pl_module, loss)
            super().on_before_backward(trainer, pl_module, loss)

    with pytest.raises(SystemExit):
        fit(tiny_demo, tmp_path, Impatient(signal.SIGINT, 0, 1))
    assert not (tmp_path / "last.ckpt").exists()


def test_a_failed_write_leaves_the_checkpoint_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def full(checkpoint, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_goes_on_with_its_own_split(tmp_path, caplog):
    path, names = tmp_path / "last.ckpt", [f"clip{number}" for number in range(18)]

    def resumed(count):
        data = FeatureDataModule(str(write_summe(tmp_path / "a.h5", names[:count])), width=WIDTH)
        if not path.exists():
            state = {"batches_done": 0, "split": data.split.to_plain()}
            torch.save({"state_dict": {}, "FeatureDataModule": state}, path)
        resume_split(data, path)
        return data

    before = resumed(10)
    assert not caplog.text
    after = resumed(18)
    assert after.split == before.split and "Videos in no part of the split of" in caplog.text
    with pytest.raises(
        KeyframeError, match=r"last\.ckpt cannot be resumed: 2 of the 10 videos .* \(clip\d, clip\d\): put"
    ):
        resumed(8)
    caplog.clear()
    torch.save({"state_dict": {}}, path)
    assert resumed(18).split != before.split
    assert "last.ckpt is from an older version and does not record which videos it was trained on" in caplog.text


def full_at(module, videos):
    """Make a module fail as a GPU without memory does, from a batch of so many videos on."""
    step, seen = module.training_step, []

    def training_step(batch, batch_idx):
        seen.append(len(batch.videos))
        if len(batch.videos) >= videos:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step(batch, batch_idx)

    module.training_step = training_step
    return seen


def make_scorer():
    """A head alone."""
    head = partial(TemporalHead, projection=(32, 32), layers=1, heads=4, local_heads=2, feedforward=32)
    return KeyframeModule(KeyframeDetector(NoBackbone(WIDTH), head), SpearmanLoss(), torch.optim.AdamW)


@pytest.fixture(scope="module")
def datamodule(tmp_path_factory):
    """10 training videos, as features."""
    path = write_tvsum(tmp_path_factory.mktemp("features") / "features.h5", 15)
    return FeatureDataModule(path=str(path), width=WIDTH, batch_size=2)


@pytest.fixture
def no_collecting(monkeypatch):
    """Lightning collects garbage after every trial, most of a second each."""
    monkeypatch.setattr("pytorch_lightning.tuner.batch_size_scaling.garbage_collection_cuda", lambda: None)


def test_the_largest_batch_that_fits(datamodule, tmp_path, no_collecting):
    for room, largest, size, tried in (
        (5, None, 4, 8),  # memory ends
        (100, None, 10, 10),  # all videos fit
        (100, 3, 3, 4),  # a limit between powers of two
    ):
        module = make_scorer()
        seen = full_at(module, room)
        trainer = make_trainer(tmp_path, 1)
        assert find_batch_size(trainer, module, datamodule, largest) == size
        assert max(seen) == tried
        assert datamodule.batch_size == 2  # as it was
        assert not list(tmp_path.iterdir())


def test_what_has_no_batch_size_is_refused(datamodule, tmp_path, no_collecting):
    module = make_scorer()
    full_at(module, 1)
    with pytest.raises(KeyframeError, match=r"no video fits in memory: lower data\.size"):
        find_batch_size(make_trainer(tmp_path, 1), module, datamodule)
    assert datamodule.batch_size == 2
    with pytest.raises(KeyframeError, match=r"tune\.max_batch_size=0 must be a whole number from 1 on, or null"):
        find_batch_size(make_trainer(tmp_path, 1), module, datamodule, 0)
    trainer = make_trainer(tmp_path, 1, strategy="ddp", devices=2)
    with pytest.raises(KeyframeError, match=r"trainer=auto, then set data\.batch_size"):
        find_batch_size(trainer, make_scorer(), datamodule)


def test_what_is_tried_is_stage_2(tiny_demo, tmp_path, no_collecting):
    module = make_module()
    seen = []
    tail = module.detector.backbone.tail_parameters()
    module.on_after_backward = lambda: seen.append([parameter.grad is not None for parameter in tail])
    find_batch_size(make_trainer(tmp_path, 1), module, make_datamodule(tiny_demo), 1)
    assert seen and all(map(all, seen))
