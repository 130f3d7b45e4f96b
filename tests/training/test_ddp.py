"""Two gloo processes on the CPU, across the switch from stage 1 to stage 2."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch

from keyframe.data.dataset import collate
from tests.training.tiny import make_datamodule, make_module, make_teacher

pytestmark = pytest.mark.full

SWITCH = 2
DATA = {"val_fraction": 0.25, "batch_size": 1}

PROGRAM = """
import json, os, signal, sys, torch
from pathlib import Path
from pytorch_lightning import Callback
from pytorch_lightning.strategies import DDPStrategy
from keyframe.cli.app import sentence_of
from keyframe.data.cache import VideoCache
from keyframe.data.decord_reader import DecordReader
from keyframe.types import VideoError
from keyframe.training.losses import Distillation
from keyframe.training.teacher import TeacherTargets
from keyframe.training.losses import SpearmanLoss
from keyframe.training.stages import TwoStage
from tests.training.test_ddp import DATA, SWITCH
from tests.training.tiny import make_datamodule, make_module, make_teacher, make_trainer

if __name__ == "__main__":
    torch.set_num_threads(1)
    root, out, case = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

    decoded, damaged, lessons = [], [], {}
    read = DecordReader.read

    def noted(self, path, *arguments, **options):
        decoded.append(path.stem)
        if path.stem in damaged:
            raise VideoError(f"{path} is damaged.")
        return read(self, path, *arguments, **options)

    DecordReader.read = noted

    class Save(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.numbers = batch.numbers
            if batch.teacher_target is not None:
                lessons.update(zip(batch.videos, batch.teacher_target))
            self.first_of_stage = batch_idx == 0 and trainer.current_epoch in (0, SWITCH)
            if case == "death" and trainer.current_epoch == 1:
                torch.save(lessons, out / f"lessons-rank{trainer.global_rank}.pt")
            if case == "death" and trainer.global_rank == 1 and trainer.current_epoch == 1:
                os.kill(os.getpid(), signal.SIGKILL)

        def on_after_backward(self, trainer, pl_module):
            if self.first_of_stage:
                gradients = {name: p.grad for name, p in pl_module.named_parameters() if p.grad is not None}
                state = {"weights": pl_module.state_dict(), "gradients": gradients, "numbers": self.numbers}
                torch.save(state, out / f"gradients{trainer.current_epoch}-rank{trainer.global_rank}.pt")

        def on_train_epoch_end(self, trainer, pl_module):
            state = {"weights": pl_module.state_dict(), "count": len(trainer.train_dataloader.sampler)}
            torch.save(state, out / f"epoch{trainer.current_epoch}-rank{trainer.global_rank}.pt")

        def on_fit_end(self, trainer, pl_module):
            told = {"decoded": decoded, "skipped": sorted(data.skipped), "in_memory": len(data.cache.in_memory)}
            (out / f"videos-rank{trainer.global_rank}.json").write_text(json.dumps(told))

        def on_validation_epoch_end(self, trainer, pl_module):
            if not trainer.sanity_checking:
                torch.save(sorted(pl_module.table), out / f"videos-rank{trainer.global_rank}.pt")

    torch.manual_seed(0)
    module = make_module("efficientnet_b0", lr=1e-2, dropout=0.0)
    if case == "late":  # the known fault: parameters that are released after DDP has wrapped the model
        module.detector.backbone.train_tail(False)
    extra = []
    if case == "death":
        module.distillation = Distillation(0.5, SpearmanLoss())
        teacher = out / "teacher.ckpt"
        detector = make_teacher()
        detector.load_state_dict(torch.load(teacher, weights_only=True))
        extra = [TeacherTargets(detector, teacher)]
    strategy = DDPStrategy(find_unused_parameters=True, process_group_backend="gloo")
    trainer = make_trainer(out, 4, [TwoStage(SWITCH, lr_factor=1.0), Save(), *extra], devices=2, strategy=strategy)
    cache = VideoCache(str(out / "cache") if case == "early" else None)
    data = make_datamodule(root, **DATA, cache=cache)
    damaged.append(data.split_videos("train")[0].id)
    try:
        trainer.fit(module, data)
    except RuntimeError as error:
        sys.exit(sentence_of(error) or repr(error))
"""


def train(tiny_demo, out, case):
    program = out / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(program), str(tiny_demo), str(out), case],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.fixture(scope="module")
def trained(tiny_demo, tmp_path_factory):
    out = tmp_path_factory.mktemp("ddp")
    done = train(tiny_demo, out, "early")
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def load(out, name):
    return [torch.load(out / f"{name}-rank{rank}.pt", weights_only=True) for rank in (0, 1)]


def tails_agree(out, epoch):
    one, two = load(out, f"epoch{epoch}")
    assert one["count"] == two["count"]
    return all(torch.equal(value, two["weights"][name]) for name, value in one["weights"].items())


def told(out):
    return [json.loads((out / f"videos-rank{rank}.json").read_text()) for rank in (0, 1)]


def test_ranks_hold_the_same_weights_in_both_stages_and_count_each_video_once(trained):
    assert [tails_agree(trained, epoch) for epoch in range(4)] == [True] * 4
    seen = load(trained, "videos")
    assert seen[0] == seen[1] == [0, 1, 2]
    # the first rank decodes each video once, a damaged one among them; the other finds all the rest on the disk
    first, second = told(trained)
    assert len(first["decoded"]) == len(set(first["decoded"])) == 15 and not second["decoded"]
    assert first["skipped"] == second["skipped"] and len(first["skipped"]) == 1
    assert first["in_memory"] == second["in_memory"] == 0


@pytest.mark.parametrize("epoch", [0, SWITCH], ids=["stage 1", "stage 2"])
def test_gradients_are_those_of_one_process_on_the_joint_batch(trained, tiny_demo, epoch):
    one, two = load(trained, f"gradients{epoch}")
    datamodule = make_datamodule(tiny_demo, **DATA)
    datamodule.prepare_data()
    datamodule.setup()
    numbers = [*one["numbers"].tolist(), *two["numbers"].tolist()]
    assert len(set(numbers)) == 2
    module = make_module("efficientnet_b0", dropout=0.0)
    module.load_state_dict(one["weights"])
    module.detector.backbone.train_tail(epoch == SWITCH)
    # the damaged video, which is left out above, was the first
    batch = collate([datamodule.datasets["train"][epoch, number + 1] for number in numbers])
    scores = module.detector.enter(batch.kind, batch.inputs, batch.mask)
    module.loss(scores, batch.importance, batch.mask).backward()
    expected = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    assert any("backbone" in name for name in expected) == (epoch == SWITCH)
    # Lightning clips after this; DDP may leave zeros where stage 1 has no gradient
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        assert torch.equal(one["gradients"][name], two["gradients"][name])
        torch.testing.assert_close(one["gradients"][name], gradient, rtol=1e-3, atol=1e-5 * largest, msg=name)


def test_the_check_sees_parameters_that_were_released_too_late(tiny_demo, tmp_path):
    assert train(tiny_demo, tmp_path, "late").returncode == 0
    assert [tails_agree(tmp_path, epoch) for epoch in range(4)] == [True, True, False, False]
    # where entries are kept in memory, the first rank sends them: features and maps of those trained and validated on,
    # maps of the test's
    first, second = told(tmp_path)
    assert len(first["decoded"]) == 15 and not second["decoded"]
    assert first["in_memory"] == second["in_memory"] == 2 * 11 + 3


def test_a_rank_that_dies_ends_the_other_with_a_sentence_and_both_had_the_teachers_lessons(tiny_demo, tmp_path):
    teacher = make_teacher().eval()
    torch.save(teacher.state_dict(), tmp_path / "teacher.ckpt")
    started = time.monotonic()
    done = train(tiny_demo, tmp_path, "death")
    assert done.returncode == 1
    assert "another process of this training has ended" in done.stderr and "ckpt=last" in done.stderr
    assert time.monotonic() - started < 150  # it neither hangs nor waits for gloo's half hour
    # the first rank made them, and sent them: no disk was shared
    data = make_datamodule(tiny_demo, **DATA)
    data.setup()
    dataset = data.datasets["train"]
    numbers = {video.id: number for number, video in enumerate(dataset.videos)}
    for lessons in load(tmp_path, "lessons"):
        assert len(lessons) >= 4
        for video, lesson in lessons.items():
            with torch.no_grad():
                scores = teacher(dataset.decode(numbers[video]).inputs[None])[0]
            torch.testing.assert_close(lesson[:, 0], scores)
