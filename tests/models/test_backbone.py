import copy

import pytest
import timm
import torch
from timm.data import resolve_model_data_config
from timm.layers import BatchNormAct2d
from torch import nn

from keyframe.models.backbone import Backbone, NoBackbone
from keyframe.models.detector import count_parameters
from keyframe.models.frozen import FoldedConv2d, FrozenBatchNorm2d, FrozenBatchNormAct2d, freeze_norms
from keyframe.types import KeyframeError
from tests.models.build import CUT, cut_of, live, make_backbone, make_detector

WIDTHS = dict.fromkeys(CUT, 1280) | {"resnet50": 2048, "efficientnet_b2": 1408}
SMALL = "resnet10t"  # 5 M parameters, quick to make and to save
NORMS = nn.modules.batchnorm._BatchNorm


def frames(count=3, size=64):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CUT)
def test_prefix_then_tail_is_timms_own_model(name):
    torch.manual_seed(0)
    backbone = live(make_backbone(name)).double()
    assert backbone.is_cut
    reference = timm.create_model(backbone.name, num_classes=0).double().eval()
    reference.load_state_dict(backbone.model.state_dict())
    x = frames().double()  # in double, so that the order of sums in channels-last layout does not show
    with torch.inference_mode():
        expected = reference.forward_head(reference.forward_features(x), pre_logits=True)
        maps = backbone.encode_prefix(x)
        features = backbone.encode_tail(maps)
        torch.testing.assert_close(backbone(x), features)
    assert maps.ndim == 4
    assert features.shape == (3, WIDTHS[name]) == (3, backbone.width)
    assert expected.std(0).mean() > 1e-2  # else closeness would mean nothing
    torch.testing.assert_close(features, expected, rtol=1e-6, atol=1e-8)


def test_an_uncut_model_is_timms_own_and_trains_whole():
    for name in (SMALL, "mobilenetv3_small_050", "convnext_atto"):
        torch.manual_seed(0)
        backbone = live(Backbone(name, pretrained=False)).double()
        reference = timm.create_model(name, num_classes=0).double().eval()
        reference.load_state_dict(backbone.model.state_dict())
        x = frames().double()
        with torch.inference_mode():
            assert torch.equal(backbone.encode_prefix(x), x)
            torch.testing.assert_close(backbone(x), reference(x), rtol=1e-6, atol=1e-8)
        assert backbone.width == reference(x).shape[1]
        assert not backbone.is_cut
        norms = {p for m in reference.modules() if isinstance(m, (NORMS, nn.LayerNorm)) for p in m.parameters()}
        assert len(backbone.tail_parameters()) == len(list(reference.parameters())) - len(norms)


def test_pixel_statistics_and_width_are_timms():
    for name in ("resnet50", "vit_tiny_patch16_224", "mixer_s32_224"):
        backbone = Backbone(name, pretrained=False)
        reference = timm.create_model(name, num_classes=0)
        data = resolve_model_data_config(reference)
        assert (backbone.mean, backbone.std) == (data["mean"], data["std"])
        with torch.inference_mode():
            assert backbone.width == reference(torch.zeros(1, *data["input_size"])).shape[1]


@pytest.mark.parametrize(("yaml", "name"), [("resnet50", "resnet14t"), ("efficientnet_b0", "efficientnet_b0")])
def test_a_cut_that_leaves_a_module_out_is_refused(yaml, name):
    prefix, tail = cut_of(yaml)
    for missing in prefix + tail:
        cut = {"prefix": [m for m in prefix if m != missing], "tail": [m for m in tail if m != missing]}
        with pytest.raises(KeyframeError, match="do not give what"):
            Backbone(name, pretrained=False, **cut)


def test_other_wrong_cuts_are_refused():
    stem = ["conv1", "bn1", "act1", "maxpool"]
    for prefix, tail, words in (
        ([*stem, "layer1"], ["layer2", "layer3", "layer9", "global_pool"], "layer9"),
        (["conv1", "bn1", "maxpool", "act1", "layer1", "layer3", "layer2"], ["layer4", "global_pool"], "in order"),
        (["conv1", "bn1", *stem[1:], "layer1", "layer2"], ["layer3", "layer4", "global_pool"], "in order"),
        ([*stem, "layer1", "layer2", "layer3"], [], "in order"),
        ([], ["layer4", "global_pool"], "in order"),
    ):
        with pytest.raises(KeyframeError, match=words):
            Backbone(SMALL, pretrained=False, prefix=prefix, tail=tail)


