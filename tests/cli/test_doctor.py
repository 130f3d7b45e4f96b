"""keyframe-doctor: the machine, and what of a data set would be trained on."""

import av
import pytest
import torch

import keyframe
from keyframe.cli import doctor
from tests.videos import write_video

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def examine(command):
    return lambda *arguments, **changes: command(*arguments, program="keyframe-doctor", **changes)


@pytest.fixture
def data_set(tmp_path):
    """Twelve videos of two seconds; one of them is too short for 20 frames, and one is no video."""
    (tmp_path / "set" / "videos").mkdir(parents=True)
    rows = ["video,start,end,score"]
    for number in range(12):
        path = tmp_path / "set" / "videos" / f"v{number}.mp4"
        write_video(path, frames=10 if number == 3 else 24, size=(64, 48))
        rows.append(f"v{number},0,0.2,4")
    path.write_bytes(b"no video" * 100)
    (tmp_path / "set" / "labels.csv").write_text("\n".join(rows))
    return tmp_path / "set"


def test_the_machine_and_the_data(examine, data_set):
    done = examine(
        "data=labelled", f"data.root={data_set}", "sampling.frames=20", "backbone.pretrained=false", "data.folds=3"
    ).good()
    for part in (
        keyframe.__version__,
        torch.__version__.partition("+")[0],
        av.__version__,
        "decoders",
        "W&B",
        "GB free",
    ):
        assert part in done.out
    assert "Left out v3: " in done.out and "has 10 frames, fewer than sampling.frames=20" in done.out
    assert "Left out v11: " in done.out and "2 videos would be left out" in done.out
    assert sum(map(int, _counts(done.out))) == 10


def _counts(text):
    line = next(line for line in text.splitlines() if "Videos: " in line)
    return [word for word in line.replace(",", "").split() if word.isdigit()]


def test_what_would_stop_training_stops_it_with_the_same_sentence(examine, data_set):
    (data_set / "labels.csv").unlink()
    done = examine("data=labelled", f"data.root={data_set}", "backbone.pretrained=false")
    assert done.status == 1 and "there is no label file" in done.err


def test_what_is_absent_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "_EXTRAS", {"shots": "no_such_module", "sweep": "no_such.part"})
    monkeypatch.setattr(doctor, "_DECODERS", ("h264", "no_such_codec"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    lines = dict(doctor._machine(doctor.DictConfig({"cache": None})))
    assert lines["extras"] == (
        "absent: pip install 'keyframe-lightning[shots]', pip install 'keyframe-lightning[sweep]'"
    )
    assert lines["decoders"].startswith("absent: no_such_codec")
    assert lines["W&B"] == "disabled" and "cache" not in lines
