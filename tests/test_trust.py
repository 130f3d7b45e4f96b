"""What a file from somebody else may hold."""

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest

from keyframe.trust import Trust, build, check_plain
from keyframe.types import KeyframeError


def _nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def _cycle() -> object:
    value: dict[str, object] = {}
    value["again"] = [value]
    return value


def _doubled() -> object:
    value: object = "a"
    for _ in range(19):
        value = [value] * 10
    return value


@pytest.mark.parametrize(
    "value",
    [
        *((1, 2), {"a": (1,)}, [{"a": [(1,)]}], {1: "a"}, {"a": 1j}, {"a": {1, 2}}, b"a", Path("a"), object()),
        *("${oc.create:{_target_: torch.load}}", {"a": ["${.x}"]}, {"${a}": 1}),
        *(_nested(21), _nested(5000), _cycle(), _doubled(), "a" * 10_001, ["a"] * 30_000, 10**400),
        type("Text", (str,), {})("a"),
    ],
    ids=range(20),
)
def test_only_plain_values_of_bounded_size_pass(value):
    with pytest.raises(KeyframeError, match=r"^shared\.ckpt was not loaded: its configuration [^\n]*\.$"):
        check_plain(value, Path("shared.ckpt"))


def test_plain_values_pass():
    check_plain({"a": [1, 2.5, True, None, "text"], "b": {"c": {}}}, Path("shared.ckpt"))


def test_trust_is_asked_for_by_true_or_packages_names():
    assert Trust.of(None) == Trust.of(False) == Trust()
    assert Trust.of(True) == Trust(programs=True)
    assert Trust.of(["mylib", "other.heads"]) == Trust(packages=("mylib", "other.heads"))
    assert Trust.of([True, "mylib"]) == Trust.of(Trust(True, ("mylib",))) == Trust(programs=True, packages=("mylib",))
    assert Trust.of("mylib") == Trust(packages=("mylib",))
    for wrong in ("my lib", "", "a..b", "/tmp", 1, [3], [["a"]], {"mylib": True}):
        with pytest.raises(KeyframeError, match="trust="):
            Trust.of(wrong)


HEADS = """
from fractions import Fraction

def make(): ...

class Head:
    def __init__(self, width=1):
        self.width = width

class Refuses:
    def __init__(self):
        raise OSError("no disk")
"""


@pytest.fixture
def mylib(tmp_path, monkeypatch):
    """An importable package with a class of its own, and with names that are none of its classes."""
    (tmp_path / "mylib").mkdir()
    (tmp_path / "mylib" / "__init__.py").write_text("")
    (tmp_path / "mylib" / "heads.py").write_text(HEADS)
    (tmp_path / "mylib" / "broken.py").write_text("import not_there_either\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "mylib"
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylib"]:
        del sys.modules[name]


def test_a_class_of_an_own_package_is_built_if_the_package_is_trusted(mylib):
    value = {"_target_": "mylib.heads.Head", "width": 3}
    with pytest.raises(
        KeyframeError, match=r"a\.ckpt was not loaded: it asks for mylib\.heads\.Head.*trust=\[mylib\]\.$"
    ):
        build(value, [], Path("a.ckpt"))
    for other in ("my", "mylib2", "mylib.other"):
        with pytest.raises(KeyframeError, match=r"trust=\[mylib\]"):
            build(value, [], Path("a.ckpt"), Trust.of(other))
    assert "mylib" not in sys.modules
    for trust in ("mylib", "mylib.heads"):
        assert build(value, [], Path("a.ckpt"), Trust.of(trust)).width == 3
    assert build([{**value, "_partial_": True}], [], Path("a.ckpt"), Trust.of("mylib"))[0]().width == 3


def test_only_a_class_that_the_trusted_package_defines_is_built(mylib):
    for name in (
        "mylib.heads.make",
        "mylib.heads.Fraction",
        "mylib.heads",
        "mylib.heads.missing",
        "mylib.heads.Head.__init__",
    ):
        with pytest.raises(KeyframeError, match=r"mylib[^\n]*(is not a class that mylib defines|importing it fails)"):
            build({"_target_": name}, [], Path("a.ckpt"), Trust.of("mylib"))
    for name in ("mylib.broken.Head", "mylib.missing.Head"):
        with pytest.raises(KeyframeError, match=r"asks for mylib[^\n]*No module named[^\n]*PYTHONPATH"):
            build({"_target_": name}, [], Path("a.ckpt"), Trust.of("mylib"))
    with pytest.raises(KeyframeError, match="no disk"):
        build({"_target_": "mylib.heads.Refuses"}, [], Path("a.ckpt"), Trust.of("mylib"))


def test_an_installed_plugin_is_trusted(mylib, tmp_path):
    info = tmp_path / "mylib-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mylib\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[keyframe.plugins]\nmylib = mylib\n")
    assert build({"_target_": "mylib.heads.Head"}, [], Path("a.ckpt")).width == 1


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "subprocess.Popen", "builtins.eval", "keyframe.files.write_text", "keyframe.trust.Trust"),
        *("torch.load", "torch.hub.load", "numpy.load", "urllib.request.urlopen", "", "Head", ".Head", "a..b", "a b.c"),
        *("..", "\x1b[31m.a", 3, None, ["mylib"], {"a": 1}),
    ],
    ids=range(20),
)
def test_nothing_else_is_built(name):
    with pytest.raises(KeyframeError, match=r"^a\.ckpt was not loaded: it asks for [^\n\x1b]*\.$"):
        build([{"a": {"_target_": name}}], [], Path("a.ckpt"))
    if str(name).partition(".")[0] in ("os", "subprocess", "builtins", "keyframe"):  # no own class lies there
        with pytest.raises(KeyframeError, match=r"which keyframe does not use for that\.$"):
            build({"_target_": name}, [], Path("a.ckpt"), Trust.of(name.partition(".")[0]))


