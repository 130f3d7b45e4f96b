"""What becomes of a command line, judged by Hydra's own parser."""

import os
import random

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from keyframe.cli.arguments import add_inputs, check_values, prepare, quote, split_inputs, without_hyphens
from keyframe.cli.sweep_resume import resumed
from keyframe.config import conf_dir
from keyframe.types import KeyframeError

PATHS = [
    "plain",
    "/data/tvsum",
    "~/videos",
    "../up/and.down",
    "with space/and  two",
    "holiday (1).mp4",
    "lr=3e-4,seed=1.ckpt",
    "#1 [take] {two}",
    "a, b, c",
    "it's",
    "'tis",
    'say "cheese"',
    "C:\\new\\table",
    "ends in a backslash\\",
    "quote after a backslash\\'",
    "two\\\\'",
    "vidéos/été/日本語/🎬",
    "tab\there",
    "a:b@c%d!e?f*g|h<i>j;k&l`m^n+o~p",
    "$HOME/x",
    "123",
    "1e5",
    ".5",
    "-7",
    "1_000",
    "true",
    "False",
    "NaN",
    "inf",
    "nullable",
    " leading and trailing ",
    "",
]


@pytest.mark.parametrize("name", [name for name in PATHS if name.strip("'\"") == name])
def test_a_sweep_in_a_directory_of_any_name_is_started_and_resumed(name):
    for arguments in (["-m", f"hydra.sweep.dir={name}", "seed=1,2"], [f"sweep.resume={name}"]):
        [place] = [argument for argument in prepare(resumed(arguments)) if argument.startswith("hydra.sweep.dir=")]
        assert value_of(place) == name


def parsed(argument):
    return OverridesParser.create().parse_override(argument)


def value_of(argument):
    override = parsed(argument)
    assert not override.is_sweep_override()
    return override.value() if override.value() is None else str(override.value())


def is_text(argument):
    return isinstance(parsed(argument).value(), str) or hasattr(parsed(argument).value(), "text")


@pytest.mark.parametrize("path", PATHS)
def test_hydra_reads_a_quoted_path_as_it_was(path):
    argument = f"data.root={quote(path)}"
    assert is_text(argument)
    assert value_of(argument) == path


def test_hydra_reads_any_quoted_text_as_it_was():
    draw = random.Random(0)
    letters = "ab \\\\''\"\"=,#()[]{}:$@~-+.0é日\t"
    for _ in range(2000):
        path = "".join(draw.choices(letters, k=draw.randint(1, 9)))
        if path.startswith("${") or (len(path) > 1 and path[0] == path[-1] and path[0] in "'\""):
            continue
        argument = f"ckpt_path={quote(path)}"
        assert is_text(argument), path
        assert value_of(argument) == path


@pytest.mark.parametrize("value", ["'a b'", '"a, b"', "${oc.env:HOME}", "null"])
def test_what_hydra_understands_already_stays(value):
    assert quote(value) == value


def test_null_stays_null():
    assert parsed(f"data.labels={quote('null')}").value() is None


@pytest.mark.parametrize(
    "key", ["data.root", "data.path", "data.labels", "data.splits", "ckpt_path", "backbone.weights"]
)
def test_paths_are_quoted(key):
    (argument,) = prepare([f"{key}=/my videos/a=b (1)"])
    assert parsed(argument).key_or_group == key
    assert value_of(argument) == "/my videos/a=b (1)"


def test_in_a_sweep_the_name_of_something_that_is_there_is_one_value(tmp_path):
    place = tmp_path / "runs, old (1)"
    place.mkdir()
    _, argument = prepare(["-m", f"teacher={place}"])
    assert value_of(argument) == str(place)


@pytest.mark.parametrize(
    "arguments",
    [
        ["experiment=demo", "optimizer.lr=3e-4", "tags=[a,b]", "--cfg", "job"],
        ["-m", "data.root=/a,/b", "backbone=resnet50,efficientnet_b0"],
        ["--multirun", "data.root=/a,/b"],
        ["backbone=resnet50"],
        ["backbone=timm", "backbone.name=vit_tiny_patch16_224"],
    ],
)
def test_everything_else_stays(arguments):
    assert prepare(arguments) == arguments


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "resnet50.a1_in1k"])
def test_backbone_takes_the_name_of_a_timm_model(name):
    assert prepare(["seed=1", f"backbone={name}"]) == ["seed=1", "backbone=timm", f"backbone.name={name}"]


