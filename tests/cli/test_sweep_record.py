"""The record of a sweep from somebody else: data, or refused by name."""

import json
import socket

import pytest
import yaml
from hydra import compose, initialize_config_dir

from keyframe.cli.sweep import read_jobs
from keyframe.cli.sweep_resume import check_resumable, resumed, save_record
from keyframe.config import conf_dir
from keyframe.types import KeyframeError
from tests.commands import TINY

# What sweeps of one's own consist of: groups, lists of options, values, searches, numbers of a launcher.
HARMLESS = [
    *TINY,
    "seed=1,2,3",
    "loss=mse,pairwise",
    "experiment=[demo,distill]",
    "loss@distillation.loss=mse",
    "data.root='/my videos/a'",
    "optimizer.lr=tag(log,interval(1e-5,1e-3))",
    "data.fold=range(5)",
    "trainer.max_epochs=choice(3,5)",
    "head.projection=[64,32]",
    "name=null",
    "callbacks.regular.every_n_epochs=2",
]
HARMLESS_HYDRA = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra/sweeper=basic"]


def record(place, overrides=(), hydra=(), **parts):
    content = {"overrides": list(overrides), "hydra": list(hydra), "sweeper": {}, "config": {}, **parts}
    (place / "sweep.yaml").write_text(yaml.safe_dump(content))
    return f"sweep.resume={place}"


def test_options_and_values_are_replayed(tmp_path):
    resume = record(tmp_path, HARMLESS, HARMLESS_HYDRA)
    arguments = resumed([resume])
    assert arguments == ["-m", *HARMLESS_HYDRA, *HARMLESS, resume, f"hydra.sweep.dir={tmp_path}"]


@pytest.mark.parametrize(
    "override",
    [
        "loss._target_=os.system",
        "optimizer={_target_: os.system, _args_: [true]}",
        "head.projection=[64,{_target_: os.system}]",
        "+loss=mse",
        "++run_dir=/tmp",
        "+x._target_=torch.hub.load",
        "~loss",
        "name='${oc.env:HOME}'",
        r"name=$\{oc.env:HOME\}",
        "name=a,'${oc.env:HOME}'",
        "loss=../../elsewhere/loss",
        "cache=../../elsewhere/loss",
        "{elsewhere}=loss",
        "loss/../../../{elsewhere}=loss",
        "loss=glob(*)",
        "head=lstm",
        "run_dir=/tmp",
        "cache.dir=/tmp",
        "callbacks.signals.path=/tmp/x",
        "callbacks.best.filename=../../x",
        "logger.tensorboard.version=../../x",
        "train.recipe=[loss._target_=os.system]",  # of keyframe-benchmark
        "engine.address=elsewhere:6379",  # of keyframe-extract
        "callbacks={signals: {path: /tmp/x}}",
        "data.source=3",
        "hydra.run.dir=/tmp",
        "hydra.searchpath=[file:///tmp]",
        "hydra.sweep.subdir=../x",
        "hydra.job.env_set.LD_PRELOAD=x.so",
        "hydra.launcher.setup=[reboot]",
        "hydra/launcher=submitit_local",
        "hydra/job_logging=../x",
    ],
)
def test_what_is_more_needs_trust(tmp_path, override):
    (tmp_path / "loss.yaml").write_text("_target_: os.system\n")
    override = override.replace("{elsewhere}", str(tmp_path))
    resume = record(tmp_path, ["experiment=demo", *([override] * (not override.startswith("hydra")))], [override])
    with pytest.raises(KeyframeError, match="is more than an option or a value; add trust=true if") as error:
        resumed([resume])
    assert f"{tmp_path}/sweep.yaml was not followed: its override {override[:100]!r}" in str(error.value)
    assert override in resumed([resume, "trust=true"])


@pytest.mark.parametrize("override", ["--config-dir=/tmp", "-cd", "trust=true", "trust=[mylib]", "sweep.resume=/tmp"])
def test_a_record_gives_no_options_and_no_trust(tmp_path, override):
    for trust in ([], ["trust=true"]):
        with pytest.raises(KeyframeError, match="is not an override of a sweep"):
            resumed([record(tmp_path, [override]), *trust])


def laughs():
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch executed']",
        "overrides: !!python/name:os.system",
        "overrides: &a [*a]",
        laughs(),
        "[" * 1000,
        "x" * 1_000_000,
        "overrides: [2026-01-01]",
        "overrides: [1]\nhydra: []\nsweeper: {}\nconfig: {}",
        "overrides: x\nhydra: []\nsweeper: {}\nconfig: {}",
        "overrides: []",
        "3",
        "",
        "\x00",
        "a: [",
        "a: " + "9" * 5000,
    ],
    ids=range(15),
)
def test_a_damaged_record_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(KeyframeError, match=r"sweep\.yaml (is not a sweep's record|was not loaded)") as error:
        resumed([f"sweep.resume={tmp_path}"])
    assert len(str(error.value)) < 400
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


def test_the_command_refuses_before_anything_is_run_or_written(command, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        fetch = ["optimizer._target_=urllib.request.urlopen", f"+optimizer.url='{url}'"]
        sentence = command(record(tmp_path, [*TINY, *fetch, "seed=1,2"])).sentence()
        assert "its override 'optimizer._target_=urllib.request.urlopen' is more than" in sentence
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


def test_damaged_files_of_jobs_are_left_out(tmp_path):
    good = {"state": "completed", "error": "", "overrides": ["seed=1"]}
    for name, status, metrics, table in (
        ("0", json.dumps(good), '{"test/spearman": 0.5, "val/spearman": 0.5}', "spearman\nx\n"),
        ("1", "[" * 100_000, "", ""),
        ("2", '{"state": 3}', "[]", ""),
        ("3", json.dumps(good | {"more": 1}), "[1]", "\0"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "status.json").write_text(status)
        (tmp_path / name / "metrics.json").write_text(metrics)
        (tmp_path / name / "per_video.csv").write_text(table)
    assert [(job.name, job.status, dict(job.metrics)) for job in read_jobs(tmp_path)] == [
        ("0", "completed", {"test/spearman": 0.5, "val/spearman": 0.5}),
        ("3", "completed", {}),
    ]


def test_a_sweep_goes_on_though_a_class_of_it_has_another_place_now(tmp_path):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", TINY, return_hydra_config=True)
    save_record(config, tmp_path)
    path = tmp_path / "sweep.yaml"
    now = path.read_text()
    for before in ("keyframe.training.stages.TwoStage", "keyframe.nowhere.TwoStage"):
        path.write_text(now.replace("keyframe.training.callbacks.TwoStage", before))
        if before.startswith("keyframe.training"):
            check_resumable(config, tmp_path)
        else:
            with pytest.raises(KeyframeError, match=rf"\(callbacks.two_stage._target_ was '{before}', is 'keyframe.tr"):
                check_resumable(config, tmp_path)
