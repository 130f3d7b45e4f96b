"""Who may import whom: the packages stay in a straight line."""

import ast
from pathlib import Path

import pytest

import keyframe

PACKAGE = Path(keyframe.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LIGHTNING, HYDRA = ("pytorch_lightning", "lightning"), ("hydra", "omegaconf")
INNER = ("types", "errors", "files")


def name_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """Every module that a file imports, wherever in the file, with all that could be modules of `from a import b`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def below(name, *packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def forbidden(module):
    """The packages that a module may not import."""
    if below(module, "keyframe.types", "keyframe.errors", "keyframe.files"):
        return ("keyframe.data", "keyframe.models", "keyframe.training", "torch", *LIGHTNING, *HYDRA)
    if module == "keyframe.config":
        return ()
    if below(module, "keyframe.data") and module != "keyframe.data.datamodule":
        return ("keyframe.models", "keyframe.training", "keyframe.evaluation", *LIGHTNING, *HYDRA)
    if below(module, "keyframe.models") and module != "keyframe.models.module":
        return ("keyframe.data", "keyframe.training", "keyframe.evaluation", *LIGHTNING, *HYDRA)
    if below(module, "keyframe.evaluation.metrics"):
        return ("keyframe.data", "keyframe.models", "torch", *LIGHTNING, *HYDRA)
    if below(module, "keyframe.evaluation", "keyframe.summary"):
        return (*LIGHTNING, *HYDRA)
    return () if below(module, "keyframe.cli") else ("hydra",)
