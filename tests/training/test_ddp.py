"""Two gloo processes on the CPU, across the switch from stage 1 to stage 2."""

import json

import pytest
import torch
from pytorch_lightning import Callback

from keyframe.data import feature_file
from keyframe.data.datamodule import FeatureDataModule
from keyframe.data.dataset import collate
from keyframe.training.losses import Distillation, SpearmanLoss
from tests.commands import cold
from tests.conftest import made_once
from tests.data.feature_files import WIDTH, write_tvsum
from tests.training.tiny import make_datamodule, make_module, make_teacher

pytestmark = pytest.mark.full

SWITCH, DEATH = 1, 2
DATA = {"val_fraction": 0.25, "batch_size": 1}

PROGRAM = """
import json, os, signal, sys, torch
from pathlib import Path
from pytorch_lightning import Callback
from pytorch_lightning.strategies import DDPStrategy
from keyframe.cli.errors import sentence_of
from keyframe.data.cache import VideoCache
from keyframe.data.decord_reader import DecordReader
from keyframe.training.losses import Distillation, SpearmanLoss
from keyframe.training.callbacks import TwoStage
from keyframe.training.losses import TeacherTargets
from keyframe.types import VideoError
from tests.training.test_ddp import DATA, DEATH, SWITCH, NoteBatches, make_features
from tests.training.tiny import make_datamodule, make_module, make_teacher, make_trainer

torch.set_num_threads(1)
root = Path(sys.argv[1])
decoded, damaged, targets = [], [], {}
read = DecordReader.read

def noted(self, path, *arguments, **options):
    decoded.append(path.stem)
    if path.stem in damaged:
        raise VideoError(f"{path} is damaged.")
    return read(self, path, *arguments, **options)

DecordReader.read = noted

class Save(Callback):
    def __init__(self, out, data, dies):
        self.out, self.data, self.dies = out, data, dies

    def save(self, trainer, name, state):
        torch.save(state, self.out / f"{name}-rank{trainer.global_rank}.pt")

    def on_train_start(self, trainer, pl_module):
        data = self.data
        state = {"decoded": decoded, "skipped": sorted(data.skipped), "in_memory": len(data.cache.in_memory)}
        (self.out / f"videos-rank{trainer.global_rank}.json").write_text(json.dumps(state))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.dies and trainer.current_epoch == DEATH and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        self.batch = batch
        if batch.teacher_target is not None:
            targets.update(zip(batch.videos, batch.teacher_target))

    def on_after_backward(self, trainer, pl_module):
        if trainer.fit_loop.epoch_loop.batch_idx == 0:
            gradients = {name: p.grad for name, p in pl_module.named_parameters() if p.grad is not None}
            state = {"weights": pl_module.state_dict(), "gradients": gradients, "numbers": self.batch.numbers}
            self.save(trainer, f"gradients{trainer.current_epoch}", state)

    def on_train_epoch_end(self, trainer, pl_module):
        state = {"weights": pl_module.state_dict(), "count": len(trainer.train_dataloader.sampler)}
        self.save(trainer, f"epoch{trainer.current_epoch}", state)
        self.save(trainer, "targets", targets)

    def on_validation_epoch_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.save(trainer, "measured", sorted(pl_module.table))

def train(case):
    out = Path(sys.argv[2]) / case
    decoded.clear()
    torch.manual_seed(0)
    module = make_module(lr=1e-2, dropout=0.0)
    data = make_datamodule(root, **DATA, cache=VideoCache(str(out / "cache") if case == "late" else None))
    extra = []
    if case == "late":  # the known fault: parameters that are released after DDP has wrapped the model
        module.detector.backbone.train_tail(False)
    else:
        module.distillation = Distillation(0.5, SpearmanLoss())
        detector = make_teacher()
        detector.load_state_dict(torch.load(out / "teacher.ckpt", weights_only=True))
        extra = [TeacherTargets(detector, "a" * 64)]
        damaged.append(data.split_videos("train")[0].id)
    strategy = DDPStrategy(find_unused_parameters=True, process_group_backend="gloo")
    epochs = DEATH if case == "late" else DEATH + 1
    callbacks = [TwoStage(SWITCH, lr_factor=1.0), *extra, Save(out, data, case == "early")]
    make_trainer(out, epochs, callbacks, devices=2, strategy=strategy).fit(module, data)

def train_on_features(out):
    for name, start in (("once", None), ("resumed", out / "midway.ckpt")):
        torch.manual_seed(0)
        note = NoteBatches(None if start else out / "midway.ckpt")
        strategy = DDPStrategy(process_group_backend="gloo")
        trainer = make_trainer(out, DEATH + 1, [note], devices=2, strategy=strategy)
        module = make_module("features", lr=1e-2)
        trainer.fit(module, make_features(out), ckpt_path=start, weights_only=True)
        torch.save(module.state_dict() | {"seen": note.seen}, out / f"{name}-rank{trainer.global_rank}.pt")

if __name__ == "__main__":
    train("late")
    os.environ |= {"LOCAL_RANK": os.environ.get("LOCAL_RANK", "0")}  # both ranks are there already
    train_on_features(Path(sys.argv[2]) / "features")
    try:
        train("early")
    except RuntimeError as error:
        sys.exit(sentence_of(error) or repr(error))
"""


class NoteBatches(Callback):
    """Notes which videos this rank sees, and may save a checkpoint within an epoch as an interrupted training does."""

    def __init__(self, path):
        self.path, self.seen = path, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append((trainer.current_epoch, batch_idx, batch.videos))
        if (trainer.current_epoch, batch_idx) == (1, 1) and self.path is not None:
            trainer.save_checkpoint(self.path)


