import copy
import io

import pytest
import torch
from hydra.utils import instantiate
from torch._dynamo.testing import CompileCounter
from torch._inductor.exc import InvalidCxxCompiler

from keyframe.models import detector as detector_file
from keyframe.models.backbone import Backbone, NoBackbone
from keyframe.models.detector import choose_chunk, compile_detector, count_parameters, parameter_table
from keyframe.types import KeyframeError
from tests.models.build import HEADS, composed_model, live, make_detector

CPU = torch.device("cpu")


def ready(backbone="efficientnet_b0", **options):
    """A detector that has statistics of features, in eval mode."""
    torch.manual_seed(0)
    detector = make_detector(backbone, **options)
    live(detector.backbone)
    with torch.no_grad():
        features = detector.encode_tail(detector.encode_prefix(clip(2, 6)))
    detector.standardizer.set(features.flatten(0, 1).mean(0), features.flatten(0, 1).std(0))
    return detector.eval()


def clip(videos, length, size=48, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (videos, length, 3, size, size), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def detector():
    return ready()


@pytest.fixture(scope="module", params=["efficientnet_b0", "resnet50"])
def either(request):
    return ready(request.param)


@torch.no_grad()
def test_frames_in_scores_out(either):
    for length in (1, 5, 13):
        scores = either(clip(2, length))
        assert scores.shape == (2, length)
        assert scores.dtype == torch.float32
        assert 0 <= scores.min() <= scores.max() <= 1
        assert length == 1 or scores.std(1).min() > 1e-4  # frames are told apart


@torch.no_grad()
def test_other_frame_sizes_and_the_mask(detector):
    frames = torch.randint(0, 256, (2, 6, 3, 64, 40), dtype=torch.uint8)
    mask = torch.arange(6) < torch.tensor([6, 4])[:, None]
    scores = detector(frames, mask)
    torch.testing.assert_close(scores[1, :4], detector(frames[1:, :4])[0], rtol=0, atol=1e-5)
    assert not scores[1, 4:].any()


@torch.no_grad()
def test_bytes_are_floats_times_255(detector):
    frames = clip(1, 4)
    for same in (frames.float() / 255, frames.double() / 255, frames.long()):
        torch.testing.assert_close(detector(frames), detector(same), rtol=0, atol=1e-6)


def test_frames_are_normalised_by_imagenet_statistics(detector):
    frames = clip(1, 2)[0]
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)  # Deng et al. (2009) as torchvision publishes them
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    torch.testing.assert_close(detector.normalize(frames), (frames / 255 - mean) / std)


@torch.no_grad()
def test_chunks_do_not_matter(detector):
    frames = clip(2, 5)
    whole = detector(frames)
    for chunk in (1, 3, 10):
        detector.chunk = chunk
        torch.testing.assert_close(detector(frames), whole, rtol=0, atol=1e-4)
    detector.chunk = 64


def test_no_more_frames_than_a_chunk_are_encoded_at_once():
    detector, seen = ready(chunk=4), []
    detector.backbone.model.conv_stem.register_forward_hook(lambda module, given, out: seen.append(len(out)))
    with torch.no_grad():
        detector(clip(2, 7))
    assert seen == [4, 4, 4, 2]


@torch.no_grad()
def test_the_three_parts_are_the_whole(either):
    frames = clip(2, 5)
    mask = torch.arange(5) < torch.tensor([5, 3])[:, None]
    maps = either.encode_prefix(frames)
    features = either.encode_tail(maps)
    assert maps.shape[:2] == features.shape[:2] == (2, 5)
    assert features.shape[2] == either.backbone.width
    scores = either(frames, mask)
    assert torch.equal(either.score(features, mask), scores)
    for kind, values in (("pixels", frames), ("prefix", maps), ("features", features)):
        torch.testing.assert_close(either.encode(kind, values), features)
        assert torch.equal(either.enter(kind, values, mask), scores)
    # half-precision maps of a cache enter too
    torch.testing.assert_close(either.enter("prefix", maps.half(), mask), scores, rtol=0, atol=5e-3)


