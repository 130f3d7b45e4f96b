"""Training on real clips with labels of one's own, and on TVSum's official labels with stand-ins for its videos."""

import csv
import json

import h5py
import numpy as np
import pytest

from keyframe.data.dataset import VideoDataset
from keyframe.data.folder import DirectorySource
from keyframe.data.labels import write_tsv
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.sampling import UniformSampling
from keyframe.types import KeyframeError
from tests.commands import BACKBONE
from tests.data.stand_ins import FRAME_COUNTS, write_stand_in

pytestmark = pytest.mark.full

COMMON = (
    *BACKBONE,
    "backbone.pretrained=false",
    "callbacks.curves=null",
    "data.size=32",
    "sampling.frames=10",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "finetune.switch_epoch=1",
    "data.folds=3",
    "logger=csv",
)

# H.264, VP8, HEVC, AV1, 10 bit; B-frames, several streams, a late start, no duration in the header.
CLIPS = (
    "bikes.mp4",
    "chaplin.mp4",
    "delayed_start.mp4",
    "fades.mp4",
    "flower.webm",
    "friday.mp4",
    "frog.webm",
    "tc_av1.mkv",
    "tc_h264_10bit.mp4",
    "tc_h265.mp4",
    "tc_nasa.mp4",
)


def results(run):
    with (run / "per_video.csv").open() as file:
        return json.loads((run / "metrics.json").read_text()), list(csv.DictReader(file))


def videos_of(metrics):
    return [metrics[f"data/videos_{part}"] for part in ("train", "val", "test", "skipped")]


def test_real_clips_with_labels_of_ones_own(command, clips, tmp_path):
    root, run = tmp_path / "my videos (2024)", tmp_path / "run"
    root.mkdir()
    labels = {}
    rng = np.random.default_rng(0)
    for name in CLIPS:
        (root / name).symlink_to(clips / name)
        frames = index_packets(clips / name).n_frames
        scores = np.repeat(rng.integers(1, 6, (3, frames // 5 + 1)), 5, axis=1)[:, :frames]
        labels[name.rpartition(".")[0]] = scores
    # a file that is no video is left out and logged
    (root / "notes.mp4").write_text("shopping list\n" * 30)
    labels["notes"] = np.full((3, 50), 2)
    write_tsv(root / "labels.tsv", labels)
    done = command("data=labelled", f"data.root={root}", *COMMON, f"hydra.run.dir={run}").good()
    metrics, rows = results(run)
    train, val, test, skipped = videos_of(metrics)
    assert (train + val + test, skipped) == (len(CLIPS), 1)
    assert f"notes: {root / 'notes.mp4'} is " in done.out
    assert "aligned by time" not in done.out
    assert {row["video"] for row in rows} < labels.keys()
    assert len(rows) == test
    assert -1 <= metrics["test/spearman"] <= 1 and "stage 2" in done.out


@pytest.fixture(scope="module")
def tvsum(official_labels, tmp_path_factory):
    """TVSum as it is released, as far as it is available: the official labels and three stand-ins."""
    root = tmp_path_factory.mktemp("tvsum")
    (root / "video").mkdir()
    (root / "matlab").mkdir()
    (root / "matlab" / official_labels.name).symlink_to(official_labels)
    for name in FRAME_COUNTS:
        write_stand_in(root / "video", name)
    return root


def test_stand_ins_have_the_true_frame_counts(tvsum, official_labels):
    with h5py.File(official_labels) as file:
        names = ["".join(map(chr, file[ref][()].ravel())) for ref in file["tvsum50/video"][()].ravel()]
        counts = [int(file[ref][()].ravel()[0]) for ref in file["tvsum50/nframes"][()].ravel()]
    official = dict(zip(names, counts, strict=True))
    for name, frames in FRAME_COUNTS.items():
        assert index_packets(tvsum / "video" / f"{name}.mp4").n_frames == frames == official[name]


def test_tvsum_with_its_official_labels(command, tvsum, tmp_path):
    arguments = ["data=tvsum", f"data.root={tvsum}", "data.allow_missing=true", *COMMON]
    done = command(*arguments, f"hydra.run.dir={tmp_path}").good()
    metrics, rows = results(tmp_path)
    assert videos_of(metrics) == [1, 1, 1, 0]
    assert "left out 47 labels without a video" in done.out and "3 labelled videos remain" in done.out
    assert "aligned by time" not in done.out
    assert "stage 2" in done.out
    # one video, so the mean over videos is its own row
    assert metrics["test/spearman"] == pytest.approx(float(rows[0]["spearman"]), abs=1e-6)
    assert "test/annotator_spearman" in metrics and rows[0]["video"] in FRAME_COUNTS


def test_tvsum_needs_all_its_videos_uncut(tvsum, official_labels, tmp_path):
    with pytest.raises(KeyframeError, match=r"47 labels without a video .*data\.allow_missing=true"):
        DirectorySource(str(tvsum)).videos()
    (name, frames), *_ = FRAME_COUNTS.items()
    write_stand_in(tmp_path, name, frames=frames * 97 // 100)
    videos = DirectorySource(str(tmp_path), str(official_labels), allow_missing=True).videos()
    dataset = VideoDataset("train", videos, PyAVReader(), UniformSampling(10), (32, 32))
    with pytest.raises(KeyframeError, match=rf"{name}\.mp4 has {frames * 97 // 100} frames and its labels {frames}"):
        dataset.check(decode=False)
