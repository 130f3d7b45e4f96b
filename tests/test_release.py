"""What a release is made of: one version everywhere, a lock without hosts that covers what pyproject.toml asks for."""

import re
import tomllib

import yaml

import keyframe
from keyframe.cli import doctor
from tests.commands import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]


def name_of(requirement):
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def test_the_lock_pins_all_that_is_asked_for_and_names_no_host():
    pins = [re.fullmatch(r"([A-Za-z0-9._-]+)==[0-9][\w.+!]*", line) for line in LOCK]
    assert all(pins)
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    assert {name_of(one) for one in asked} <= {name_of(pin[1]) for pin in pins}


def test_dev_has_what_every_extra_has():
    extras = PROJECT["optional-dependencies"]
    wanted = {name_of(one) for extra in extras if extra != "dev" for one in extras[extra]}
    assert wanted <= {name_of(one) for one in extras["dev"]}


def test_the_doctor_looks_for_every_extra():
    assert set(doctor._EXTRAS) == set(PROJECT["optional-dependencies"]) - {"dev", "docs"}


def test_the_version_is_the_same_everywhere():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == keyframe.__version__
    assert f"## {keyframe.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_ci_only_calls_make():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert commands and all(command.startswith("make ") for command in commands)
    supported = {one.rpartition(" ")[2] for one in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", one)}
    assert set(jobs["test"]["strategy"]["matrix"]["python"]) == supported
