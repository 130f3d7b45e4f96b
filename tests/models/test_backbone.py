import copy
import pickle
import urllib.error
import urllib.request

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from timm.data import resolve_model_data_config
from torch import nn

from keyframe.models import backbone as backbone_file
from keyframe.models.backbone import Backbone
from keyframe.types import KeyframeError
from tests.models.build import CUT, cut_of, live, make_backbone

WIDTHS = dict.fromkeys(CUT, 1280) | {"resnet50": 2048, "efficientnet_b2": 1408}
SMALL = "resnet10t"  # 5 M parameters, quick to make and to save
NORMS = nn.modules.batchnorm._BatchNorm


def pictures(count=3, size=64):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def timm_features(model, x):
    return model.forward_head(model.forward_features(x), pre_logits=True)


@pytest.mark.parametrize("name", CUT)
def test_prefix_then_tail_is_timms_own_model(name):
    torch.manual_seed(0)
    backbone = live(make_backbone(name)).double()
    assert backbone.is_cut
    reference = timm.create_model(name, num_classes=0).double().eval()
    reference.load_state_dict(backbone.model.state_dict())
    x = pictures().double()  # in double, so that the order of sums in channels-last layout does not show
    with torch.inference_mode():
        expected = timm_features(reference, x)
        maps = backbone.encode_prefix(x)
        features = backbone.encode_tail(maps)
        torch.testing.assert_close(backbone(x), features)
    assert maps.ndim == 4
    assert features.shape == (3, WIDTHS[name]) == (3, backbone.width)
    assert expected.std(0).mean() > 1e-2  # else closeness would mean nothing
    torch.testing.assert_close(features, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", [SMALL, "mobilenetv3_small_050", "convnext_atto"])
def test_an_uncut_model_is_timms_own_and_trains_whole(name):
    torch.manual_seed(0)
    backbone = live(Backbone(name, pretrained=False)).double()
    reference = timm.create_model(name, num_classes=0).double().eval()
    reference.load_state_dict(backbone.model.state_dict())
    x = pictures().double()
    with torch.inference_mode():
        assert torch.equal(backbone.encode_prefix(x), x)
        torch.testing.assert_close(backbone(x), reference(x), rtol=1e-6, atol=1e-8)
    assert backbone.width == reference(x).shape[1]
    assert not backbone.is_cut
    norms = {p for m in reference.modules() if isinstance(m, (NORMS, nn.LayerNorm)) for p in m.parameters()}
    assert len(backbone.tail_parameters()) == len(list(reference.parameters())) - len(norms)


@pytest.mark.parametrize("name", ["resnet50", "vit_tiny_patch16_224", "mixer_s32_224"])
def test_pixel_statistics_and_width_are_timms(name):
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


@pytest.mark.parametrize(
    ("prefix", "tail", "words"),
    [
        (["conv1", "bn1", "act1", "maxpool", "layer1"], ["layer2", "layer3", "layer9", "global_pool"], "layer9"),
        (["conv1", "bn1", "maxpool", "act1", "layer1", "layer3", "layer2"], ["layer4", "global_pool"], "in order"),
        (["conv1", "bn1", "bn1", "act1", "maxpool", "layer1", "layer2"], ["layer3", "layer4", "global_pool"], "order"),
        (["conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3"], [], "in order"),
        ([], ["layer4", "global_pool"], "in order"),
    ],
)
def test_other_wrong_cuts_are_refused(prefix, tail, words):
    with pytest.raises(KeyframeError, match=words):
        Backbone(SMALL, pretrained=False, prefix=prefix, tail=tail)


def step(backbone):
    """One optimizer step of everything the backbone lets train; returns what was before."""
    before = copy.deepcopy(backbone.state_dict())
    anchor = nn.Parameter(torch.ones(backbone.width))
    optimizer = torch.optim.AdamW([*backbone.parameters(), anchor], lr=1e-2, weight_decay=0.01)
    (backbone(pictures()) * anchor).square().mean().backward()
    optimizer.step()
    return before


def moved(backbone, before):
    return {name for name, value in backbone.state_dict().items() if not torch.equal(value, before[name])}


def norm_entries(backbone):
    layers = [(name, module) for name, module in backbone.named_modules() if isinstance(module, NORMS)]
    return {f"{name}.{entry}" for name, module in layers for entry in module.state_dict()}


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("resnet50", "frozen"),
        ("efficientnet_b0", "frozen"),
        ("efficientnet_b0", "train"),
        ("mobilenetv4_conv_small", "frozen"),
    ],
)
def test_stage_1_leaves_every_weight_and_statistic_as_it_was(name, norm):
    torch.manual_seed(0)
    backbone = live(make_backbone(name, norm=norm)).train()
    backbone.train_tail(False)
    assert not [n for n, p in backbone.named_parameters() if p.requires_grad]
    assert not moved(backbone, step(backbone))
    assert torch.equal(backbone(pictures()), backbone(pictures()))  # no dropout, no drop path


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "mobilenetv4_conv_small"])
def test_stage_2_with_frozen_norm_trains_the_tails_other_weights(name):
    torch.manual_seed(0)
    backbone = live(make_backbone(name)).train()
    backbone.train_tail(False)
    backbone.train_tail(True)
    changed = moved(backbone, step(backbone))
    tail = tuple(f"model.{path}." for path in cut_of(name)[1])
    weights = {n for n, _ in backbone.named_parameters() if n.startswith(tail)}
    assert changed == weights - norm_entries(backbone)
    assert len(changed) > 4


