"""Who may import whom: the layers of the package, in one list."""

import ast
from pathlib import Path

import pytest

import keyframe

PACKAGE = Path(keyframe.__file__).parent

# A file imports only from layers before its own, and from its own.
LAYERS = (
    "types",
    "system",
    "files",
    "trust",
    "config",
    "timing",
    "drawing",
    "report",
    "data",
    "summary",
    "evaluation",
    "models",
    "training",
    "pipeline",
    "export",
    "runs",
    "extraction",
    "api",
    "app",
    "benchmark",
    "cli",
)
LIGHTNING = ("pytorch_lightning", "lightning", "lightning_fabric")
HYDRA = ("hydra", "omegaconf")
# Part of the package -> what it never imports besides.
NEVER = {
    "models": ("keyframe.data", "keyframe.evaluation", "keyframe.drawing"),
    "evaluation.metrics": ("torch",),
    "summary": ("torch",),
    "drawing": ("torch",),
    "report": ("torch",),
}
HYDRA_IN = ("config", "cli")
LIGHTNING_IN = ("data.datamodule", "training", "benchmark", "cli")


def below(name, *packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def module_name(path):
    """The name below `keyframe`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def layer(name):
    return LAYERS.index(name.partition(".")[0])


def imports(path):
    """Everything a file imports, anywhere in it; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path}: a relative import hides who imports whom"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = {
    module_name(path): set(imports(path))
    for path in PACKAGE.rglob("*.py")
    if path.parent != PACKAGE or path.stem != "__init__"
}


@pytest.mark.parametrize("part", LAYERS)
def test_a_file_imports_only_from_layers_before_its_own(part):
    files = {name: names for name, names in FILES.items() if below(name, part)}
    assert files
    backwards = {
        (name, imported)
        for name, names in files.items()
        for imported in names
        if below(imported, *(f"keyframe.{later}" for later in LAYERS[LAYERS.index(part) + 1 :]))
    }
    assert not backwards


def test_every_file_has_a_layer_and_the_top_level_is_small():
    assert {name.partition(".")[0] for name in FILES} == set(LAYERS)
    assert len(list(PACKAGE.glob("*.py"))) <= 10


@pytest.mark.parametrize("part", NEVER)
def test_what_a_part_never_imports(part):
    files = {name: names for name, names in FILES.items() if below(name, part)}
    assert files
    assert not {
        (name, imported) for name, names in files.items() for imported in names if below(imported, *NEVER[part])
    }


@pytest.mark.parametrize(
    ("libraries", "places"), [(HYDRA, HYDRA_IN), (LIGHTNING, LIGHTNING_IN)], ids=["hydra", "lightning"]
)
def test_a_library_stays_where_it_belongs(libraries, places):
    users = {name for name, names in FILES.items() if any(below(imported, *libraries) for imported in names)}
    assert users
    assert not {name for name in users if not below(name, *places)}


def test_no_files_import_each_other():
    """No circle within a package either: files in the order of their imports."""
    left = {name: {n.removeprefix("keyframe.") for n in names} & FILES.keys() - {name} for name, names in FILES.items()}
    while ready := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in ready:
            del left[name]
    assert not left
