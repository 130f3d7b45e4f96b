"""A teacher's scores are those of the frames its student sees, are computed once, and change nothing but the loss."""

import copy
import logging
import os
import signal

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from scipy.stats import spearmanr

from keyframe.data.cache import VideoCache
from keyframe.data.dataset import Augmentation, collate
from keyframe.training.losses import Distillation, SpearmanLoss
from keyframe.training.stages import TwoStage
from keyframe.training.teacher import TeacherTargets
from tests.training.test_resume import Die
from tests.training.tiny import make_datamodule, make_module, make_teacher, make_trainer

TRAIN, VAL = 10, 2


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A detector, and its checkpoint."""
    detector = make_teacher()
    path = tmp_path_factory.mktemp("teacher") / "best.ckpt"
    torch.save(detector.state_dict(), path)
    return detector, path


def fit(root, directory, teacher, *callbacks, epochs=2, switch=1, weight=0.5, hint_weight=0.0, resume=None, **options):
    torch.manual_seed(0)
    module = make_module("efficientnet_b0", lr=3e-3)
    module.distillation = Distillation(weight, SpearmanLoss(), hint_weight)
    data = make_datamodule(root, **options)
    extra = {"enable_checkpointing": True} if callbacks else {}
    trainer = make_trainer(directory, epochs, [TwoStage(switch), *callbacks, TeacherTargets(*teacher)], **extra)
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return module, data, trainer


def seen_by(teacher, pictures):
    """Scores of pictures (T, 3, H, W)."""
    with torch.no_grad():
        return teacher(pictures[None])[0]


@pytest.fixture(scope="module")
def student(tiny_demo, teacher, tmp_path_factory):
    """A student of three epochs, the last two in stage 2, and where it left its checkpoint and its cache."""
    place = tmp_path_factory.mktemp("student")
    return *fit_into(place, "whole", tiny_demo, teacher), place


def fit_into(place, name, root, teacher, *extra, **options):
    last = ModelCheckpoint(place / name, filename="last", enable_version_counter=False)
    options |= {"epochs": 3, "hint_weight": 1.0, "cache": VideoCache(str(place / "cache"))}
    return fit(root, place / name, teacher, last, *extra, **options)


@pytest.mark.parametrize(
    ("cache", "augmentation"),
    [
        (VideoCache(views=2), Augmentation(jitter=0.3, drop=0.3, colour=0.2, flip=0.5)),
        (None, Augmentation(drop=0.3)),
    ],
    ids=["augmented views", "cache off"],
)
def test_a_lesson_is_of_the_pictures_that_the_student_sees(tiny_demo, tmp_path, teacher, cache, augmentation):
    epochs = 1 if cache is None else cache.views
    _, data, _ = fit(tiny_demo, tmp_path, teacher, cache=cache, augmentation=augmentation, epochs=epochs, switch=None)
    detector, train, val = teacher[0], data.datasets["train"], data.datasets["val"]
    pictures = copy.copy(train)
    pictures.schedule = None  # decodes
    firsts = []
    for epoch in (0, 1, 2):
        sample = train[epoch, 0]
        view = epoch % 2 if augmentation.changes_pixels else None
        torch.testing.assert_close(sample.teacher_target[:, 0], seen_by(detector, pictures.decode(0, view).inputs))
        assert not sample.visible.all()
        firsts.append(sample.teacher_target)
    assert torch.equal(firsts[0], firsts[2])
    assert torch.equal(firsts[0], firsts[1]) != augmentation.changes_pixels
    torch.testing.assert_close(val[0, 1].teacher_target[:, 0], seen_by(detector, val.decode(1).inputs))
    # and stays beside its frames in a batch
    batch = collate([train[0, 2], train[0, 0]])
    assert torch.equal(batch.teacher_target[1], firsts[0]) and batch.teacher_target.shape == (2, 12, 33)


def test_a_student_of_the_teacher_alone_learns_its_order(tiny_demo, tmp_path, teacher):
    module, data, trainer = fit(tiny_demo, tmp_path, teacher, epochs=16, switch=None, weight=1.0)

    @torch.no_grad()
    def agreement(module, split, videos):
        module.eval()
        batch = collate([data.datasets[split][0, number] for number in range(videos)])
        scores = module.detector.enter(batch.kind, batch.inputs, batch.mask)
        return np.mean([spearmanr(s, t[:, 0]).statistic for s, t in zip(scores, batch.teacher_target, strict=True)])

    before = make_module("efficientnet_b0")
    before.detector.standardizer = module.detector.standardizer
    assert abs(agreement(before, "train", TRAIN)) < 0.4
    assert agreement(module, "train", TRAIN) > 0.85
    assert float(trainer.callback_metrics["val/teacher_spearman"]) == pytest.approx(
        agreement(module, "val", VAL), abs=1e-5
    )


def test_the_teacher_stays_as_it_is_and_out_of_checkpoint_and_optimizer(teacher, student):
    detector, path = teacher
    _, _, trainer, place = student
    before = torch.load(path, weights_only=True)
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    assert not detector.training and all(p.grad is None and not p.requires_grad for p in detector.parameters())
    alone = make_module("efficientnet_b0")
    content = torch.load(place / "whole" / "last.ckpt", weights_only=True)
    assert content["state_dict"].keys() == alone.state_dict().keys()
    assert "TeacherTargets" not in content["callbacks"]
    theirs = {id(p) for p in detector.parameters()}
    optimized = [p for group in trainer.optimizers[0].param_groups for p in group["params"]]
    assert optimized and not theirs & {id(p) for p in optimized}
    # the control: a teacher among the student's modules would be seen
    alone.teacher = detector
    assert content["state_dict"].keys() != alone.state_dict().keys()


def test_lessons_are_found_again_and_another_teacher_gives_others(tiny_demo, tmp_path, teacher, student, caplog):
    caplog.set_level(logging.INFO, "keyframe")
    _, data, _, place = student
    lesson = data.datasets["train"][0, 0].teacher_target

    def found(*teacher):
        caplog.clear()
        cache = VideoCache(str(place / "cache"))
        _, data, _ = fit(tiny_demo, tmp_path, teacher, epochs=1, switch=None, weight=0.9, cache=cache)
        (line,) = [record.message for record in caplog.records if record.message.startswith("Teacher")]
        return line, data.datasets["train"][0, 0].teacher_target

    total = TRAIN + VAL
    line, same = found(*teacher)
    assert line.startswith(f"Teacher: {total} of {total} videos found, nothing to decode")
    assert torch.equal(lesson, same)
    other = copy.deepcopy(teacher[0])
    with torch.no_grad():
        other.head.scorer[-1].bias += 0.1
    torch.save(other.state_dict(), tmp_path / "other.ckpt")
    line, different = found(other, tmp_path / "other.ckpt")
    assert line.startswith(f"Teacher: 0 of {total} videos found, {total} decoded and scored in")
    assert not torch.equal(lesson, different)


def test_a_killed_student_ends_as_if_it_had_not_been_killed(tiny_demo, teacher, student):
    whole, _, reference, place = student
    child = os.fork()
    if not child:
        try:
            fit_into(place, "killed", tiny_demo, teacher, Die("mid-epoch", 2))
        finally:
            os._exit(0)  # not reached by what is killed
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    ended, _, trainer = fit_into(place, "killed", tiny_demo, teacher, resume=place / "killed" / "last.ckpt")
    for (name, ours), theirs in zip(ended.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    for name in ("val/spearman", "val/teacher_spearman"):
        assert trainer.callback_metrics[name] == reference.callback_metrics[name]