def test_stage_2_with_training_norm_moves_the_tails_statistics_and_no_others():
    torch.manual_seed(0)
    backbone = live(make_backbone("resnet50", norm="train")).train()
    changed = moved(backbone, step(backbone))
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
        assert torch.allclose(backbone.eval()(pictures()), alike.eval()(pictures()), rtol=1e-5)


def test_modes_survive_train_and_eval():
    backbone = make_backbone("resnet50").train()
    assert not any(m.training for m in backbone.model.layer3.modules())
    assert not any(m.training for m in backbone.model.layer4.modules() if isinstance(m, NORMS))
    assert all(m.training for m in backbone.model.layer4.modules() if isinstance(m, nn.Conv2d))
    backbone.eval()
    assert not any(m.training for m in backbone.modules())
    backbone.train_tail(False)
    backbone.train()
    assert not any(m.training for m in backbone.model.modules())


def test_the_tail_is_trainable_when_built_so_that_ddp_sees_it():
    backbone = make_backbone("efficientnet_b0")
    assert backbone.tail_parameters()
    assert all(p.requires_grad for p in backbone.tail_parameters())
    assert sum(p.requires_grad for p in backbone.parameters()) == len(backbone.tail_parameters())


@pytest.mark.parametrize(("name", "near"), [("efficentnet_b0", "efficientnet_b0"), ("resnet5O", "resnet50")])
def test_an_unknown_model_is_refused_with_names_near_it(name, near):
    with pytest.raises(KeyframeError, match=rf"backbone\.name={name} .*\b{near}\b"):
        Backbone(name, pretrained=False)


def test_a_name_near_nothing_is_refused_too():
    with pytest.raises(KeyframeError, match=r"backbone\.name=qqqqqqqq is not a model that timm knows\.$"):
        Backbone("qqqqqqqq")


def test_an_unknown_norm_mode_is_refused():
    with pytest.raises(KeyframeError, match=r"finetune\.norm=thawed"):
        Backbone(SMALL, pretrained=False, norm="thawed")


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    """An empty weight cache, and a timm that must not be asked: its own retries last a minute."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(backbone_file.timm, "create_model", lambda *_, **__: pytest.fail("timm was asked"))


def says_what_to_do(error):
    message = str(error.value)
    assert "efficientnet_b0" in message
    assert "backbone.weights=FILE" in message
    assert "backbone.pretrained=false" in message
    assert message.count(". ") == 0
    assert "\n" not in message


def test_no_weights_where_the_hub_is_switched_off(no_cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(KeyframeError) as error:
        Backbone("efficientnet_b0")
    says_what_to_do(error)


@pytest.mark.parametrize("reason", [urllib.error.URLError("no route"), TimeoutError("slow"), ConnectionResetError()])
def test_no_weights_where_the_network_does_not_answer(no_cache, monkeypatch, reason):
    def urlopen(request, timeout):
        assert timeout <= 10
        raise reason

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(KeyframeError) as error:
        Backbone("efficientnet_b0")
    says_what_to_do(error)


def test_a_download_that_breaks_is_told_the_same_way(monkeypatch):
    def create_model(*_, **__):
        raise OSError("connection lost")

    monkeypatch.setattr(backbone_file, "_require_weights", lambda name: None)
    monkeypatch.setattr(backbone_file.timm, "create_model", create_model)
    with pytest.raises(KeyframeError) as error:
        Backbone("efficientnet_b0")
    says_what_to_do(error)


def test_a_model_without_pretrained_weights_is_never_started_at_random():
    name = next(name for name in timm.list_models() if not timm.get_pretrained_cfg(name).has_weights)
    with pytest.raises(KeyframeError, match=rf"no pretrained weights for {name}.*backbone\.pretrained=false"):
        Backbone(name)


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize("classes", [0, 1000])
def test_a_local_weight_file_is_loaded_without_network(tmp_path, monkeypatch, suffix, classes):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    torch.manual_seed(1)
    state = live(timm.create_model(SMALL, num_classes=classes)).state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    torch.manual_seed(2)
    for pretrained in (True, False):
        loaded = Backbone(SMALL, pretrained=pretrained, weights=str(path)).model.state_dict()
        assert loaded.keys() == {name for name in state if not name.startswith("fc.")}
        assert all(torch.equal(loaded[name], state[name]) for name in loaded)


def test_a_weight_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(KeyframeError, match=r"backbone\.weights=.*nowhere\.pth is not a file"):
        Backbone(SMALL, weights=str(tmp_path / "nowhere.pth"))


def test_weights_of_another_model_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), path)
    with pytest.raises(KeyframeError, match=rf"other\.pth does not hold weights of {SMALL}"):
        Backbone(SMALL, weights=str(path))


def test_text_named_as_weights_is_refused(tmp_path):
    for name in ("notes.pth", "notes.safetensors"):
        (tmp_path / name).write_text("weights, honest")
        with pytest.raises(KeyframeError, match=rf"{name} does not hold weights of {SMALL}"):
            Backbone(SMALL, weights=str(tmp_path / name))


def test_code_in_a_weight_file_is_not_run(tmp_path):
    trace = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return trace.touch, ()

    for name, save in (("new.pth", torch.save), ("old.pth", None)):
        path = tmp_path / name
        if save:
            save({"conv1.weight": Payload()}, path)
        else:
            path.write_bytes(pickle.dumps({"conv1.weight": Payload()}, protocol=2))
        with pytest.raises(KeyframeError, match=f"{name} does not hold weights"):
            Backbone(SMALL, weights=str(path))
        assert not trace.exists()
