import pytest

from keyframe.benchmark.footage import Footage, write_clips, write_copies
from keyframe.benchmark.scale import BatchRun, Step, batch, scale_figures
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.extraction.engines import ExtractionSpec
from keyframe.files import content_hash
from keyframe.summary.selection import UniformSelection
from keyframe.summary.shots import KtsShots


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """The eight clips of 5 s that footage of 40 s falls into."""
    footage = Footage(seconds=40, width=96, height=64, rate=5, key_every=25)
    return write_clips(footage, tmp_path_factory.mktemp("footage"))


def test_clips_are_pieces_of_the_footage_that_begin_at_zero(clips):
    whole = PyAVReader().read(
        clips[0].parent.parent / f"{clips[0].parent.name.removesuffix('-clips')}.mp4", [130], None
    )
    assert len(clips) == 8
    index = index_packets(clips[5])
    assert (index.n_frames, float(index.timestamps[0])) == (25, 0)
    assert (PyAVReader().read(clips[5], [5], None).pixels == whole.pixels).all()


def test_copies_show_the_same_and_are_other_content(clips, tmp_path):
    copies = write_copies(clips[:2], tmp_path / "many", 5)
    assert len({content_hash(copy) for copy in copies}) == len({copy.name for copy in copies}) == 5
    first, third = (PyAVReader().read(copies[number], [7], None) for number in (0, 2))
    assert (first.pixels == third.pixels).all()


def test_a_batch_is_planned_done_and_found_done(clips):
    steps = list(batch(ExtractionSpec(KtsShots(), UniformSelection(k=1), PyAVReader()), clips, 2))
    run = BatchRun.of(steps)
    assert len(run.videos) == len(run.resident_mb) == 2
    assert all(step.seconds > 0 for step in steps)


def test_figures():
    steady = [100.0] * 20 + [110.0] * 230
    few = BatchRun.of([Step(0.5, 90), *(Step(1, 100) for _ in range(10)), Step(0.1, 100)])
    many = BatchRun.of([Step(5, 90), *(Step(2, memory) for memory in steady), Step(2.5, 110)])
    values = {figure.key: figure.value for figure in scale_figures({10: few, 250: many})}
    assert values == pytest.approx(
        {
            "scale/seconds_a_video_10": 1.05,
            "scale/seconds_a_video_250": 2.02,
            "scale/ratio_250_over_10": 2.02 / 1.05,
            "scale/rss_growth_mb_20_to_200": 10,
            "scale/rss_growth_mb_20_to_250": 10,
            "scale/seconds_a_video_planning": 0.02,
            "scale/seconds_a_video_second_start": 0.01,
        }
    )
