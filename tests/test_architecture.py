"""Who may import whom, so that the packages stay in a straight line."""

import ast
from pathlib import Path

import pytest

import keyframe

PACKAGE = Path(keyframe.__file__).parent
LIGHTNING = ("pytorch_lightning", "lightning", "lightning_fabric")
HYDRA = ("hydra", "omegaconf")
# All of the package but what a report may use.
REST = tuple(f"keyframe.{path.stem}" for path in PACKAGE.iterdir() if path.stem not in ("report", "files", "errors"))

# Part of the package -> what it never imports, and the modules of it that are excepted.
RULES = {
    "keyframe.types": (("keyframe",), ()),
    "keyframe.data": (("keyframe.models", *LIGHTNING, *HYDRA), ("keyframe.data.datamodule",)),
    "keyframe.models": (("keyframe.data", *LIGHTNING, *HYDRA), ("keyframe.training.module",)),
    "keyframe.evaluation": ((*LIGHTNING, *HYDRA), ()),
    "keyframe.evaluation.metrics": (("torch",), ()),
    "keyframe.summary": ((*LIGHTNING, *HYDRA), ()),
    "keyframe.drawing": (("torch", *LIGHTNING, *HYDRA), ()),
    "keyframe.report": ((*REST, "torch", *LIGHTNING, *HYDRA), ()),
    "keyframe": ((*HYDRA, "keyframe.cli"), ("keyframe.cli", "keyframe.config")),
}


def below(name, *packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def module_name(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imports(path):
    """Everything a file imports, anywhere in it; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path}: a relative import hides who imports whom"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("part", RULES)
def test_who_may_import_whom(part):
    never, excepted = RULES[part]
    files = [path for path in PACKAGE.rglob("*.py") if below(module_name(path), part)]
    checked = [path for path in files if not below(module_name(path), *excepted)]
    assert checked
    broken = {(module_name(path), name) for path in checked for name in imports(path) if below(name, *never)}
    assert not broken


def test_only_commands_import_commands():
    users = {
        module_name(path) for path in PACKAGE.rglob("*.py") for name in imports(path) if below(name, "keyframe.cli")
    }
    assert users and all(below(user, "keyframe.cli") for user in users)
