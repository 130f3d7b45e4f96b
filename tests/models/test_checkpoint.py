"""Checkpoint files are data, and no model outgrows the weights that its file holds."""

import io
import zipfile
from functools import partial

import pytest
import timm
import torch
from torch import nn

from keyframe.models.backbone import Backbone, NoBackbone
from keyframe.models.detector import KeyframeDetector
from keyframe.models.head import TemporalHead
from keyframe.models.weights import read_checkpoint, rebuild
from keyframe.types import KeyframeError


def saved(path, weights, **more):
    torch.save({"state_dict": weights, **more}, path)
    return path


def test_tensors_and_plain_values_are_read(tmp_path):
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.zeros(4, 3, 2, 2).to(memory_format=torch.channels_last)}
    content = read_checkpoint(saved(tmp_path / "a.ckpt", weights, epoch=3, hyper_parameters=None))
    assert content["epoch"] == 3 and content["hyper_parameters"] is None
    assert all(torch.equal(content["state_dict"][name], value) for name, value in weights.items())


def test_files_that_hold_no_weights(tmp_path):
    path = tmp_path / "a.ckpt"
    for content in (
        *(None, 3, [torch.zeros(2)], {}, {"state_dict": None}, {"state_dict": [torch.zeros(2)]}),
        *({"state_dict": {"a": 1.0}}, {"state_dict": {3: torch.zeros(2)}}, {("a", 1): torch.zeros(2)}),
    ):
        torch.save(content, path)
        with pytest.raises(KeyframeError, match=r"a\.ckpt holds no model weights[^\n]*\.$"):
            read_checkpoint(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_that_are_named_but_not_there(tmp_path):
    huge = (10**6, 10**6)
    sparse = torch.sparse_coo_tensor(torch.zeros(2, 0, dtype=torch.long), torch.zeros(0), huge)
    one = torch.zeros(1000)
    for weights in (
        *({"a": torch.zeros(1).expand(huge)}, {"a": torch.zeros(huge, device="meta")}, {"a": sparse}),
        {f"{number}": one for number in range(100)},  # one storage a hundred times
    ):
        path = saved(tmp_path / "a.ckpt", weights)
        assert path.stat().st_size < 100_000
        with pytest.raises(KeyframeError, match=r"a\.ckpt names weights that it does not hold[^\n]*\.$"):
            read_checkpoint(path)


def packed_again(path, compression):
    """The same archive, its entries compressed in another way."""
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as source, zipfile.ZipFile(path, "w", compression) as copy:
        for entry in source.infolist():
            copy.writestr(entry.filename, source.read(entry))
    return path


def test_a_compressed_file_is_not_unpacked(tmp_path):
    path = saved(tmp_path / "a.ckpt", {"a": torch.zeros(5_000_000)})
    assert read_checkpoint(packed_again(path, zipfile.ZIP_STORED))["state_dict"]["a"].shape == (5_000_000,)
    packed_again(path, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 50_000
    with pytest.raises(KeyframeError, match=r"a\.ckpt is not a checkpoint, or is damaged: use another one\.$"):
        read_checkpoint(path)


def test_torn_files(tmp_path):
    path = saved(tmp_path / "a.ckpt", {"a": torch.zeros(1000)}, epoch=3)
    whole = path.read_bytes()
    for length in (0, 3, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(KeyframeError, match=r"a\.ckpt is not a checkpoint, or is damaged: use another one\.$"):
            read_checkpoint(path)


class Own(nn.Module):
    """A user's own, which takes memory in all ways of torch."""

    def __init__(self, make):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.buffer = make()


SMALL = partial(KeyframeDetector, NoBackbone(8), partial(TemporalHead, projection=(8,), heads=2, local_heads=1))
LARGE = {
    "layers": lambda: TemporalHead(8, layers=10**6),
    "narrow layers": lambda: TemporalHead(8, (1,), layers=10**6, heads=1, local_heads=0, feedforward=1),
    "widths": lambda: TemporalHead(8, (10**6, 10**6)),
    "a width": lambda: TemporalHead(8, (10**10,), heads=10**10),
    "feedforward": lambda: TemporalHead(8, feedforward=10**10),
    "features": lambda: KeyframeDetector(NoBackbone(10**12), TemporalHead),
    "backbone": lambda: Backbone("vit_giant_patch14_224", pretrained=False),
    "zeros": lambda: Own(lambda: torch.zeros(10**6, 10**6)),
    "ones": lambda: Own(lambda: torch.ones((10**6, 10**6), dtype=torch.bool)),
    "full": lambda: Own(lambda: torch.full((10**12,), 3)),
    "arange": lambda: Own(lambda: torch.arange(10**12)),
    "rand": lambda: Own(lambda: torch.rand(10**12, generator=torch.Generator())),
    "identity": lambda: Own(lambda: torch.eye(10**6)),
}


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
@pytest.mark.timeout(20)
def test_a_model_larger_than_its_weights_is_not_made(make, tmp_path):
    with pytest.raises(ValueError, match="larger than the weights in the file"):
        rebuild(make, SMALL().state_dict(), tmp_path / "a.ckpt")


def test_a_model_that_fits_its_weights_is_made(tmp_path):
    weights = {
        name: torch.rand_like(value) for name, value in SMALL().state_dict().items() if value.is_floating_point()
    }
    weights["standardizer.fitted"] = torch.tensor(True)
    model = rebuild(SMALL, weights, tmp_path / "a.ckpt")
    assert not model.training and model.standardizer.fitted
    assert all(torch.equal(model.state_dict()[name], value) for name, value in weights.items())
    # it makes much besides its weights
    make = partial(timm.create_model, "tiny_vit_11m_224", num_classes=0)
    with torch.device("meta"):
        shapes = make().state_dict()
    rebuild(make, {name: torch.zeros(value.shape, dtype=value.dtype) for name, value in shapes.items()}, tmp_path / "a")


def test_other_weights_than_the_models(tmp_path):
    weights = dict(SMALL().state_dict())
    for number in ("nan", "inf"):
        with pytest.raises(KeyframeError, match=r"a\.ckpt holds weights that are not numbers"):
            rebuild(SMALL, weights | {"head.norm.weight": torch.full((8,), float(number))}, tmp_path / "a.ckpt")
    for other in ({}, weights | {"more": torch.zeros(1)}, weights | {"head.norm.weight": torch.zeros(9)}):
        with pytest.raises(KeyframeError, match=r"a\.ckpt holds other weights than its model has"):
            rebuild(SMALL, other, tmp_path / "a.ckpt")
