"""What one unreadable video does to an evaluation: it is left out and named, and nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest

from keyframe.cli.evaluate import Scored, add_scores
from keyframe.types import KeyframeError, VideoError


def run(bad=()):
    """A run with the videos a, b and c, of which it cannot read the bad ones."""

    def video(name):
        def score(model, eval_video):
            if name in bad:
                raise VideoError(f"{name} is damaged.")
            return np.zeros(3)

        return SimpleNamespace(score=score)

    return SimpleNamespace(model=None, videos=lambda split: {name: video(name) for name in "abc"})


def test_a_video_that_one_run_cannot_read_is_left_out_for_all():
    scored = Scored(eval_videos=dict.fromkeys("abc"))
    add_scores([run(), run(bad="b"), run()], "test", scored)
    assert list(scored.eval_videos) == ["a", "c"] and scored.skipped == {"b": "b is damaged."}
    assert [set(one) for one in scored.scores] == [{"a", "b", "c"}, {"a", "c"}, {"a", "c"}]


def test_no_video_at_all():
    with pytest.raises(KeyframeError, match="No video of the val split"):
        add_scores([run(bad="abc")], "val", Scored(eval_videos=dict.fromkeys("abc")))