def test_gradients_stop_at_the_prefix():
    detector = ready().train()
    detector.backbone.train_tail(True)
    detector(clip(1, 4)).sum().backward()
    with_gradient = {name for name, p in detector.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, p in detector.named_parameters() if p.requires_grad}
    assert "backbone.model.conv_head.weight" in with_gradient
    assert not [name for name in with_gradient if name.startswith("backbone.model.blocks.5")]


def test_other_shapes_and_chunks_are_refused(detector):
    for shape in ((4, 3, 32, 32), (1, 4, 32, 32, 3), (1, 4, 1, 32, 32), (32, 32)):
        with pytest.raises(ValueError, match=r"\(B, T, 3, H, W\)"):
            detector(torch.zeros(shape))
    for chunk in (0, -1):
        with pytest.raises(ValueError, match="chunk must be"):
            make_detector(NoBackbone(6), chunk=chunk)


@torch.no_grad()
def test_build_load_state_dict_and_call():
    trained = ready()
    with torch.random.fork_rng():
        torch.manual_seed(99)
        fresh = make_detector().eval()
    frames = clip(2, 5)
    assert not torch.allclose(fresh(frames), trained(frames))
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(frames), trained(frames))


def test_features_are_standardised_and_a_constant_channel_is_centred():
    standardizer = make_detector().standardizer
    width = len(standardizer.mean)
    features = torch.randn(500, width, generator=torch.Generator().manual_seed(0)) * 1e-5 + 3
    features[:, 7] = 2.0
    assert not standardizer.fitted
    assert torch.equal(standardizer(features), features)
    exact = features.double()
    standardizer.set(exact.mean(0), exact.std(0, correction=0))
    assert standardizer.fitted
    after = standardizer(features)
    assert not after[:, 7].any()
    others = torch.arange(width) != 7
    assert after[:, others].std(0).min() > 0.9
    assert after[:, others].std(0).max() < 1.1


def full(backbone, head="dual"):
    """The model of the YAML files, weights at random."""
    return instantiate(composed_model(backbone, head), _convert_="all")


def test_sizes_are_within_the_limits():
    light, heavy = count_parameters(full("efficientnet_b0")), count_parameters(full("resnet50"))
    # the limits of the requirements
    assert light["total"] <= 7.8e6
    assert light["total"] <= 0.3 * heavy["total"]
    assert light["trainable_stage1"] <= 2.5e6
    assert light["trainable_stage2"] <= 4.3e6
    # torchvision's published counts without the classifiers
    assert heavy["backbone"] == 25_557_032 - 2_049_000
    assert light["backbone"] == 5_288_548 - 1_281_000


@pytest.mark.parametrize("backbone", ["efficientnet_b0", "resnet50"])
def test_sizes_are_what_trains(backbone):
    detector = full(backbone)
    counts = count_parameters(detector)

    def trainable():
        return sum(p.numel() for p in detector.parameters() if p.requires_grad)

    assert counts["total"] == sum(p.numel() for p in detector.parameters())
    detector.backbone.train_tail(True)
    assert trainable() == counts["trainable_stage2"] > counts["trainable_stage1"]
    detector.backbone.train_tail(False)
    assert trainable() == counts["trainable_stage1"]
    assert count_parameters(detector, two_stages=False)["trainable_stage2"] == 0


def test_all_heads_make_models_of_one_size():
    sizes = [count_parameters(full("efficientnet_b0", head))["total"] for head in HEADS]
    assert max(sizes) < 1.001 * min(sizes)  # similarities are a few weights


def test_parameter_table_reads_in_millions():
    counts = {"backbone": 4_007_548, "total": 6_480_000, "trainable_stage1": 2_470_000, "trainable_stage2": 3_600_000}
    assert parameter_table("efficientnet_b0", counts).splitlines() == [
        "parameters             efficientnet_b0",
        "backbone                        4.01 M",
        "total                           6.48 M",
        "trainable, stage 1              2.47 M",
        "trainable, stage 2              3.60 M",
    ]


