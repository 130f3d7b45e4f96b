import pickle

import numpy as np

from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.files import described
from tests.videos import build


def test_a_stream_reports_how_far_it_is(tmp_path):
    video = build("late_start.mp4", tmp_path)
    index = index_packets(video)
    reader, calls = PyAVReader(max_missing=0.2), []
    reader.progress = lambda path, seconds, of: calls.append((path, seconds, of))
    wanted = np.arange(0, index.n_frames - 1, 3)
    pieces = list(reader.stream(video, wanted, (32, 32), index, chunk=4))
    expected = PyAVReader().read(video, wanted, (32, 32))
    np.testing.assert_array_equal(np.concatenate([piece.pixels for piece in pieces]), expected.pixels)
    times = index.timestamps - index.timestamps[0]
    assert {path for path, _, _ in calls} == {video} and {of for _, _, of in calls} == {times[wanted[-1]]}
    seconds = [at for _, at, _ in calls]
    assert seconds[0] == 0 and seconds[-1] == times[wanted[-1]] and (np.diff(seconds) >= 0).all()
    assert len(set(seconds)) == len(pieces) + 1
    assert list(reader.stream(video, np.array([], int), (32, 32))) == []
    # neither in another process nor in a record
    assert pickle.loads(pickle.dumps(reader)).progress is None
    assert described(reader, without={"threads", "progress"}) == {
        "kind": "PyAVReader",
        "max_missing": 0.2,
        "exact": True,
    }
