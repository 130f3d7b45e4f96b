"""What one unreadable video does to an evaluation: it is left out and named, and nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest

from keyframe.cli.load_runs import Scored, _score
from keyframe.types import KeyframeError, VideoError


def run(bad=()):
    def score(video, subject):
        if video in bad:
            raise VideoError(f"{video} is damaged.")
        return np.zeros(3)

    return SimpleNamespace(videos=lambda split: {name: name for name in "abc"}, score=score)


def test_a_video_that_one_run_cannot_read_is_left_out_for_all():
    scored = Scored(subjects=dict.fromkeys("abc", "subject"))
    _score([run(), run(bad="b"), run()], "test", scored)
    assert list(scored.subjects) == ["a", "c"] and scored.skipped == {"b": "b is damaged."}
    assert [set(one) for one in scored.scores] == [{"a", "b", "c"}, {"a", "c"}, {"a", "c"}]


def test_no_video_at_all():
    with pytest.raises(KeyframeError, match="No video of the val split"):
        _score([run(bad="abc")], "val", Scored(subjects=dict.fromkeys("abc", "subject")))
