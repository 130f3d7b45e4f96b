"""Which teachers are refused; and targets are of the student's frames, computed once, and change the loss alone."""

import copy
import logging
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from scipy.stats import spearmanr

from keyframe.data.cache import VideoCache
from keyframe.data.datamodule import FeatureDataModule
from keyframe.data.dataset import Augmentation, collate
from keyframe.data.folder import DirectorySource
from keyframe.data.sampling import FpsSampling
from keyframe.data.splits import Split
from keyframe.training.callbacks import TwoStage
from keyframe.training.losses import Distillation, SpearmanLoss, TeacherTargets, check_teacher
from keyframe.types import KeyframeError
from tests.training.test_run import Die
from tests.training.tiny import killed_by, make_datamodule, make_module, make_teacher, make_trainer

TRAIN, VAL = 10, 2


def refused(theirs, data, *words):
    with pytest.raises(KeyframeError) as error:
        check_teacher("TEACHER", theirs, data)
    missing = [word for word in words if word not in str(error.value)]
    assert not missing, f"{missing} not in: {error.value}"


@pytest.fixture
def theirs(tiny_demo):
    """The data of a teacher."""
    return make_datamodule(tiny_demo)


def test_a_teacher_of_the_same_data_and_sampling_is_accepted(theirs, tiny_demo):
    check_teacher("TEACHER", theirs, make_datamodule(tiny_demo, seed=5, batch_size=4))
    check_teacher("TEACHER", theirs, make_datamodule(tiny_demo, cache=None, augmentation=Augmentation(drop=0.2)))


def test_a_teacher_that_cannot_score_the_students_frames_is_refused(theirs, tiny_demo):
    features = FeatureDataModule("features.h5")
    refused(theirs, features, "data=h5", "experiment=distill")
    refused(features, make_datamodule(tiny_demo), "teacher=TEACHER", "features")
    augmented = make_datamodule(tiny_demo, cache=None, augmentation=Augmentation(jitter=0.2))
    refused(theirs, augmented, "cache=off", "cache=disk")
    other_size = make_datamodule(tiny_demo, size=48)
    refused(theirs, other_size, "teacher=TEACHER", "data.size: (32, 32), here (48, 48)")
    other = make_datamodule(tiny_demo)
    other.sampling = FpsSampling(2.0)
    refused(theirs, other, "sampling: UniformSampling(frames=12), here FpsSampling(rate=2.0)")


def test_a_teacher_trained_on_the_students_held_out_videos_is_refused(theirs, tiny_demo):
    other = make_datamodule(tiny_demo, fold=1)
    trained = {video.id for video in theirs.split_videos("train")}
    leaked = [video.id for video in other.split_videos("val") if video.id in trained]
    assert leaked
    refused(theirs, other, f"{len(leaked)} of the val videos", leaked[0], "data.fold")
    # checkpoints are chosen by validation videos: those may not be tested on, even if none was trained on
    swapped = make_datamodule(tiny_demo)
    swapped.kept_split = Split(train=theirs.split.train, val=theirs.split.test, test=theirs.split.val)
    refused(theirs, swapped, "2 of the test videos")


def test_neither_another_name_nor_another_folder_hides_a_video(theirs, tiny_demo, tmp_path):
    class Renamed:
        def prepare(self):
            pass

        def videos(self):
            copies = []
            for number, video in enumerate(reversed(theirs.source.videos())):
                path = Path(shutil.copy(video.path, tmp_path / f"mine-{number}.mp4"))
                copies.append(replace(video, id=path.stem, path=path))
            return copies

    renamed = make_datamodule(tiny_demo)
    renamed.source = Renamed()
    refused(theirs, renamed, "of the val videos", "mine-")


def test_a_teacher_of_unknown_videos_is_refused(theirs, tiny_demo):
    class Gone:
        def prepare(self):
            pass

        def videos(self):
            raise KeyframeError("data.root=/gone is not a directory.")

    theirs.source = Gone()
    refused(theirs, make_datamodule(tiny_demo), "teacher=TEACHER", "/gone")


def test_a_teacher_is_known_by_the_split_that_it_has_stored(theirs, tiny_demo, tmp_path, caplog):
    # trained on another fold than its configuration would give today
    theirs.kept_split = make_datamodule(tiny_demo, fold=1).split
    refused(theirs, make_datamodule(tiny_demo), "was trained on", "videos of this run")
    check_teacher("TEACHER", theirs, make_datamodule(tiny_demo, fold=1))
    assert not caplog.text
    # its videos are gone, its ids are not
    gone = make_datamodule(tiny_demo)
    gone.kept_split, gone.source = theirs.split, DirectorySource(str(tmp_path / "gone"))
    refused(gone, make_datamodule(tiny_demo), "was trained on", "videos of this run")
    check_teacher("TEACHER", gone, make_datamodule(tiny_demo, fold=1))
    assert "compared by their ids alone" in caplog.text


def test_a_teacher_without_a_stored_split_is_warned_of(theirs, tiny_demo, caplog):
    check_teacher("TEACHER", theirs, make_datamodule(tiny_demo))
    assert "teacher=TEACHER is from an older version and does not record which videos it was trained on" in caplog.text


@pytest.fixture(scope="module")
def teacher():
    """A detector, and the hash of its checkpoint."""
    return make_teacher(), "a" * 64


