"""Videos to measure on: as asked, the same every time, and different to what compares files."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kendalltau

from keyframe.benchmark.footage import Footage, TrainData, synthetic_video, write_clips, write_copies
from keyframe.data.decord_reader import why_not_decord
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.evaluation.video import annotators_at_picks
from keyframe.files import content_hash
from keyframe.summary.shots import KtsShots

SMALL = Footage(seconds=80, width=96, height=64, rate=5, key_every=20)


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    return SMALL.write(tmp_path_factory.mktemp("footage"))


def test_length_rate_and_key_frames_are_as_asked(footage):
    index = index_packets(footage)
    assert (index.n_frames, index.shown_size) == (400, (64, 96))
    assert index.timestamps == pytest.approx(np.arange(400) / 5)
    assert np.flatnonzero(index.key_frames).tolist() == list(range(0, 400, 20))
    assert why_not_decord(index) is None
    before = footage.stat().st_mtime_ns
    assert SMALL.write(footage.parent) == footage and footage.stat().st_mtime_ns == before  # made once
    assert [path.name for path in footage.parent.iterdir()] == [footage.name]


@pytest.mark.parametrize(("encoder", "codec"), [("libx265", "hevc"), ("libsvtav1", "av1")])
def test_footage_of_other_codecs(encoder, codec, tmp_path, capfd):
    index = index_packets(replace(SMALL, encoder=encoder).write(tmp_path))
    assert (index.codec, index.n_frames, index.duration) == (codec, 400, pytest.approx(80))
    assert "".join(capfd.readouterr()) == ""


def test_scenes_are_those_of_the_shots(footage):
    assert [sorted(Footage.scenes([second])) for second in (0, 1.99, 2, 39.9, 40)] == [[0], [0], [1], [7], [0]]
    for cut in (10, 25):  # at 2 s and 5 s
        frames = PyAVReader().read(footage, np.array([cut - 2, cut - 1, cut]), None).pixels.astype(int)
        within, across = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
        assert across > within


def test_the_second_piece_shows_what_the_first_does(footage):
    frames = PyAVReader().read(footage, np.array([3, 111, 203, 311]), None)
    assert np.array_equal(frames.pixels[0], frames.pixels[2]) and np.array_equal(frames.pixels[1], frames.pixels[3])
    assert np.abs(frames.pixels[0].astype(int) - frames.pixels[1]).mean() > 10


def test_footage_that_cannot_be_is_refused(tmp_path):
    for wrong in ({"seconds": 50}, {"seconds": 0}, {"seconds": 40, "key_every": 300}):
        with pytest.raises(ValueError, match="must"):
            Footage(**wrong)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"file is not a folder"):
        TrainData(SMALL, tmp_path / "file", videos=1).write(tmp_path)


def test_clips_and_their_copies(tmp_path):
    """Clips are pieces of the footage that begin at zero; their copies show the same and are other content."""
    footage = Footage(seconds=40, width=96, height=64, rate=5, key_every=25)
    clips = write_clips(footage, tmp_path)
    whole = PyAVReader().read(footage.write(tmp_path), [130], None)
    index = index_packets(clips[5])
    assert (len(clips), index.n_frames, float(index.timestamps[0])) == (8, 25, 0)
    assert (PyAVReader().read(clips[5], [5], None).pixels == whole.pixels).all()
    copies = write_copies(clips[:2], tmp_path / "many", 5)
    assert len({content_hash(copy) for copy in copies}) == len({copy.name for copy in copies}) == 5
    first, third = (PyAVReader().read(copies[number], [7], None) for number in (0, 2))
    assert (first.pixels == third.pixels).all()


@pytest.fixture(scope="module")
def synthetic():
    return synthetic_video(0, 3000, 5, seed=0)


def test_synthetic_labels_are_as_tvsum_gives_them(synthetic):
    scores = 1 + 4 * synthetic.labels.annotators
    assert scores.shape == (5, 3000)
    assert set(np.unique(scores)) == {1, 2, 3, 4, 5}
    assert (scores.reshape(5, 50, 60) == scores[:, ::60, None]).all()  # held for 2 s
    annotators = annotators_at_picks(synthetic.labels)
    # they agree somewhat
    assert np.mean([kendalltau(annotators[0], one).statistic for one in annotators[1:]]) > 0.1


def test_synthetic_scores_and_looks_are_plausible(synthetic):
    assert synthetic.scores.shape == synthetic.seconds.shape == (200,)
    assert kendalltau(synthetic.scores, synthetic.labels.importance[::15]).statistic > 0.2
    likeness = synthetic.appearance.descriptors @ synthetic.appearance.descriptors.T
    assert np.median(np.diag(likeness, 1)) > 0.95  # a steady shot
    assert 0.6 < likeness.mean() < 0.95
    shots = KtsShots()(synthetic.appearance.descriptors, synthetic.seconds)
    assert 10 < len(shots) < 40  # of about 5 s


def test_synthetic_videos_are_the_same_every_time_and_differ(synthetic):
    again, other = synthetic_video(0, 3000, 5, seed=0), synthetic_video(1, 3000, 5, seed=0)
    assert np.array_equal(again.labels.annotators, synthetic.labels.annotators)
    assert np.array_equal(again.appearance.descriptors, synthetic.appearance.descriptors)
    assert not np.array_equal(other.labels.annotators, synthetic.labels.annotators)
    assert not np.array_equal(synthetic_video(0, 3000, 5, seed=1).scores, synthetic.scores)