class Reader(Protocol):
    def read(self) -> None: ...


class Typed:
    """Every kind of annotation that the package has."""

    def __init__(
        self,
        whole: int = 0,
        number: float = 0.0,
        flag: bool = False,
        text: str | None = None,
        size: int | tuple[int, int] = 1,
        widths: Sequence[int] = (),
        shares: Mapping[str, float] | None = None,
        norm: Literal["frozen", "train"] = "train",
        reader: Reader | None = None,
        make: Callable[..., Any] | None = None,
        **common: Any,
    ) -> None:
        self.arguments = {key: value for key, value in locals().items() if key not in ("self", "common")} | common


class Inner(Typed):
    def __init__(self, seed: int = 0, **common: Any) -> None:
        super().__init__(**common)

    def read(self) -> None: ...


class TypedOnly:
    def __init__(self, whole: int = 0) -> None: ...


INNER, TYPED_ONLY = (f"{__name__}.{one.__name__}" for one in (Inner, TypedOnly))
GOOD: dict[str, list[Any]] = {
    "whole": [3, -1],
    "number": [3, 2.5],
    "flag": [True, 1],
    "text": ["a", None],
    "size": [3, [3, 4]],
    "widths": [[], [1, 2]],
    "shares": [None, {"a": 1}],
    "norm": ["frozen"],
    "reader": [None, {"_target_": INNER}],
    "make": [{"_target_": INNER, "_partial_": True}],
    "seed": [3],
}
BAD: dict[str, list[Any]] = {
    "whole": [True, 1.5, "1", None, [1], {}],
    "number": [True, "1", None, [1.5]],
    "flag": ["yes", None, 0.5],
    "text": [3, ["a"], {"_target_": INNER}],
    "size": [[3], [3, 4, 5], [3, "a"], "3", [True, True]],
    "widths": [3, "ab", [1, "2"], {"a": 1}, [{"_target_": INNER}]],
    "shares": [["a"], {"a": "b"}, 1],
    "norm": ["sync", 3, ["frozen"]],
    "reader": ["pyav", 3, {"a": 1}, [1], {"_target_": TYPED_ONLY}, {"_target_": INNER, "_partial_": True}],
    "make": ["os.system", {"a": 1}, {"_target_": INNER}],
    "seed": ["3", None],
}


def test_arguments_are_of_the_type_that_the_class_states():
    for key, values in GOOD.items():
        for value in values:
            assert key in build({"_target_": INNER, key: value}, [Inner], Path("a.ckpt")).arguments or key == "seed"
    for key, values in BAD.items():
        for value in values:
            for later in ({}, {"_partial_": True}):
                with pytest.raises(KeyframeError, match=rf"^a\.ckpt was not loaded: {key} of its Inner is [^\n]*\.$"):
                    build({"_target_": INNER, key: value, **later}, [Inner, TypedOnly], Path("a.ckpt"))
    with pytest.raises(KeyframeError, match="unexpected keyword argument 'other'"):
        build({"_target_": TYPED_ONLY, "other": 1}, [TypedOnly], Path("a.ckpt"))


def test_any_plain_value_builds_what_is_allowed_or_is_refused():
    rng = random.Random(0)
    allowed = (Typed, Inner, TypedOnly)
    names = [f"{__name__}.{one.__name__}" for one in allowed] + ["os.system", "mylib.Head", f"{__name__}.GOOD", "x", 3]
    keys = ["_target_", "_partial_", "_args_", *GOOD]

    def value(depth):
        kind = rng.randrange(8 if depth else 5)
        if kind < 5:
            return (rng.randrange(9), rng.random(), rng.choice(names), None, True)[kind]
        if kind == 5:
            return [value(depth - 1) for _ in range(rng.randrange(4))]
        parts = {rng.choice(keys): value(depth - 1) for _ in range(rng.randrange(4))}
        return {"_target_": rng.choice(names[:4]), **parts} if kind == 6 else parts

    def check(built):
        if isinstance(built, partial):
            built = [built.func, built.keywords]
        if isinstance(built, type) or type(built) in allowed:
            assert built in allowed or type(built) in allowed
        elif isinstance(built, dict | list):
            for child in built.values() if isinstance(built, dict) else built:
                check(child)
        else:
            assert built is None or isinstance(built, str | int | float)

    kinds = set()
    for _ in range(3000):
        try:
            built = build(value(4), allowed, Path("a.ckpt"))
        except KeyframeError as error:
            assert "\n" not in str(error)
            kinds.add("refused")
        else:
            check(built)
            kinds.add(type(built))
    assert {"refused", dict, list, partial, *allowed} <= kinds