def fit(root, directory, teacher, *callbacks, epochs=2, switch=1, weight=0.5, hint_weight=0.0, resume=None, **options):
    torch.manual_seed(0)
    module = make_module(lr=3e-3)
    module.distillation = Distillation(weight, SpearmanLoss(), hint_weight)
    data = make_datamodule(root, **options)
    extra = {"enable_checkpointing": True} if callbacks else {}
    trainer = make_trainer(directory, epochs, [TwoStage(switch), *callbacks, TeacherTargets(*teacher)], **extra)
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return module, data, trainer


def seen_by(teacher, frames):
    """Scores of frames (T, 3, H, W)."""
    with torch.no_grad():
        return teacher(frames[None])[0]


@pytest.fixture(scope="module")
def student(tiny_demo, teacher, tmp_path_factory):
    """A student of three epochs, the last two in stage 2, and where it left its checkpoint and its cache."""
    place = tmp_path_factory.mktemp("student")
    return *fit_into(place, "whole", tiny_demo, teacher), place


def fit_into(place, name, root, teacher, *extra, **options):
    last = ModelCheckpoint(place / name, filename="last", enable_version_counter=False)
    options |= {"epochs": 3, "hint_weight": 1.0, "cache": VideoCache(str(place / "cache"))}
    return fit(root, place / name, teacher, last, *extra, **options)


@pytest.mark.parametrize("cached", [True, False], ids=["augmented views", "cache off"])
def test_a_target_is_of_the_frames_that_the_student_sees(tiny_demo, tmp_path, teacher, cached):
    cache = VideoCache(views=2) if cached else None
    augmentation = Augmentation(jitter=0.3, drop=0.3, colour=0.2, flip=0.5) if cached else Augmentation(drop=0.3)
    epochs = 2 if cached else 1
    _, data, _ = fit(tiny_demo, tmp_path, teacher, cache=cache, augmentation=augmentation, epochs=epochs, switch=None)
    detector, train, val = teacher[0], data.datasets["train"], data.datasets["val"]
    frames = copy.copy(train)
    frames.schedule = None  # decodes
    firsts = []
    for epoch in (0, 1, 2):
        sample = train[epoch, 0]
        view = epoch % 2 if cached else None
        torch.testing.assert_close(sample.teacher_target[:, 0], seen_by(detector, frames.decode(0, view).inputs))
        assert not sample.visible.all()
        firsts.append(sample.teacher_target)
    assert torch.equal(firsts[0], firsts[2])
    assert torch.equal(firsts[0], firsts[1]) != cached
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

    before = make_module()
    before.detector.standardizer = module.detector.standardizer
    assert abs(agreement(before, "train", TRAIN)) < 0.4
    assert agreement(module, "train", TRAIN) > 0.85
    assert float(trainer.callback_metrics["val/teacher_spearman"]) == pytest.approx(
        agreement(module, "val", VAL), abs=1e-5
    )


def test_the_teacher_stays_as_it_is_and_out_of_checkpoint_and_optimizer(teacher, student):
    detector, _ = teacher
    _, _, trainer, place = student
    before = make_teacher().state_dict()
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    assert not detector.training and all(p.grad is None and not p.requires_grad for p in detector.parameters())
    alone = make_module()
    content = torch.load(place / "whole" / "last.ckpt", weights_only=True)
    assert content["state_dict"].keys() == alone.state_dict().keys()
    assert "TeacherTargets" not in content["callbacks"]
    theirs = {id(p) for p in detector.parameters()}
    optimized = [p for group in trainer.optimizers[0].param_groups for p in group["params"]]
    assert optimized and not theirs & {id(p) for p in optimized}
    # the control: a teacher among the student's modules would be seen
    alone.teacher = detector
    assert content["state_dict"].keys() != alone.state_dict().keys()


def test_targets_are_found_again_and_another_teacher_gives_others(tiny_demo, tmp_path, teacher, student, caplog):
    caplog.set_level(logging.INFO, "keyframe")
    _, data, _, place = student
    target = data.datasets["train"][0, 0].teacher_target

    def found(*teacher):
        caplog.clear()
        cache = VideoCache(str(place / "cache"))
        _, data, _ = fit(tiny_demo, tmp_path, teacher, epochs=1, switch=None, weight=0.9, cache=cache)
        (line,) = [record.message for record in caplog.records if record.message.startswith("Teacher")]
        return line, data.datasets["train"][0, 0].teacher_target

    total = TRAIN + VAL
    line, same = found(*teacher)
    assert line.startswith(f"Teacher: {total} of {total} videos found, nothing to decode")
    assert torch.equal(target, same)
    other = copy.deepcopy(teacher[0])
    with torch.no_grad():
        other.head.scorer[-1].bias += 0.1
    line, different = found(other, "b" * 64)
    assert line.startswith(f"Teacher: 0 of {total} videos found, {total} decoded and scored in")
    assert not torch.equal(target, different)


@pytest.mark.full
def test_a_killed_student_ends_as_if_it_had_not_been_killed(tiny_demo, teacher, student):
    whole, _, reference, place = student
    assert killed_by(fit_into, place, "killed", tiny_demo, teacher, Die("mid-epoch", 2)) == signal.SIGKILL
    ended, _, trainer = fit_into(place, "killed", tiny_demo, teacher, resume=place / "killed" / "last.ckpt")
    for (name, ours), theirs in zip(ended.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    for name in ("val/spearman", "val/teacher_spearman"):
        assert trainer.callback_metrics[name] == reference.callback_metrics[name]
