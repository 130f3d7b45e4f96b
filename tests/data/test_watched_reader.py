import pickle

import numpy as np

from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.reader import WatchedReader, described_reader
from tests.videos import build


def test_it_reads_as_the_other_and_tells_how_far_it_is(tmp_path):
    video = build("late_start.mp4", tmp_path)
    index = index_packets(video)
    told = []
    watched = WatchedReader(PyAVReader(), lambda path, seconds, of: told.append((path, seconds, of)))
    wanted = np.arange(0, index.n_frames - 1, 3)
    pieces = list(watched.stream(video, wanted, (32, 32), index, chunk=4))
    expected = PyAVReader().read(video, wanted, (32, 32))
    np.testing.assert_array_equal(np.concatenate([piece.pixels for piece in pieces]), expected.pixels)
    times = index.timestamps - index.timestamps[0]
    assert {path for path, _, _ in told} == {video} and {of for _, _, of in told} == {times[wanted[-1]]}
    seconds = [at for _, at, _ in told]
    assert seconds[0] == 0 and seconds[-1] == times[wanted[-1]] and (np.diff(seconds) >= 0).all()
    assert len(set(seconds)) == len(pieces) + 1
    assert list(watched.stream(video, np.array([], int), (32, 32))) == []


def test_in_another_process_and_in_a_record_it_is_the_other_reader():
    watched = WatchedReader(PyAVReader(max_missing=0.2), lambda *_: None)
    assert isinstance(pickle.loads(pickle.dumps(watched)), PyAVReader)
    assert described_reader(watched) == described_reader(PyAVReader(max_missing=0.2))
