"""The page of `--help`: a paragraph, examples, the command's own groups, and its keys with their comments."""

import re
import sys

import pytest

import keyframe
from keyframe.cli import main
from keyframe.config import comments_of, conf_dir, documented_keys, head_of, help_page

COMMANDS = sorted(path.stem for path in conf_dir().glob("*.yaml") if path.stem not in ("command", "extraction"))


@pytest.mark.parametrize("name", COMMANDS)
def test_it_explains_the_command_and_names_nothing_of_others(name):
    page = help_page(name, [])
    assert page.startswith(f"keyframe-{name}: ")
    assert len(re.findall(rf"(?m)^  keyframe-{name} ", page)) >= 5
    for key in documented_keys(conf_dir() / f"{name}.yaml"):
        assert re.search(rf"(?m)^  {re.escape(key)} ", page), key
    assert "optimizer" not in page or name == "train"
    assert "powered by" not in page and max(map(len, page.splitlines())) <= 120


def test_groups_are_shown_with_their_options_and_the_chosen_one():
    page = " ".join(help_page("train", []).split())
    assert (
        "data demo, h5, labelled, summe, [tvsum] experiment cross_validation, demo, distill, heads hparams_search"
        in page
    )
    assert "optimizer.lr 0.001 of stage 1" in page and "sweep.resume null the directory of a stopped sweep" in page
    assert "data.root required the folder of the videos" in page and "data.lowest" not in page
    assert 'data.lowest 1 the score that means "not important at all"' in " ".join(
        help_page("train", ["data=labelled", "los=3", "seed=1,2"]).split()
    )


def test_a_comment_stands_on_the_line_or_above_it():
    text = "# head\n# of the file\na: 1 # one\n# the\n# second\nb:\n  c: x # of b\n\n  d: 2\ne: 3\n"
    assert comments_of(text) == {"a": "one", "b": "the second", "b.c": "of b", "b.d": "", "e": ""}


def test_the_head_is_a_paragraph_without_the_package(tmp_path):
    (tmp_path / "a.yaml").write_text("# @package _global_\n# Some\n#\n#   example\na: 1\n# no head\n")
    assert head_of(tmp_path / "a.yaml") == ["Some", "", "  example"]


def test_keyframe_alone_lists_the_commands(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["keyframe"])
    main.keyframe()
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert listed == [f"keyframe-{name}" for name in main.COMMANDS]
    assert sorted(main.COMMANDS) == COMMANDS
    monkeypatch.setattr(sys, "argv", ["keyframe", "train"])
    with pytest.raises(SystemExit, match="use keyframe-train"):
        main.keyframe()


@pytest.mark.parametrize("run", [main.keyframe, *(getattr(main, name) for name in main.COMMANDS)])
def test_each_program_tells_the_version(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["program", "--version"])
    run()
    assert capsys.readouterr().out == f"keyframe {keyframe.__version__}\n"
