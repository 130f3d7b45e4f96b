"""keyframe-evaluate as a user runs it."""

import csv
import json
import math

import h5py
import numpy as np
import pytest

from keyframe.data.labels import write_tsv
from keyframe.evaluation.reference import LINES


@pytest.fixture(scope="module")
def evaluate(command):
    return lambda *arguments, **changes: command(*arguments, program="keyframe-evaluate", **changes)


def write_labels(path, videos=3, people=4):
    rng = np.random.default_rng(0)
    write_tsv(path, {f"clip{number}": rng.integers(1, 6, (people, 90)) for number in range(videos)})
    return path


def read(run):
    return json.loads((run / "metrics.json").read_text())


@pytest.fixture(scope="module")
def evaluated(evaluate, tmp_path_factory):
    """A label file whose path Hydra's grammar would not take, and what the command made of it."""
    place = tmp_path_factory.mktemp("evaluate")
    (place / "my labels (1), a=b").mkdir()
    path = write_labels(place / "my labels (1), a=b" / "it's.tsv")
    return evaluate(f"labels={path}", f"hydra.run.dir={place / 'run'}").good(), place / "run"


def test_metrics_hold_each_line_and_its_interval(evaluated):
    metrics = read(evaluated[1])
    assert metrics["reference/videos"] == 3
    for line in [name for name in LINES if name != "training_free"]:
        for metric in ("kendall", "spearman"):
            key = f"reference/{line}/{metric}"
            assert metrics[f"{key}_lo"] <= metrics[key] <= metrics[f"{key}_hi"]
            assert -1 <= metrics[key] <= 1
    assert metrics["reference/ceiling/kendall"] > metrics["reference/one_annotator/kendall"]


def test_a_row_a_video(evaluated):
    run = evaluated[1]
    with (run / "per_video.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows] == ["clip0", "clip1", "clip2"]
    mean = np.mean([float(row["ceiling/kendall"]) for row in rows])
    assert mean == pytest.approx(read(run)["reference/ceiling/kendall"])


def test_the_table_is_printed_and_the_report_written(evaluated):
    done, run = evaluated
    value = f"{read(run)['reference/other_annotators/kendall']:.3f}"
    assert value in done.out and value in (run / "report.md").read_text()
    assert "other annotators" in done.out and str(run / "report.html") in done.out
    assert (run / "config.yaml").is_file()
    assert done.err == ""


def test_the_same_labels_give_the_same_numbers(evaluate, evaluated, tmp_path):
    path = write_labels(tmp_path / "labels.tsv")
    evaluate(f"labels={path}", f"hydra.run.dir={tmp_path / 'run'}").good()
    assert read(tmp_path / "run") == read(evaluated[1])


def test_one_video_has_no_interval(evaluate, tmp_path):
    done = evaluate(
        f"labels={write_labels(tmp_path / 'one.tsv', videos=1)}", f"hydra.run.dir={tmp_path / 'run'}"
    ).good()
    metrics = read(tmp_path / "run")
    assert metrics["reference/ceiling/kendall_lo"] is None and metrics["reference/ceiling/kendall"] is not None
    assert "Intervals are not available" in done.out


def test_one_annotator_and_constants_are_told(evaluate, tmp_path):
    path = tmp_path / "labels.tsv"
    write_tsv(path, {"a": np.tile([1, 2, 3], 30)[None], "b": np.full((1, 60), 2)})
    done = evaluate(f"labels={path}", f"hydra.run.dir={tmp_path / 'run'}").good()
    assert read(tmp_path / "run")["reference/one_annotator/kendall"] is None
    assert "one annotator: 2 of 2 videos have no value" in done.out
    assert not any(math.isnan(value) for value in read(tmp_path / "run").values() if value is not None)


def test_another_scale(evaluate, tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_text("a\t\t0,10\na\t\t7,3\n")
    assert "score 0" in evaluate(f"labels={path}").sentence()
    evaluate(f"labels={path}", "lowest=0", "highest=10").good()
    assert "highest=much must be a number" in evaluate(f"labels={path}", "highest=much").sentence()


def nothing(path):
    return path / "nothing.tsv", ["there is no file", "nothing.tsv"]


def a_directory(path):
    return path, [str(path), ".mat, .tsv, .h5"]


def a_video(path):
    (path / "a.mp4").touch()
    return path / "a.mp4", ["a.mp4", "no label file"]


def text(path):
    (path / "a.tsv").write_text("all of it,1,2,3\n")
    return path / "a.tsv", ["a.tsv, line 1", "3 columns"]


def empty(path):
    (path / "a.tsv").touch()
    return path / "a.tsv", ["a.tsv is empty"]


def not_hdf5(path):
    (path / "a.mat").write_text("MATLAB")
    return path / "a.mat", ["a.mat", "HDF5"]


def without_videos(path):
    with h5py.File(path / "a.mat", "w") as file:
        for name in ("video", "category", "user_anno"):
            file.create_dataset(f"tvsum50/{name}", shape=(0, 1), dtype=h5py.ref_dtype)
    return path / "a.mat", ["a.mat", "no videos"]


def without_annotators(path):
    with h5py.File(path / "a.h5", "w") as file:
        file["video_1/gtscore"], file["video_1/picks"], file["video_1/n_frames"] = [0.1, 0.9], [0, 15], 30
    return path / "a.h5", ["a.h5", "no annotators", "reference lines need each annotator's scores", ".mat or .tsv"]


BAD = (nothing, a_directory, a_video, text, empty, not_hdf5, without_videos, without_annotators)


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_label_files(evaluate, tmp_path, make):
    path, words = make(tmp_path)
    sentence = evaluate(f"labels={path}", f"hydra.run.dir={tmp_path / 'run'}").sentence()
    assert all(word in sentence for word in words), sentence
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_nothing_to_evaluate(evaluate):
    assert "labels=FILE" in evaluate().sentence()


def test_a_misspelled_key(evaluate):
    assert "did you mean labels?" in evaluate("label=x.tsv").sentence()