def make_features(out):
    """Features that are read from their file for each batch: two batches of two videos and one of one for each rank."""
    feature_file._MOST_HELD = 1000
    return FeatureDataModule(str(out / "features.h5"), width=WIDTH, batch_size=2)


@pytest.fixture(scope="module")
def teacher():
    return make_teacher().eval()


@pytest.fixture(scope="module")
def both(tiny_demo, teacher, tmp_path_factory):
    """Where two ranks have left their states: of a training with a known fault, of one on features and of that one
    resumed, and of one of which the second rank is killed in epoch DEATH."""

    def train(out):
        for case in ("late", "features", "early"):
            (out / case).mkdir()
        write_tvsum(out / "features" / "features.h5", 15)
        torch.save(teacher.state_dict(), out / "early" / "teacher.ckpt")
        (out / "program.py").write_text(PROGRAM)
        # killed after this time, if it hangs or waits for gloo's half hour
        done = cold([str(out / "program.py"), str(tiny_demo), str(out)], out)
        assert done.status == 1, done.err[-3000:]
        assert "another process of this training has ended" in done.err and "ckpt_path=last" in done.err

    return made_once(tmp_path_factory, "ddp", train)


@pytest.fixture(scope="module")
def trained(both):
    return both / "early"


def load(out, name):
    return [torch.load(out / f"{name}-rank{rank}.pt", weights_only=True) for rank in (0, 1)]


def weights_agree(out, epoch):
    one, two = load(out, f"epoch{epoch}")
    assert one["count"] == two["count"]
    return all(torch.equal(value, two["weights"][name]) for name, value in one["weights"].items())


def videos(out):
    return [json.loads((out / f"videos-rank{rank}.json").read_text()) for rank in (0, 1)]


def test_ranks_hold_the_same_weights_in_both_stages_and_count_each_video_once(trained):
    assert [weights_agree(trained, epoch) for epoch in range(DEATH)] == [True, True]
    assert load(trained, "measured") == [[0, 1, 2], [0, 1, 2]]
    # the first rank decodes each video once, a damaged one too, and those of train and val again for the teacher; it
    # sends the entries that are kept in memory: features, maps and targets of train and val, maps of the test
    first, second = videos(trained)
    assert len(set(first["decoded"])) == 15 and len(first["decoded"]) == 15 + 11 and not second["decoded"]
    assert first["skipped"] == second["skipped"] and len(first["skipped"]) == 1
    assert first["in_memory"] == second["in_memory"] == 3 * 11 + 3


def datasets(tiny_demo):
    datamodule = make_datamodule(tiny_demo, **DATA)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule.datasets


def test_both_ranks_have_the_teachers_targets(trained, teacher, tiny_demo):
    dataset = datasets(tiny_demo)["train"]
    numbers = {video.id: number for number, video in enumerate(dataset.videos)}
    for targets in load(trained, "targets"):
        assert len(targets) >= 4
        for video, target in targets.items():
            with torch.no_grad():
                scores = teacher(dataset.decode(numbers[video]).inputs[None])[0]
            torch.testing.assert_close(target[:, 0], scores)


@pytest.mark.parametrize("epoch", [0, SWITCH], ids=["stage 1", "stage 2"])
def test_gradients_are_those_of_one_process_on_the_joint_batch(trained, teacher, tiny_demo, epoch):
    one, two = load(trained, f"gradients{epoch}")
    numbers = [*one["numbers"].tolist(), *two["numbers"].tolist()]
    assert len(set(numbers)) == 2
    module = make_module(dropout=0.0)
    module.load_state_dict(one["weights"])
    module.detector.backbone.train_tail(epoch == SWITCH)
    # the damaged video, which is left out above, was the first
    dataset = datasets(tiny_demo)["train"]
    batch = collate([dataset[epoch, number + 1] for number in numbers])
    with torch.no_grad():
        target = teacher(batch.inputs, batch.mask)[..., None]
    scores = module.detector.enter(batch.kind, batch.inputs, batch.mask)
    labels = module.loss(scores, batch.importance, batch.mask)
    Distillation(0.5, SpearmanLoss())(labels, scores, None, target, batch.mask).backward()
    expected = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    assert any("backbone" in name for name in expected) == (epoch == SWITCH)
    # Lightning clips after this; DDP may leave zeros where stage 1 has no gradient
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        assert torch.equal(one["gradients"][name], two["gradients"][name])
        torch.testing.assert_close(one["gradients"][name], gradient, rtol=1e-3, atol=1e-5 * largest, msg=name)


def test_features_from_the_disk_come_once_to_one_rank_and_a_resumed_epoch_goes_on_to_the_bit(both):
    once, resumed = load(both / "features", "once"), load(both / "features", "resumed")
    for epoch in range(DEATH + 1):
        seen = [video for rank in once for number, _, ids in rank["seen"] if number == epoch for video in ids]
        assert len(seen) == len(set(seen)) == 10
    for rank, again in zip(once, resumed, strict=True):
        assert again.pop("seen") == [entry for entry in rank.pop("seen") if entry[:2] > (1, 1)]
        assert all(torch.equal(value, again[name]) for name, value in rank.items())
        assert all(torch.equal(value, once[0][name]) for name, value in rank.items())


def test_the_check_sees_parameters_that_were_released_too_late(both):
    late = both / "late"
    assert [weights_agree(late, epoch) for epoch in range(DEATH)] == [True, False]
    # the other rank finds the entries on the disk
    first, second = videos(late)
    assert len(first["decoded"]) == len(set(first["decoded"])) == 15 and not second["decoded"]
    assert first["in_memory"] == second["in_memory"] == 0
