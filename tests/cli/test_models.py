"""Which videos the models of evaluate and compare are measured on."""

import gzip
import io
from types import SimpleNamespace

import pytest
import torch

from keyframe.cli.models import choose_videos
from keyframe.data.datamodule import FeatureDataModule
from keyframe.runs import load_run
from keyframe.types import KeyframeError
from tests.data.feature_files import WIDTH, write_summe
from tests.test_runs import FIXTURES

FEATURE_RUN = FIXTURES / "before_features.ckpt.gz"
CLIPS = [f"clip{number}" for number in range(18)]


@pytest.fixture
def load(tmp_path):
    """Load a run that was trained on some clips, with others where its data lie now."""

    def load(trained, there, fold=0, stored=True):
        before = FeatureDataModule(str(write_summe(tmp_path / "before.h5", trained)), width=WIDTH, fold=fold)
        checkpoint = torch.load(io.BytesIO(gzip.decompress(FEATURE_RUN.read_bytes())), weights_only=True)
        if stored:
            checkpoint["FeatureDataModule"] = {"split": before.split.to_plain()}
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.ckpt"
        torch.save(checkpoint, path)
        return load_run(path, root=str(write_summe(tmp_path / "now.h5", there))), before.split

    return load


def choose(*models, split=None):
    return choose_videos(models, SimpleNamespace(split=split))


def ids(chosen):
    return [set(videos) for videos in chosen.by_run]


def test_videos_that_came_later_are_not_tested_on(load):
    run, split = load(CLIPS[:10], CLIPS)
    chosen = choose([run])
    assert chosen.split == "test" and ids(chosen) == [set(split.test)] and len(split.test) == 2
    assert set(chosen.parts.values()) == {"test"} and "in no part of the split of" in chosen.notes[0]
    new = choose([run], split="new")
    assert ids(new) == [set(CLIPS[10:])] and set(new.parts.values()) == {"new"}
    everything = choose([run], split="all")
    assert ids(everything) == [set(CLIPS)] and everything.parts == {**dict.fromkeys(CLIPS, "new"), **split.by_id()}


def test_a_run_that_has_not_stored_its_split_is_warned_of(load, caplog):
    run, _ = load(CLIPS[:10], CLIPS, stored=False)
    chosen = choose([run])
    assert len(ids(chosen)[0]) == 4 and set(chosen.parts.values()) == {"unknown"}
    assert "is from an older version and does not record which videos it was trained on" in chosen.notes[0]
    assert chosen.notes[0] in caplog.text


def test_all_of_another_data_set_is_measured(load):
    run, _ = load(CLIPS[:8], CLIPS[8:])
    chosen = choose([run])
    assert chosen.split == "all" and ids(chosen) == [set(CLIPS[8:])] and set(chosen.parts.values()) == {"other"}
    assert "they are another data set" in chosen.notes[0]
    with pytest.raises(
        KeyframeError, match=r"has no test video among those that are there \(10 other\): choose another"
    ):
        choose([run], split="test")


def test_models_are_compared_on_the_test_videos_that_both_have(load):
    one, split = load(CLIPS[:10], CLIPS)
    two, _ = load(CLIPS[10:], CLIPS)
    same, _ = load(CLIPS[:10], CLIPS)
    elsewhere, _ = load(list("abcde"), CLIPS)
    assert ids(choose([one], [same])) == [set(split.test)] * 2
    with pytest.raises(KeyframeError, match="different test videos, and none in common"):
        choose([one], [two])
    both = choose([one], [elsewhere])
    assert ids(both) == [set(split.test)] * 2 and both.split == "test"
    assert any(
        note.startswith("The models have different test videos: they are compared on the 2") for note in both.notes
    )


def test_of_several_runs_the_one_counts_that_has_learnt_most_from_a_video(load):
    loaded = [load(CLIPS[:10], CLIPS[:10], fold) for fold in range(5)]
    runs = [run for run, _ in loaded]
    assert choose(runs).parts == dict.fromkeys(CLIPS[:10], "test")
    trained = {id_ for _, split in loaded for id_ in split.train}
    assert choose(runs, split="all").parts == {id_: "train" if id_ in trained else "val" for id_ in CLIPS[:10]}