def step(backbone):
    """One optimizer step of everything that the backbone lets train; returns the names of what has changed."""
    before = copy.deepcopy(backbone.state_dict())
    anchor = nn.Parameter(torch.ones(backbone.width))
    optimizer = torch.optim.AdamW([*backbone.parameters(), anchor], lr=1e-2, weight_decay=0.01)
    (backbone(frames()) * anchor).square().mean().backward()
    optimizer.step()
    return {name for name, value in backbone.state_dict().items() if not torch.equal(value, before[name])}


def norm_entries(backbone):
    layers = [(name, module) for name, module in backbone.named_modules() if isinstance(module, NORMS)]
    return {f"{name}.{entry}" for name, module in layers for entry in module.state_dict()}


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "mobilenetv4_conv_small"])
def test_each_stage_trains_what_it_should(name):
    torch.manual_seed(0)
    backbone = live(make_backbone(name)).train()
    backbone.train_tail(False)
    assert not [n for n, p in backbone.named_parameters() if p.requires_grad]
    assert not step(backbone)
    assert torch.equal(backbone(frames()), backbone(frames()))  # no dropout, no drop path
    backbone.train_tail(True)
    changed = step(backbone)
    tail = tuple(f"model.{path}." for path in cut_of(name)[1])
    weights = {n for n, _ in backbone.named_parameters() if n.startswith(tail)}
    assert changed == weights - norm_entries(backbone)
    assert len(changed) > 4


def test_stage_2_with_training_norm_moves_the_tails_statistics_and_no_others():
    torch.manual_seed(0)
    backbone = live(make_backbone("resnet50", norm="train")).train()
    backbone.train_tail(False)
    assert not step(backbone)
    backbone.train_tail(True)
    changed = step(backbone)
    in_tail = {n for n in norm_entries(backbone) if n.startswith("model.layer4.")}
    statistics = {n for n in in_tail if n.rsplit(".", 1)[1] in ("running_mean", "running_var", "num_batches_tracked")}
    assert statistics
    assert statistics <= changed
    assert all(name.startswith("model.layer4.") for name in changed)
    assert {n for n in in_tail if n.endswith(".weight")} <= changed


def test_norm_sync_puts_synchronised_layers_in():
    backbone = Backbone(SMALL, pretrained=False, norm="sync")
    norms = [m for m in backbone.modules() if isinstance(m, NORMS)]
    assert norms
    assert all(isinstance(m, nn.SyncBatchNorm) for m in norms)
    alike = Backbone(SMALL, pretrained=False, norm="train")
    alike.load_state_dict(backbone.state_dict())
    with torch.inference_mode():
        assert torch.allclose(backbone.eval()(frames()), alike.eval()(frames()), rtol=1e-5)
    with pytest.raises(KeyframeError, match=r"finetune\.norm=thawed is none of frozen, train, sync"):
        Backbone(SMALL, pretrained=False, norm="thawed")


def test_modes_survive_train_and_eval_and_ddp_sees_the_tail_as_trainable():
    backbone = make_backbone("resnet50")
    assert backbone.tail_parameters()
    assert all(p.requires_grad for p in backbone.tail_parameters())
    assert sum(p.requires_grad for p in backbone.parameters()) == len(backbone.tail_parameters())
    backbone.train()
    assert not any(m.training for m in backbone.model.layer3.modules())
    assert not any(m.training for m in backbone.model.layer4.modules() if isinstance(m, NORMS))
    assert all(m.training for m in backbone.model.layer4.modules() if isinstance(m, nn.Conv2d))
    backbone.eval()
    assert not any(m.training for m in backbone.modules())
    backbone.train_tail(False)
    backbone.train()
    assert not any(m.training for m in backbone.model.modules())


