"""Models from the project's own YAML files, without pretrained weights."""

from functools import cache, partial

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from keyframe.config import conf_dir
from keyframe.models.backbone import Backbone
from keyframe.models.detector import KeyframeDetector
from keyframe.models.head import TemporalHead
from keyframe.models.published_heads import CSTA, MLP, PGLSUM, VASNet, VsLSTM

CUT = (
    "resnet50",
    "efficientnet_b0",
    "efficientnet_b2",
    "mobilenetv4_conv_small",
    "mobilenetv4_conv_medium",
    "efficientnet_lite0",
)
HEADS = ("dual", "local", "global", "framewise")
# The heads of published systems, small; CSTA has one size.
PUBLISHED = {
    "vasnet": partial(VASNet, width=16),
    "pgl_sum": partial(PGLSUM, width=16, heads=4, local_heads=2),
    "bilstm": partial(VsLSTM, hidden=8),
    "mlp": partial(MLP, hidden=(8, 8)),
    "csta": CSTA,
}


@cache
def composed_model(backbone="efficientnet_b0", head="dual"):
    """The `model` of keyframe-train's configuration, weights at random."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", [f"backbone={backbone}", f"head={head}", "backbone.pretrained=false"]).model


def cut_of(backbone):
    """The module lists of conf/backbone/<backbone>.yaml: prefix, tail."""
    config = composed_model(backbone).backbone
    return list(config.prefix), list(config.tail)


def make_backbone(yaml="efficientnet_b0", **options):
    """A random backbone, cut as its YAML file says, if that has no other options."""
    prefix, tail = cut_of(yaml)
    name = composed_model(yaml).backbone.name
    return Backbone(name, **{"pretrained": False, "prefix": prefix, "tail": tail, **options})


def head_options(name, **changes):
    """Arguments of TemporalHead as conf/head/<name>.yaml has them."""
    files = ["dual"] if name == "dual" else ["dual", name]
    merged = OmegaConf.merge(*[OmegaConf.load(conf_dir() / "head" / f"{file}.yaml") for file in files])
    options = OmegaConf.to_container(merged)
    return {key: value for key, value in options.items() if not key.startswith("_") and key != "defaults"} | changes


def make_head(name, features=12, **changes):
    """A small head of that kind, in eval mode."""
    if name in PUBLISHED:
        return PUBLISHED[name](features, **changes).eval()
    small = {"projection": (16, 16), "layers": 2, "heads": 4, "feedforward": 24, **changes}
    options = head_options(name, **small)
    options["local_heads"] = {"dual": 2, "global": 0}.get(name, 4)
    return TemporalHead(features, **options).eval()


def make_detector(backbone="efficientnet_b0", **options):
    """A detector with a small dual head; its backbone may be a name or a module."""
    head = partial(TemporalHead, projection=(16, 16), layers=1, heads=4, local_heads=2, similarity=(5, None))
    return KeyframeDetector(make_backbone(backbone) if isinstance(backbone, str) else backbone, head, **options)


def live(network, seed=0):
    """Give the norm layers of a random network statistics and affine maps that matter, as pretrained ones have."""
    generator = torch.Generator().manual_seed(seed)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.weight.data.uniform_(0.8, 1.2, generator=generator)
        norm.bias.data.uniform_(-0.2, 0.2, generator=generator)
        norm.momentum = 1.0
        norm.training = True
    with torch.no_grad():
        network(torch.randn(8, 3, 64, 64, generator=generator))
    for norm in norms:
        norm.momentum = 0.1
    return network.eval()
