"""The wheel holds all that a command needs and works from wherever it is unpacked."""

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from keyframe.cli import main
from tests.commands import ROOT, cold, script

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The folder that a wheel built from this checkout unpacks to."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("keyframe_lightning-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "unpacked")
    return out / "unpacked"


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml")}


def test_it_holds_the_package_and_all_of_conf(unpacked):
    assert files(unpacked / "keyframe" / "conf") == files(ROOT / "conf")
    assert len(files(ROOT / "conf")) > 30
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "keyframe").rglob("*.py")}
    assert {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*.py")} == modules
    assert (unpacked / "keyframe" / "py.typed").is_file()
    assert (unpacked / "keyframe" / "report" / "page.html").is_file()
    assert (unpacked / "keyframe" / "data" / "tvsum50.tsv").is_file()
    assert {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")} == {"keyframe"}


def test_its_commands_lead_somewhere(unpacked):
    (entry_points,) = unpacked.glob("*.dist-info/entry_points.txt")
    parser = configparser.ConfigParser()
    parser.read(entry_points)
    commands = dict(parser["console_scripts"])
    assert commands.pop("keyframe") == "keyframe.cli.main:keyframe"
    assert set(commands) == {f"keyframe-{name}" for name in main.COMMANDS}
    for name, target in commands.items():
        command = name.removeprefix("keyframe-")
        assert target == f"keyframe.cli.main:{command}"
        assert callable(getattr(main, command))
        assert (unpacked / "keyframe" / "cli" / f"{command}.py").is_file()
        assert (unpacked / "keyframe" / "conf" / f"{command}.yaml").is_file()


def test_it_works_where_the_checkout_is_not_seen(unpacked, tmp_path):
    where = cold(
        ["-c", "import keyframe.config as c; print(c.__file__, c.conf_dir())"], tmp_path, PYTHONPATH=str(unpacked)
    )
    module, conf = map(Path, where.good().out.split())
    assert module == unpacked / "keyframe" / "config.py"
    assert conf == unpacked / "keyframe" / "conf"
    program = script("train")
    shown = cold([*program, "--help"], tmp_path, PYTHONPATH=str(unpacked)).good().out
    assert "hparams_search  optuna" in shown and str(conf) in shown
    job = cold([*program, "experiment=demo", "--cfg", "job"], tmp_path, PYTHONPATH=str(unpacked)).good().out
    assert "_target_: keyframe.data.folder.DemoSource" in job
