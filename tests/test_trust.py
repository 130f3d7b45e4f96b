"""What a file from somebody else may hold."""

from pathlib import Path

import pytest

from keyframe.trust import Trust, check_plain
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
