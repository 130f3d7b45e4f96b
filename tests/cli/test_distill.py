"""`keyframe-train experiment=distill teacher=RUN` as a user runs it."""

import json
import shutil

import pytest
import torch

from tests.commands import TINY, in_process


@pytest.fixture(scope="module")
def student(tiny_demo):
    """Arguments of a student of two epochs, one in each stage, on what the `runs` were trained on."""
    epochs = ("trainer.max_epochs=2", "finetune.switch_epoch=1", "callbacks.curves=null")
    return (*TINY[1:], f"data.root={tiny_demo}", *epochs)


@pytest.fixture(scope="module")
def distill(command, student):
    return lambda *arguments: command("experiment=[demo,distill]", *student, *arguments)


def keys(run):
    return torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"].keys()


def test_a_student_of_model_1(distill, runs, tmp_path):
    teacher = tmp_path / "Model 1 (mine)"
    shutil.copytree(runs / "resnet", teacher)
    before = {path: path.read_bytes() for path in teacher.rglob("*") if path.is_file()}
    cache = f"cache.dir={tmp_path / 'cache'}"
    first = distill(f"teacher={teacher}", cache, f"hydra.run.dir={tmp_path / 'first'}").good()
    assert "Teacher: 0 of 12 videos found, 12 decoded and scored in" in first.out
    assert {path: path.read_bytes() for path in teacher.rglob("*") if path.is_file()} == before
    assert keys(tmp_path / "first") == keys(runs / "seed1")
    metrics = json.loads((tmp_path / "first" / "metrics.json").read_text())
    plain = json.loads((runs / "seed1" / "metrics.json").read_text())
    assert metrics.keys() == plain.keys() | {"val/teacher_spearman"}
    assert metrics["model/params_total"] == plain["model/params_total"]
    # once more, by the checkpoint itself and without hints
    checkpoint = teacher / "checkpoints" / "best.ckpt"
    second = distill(f"teacher={checkpoint}", cache, "distillation.hint_weight=0", "distillation.weight=1").good()
    assert "Teacher: 12 of 12 videos found, nothing to decode" in second.out
    assert "Spearman with the teacher" in second.out


def test_refusals(distill, runs, student, tiny_demo, tmp_path):
    def refused(sentence, *words):
        assert "\n" not in sentence and all(word in sentence for word in words), sentence

    def tried(*arguments):
        return in_process("train", "experiment=[demo,distill]", *student, *arguments, run_dir=tmp_path / "run")

    refused(distill().sentence(), "teacher=RUN")
    alone = in_process("train", *TINY, f"data.root={tiny_demo}", "teacher=x", run_dir=tmp_path / "run")
    refused(alone, "teacher=x", "add experiment=distill")
    refused(tried("teacher=nowhere"), "teacher=nowhere", "no checkpoint")
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes((runs / "resnet" / "checkpoints" / "best.ckpt").read_bytes()[:5000])
    refused(tried(f"teacher={damaged}"), str(damaged), "damaged")
    refused(tried(f"teacher={runs / 'folds' / '1'}"), "was trained on", "videos of this run", "data.fold")
    refused(tried(f"teacher={runs / 'resnet'}", "sampling.frames=6"), "UniformSampling(frames=12)", "the same for both")
    refused(tried(f"teacher={runs / 'resnet'}", "distillation.weight=2"), "distillation.weight must lie in [0, 1]")
    own = shutil.copytree(runs / "resnet", tmp_path / "own")
    (own / "config.yaml").unlink()  # else the directory is refused as that of another run
    refused(distill(f"teacher={own}", f"hydra.run.dir={own}").sentence(), f"teacher={own} is the run to train")
