"""keyframe-evaluate: on label files, on trained runs, and on runs on feature files."""

import csv
import itertools
import json
import math
import re
import shutil

import h5py
import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, spearmanr

from keyframe.cli.evaluate import Scored, add_scores
from keyframe.data.feature_file import read_feature_files
from keyframe.data.labels import read_labels, write_tsv
from keyframe.data.pyav_reader import PyAVReader
from keyframe.evaluation import results
from keyframe.evaluation.metrics import f1_user_max, hold_scores, keyshots
from keyframe.evaluation.reference import LINES, fit_ridge
from keyframe.evaluation.results import BASELINES, METRICS
from keyframe.files import read_table
from keyframe.types import KeyframeError, VideoError
from tests.commands import in_process
from tests.data.feature_files import WIDTH, write_summe, write_tvsum

pytestmark = pytest.mark.full

QUICK = ("speed.videos=[1]", "speed.repeats=1", "pictures=0")


@pytest.fixture(autouse=True)
def unrendered(monkeypatch):
    """In this process figures are drawn, and not rendered: that takes a second of each evaluation."""

    def save(figure, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")

    monkeypatch.setattr(results, "save_figure", save)


def evaluate(run, *arguments):
    """Evaluate into a run directory, in this process, and return its metrics."""
    sentence = in_process("evaluate", *arguments, run_dir=run)
    assert not sentence
    return read(run)


def refused(run, *arguments):
    """The sentence of an evaluation that is refused."""
    sentence = in_process("evaluate", *arguments, run_dir=run)
    assert sentence and not (run / "metrics.json").exists()
    return sentence


def read(run):
    return json.loads((run / "metrics.json").read_text())


def rows_of(run):
    with (run / "per_video.csv").open() as file:
        return {row["video"]: row for row in csv.DictReader(file)}


# Label files


def write_labels(path, videos=3, annotators=4):
    rng = np.random.default_rng(0)
    write_tsv(path, {f"clip{number}": rng.integers(1, 6, (annotators, 90)) for number in range(videos)})
    return path


@pytest.fixture(scope="module")
def measured(command, tmp_path_factory):
    """A label file whose path Hydra's grammar would not take, and the command's results."""
    place = tmp_path_factory.mktemp("evaluate")
    (place / "my labels (1), a=b").mkdir()
    path = write_labels(place / "my labels (1), a=b" / "it's.tsv")
    arguments = (f"labels={path}", f"hydra.run.dir={place / 'run'}")
    return command(*arguments, program="keyframe-evaluate").good(), place / "run"


def test_each_line_and_its_interval(measured):
    done, run = measured
    metrics = read(run)
    assert metrics["reference/videos"] == 3
    for line in [name for name in LINES if name not in BASELINES]:
        for metric in ("kendall", "spearman"):
            key = f"reference/{line}/{metric}"
            assert -1 <= metrics[f"{key}_lo"] <= metrics[key] <= metrics[f"{key}_hi"] <= 1
    assert metrics["reference/ceiling/kendall"] > metrics["reference/one_annotator/kendall"]
    rows = rows_of(run)
    assert list(rows) == ["clip0", "clip1", "clip2"]
    mean = np.mean([float(row["ceiling/kendall"]) for row in rows.values()])
    assert mean == pytest.approx(metrics["reference/ceiling/kendall"])
    value = f"{metrics['reference/other_annotators/kendall']:.3f}"
    assert value in done.out and value in (run / "report.md").read_text()
    assert "other annotators" in done.out and str(run / "report.html") in done.out
    assert (run / "config.yaml").is_file() and done.err == ""


def test_text_of_a_label_file_harms_neither_terminal_nor_spreadsheet(command, tmp_path):
    names, category = ["=cmd|' /C calc'!A0", "moc.\u202egpj", "$x^{|_*[a](b)"], "@\x1b]0;b\x07\x1b[2J"
    scores = np.random.default_rng(0).integers(1, 6, (3, 30))
    write_tsv(tmp_path / "labels.tsv", dict.fromkeys(names, scores), dict.fromkeys(names, category))
    run = tmp_path / "run"
    done = command(f"labels={tmp_path / 'labels.tsv'}", f"hydra.run.dir={run}", program="keyframe-evaluate").good()
    texts = [done.out, *(path.read_text(encoding="utf-8") for path in run.iterdir() if path.is_file())]
    assert not any(set(text) & set("\x1b\x07\u202e") for text in texts)
    assert [(row["video"], row["category"]) for row in read_table(run / "per_video.csv")] == [
        (name, category) for name in names
    ]
    assert all(cell[0] not in "=@" for name, row in rows_of(run).items() for cell in (name, row["category"]))
    with (tmp_path / "labels.tsv").open("a", encoding="utf-8") as file:
        file.write(f"{names[1]}\t{category}\t1,2\n")
    sentence = command(f"labels={tmp_path / 'labels.tsv'}", program="keyframe-evaluate").sentence()
    assert "line 10: moc.\ufffdgpj has 2 scores" in sentence


def test_a_run_directory_with_links_out_of_it_is_refused(command, tmp_path):
    (tmp_path / "mine").write_text("mine")
    for name in ("evaluate.log", ".lock", ".hydra/config.yaml"):
        run = tmp_path / name.replace("/", "_") / "run"
        (run / name).parent.mkdir(parents=True)
        (run / name).symlink_to(tmp_path / "mine")
        sentence = command("labels=l.tsv", f"hydra.run.dir={run}", program="keyframe-evaluate").sentence()
        assert f"{run / name} is a link: remove it" in sentence
    assert (tmp_path / "mine").read_text() == "mine"


def test_the_same_labels_give_the_same_numbers(measured, tmp_path):
    path = write_labels(tmp_path / "labels.tsv")
    assert evaluate(tmp_path / "run", f"labels={path}") == read(measured[1])


def test_numbers_that_do_not_exist_are_named(tmp_path):
    path = tmp_path / "labels.tsv"
    write_tsv(path, {"a": np.tile([1, 2, 3], 30)[None], "b": np.full((1, 60), 2)})
    metrics = evaluate(tmp_path / "run", f"labels={path}")
    assert metrics["reference/one_annotator/kendall"] is None
    assert "one annotator: 2 of 2 videos have no value" in (tmp_path / "run" / "report.txt").read_text()
    assert not any(math.isnan(value) for value in metrics.values() if value is not None)


def test_another_scale(tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_text("a\t\t0,10\na\t\t7,3\n")
    assert "score 0" in refused(tmp_path / "run", f"labels={path}")
    for wrong, words in (
        (["data.highest=much"], "highest=much must be a number."),
        (["data.lowest=9"], "lowest=9, a score of the label file, must be below highest=5"),
        (["data.root=videos"], "data.root is for a run"),
    ):
        assert words in refused(tmp_path / "run", f"labels={path}", *wrong)
    evaluate(tmp_path / "run", f"labels={path}", "data.lowest=0", "data.highest=10")


def test_bad_label_files(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "text.tsv").write_text("all of it,1,2,3\n")
    (tmp_path / "empty.tsv").touch()
    (tmp_path / "text.mat").write_text("MATLAB")
    with h5py.File(tmp_path / "none.mat", "w") as file:
        for name in ("video", "category", "user_anno"):
            file.create_dataset(f"tvsum50/{name}", shape=(0, 1), dtype=h5py.ref_dtype)
    with h5py.File(tmp_path / "alone.h5", "w") as file:
        file["video_1/gtscore"], file["video_1/picks"], file["video_1/n_frames"] = [0.1, 0.9], [0, 15], 30
    for name, words in {
        "nothing.tsv": ["there is no file", "nothing.tsv"],
        "": ["text.mat", "HDF5"],  # of a folder every .mat is read
        "a.mp4": ["a.mp4", "is not a label file"],
        "text.tsv": ["text.tsv, line 1", "3 columns"],
        "empty.tsv": ["empty.tsv is empty"],
        "text.mat": ["text.mat", "HDF5"],
        "none.mat": ["none.mat", "no videos"],
        "alone.h5": ["alone.h5", "no annotators", "reference lines need each annotator's scores", "that has them"],
    }.items():
        sentence = refused(tmp_path / "run", f"labels={tmp_path / name}")
        assert all(word in sentence for word in words), sentence


def test_nothing_to_evaluate_and_a_misspelled_key(command, tmp_path):
    assert "labels=FILE" in refused(tmp_path / "run")
    assert "did you mean labels?" in command("label=x.tsv", program="keyframe-evaluate").sentence()


# Scores of any system


def test_scores_by_hand_give_the_numbers_of_scipy(tmp_path):
    """A peer's arithmetic: ranks by scipy, and F1 by trying every choice of shots."""
    path, rng = write_tvsum(tmp_path / "features.h5", 4), np.random.default_rng(0)
    scores, expected = {}, []
    with h5py.File(path) as file:
        for number, (key, video) in enumerate(file.items()):
            truth, n_frames, picks = video["gtscore"][()], int(video["n_frames"][()]), video["picks"][()]
            track = rng.random(len(picks))
            held = np.array([track[pick // 15] for pick in range(n_frames)])
            scores[key] = (held if number else track).tolist()  # one video has a score per pick, the others per frame
            lengths = [int(last - first + 1) for first, last in video["change_points"][()]]
            means = [held[first : last + 1].mean() for first, last in video["change_points"][()]]
            choices = itertools.product((False, True), repeat=len(lengths))
            fitting = [one for one in choices if np.dot(one, lengths) <= int(0.15 * n_frames)]
            summary = np.repeat(max(fitting, key=lambda one: np.dot(one, means)), lengths)
            users = video["user_summary"][()] > 0
            f1 = [2 * (summary & user).sum() / (summary.sum() + user.sum()) for user in users]
            row = (kendalltau(track, truth).statistic, spearmanr(track, truth).statistic, np.mean(f1), max(f1))
            expected.append((*row, np.mean((track - truth) ** 2), np.mean(np.abs(track - truth))))
    (tmp_path / "theirs.json").write_text(json.dumps(scores))
    metrics = evaluate(tmp_path / "run", f"scores={tmp_path / 'theirs.json'}", f"labels={path}", "pictures=1")
    names = ("kendall", "spearman", "f1_user_mean", "f1_user_max", "mse", "mae")
    for name, value in zip(names, np.mean(expected, axis=0), strict=True):
        assert metrics[f"all/{name}"] == pytest.approx(value, abs=1e-6), name
    assert metrics["training_free/f1_user_mean"] is not None and metrics["data/videos_unrecorded"] == 4
    page = " ".join((tmp_path / "run" / "report.txt").read_text().split())
    assert "Evaluation of theirs" in page and "a score per pick (1 video), per frame (3 videos)" in page


def test_scores_on_labels_alone_and_what_is_left_out(tmp_path):
    path, rng = write_labels(tmp_path / "labels.tsv", videos=8), np.random.default_rng(1)
    labels = read_labels(path)
    tracks = {f"clip{number}": rng.normal(5, 3, 90) for number in range(3)}
    bad = {"clip3": [0.5] * 91, "clip4": [float("nan")] * 90, "clip5": [1.0] * 6}
    scores = {name: track.tolist() for name, track in tracks.items()} | bad | {"else": [1.0]}
    (tmp_path / "my (1).json").write_text(json.dumps(scores))
    where = f"scores={tmp_path / 'my (1).json'}"
    metrics = evaluate(tmp_path / "run", where, f"labels={path}", f"write_scores={tmp_path / 'picks.csv'}")
    for name, correlation in (("annotator_kendall", kendalltau), ("annotator_spearman", spearmanr)):
        each = [
            np.mean([correlation(track[::15], one[::15]).statistic for one in labels[video].annotators])
            for video, track in tracks.items()
        ]
        assert metrics[f"all/{name}"] == pytest.approx(np.mean(each))
    assert (metrics["all/videos"], metrics["all/undefined"], metrics["data/videos_skipped"]) == (4, 1, 2)
    assert metrics["all/f1_user_mean"] is metrics["all/mse"] is None and "training_free/spearman" not in metrics
    assert metrics["reference/ceiling/spearman"] > metrics["reference/random/spearman"]
    page = " ".join((tmp_path / "run" / "report.txt").read_text().split())
    for sentence in (
        "clip3: " + f"{tmp_path / 'my (1).json'} has 91 scores of clip3, which has 90 frames and 6 picks",
        "score 0 of clip4 is not finite",
        "(scores or labels constant) and are left out of that mean: clip5.",
        "has scores of 1 other videos: else.",
        "There are no scores for 2 labelled videos: clip6, clip7.",
        "No frames were decoded",
    ):
        assert sentence in page, sentence
    again = evaluate(tmp_path / "again", f"scores={tmp_path / 'picks.csv'}", f"labels={path}")
    assert {key: again[key] for key in again if key.startswith("all/")} == {
        key: metrics[key] for key in metrics if key.startswith("all/")
    }


def test_scores_that_cannot_be_measured(tmp_path):
    path, file = write_labels(tmp_path / "labels.tsv"), tmp_path / "theirs.json"
    file.write_text(json.dumps({"clip0": [1.0] * 80}))
    both = [f"scores={file}", f"labels={path}"]
    for arguments, words in (
        (both[:1], "scores= needs labels"),
        ([*both, "run=outputs/train/A"], "run= and scores= and labels= cannot be combined"),
        ([both[0], f"labels={tmp_path / 'gone.tsv'}"], "there is no file"),
        ([f"scores={tmp_path / 'gone.json'}", both[1]], "there is no file"),
        (both, "No video can be measured: "),
        (["scores=[]", both[1]], "scores=[] names nothing"),
        (["runs=[]"], "runs=[] names nothing"),
        ([*both, f"data.labels={path}"], "data.labels names the annotators beside a feature file"),
        ([*both, "split=test"], "split= and protocol= are for runs"),
        ([*both, f"write_scores={file}"], "exists already"),
        ([both[1], f"write_scores={tmp_path / 'new.json'}"], "write_scores= is for models"),
    ):
        assert words in refused(tmp_path / "run", *arguments)
    file.write_text(json.dumps({"video_1": [1.0, 2.0]}))
    assert "of none of the 3 videos" in refused(tmp_path / "run", *both)


def measured_as(metrics, prefix):
    return {key.partition("/")[2]: value for key, value in metrics.items() if key.startswith(prefix)}


def test_scores_of_a_run_give_its_numbers_again(evaluated, runs, tiny_demo, tmp_path):
    (folder,) = tiny_demo.glob("demo-*")
    before, file = read(evaluated[1]), tmp_path / "ours.json"
    run = f"run={runs / 'folds' / '0'}"
    assert evaluate(tmp_path / "run", run, "pictures=0", f"write_scores={file}") == before
    again = evaluate(tmp_path / "again", f"scores={file}", f"data.root={folder}", "pictures=1")
    for prefix in ("test/", "training_free/", "reference/"):
        assert measured_as(again, prefix.replace("test", "all")) == measured_as(before, prefix)


# Runs


@pytest.fixture(scope="module")
def evaluated(command, runs, tmp_path_factory):
    run = tmp_path_factory.mktemp("evaluated") / "out"
    arguments = (f"run={runs / 'folds' / '0'}", "pictures=2", f"hydra.run.dir={run}")
    return command(*arguments, program="keyframe-evaluate").good(), run


def test_every_metric_with_its_interval(evaluated):
    metrics = read(evaluated[1])
    assert metrics["test/videos"] == 3
    for name in METRICS:
        assert metrics[f"test/{name}_lo"] <= metrics[f"test/{name}"] <= metrics[f"test/{name}_hi"]
        assert metrics[f"training_free/{name}"] is not None
    for line in ("one_annotator", "other_annotators", "ceiling", "random", "uniform", "training_free"):
        assert metrics[f"reference/{line}/kendall"] is not None
    assert metrics["reference/ceiling/f1_user_mean"] > metrics["reference/uniform/f1_user_mean"]


def test_a_row_per_video_whose_mean_is_the_number(evaluated, runs):
    rows = rows_of(evaluated[1])
    assert set(rows) == set(rows_of(runs / "folds" / "0"))
    mean = np.mean([float(row["annotator_spearman"]) for row in rows.values()])
    assert mean == pytest.approx(read(evaluated[1])["test/annotator_spearman"])


def test_reports_and_figures(evaluated):
    done, run = evaluated
    figures = {path.name for path in (run / "figures").iterdir()}
    assert figures == {"accuracy.png", "scatter.png", "videos.png", "video-00.png", "video-01.png"}
    value = f"{read(run)['test/annotator_spearman']:.3f}"
    for form in ("html", "md", "txt"):
        assert value in (run / f"report.{form}").read_text()
    assert value in done.out and str(run / "report.html") in done.out
    assert (run / "report.html").read_text().count("data:image/png") == 5
    assert "every 15th frame" in (run / "report.txt").read_text()


def test_the_sampled_protocol_gives_what_training_measured(runs, tmp_path):
    metrics = evaluate(tmp_path, f"run={runs / 'folds' / '0'}", "protocol=sampled", "pictures=0")
    trained = read(runs / "folds" / "0")
    for name in ("spearman", "kendall", "annotator_spearman", "annotator_kendall", "mse", "precision_at_15"):
        assert metrics[f"test/sampled/{name}"] == pytest.approx(trained[f"test/{name}"], abs=1e-5)
    assert "SAMPLED PROTOCOL" in (tmp_path / "report.txt").read_text()
    assert not any(re.fullmatch("test/[a-z0-9_]+", name) for name in metrics)


def test_folds_are_joined_and_each_video_is_measured_once(evaluated, runs, tmp_path):
    metrics = evaluate(tmp_path, f"runs={runs / 'folds'}", "pictures=0")
    joined = rows_of(tmp_path)
    assert len(joined) == 6 and metrics["test/videos"] == 6
    for video, row in rows_of(evaluated[1]).items():
        assert joined[video] == row


def test_a_video_is_decoded_once_for_its_shots_and_for_its_scores(runs, tmp_path, monkeypatch):
    decoded, pieces = [], PyAVReader._pieces

    def counted(self, path, *arguments):
        decoded.append(path.name)
        return pieces(self, path, *arguments)

    monkeypatch.setattr(PyAVReader, "_pieces", counted)
    evaluate(tmp_path, f"runs={runs / 'folds'}", "pictures=0")
    assert len(decoded) == len(set(decoded)) == 6


def test_seeds_are_averaged_and_an_ensemble_is_not_the_average(evaluated, runs, tmp_path):
    both = f"runs=[{runs / 'folds' / '0'},{runs / 'seed1'}]"
    evaluate(tmp_path / "mean", both, "pictures=0")
    evaluate(tmp_path / "alone", f"run={runs / 'seed1'}", "pictures=0")
    evaluate(tmp_path / "rank", both, "ensemble=rank", "pictures=0")
    first, second, rank = rows_of(evaluated[1]), rows_of(tmp_path / "alone"), rows_of(tmp_path / "rank")
    for video, row in rows_of(tmp_path / "mean").items():
        expected = (float(first[video]["kendall"]) + float(second[video]["kendall"])) / 2
        assert float(row["kendall"]) == pytest.approx(expected) and row["runs"] == "2"
    assert any(float(rank[video]["kendall"]) != pytest.approx(float(row["kendall"])) for video, row in first.items())
    assert all(math.isnan(float(row["mse"])) for row in rank.values())


def test_the_other_splits(runs, tmp_path):
    assert evaluate(tmp_path / "val", f"run={runs / 'folds' / '0'}", "split=val")["val/videos"] == 2
    assert "split=tset is none of train, val, test, new, all" in refused(
        tmp_path, f"run={runs / 'seed1'}", "split=tset"
    )


def test_moved_and_missing_and_broken_videos(command, runs, tiny_demo, tmp_path):
    (folder,) = tiny_demo.glob("demo-*")
    moved = tmp_path / "moved (1)"
    shutil.copytree(folder, moved / folder.name)
    videos = rows_of(runs / "folds" / "0")
    broken = next(path for path in (moved / folder.name).rglob("*.mp4") if path.stem == sorted(videos)[0])
    broken.write_bytes(broken.read_bytes()[:200])
    arguments = (f"run={runs / 'folds' / '0'}", f"data.root={moved}", f"hydra.run.dir={tmp_path / 'out'}")
    done = command(*arguments, program="keyframe-evaluate").good()
    metrics = read(tmp_path / "out")
    assert (metrics["test/videos"], metrics["data/videos_skipped"]) == (2, 1)
    assert broken.stem in done.out and "Left out: 1 video." in done.out


def test_a_checkpoint_somewhere_else(evaluated, runs, tmp_path):
    shutil.copy(runs / "folds" / "0" / "checkpoints" / "best.ckpt", tmp_path / "mine.ckpt")
    assert evaluate(tmp_path / "out", f"run={tmp_path / 'mine.ckpt'}", "pictures=0") == read(evaluated[1])


def test_checkpoints_of_another_version_and_with_foreign_code(runs, tmp_path):
    def older(config):
        config["datamodule"]["shuffle_twice"] = True

    def foreign(config):
        config["datamodule"]["source"] = {"_target_": "os.system", "command": "touch pwned"}

    for edit, words in ((older, ["another version of keyframe", "shuffle_twice"]), (foreign, ["os.system"])):
        path = tmp_path / edit.__name__ / "checkpoints" / "best.ckpt"
        path.parent.mkdir(parents=True)
        checkpoint = torch.load(runs / "folds" / "0" / "checkpoints" / "best.ckpt", weights_only=True)
        edit(checkpoint["hyper_parameters"])
        torch.save(checkpoint, path)
        sentence = refused(tmp_path / "out", f"run={path.parents[1]}")
        assert all(word in sentence for word in words) and not list(tmp_path.rglob("pwned"))


def test_runs_that_cannot_be_joined(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    one = f"run={runs / 'seed1'}"
    for arguments, words in (
        ([f"runs=[{runs / 'seed1'},{runs / 'resnet'}]"], ["runs of different models", "backbone", "keyframe-compare"]),
        ([f"runs={tmp_path / 'empty'}"], ["there is no checkpoint"]),
        ([f"run={tmp_path / 'nowhere'}"], ["there is no checkpoint"]),
        ([one, f"runs=[{runs / 'seed1'}]"], ["cannot be combined"]),
        ([one, "ensemble=median"], ["ensemble=median"]),
        ([one, "protocol=every"], ["protocol=every"]),
        ([one, "device=tpu"], ["device=tpu"]),
    ):
        sentence = refused(tmp_path / "out", *arguments)
        assert all(word in sentence for word in words), sentence


def run_of(bad=()):
    """The videos a, b and c of a run, of which it cannot read the bad ones."""

    def scorer(name):
        def score(eval_video):
            if name in bad:
                raise VideoError(f"{name} is damaged.")
            return np.zeros(3)

        return score

    return {name: scorer(name) for name in "abc"}


def test_a_video_that_one_run_cannot_read_is_left_out_for_all():
    scored = Scored(by_run=[run_of(), run_of(bad="b"), run_of()], eval_videos=dict.fromkeys("abc"))
    add_scores(scored)
    assert list(scored.eval_videos) == ["a", "c"] and scored.skipped == {"b": "b is damaged."}
    assert [set(one) for one in scored.scores] == [{"a", "b", "c"}, {"a", "c"}, {"a", "c"}]
    with pytest.raises(KeyframeError, match=r"No video can be measured: a is damaged\."):
        add_scores(Scored("val", by_run=[run_of(bad="abc")], eval_videos=dict.fromkeys("abc")))


# Runs on feature files, with the shots and summaries of the files


@pytest.fixture(scope="module")
def feature_runs(command, tmp_path_factory):
    """Two runs on a TVSum-like file."""
    place = tmp_path_factory.mktemp("h5")
    path = write_tvsum(place / "features.h5", 15)
    common = ("data=h5", f"data.path={path}", f"data.width={WIDTH}", "trainer=cpu", "logger=csv", "optimizer.lr=1e-3")
    common += ("callbacks.curves=null",)
    for head in ("dual", "framewise"):
        command(*common, f"head={head}", "trainer.max_epochs=4", f"hydra.run.dir={place / head}").good()
    return place


def test_the_files_own_shots_and_summaries_are_used(feature_runs, tmp_path):
    metrics, tested = evaluate(tmp_path, f"run={feature_runs / 'dual'}"), read(feature_runs / "dual")
    assert metrics["test/spearman"] == pytest.approx(tested["test/spearman"], abs=1e-5)
    assert metrics["test/annotator_spearman"] is None and "reference/one_annotator/spearman" not in metrics
    page = " ".join((tmp_path / "report.txt").read_text().split())
    assert "no annotators" in page and "SumMe's the best user" in page
    # the ceiling's F1 by hand: the file's gtscore, held, on its change points, against its user_summary
    best = []
    for video in rows_of(tmp_path):
        one = read_feature_files(feature_runs / "features.h5")[video]
        with h5py.File(feature_runs / "features.h5") as file:
            users = file[f"{one.key}/user_summary"][()] > 0
            shots = file[f"{one.key}/change_points"][()]
        summary = keyshots(hold_scores(one.importance, one.picks, one.n_frames), shots)
        best.append(f1_user_max(summary, users))
    assert metrics["reference/ceiling/f1_user_max"] == pytest.approx(np.mean(best))


def test_the_ridge_line_is_fitted_on_the_split_of_the_run(feature_runs, tmp_path):
    run, videos = feature_runs / "dual", read_feature_files(feature_runs / "features.h5")
    (split,) = json.loads((run / "split.json").read_text())
    train, val, test = ([videos[id_] for id_ in split[f"{part}_keys"]] for part in ("train", "val", "test"))
    pairs = [[(one.features, one.importance) for one in part] for part in (train, val)]
    rho = [spearmanr(fit_ridge(*pairs).scores(one.features), one.importance).statistic for one in test]
    # two runs on one split are one fit, in a comparison as well
    assert not in_process("compare", f"runs=[{run},{feature_runs / 'framewise'}]", *QUICK, run_dir=tmp_path / "both")
    for metrics in (evaluate(tmp_path / "one", f"run={run}", "pictures=0"), read(tmp_path / "both")):
        assert metrics["ridge/spearman"] == pytest.approx(np.mean(rho)) and metrics["ridge/f1_user_mean"] is not None
    page = " ".join((tmp_path / "both" / "report.txt").read_text().split())
    assert "| ridge regression |" in page and page.count("units of the mean eigenvalue") == 1
    # of other videos there is no training part to fit it on
    other = write_summe(tmp_path / "other.h5", ["a", "b", "c"])
    metrics = evaluate(tmp_path / "other", f"run={run}", f"data.root={other}", "pictures=0")
    assert "ridge/spearman" not in metrics and metrics["all/videos"] == 3
    assert "No ridge line" in (tmp_path / "other" / "report.txt").read_text()


def test_two_heads_are_compared_on_equal_features(feature_runs, tmp_path):
    sweep = tmp_path / "sweep"  # a folder of runs of two models, named by what differs between them
    for number, head in enumerate(("dual", "framewise")):
        shutil.copytree(feature_runs / head, sweep / str(number))
    assert in_process("compare", f"runs=[{sweep}]", *QUICK, run_dir=tmp_path) == ""
    metrics = read(tmp_path)
    assert metrics["dual/params_backbone"] == 0 and metrics["framewise/seconds_1"] > 0
    assert metrics["difference/framewise-dual/spearman_p"] <= 1
    assert "peak memory" in (tmp_path / "report.txt").read_text().lower()


def test_a_run_beside_the_scores_of_others(feature_runs, tmp_path):
    run, file = feature_runs / "dual", tmp_path / "theirs.npz"
    ours = evaluate(tmp_path / "run", f"run={run}", "pictures=0", f"write_scores={file}")
    better = {one.key: one.importance for one in read_feature_files(feature_runs / "features.h5").values()}
    np.savez(tmp_path / "oracle.npz", **better)
    files = f"scores=[{file},{tmp_path / 'oracle.npz'}]"
    assert not in_process("compare", f"runs=[{run}]", files, *QUICK, run_dir=tmp_path)
    metrics = read(tmp_path)
    assert measured_as(metrics, "theirs/") == {
        f"test/{key}": value for key, value in measured_as(ours, "test/").items()
    }
    name = next(key.partition("/")[0] for key in metrics if key.endswith("/params_total"))
    for metric in ("kendall", "spearman", "f1_user_mean", "mse"):
        key = f"difference/theirs-{name}/{metric}"
        assert (metrics[key], metrics[f"{key}_p"]) == (0, 1)
    assert metrics["oracle/test/spearman"] == pytest.approx(1) and metrics["oracle/test/mse"] == 0
    page = " ".join((tmp_path / "report.txt").read_text().split())
    assert "oracle.npz has scores of 12 other videos" in page
    assert "The score files do not say which videos their systems were trained on" in page


def test_a_feature_file_that_was_moved_or_cannot_be_sampled(feature_runs, tmp_path):
    run = f"run={feature_runs / 'dual'}"
    assert "protocol=sampled is for runs on pixels" in refused(tmp_path / "out", run, "protocol=sampled")
    assert "gone.h5" in refused(tmp_path / "out", run, f"data.root={tmp_path / 'gone.h5'}")
    moved = write_tvsum(tmp_path / "moved (2).h5", 15)
    evaluate(tmp_path / "out", run, f"data.root={moved}", "pictures=0")


def test_another_data_set_is_measured_as_a_whole(feature_runs, tmp_path):
    run, other = f"run={feature_runs / 'dual'}", write_summe(tmp_path / "other.h5", [f"clip{n}" for n in range(10)])
    metrics = evaluate(tmp_path / "out", run, f"data.root={other}", "pictures=0")
    assert metrics["all/videos"] == metrics["data/videos_other"] == 10
    page = " ".join((tmp_path / "out" / "report.txt").read_text().split())
    assert "On 10 videos of another data set" in page and "None of these 10 videos is in the split of" in page
    for key in ("lowest", "highest"):
        sentence = refused(tmp_path / "refused", run, f"data.root={other}", f"data.{key}=2")
        assert f"has no data.{key} to replace: leave data.{key} out" in sentence


def test_summe(command, tmp_path):
    path = write_summe(tmp_path / "eccv16_dataset_summe_google_pool5.h5", [f"clip {n}" for n in range(12)])
    common = ("data=h5", f"data.path={path}", f"data.width={WIDTH}", "trainer=cpu", "logger=csv")
    command(*common, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'run'}").good()
    assert 0 <= evaluate(tmp_path / "out", f"run={tmp_path / 'run'}")["test/f1_user_max"] <= 1