def test_resuming_the_last_run_goes_on_in_the_newest_runs_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(["newest", "older"]):
        checkpoint = tmp_path / "outputs" / "train" / name / "checkpoints" / "last.ckpt"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        os.utime(checkpoint, (1000 - age, 1000 - age))
    assert prepare(["ckpt_path=last"]) == ["ckpt_path=last", "hydra.run.dir=outputs/train/newest"]
    assert prepare(["ckpt_path=last", "hydra.run.dir=mine"]) == ["ckpt_path=last", "hydra.run.dir=mine"]


def inputs_of(*arguments):
    """What a command finds in `input` for these arguments."""
    others, inputs = split_inputs(list(arguments))
    config = OmegaConf.create({"input": None})
    for argument in prepare(others):
        assert parsed(argument).key_or_group == "input" and not parsed(argument).is_sweep_override()
        config.input = parsed(argument).value()
    add_inputs(config, inputs)
    return OmegaConf.to_container(config, resolve=True)["input"]


@pytest.mark.parametrize(
    "name", [*PATHS, "null", "'a b'", "${home}", "b\\${c}", "two\nlines", "~draft.mp4", "-dash.mp4"]
)
def test_a_name_that_exists_is_an_input_to_the_letter(name, tmp_path, monkeypatch):
    if name and "/" not in name:
        monkeypatch.chdir(tmp_path)
        (tmp_path / name).touch()
        assert inputs_of(name) == [name]
    assert inputs_of("--", name) == [name]


def test_any_name_is_an_input_to_the_letter():
    draw = random.Random(0)
    names = [
        "".join(draw.choices("ab \\\\''\"\"=,#()[]{}$${:@~-+.0é日\t\n", k=draw.randint(1, 9))) for _ in range(2000)
    ]
    assert inputs_of("--", *names) == names


def test_inputs_and_keys_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert inputs_of("a b.mp4", "input=c d.mp4") == ["c d.mp4", "a b.mp4"]
    assert inputs_of("input=[e, f (1)]", "--", "-i") == ["e", "f (1)", "-i"]
    others = ["selection=top", "--cfg", "job", "-m", "+x=1", "~y"]
    assert split_inputs(["a", *others]) == (others, ["a"])
    assert split_inputs(others) == (others, [])


def added(*overrides, command="train"):
    """What is said of a command with these overrides, "" if nothing is wrong."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            check_values(compose(command, list(overrides)), command)
        except KeyframeError as error:
            return str(error)
    return ""


def test_a_key_that_is_added_and_that_nothing_reads_is_refused():
    for overrides, command, meant in (
        (["data=labelled", "++data.lowset=0"], "train", "did you mean data.lowest?"),
        (["+optimzer={lr: 1}"], "train", "did you mean optimizer?"),
        (["+data.lowset=0"], "evaluate", "did you mean data.lowest?"),
        (["+lowest=0"], "evaluate", "did you mean data.lowest?"),
        (["+size=64"], "export", "see the keys with --help"),
    ):
        sentence, key = added(*overrides, command=command), overrides[-1].lstrip("+").split("=")[0]
        assert sentence == f"there is no key {key}: {meant}{'.' if 'see' in meant else ''}"


def test_a_key_that_is_added_and_read_stays():
    arguments = (
        *("+trainer.limit_train_batches=2", "++data.batch_size=2", "+rate=1e-3", "optimizer.lr=${rate}"),
        *("+callbacks.mine={_target_: mylib.Mine, every: 2}", "callbacks.mine.every=3", "+callbacks.mine.more=1"),
        *("experiment=demo", "+loss@second=spearman", "second.temperature=2", "~head.layers"),
    )
    assert added(*arguments) == ""


def test_arguments_of_an_agent_become_overrides_and_options_stay():
    options = ["--cfg=job", "--config-name=mine", "--config-dir=a=b", "--info=all", "-m", "--cfg", "job", "seed=1"]
    assert without_hyphens(options) == options
    given = ["--optimizer.lr=1e-05", "--+a=[b, c]", "loss=None", "seed=1,None", "--name=x=y"]
    assert without_hyphens(given) == ["optimizer.lr=1e-05", "+a=[b, c]", "loss=null", "seed=1,null", "name=x=y"]


def test_none_in_the_name_of_a_file_stays(tmp_path):
    path = tmp_path / "a,None"
    path.touch()
    assert without_hyphens([f"--data.labels={path}"]) == [f"data.labels={path}"]


def test_the_directory_of_a_run_is_named_to_hydra():
    assert added("data=demo", "run_dir=mine").startswith("run_dir=mine follows hydra.run.dir")
