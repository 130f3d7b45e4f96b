"""Which teachers are refused, and what the sentence names."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from keyframe.data.datamodule import FeatureDataModule
from keyframe.data.dataset import Augmentation
from keyframe.data.sampling import FpsSampling
from keyframe.pipeline import TrainedModel
from keyframe.runs import Run
from keyframe.training.teacher import check_teacher
from keyframe.types import KeyframeError
from tests.training.tiny import make_datamodule, make_module

RUN = Path("outputs/train/student")


def run_on(data):
    """A teacher of this data."""
    return Run(
        Path("outputs/train/teacher/checkpoints/best.ckpt"), {}, TrainedModel(make_module().detector, (32, 32)), data
    )


def refused(teacher, data, *words, run_dir=RUN):
    with pytest.raises(KeyframeError) as error:
        check_teacher(teacher, "TEACHER", data, run_dir)
    missing = [word for word in words if word not in str(error.value)]
    assert not missing, f"{missing} not in: {error.value}"


@pytest.fixture(scope="module")
def teacher(tiny_demo):
    return run_on(make_datamodule(tiny_demo))


def test_a_teacher_of_the_same_data_and_sampling(teacher, tiny_demo):
    check_teacher(teacher, "TEACHER", make_datamodule(tiny_demo, seed=5, batch_size=4), RUN)
    hidden = make_datamodule(tiny_demo, cache=None, augmentation=Augmentation(drop=0.2))
    check_teacher(teacher, "TEACHER", hidden, RUN)


def test_what_a_teacher_cannot_score(teacher, tiny_demo):
    features = FeatureDataModule("features.h5")
    refused(teacher, features, "data=h5", "experiment=distill")
    refused(run_on(features), make_datamodule(tiny_demo), "teacher=TEACHER", "features")
    augmented = make_datamodule(tiny_demo, cache=None, augmentation=Augmentation(jitter=0.2))
    refused(teacher, augmented, "cache=off", "cache=disk")


def test_a_teacher_that_sees_other_frames(teacher, tiny_demo):
    refused(teacher, make_datamodule(tiny_demo, size=48), "teacher=TEACHER", "data.size: (32, 32), here (48, 48)")
    other = make_datamodule(tiny_demo)
    other.sampling = FpsSampling(2.0)
    refused(teacher, other, "sampling: UniformSampling(frames=12), here FpsSampling(rate=2.0)")


def test_the_run_itself(teacher, tiny_demo):
    refused(teacher, make_datamodule(tiny_demo), "teacher=TEACHER is the run", run_dir=Path("outputs/train/teacher"))


def test_a_teacher_that_has_learnt_from_what_the_student_is_judged_by(teacher, tiny_demo):
    other = make_datamodule(tiny_demo, fold=1)
    trained = {video.id for video in teacher.datamodule.split_videos("train")}
    trained |= {video.id for video in teacher.datamodule.split_videos("val")}
    leaked = [video.id for video in other.split_videos("test") if video.id in trained]
    assert leaked
    refused(teacher, other, f"{len(leaked)} of the test videos", leaked[0], "data.fold")
    # checkpoints are chosen by validation videos: those may not be tested on, even where none was trained on
    swapped = make_datamodule(tiny_demo)
    swapped._parts = {part: teacher.datamodule.split_videos(part) for part in ("train", "test")}
    swapped._parts |= {"val": swapped._parts["test"], "test": teacher.datamodule.split_videos("val")}
    refused(teacher, swapped, "2 of the test videos")


def test_neither_another_name_nor_another_folder_hides_a_video(teacher, tiny_demo, tmp_path):
    class Renamed:
        def prepare(self):
            pass

        def videos(self):
            copies = []
            for number, video in enumerate(reversed(teacher.datamodule.source.videos())):
                path = Path(shutil.copy(video.path, tmp_path / f"mine-{number}.mp4"))
                copies.append(replace(video, id=path.stem, path=path))
            return copies

    renamed = make_datamodule(tiny_demo)
    renamed.source = Renamed()
    refused(teacher, renamed, "of the val videos", "mine-")


def test_a_teacher_of_unknown_videos(tiny_demo):
    class Gone:
        def prepare(self):
            pass

        def videos(self):
            raise KeyframeError("data.root=/gone is not a directory.")

    lost = make_datamodule(tiny_demo)
    lost.source = Gone()
    refused(run_on(lost), make_datamodule(tiny_demo), "teacher=TEACHER", "/gone")
