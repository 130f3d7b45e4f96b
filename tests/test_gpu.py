"""What only a GPU can show: training in mixed precision, NCCL, scores as on a CPU, memory. Elsewhere it is skipped."""

import csv
import json

import numpy as np
import pytest
import torch

from keyframe.models.detector import choose_chunk
from keyframe.timing import random_videos
from tests.commands import TINY, cold, script
from tests.models.build import make_detector

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
RECIPE = [argument for argument in TINY if argument != "trainer=cpu"]
TRAINER = ("trainer=gpu", "trainer.devices=1")


@pytest.fixture(scope="module")
def train(tiny_demo, tmp_path_factory):
    """Trains for two epochs, one in each stage; the run directory."""

    def run(name, *arguments):
        place = tmp_path_factory.mktemp("run") / name
        length = ("trainer.max_epochs=2", "finetune.switch_epoch=1", f"data.root={tiny_demo}")
        cold([*script("train"), *RECIPE, *length, *arguments, f"hydra.run.dir={place}"], tiny_demo).good()
        return place

    return run


@pytest.fixture(scope="module")
def trained(train):
    return train("plain", *TRAINER)


def metrics(run):
    found = json.loads((run / "metrics.json").read_text())
    assert -1 <= found["test/spearman"] <= 1 and np.isfinite(found["test/mse"])
    return found


def test_a_run_in_full_precision_is_measured(trained):
    metrics(trained)


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_mixed_precision_trains_and_is_near_full_precision(precision, train, trained):
    mixed = metrics(train(precision, *TRAINER, f"trainer.precision={precision}"))
    assert mixed["test/mse"] == pytest.approx(metrics(trained)["test/mse"], abs=0.02)


def test_nccl_on_one_device(train):
    metrics(train("nccl", "trainer=ddp", "trainer.accelerator=gpu", "trainer.devices=1"))


def test_extraction_scores_as_on_the_cpu(trained, tiny_demo, tmp_path):
    video = sorted((tiny_demo / "demo-seed0-15x12-v3" / "videos").glob("*.mp4"))[0]
    columns = []
    for device in ("cpu", DEVICE):
        arguments = [
            str(video),
            f"run={trained}",
            f"device={device}",
            f"output={device}",
            f"hydra.run.dir={device}-log",
        ]
        cold([*script("extract"), *arguments], tmp_path).good()
        with (tmp_path / device / video.stem / "scores.csv").open() as file:
            columns.append([float(row["score"]) for row in csv.DictReader(file)])
    assert columns[0] == pytest.approx(columns[1], abs=2e-3)


def test_a_detector_scores_alike_and_takes_its_share_of_memory():
    detector = make_detector().eval()
    frames = random_videos(2, (6, 64, 64))
    with torch.inference_mode():
        there = detector.to(DEVICE)(frames.to(DEVICE)).cpu()
        np.testing.assert_allclose(there, detector.cpu()(frames), atol=2e-3)
    assert choose_chunk(224, 224, torch.device(DEVICE)) >= 1


def test_the_benchmark_measures_models_there(tmp_path):
    models = ("infer.model1=test_resnet", "infer.model2=test_efficientnet", "infer.size=32", "infer.frames=4")
    footage = ("infer.footage.seconds=40", "infer.footage.width=64", "infer.footage.height=36", "footage=footage")
    rounds = ("infer.ways=[bf16]", "infer.chunks=[1,4]", "repeats=2", f"infer.device={DEVICE}", "suite=infer")
    cold([*script("benchmark"), *models, *footage, *rounds, "hydra.run.dir=run"], tmp_path).good()
    record = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert record["infer/model2_over_model1_time"] > 0 and record["machine/gpu"] != "none"