@pytest.mark.parametrize(
    ("kind", "frozen_kind"), [(nn.BatchNorm2d, FrozenBatchNorm2d), (BatchNormAct2d, FrozenBatchNormAct2d)]
)
def test_a_frozen_norm_gives_what_pytorchs_own_gives(kind, frozen_kind):
    torch.manual_seed(0)
    own = kind(5).eval().requires_grad_(False)
    own.weight.uniform_(-1, 1), own.bias.normal_()
    own.running_mean.normal_(), own.running_var.uniform_(0.1, 3)
    frozen = copy.deepcopy(own)
    freeze_norms(frozen)
    assert type(frozen) is frozen_kind
    assert frozen.state_dict().keys() == own.state_dict().keys()
    x = torch.randn(3, 5, 4, 6).contiguous(memory_format=torch.channels_last)
    weights = torch.randn(x.shape)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    outputs = [module(values) for module, values in zip((own, frozen), inputs, strict=True)]
    for output in outputs:
        (output * weights).sum().backward()
    assert torch.allclose(*outputs, rtol=1e-6, atol=1e-6)
    assert torch.allclose(inputs[0].grad, inputs[1].grad, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(frozen(x), own(x))


def test_norms_without_affine_map_or_statistics_are_not_frozen():
    others = nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3, track_running_stats=False))
    freeze_norms(others)
    assert [type(module) for module in others] == [nn.BatchNorm2d, nn.BatchNorm2d]


@pytest.mark.parametrize(
    ("cut", "folded"),
    [
        # an InvertedResidual and conv_head
        ({"name": "test_efficientnet", "prefix": ["conv_stem", "bn1", *(f"blocks.{i}" for i in range(4))]}, 13),
        ({"name": "test_resnet"}, 15),
    ],
)
def test_convolutions_take_in_frozen_norms_without_a_change_of_features_or_gradients(cut, folded, monkeypatch):
    if cut.get("prefix"):
        cut |= {"tail": ["blocks.4", "conv_head", "bn2", "global_pool"]}
    found = {}
    for gradients in ("own", "float32", "auto"):
        with monkeypatch.context() as patch:
            if gradients == "own":
                patch.setattr("keyframe.models.backbone.fold_norms", lambda modules, bfloat16: None)
            torch.manual_seed(0)
            backbone = Backbone(pretrained=False, gradients="float32" if gradients == "own" else gradients, **cut)
        assert sum(isinstance(m, FoldedConv2d) for m in backbone.modules()) == (0 if gradients == "own" else folded)
        torch.manual_seed(1)
        for norm in [m for m in backbone.modules() if isinstance(m, NORMS)]:
            norm.weight.uniform_(0.5, 1.5), norm.bias.normal_(), norm.running_mean.normal_()
        features = backbone.train().encode_tail(backbone.encode_prefix(torch.rand(4, 3, 64, 64)))
        features.square().mean().backward()
        found[gradients] = [features.detach(), *(p.grad for p in backbone.tail_parameters())]
    for gradients, error in (("float32", 1e-5), ("auto", 1e-2)):
        for own, mine in zip(found["own"], found[gradients], strict=True):
            assert torch.linalg.vector_norm(mine - own) <= error * torch.linalg.vector_norm(own)
    assert torch.equal(found["auto"][0], found["float32"][0])  # features are float32 in any case


def test_frames_far_from_the_size_of_the_weights_are_warned_of(caplog, tmp_path):
    torch.save(timm.create_model("test_efficientnet", num_classes=0).state_dict(), tmp_path / "weights.pth")
    trained = Backbone("test_efficientnet", weights=str(tmp_path / "weights.pth"))  # timm: on 160x160
    for size, warned in (((160, 160), 0), ((80, 320), 0), ((79, 160), 1), ((160, 321), 1)):
        caplog.clear()
        trained.check_size(size, "data.size")
        assert len(caplog.messages) == warned, size
    (line,) = caplog.messages
    assert "test_efficientnet" in line and "160x160" in line and "160x321" in line and "data.size=160" in line
    Backbone("test_efficientnet", pretrained=False).check_size((16, 16), "data.size")
    assert len(caplog.messages) == 1


def test_no_backbone_has_the_interface_of_one_and_nothing_to_train():
    none, real = NoBackbone(6), make_backbone()
    for name in ("name", "width", "mean", "std", "is_cut"):
        assert type(getattr(none, name)) is type(getattr(real, name)), name
    # a fingerprint and a size are of frames
    other = ("train", "forward", "fingerprint", "check_size")
    own = [name for name in vars(Backbone) if not name.startswith("_") and name not in other]
    assert all(hasattr(none, name) for name in own)
    none.train_tail(True)
    assert not list(none.parameters()) and not none.state_dict() and not none.tail_parameters()
    counts = count_parameters(make_detector(none), two_stages=True)
    assert counts["backbone"] == counts["trainable_stage2"] == 0
    assert counts["total"] == counts["trainable_stage1"] > 0
    with pytest.raises(KeyframeError, match=r"data\.width=0 must be a whole number from 1 on"):
        NoBackbone(0)
