"""Training steps in mixed precision, as far as a CPU has it: bfloat16, and float16 with loss scaling."""

from functools import partial

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.plugins.precision import MixedPrecision

from keyframe.training.callbacks import TwoStage
from keyframe.training.module import VideoMetrics
from tests.training.tiny import make_datamodule, make_module, make_trainer


class Look(Callback):
    """Remembers losses, gradients' norms before and after clipping, and what is in float32."""

    def __init__(self):
        self.losses, self.before, self.after, self.dtypes = [], [], [], set()

    def on_train_start(self, trainer, pl_module):
        head = pl_module.detector.head
        pl_module.detector.standardizer.register_forward_hook(
            lambda m, i, out: self.dtypes.add(("features", out.dtype))
        )
        head.register_forward_hook(lambda m, i, out: self.dtypes.add(("scores", out.dtype)))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))
        self.dtypes.add(("loss", outputs["loss"].dtype))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.before.append(norm(pl_module))

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        self.after.append(norm(pl_module))


def norm(module):
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return float(torch.stack([gradient.norm() for gradient in gradients]).norm()) if gradients else 0.0


def train(root, directory, epochs=2, **options):
    torch.manual_seed(0)
    module, look = make_module(), Look()
    make_trainer(directory, epochs, [TwoStage(1), look], **options).fit(module, make_datamodule(root))
    return look


@pytest.fixture(scope="module")
def full(tiny_demo, tmp_path_factory):
    return train(tiny_demo, tmp_path_factory.mktemp("full"))


def test_bfloat16_ends_near_float32(tiny_demo, tmp_path, full):
    half = train(tiny_demo, tmp_path, precision="bf16-mixed")
    assert half.losses == pytest.approx(full.losses, abs=0.1)
    assert sum(half.losses) == pytest.approx(sum(full.losses), rel=0.02)
    # what ranks are computed from and in
    assert half.dtypes == {("features", torch.float32), ("scores", torch.float32), ("loss", torch.float32)}
    assert half.losses != full.losses  # it was another precision


@pytest.mark.full
def test_gradients_are_clipped_after_the_scale_of_the_loss_is_taken_out(tiny_demo, tmp_path, full):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    look = train(tiny_demo, tmp_path, 1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    assert look.losses == pytest.approx(full.losses[:5], abs=0.1)
    # a gradient that is still scaled would be a thousand times as long
    assert look.before[0] == pytest.approx(full.before[0], rel=0.1)
    assert max(look.after) <= 1.0 + 1e-4


@pytest.mark.parametrize("chosen", [{}, {"fused": False}, {"foreach": True}])
def test_adamw_is_fused_on_a_cpu_unless_told_otherwise(chosen):
    module = make_module()
    module.make_optimizer = partial(torch.optim.AdamW, lr=1e-3, **chosen)
    optimizer = module.configure_optimizers()
    usual = {"fused": True, "foreach": None} if not chosen else {"fused": None, "foreach": None} | chosen
    for settings in (optimizer.defaults, *optimizer.param_groups):
        assert {name: settings[name] for name in usual} == usual


def test_metrics_of_many_videos_are_one_array():
    metrics, scores = VideoMetrics(), np.linspace(0, 1, 5)
    for number in (2, 0, 1):
        metrics.update(number, scores, scores, np.empty((0, 5)))
        assert len(metrics.rows) == 1
    assert list(metrics.compute()) == [0, 1, 2] and metrics.compute()[1]["spearman"] == 1