def test_a_detector_without_a_backbone_scores_features_and_refuses_frames():
    detector = make_detector(NoBackbone(6)).eval()
    features = torch.randn(2, 5, 6)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    scores = detector.enter("features", features, mask)
    assert scores.shape == (2, 5)
    assert bool(((scores[mask] > 0) & (scores[mask] < 1)).all()) and not scores[~mask].any()
    assert torch.equal(scores, detector.score(features, mask))
    # what is behind the mask does not matter
    changed = torch.where(mask[..., None], features, torch.full_like(features, 9.0))
    torch.testing.assert_close(detector.enter("features", changed, mask), scores)
    with pytest.raises(KeyframeError, match="no backbone and scores features only"):
        detector(torch.zeros(1, 2, 3, 8, 8))
    with pytest.raises(KeyframeError, match="no backbone and scores features only"):
        detector.enter("prefix", torch.zeros(1, 2, 4, 4, 4))


def test_a_chunk_depends_on_the_frame_size_and_the_threads_until_memory_is_short(monkeypatch):
    monkeypatch.setattr(detector_file, "available_bytes", lambda: None)  # unknown: no limit
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    one = choose_chunk(224, 224, CPU)
    assert choose_chunk(448, 224, CPU) == one // 2
    assert choose_chunk(4000, 4000, CPU) == 1
    assert choose_chunk(8, 8, CPU) == 64
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert choose_chunk(224, 224, CPU) == 2 * one
    whole = choose_chunk(64, 64, CPU)
    for free in (10**12, 10**8, 10**7, 10**6, 0):
        monkeypatch.setattr(detector_file, "available_bytes", lambda free=free: free)
        smaller = choose_chunk(64, 64, CPU)
        assert 1 <= smaller <= whole
        assert free < 10**12 or smaller == whole
        whole = smaller
    assert whole == 1
    monkeypatch.setattr(detector_file, "_free_memory", lambda device: None)
    assert choose_chunk(224, 224, torch.device("cuda")) > 2 * one


# Parts are traced but not turned into machine code, which takes a minute: what could go wrong lies before that.
def small(length):
    return torch.randint(0, 256, (2, length, 3, 32, 32), dtype=torch.uint8)


@pytest.mark.full
def test_a_compiled_detector_is_the_detector_in_both_stages_at_any_length():
    torch.manual_seed(0)
    eager = make_detector(Backbone("test_efficientnet", pretrained=False), chunk=4)
    for module in eager.head.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    live(eager.backbone)
    compiled = copy.deepcopy(eager)
    compile_detector(compiled, backend="eager")
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    for stage_2, lengths in ((False, (2,)), (True, (2, 3, 5))):
        for length in lengths:
            frames = small(length)
            with torch.no_grad():
                torch.testing.assert_close(compiled.eval()(frames), eager.eval()(frames), rtol=0, atol=1e-6)
            for detector in (eager, compiled):
                detector.backbone.train_tail(stage_2)
                detector.zero_grad()
                detector.train()(frames).square().sum().backward()
            for (name, ours), theirs in zip(compiled.named_parameters(), eager.parameters(), strict=True):
                assert (ours.grad is None) == (theirs.grad is None), name
                if ours.grad is not None:
                    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_the_backbone_is_compiled_once_for_any_number_of_frames():
    counter = CompileCounter()
    detector = make_detector(Backbone("test_efficientnet", pretrained=False), chunk=8).eval()
    compile_detector(detector, backend=counter)
    with torch.inference_mode():
        for length in (9, 4, 2):  # together: chunks of 8 and 8 and 2, of 8, and of 4
            detector.encode_tail(detector.encode_prefix(small(length)))
    assert counter.frame_count == 2  # the prefix and the tail


def test_a_missing_compiler_is_reported_before_anything_is_compiled(monkeypatch):
    def none():
        raise InvalidCxxCompiler

    monkeypatch.setattr(detector_file, "get_cpp_compiler", none)
    with pytest.raises(KeyframeError, match=r"compile=true needs a C\+\+ compiler"):
        compile_detector(make_detector(NoBackbone(6)))
