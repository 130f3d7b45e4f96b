"""Files and folders that appear whole or not at all, tables and numbers, names and hashes."""

import csv
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from keyframe.files import (
    FILE_DRAFT,
    atomic_file,
    atomic_folder,
    content_hash,
    described,
    file_hash,
    flat,
    format_clock,
    natural_key,
    new_folder,
    one_line,
    read_table,
    unchanged,
    write_metrics,
    write_table,
)
from keyframe.types import KeyframeError, VideoError


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_file(path) as draft:
        draft.write_text("one")
        assert not path.exists() and FILE_DRAFT.fullmatch(draft.name)[1] == "a.txt"
    with pytest.raises(ZeroDivisionError), atomic_file(path) as draft:
        draft.write_text("two")
        raise ZeroDivisionError
    assert path.read_text() == "one" and path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all_and_keeps_what_is_merged(tmp_path):
    folder = tmp_path / "new" / "a"
    with pytest.raises(ZeroDivisionError), atomic_folder(folder) as draft:
        (draft / "half").touch()
        raise ZeroDivisionError
    assert not list(folder.parent.iterdir())
    with atomic_folder(folder) as draft:
        (draft / "one").touch()
    # without a merge the folder that is there stays
    with atomic_folder(folder) as draft:
        (draft / "two").touch()
    assert [path.name for path in folder.iterdir()] == ["one"]
    with atomic_folder(folder, lambda old, new: (old / "one").rename(new / "kept")) as draft:
        (draft / "two").touch()
    assert sorted(path.name for path in folder.iterdir()) == ["kept", "two"]
    assert list(folder.parent.iterdir()) == [folder]


def test_numbers_and_tables(tmp_path):
    write_metrics(tmp_path / "a.json", {"b": float("nan"), "a": 1.5, "c": "word"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1.5, "b": None, "c": "word"}
    write_table(tmp_path / "a.csv", [{"name": "x, y", "score": 1}, {"name": "z", "score": None}])
    assert (tmp_path / "a.csv").read_text() == 'name,score\n"x, y",1\nz,\n'


# A text from a file -> how a table holds it.
CELLS = {
    "=cmd|' /C calc'!A0": "'=cmd|' /C calc'!A0",
    "+1 000": "'+1 000",
    "-rf": "'-rf",
    "@SUM(A1)": "'@SUM(A1)",
    "\uff1dcmd()": "'\uff1dcmd()",
    "'=it was quoted": "''=it was quoted",
    "'tis a name": "'tis a name",
    "-0.5": "-0.5",
    "+1e-3": "+1e-3",
    "a\x1b[31mb\u202ec\x9bd\udce9": r"a\u001b[31mb\u202ec\u009bd\udce9",
    "\t=1\r\nb": r"\u0009=1\u000d\u000ab",
    r"C:\users": r"C:\users",
    r"\u001b": r"\\u001b",
    "\\\x1b": r"\\\u001b",
    "a \u65e5, b": "a \u65e5, b",
}


def test_text_in_a_table_does_no_harm_and_comes_back(tmp_path):
    write_table(tmp_path / "a.csv", [{"=id": text, "score": -0.5} for text in CELLS])
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert (header, rows) == (["'=id", "score"], [[cell, "-0.5"] for cell in CELLS.values()])
    assert read_table(tmp_path / "a.csv") == [{"=id": text, "score": "-0.5"} for text in CELLS]


def test_a_text_as_one_printable_line():
    assert one_line(" two  spaces\n\t and\u2028more\x1b[2J ") == "two  spaces and more\ufffd[2J"


CHANGES = {
    "grown": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "touched": lambda path: os.utime(path, ns=(1, 1)),
    "replaced": lambda path: path.with_name("other").replace(path),
    "removed": lambda path: path.unlink(),
}


def test_a_file_that_changes_within_the_block(tmp_path):
    for name, change in CHANGES.items():
        for place in ("a", "other"):
            (tmp_path / place).write_bytes(b"same")
            os.utime(tmp_path / place, ns=(2, 2))
        path = tmp_path / "a"
        with unchanged(path) as state:
            path.read_bytes()
        with (
            pytest.raises(VideoError, match="a has changed while it was read: wait"),
            unchanged(path, error=VideoError),
        ):
            change(path)
        with pytest.raises(KeyframeError, match="has changed"), unchanged(path, state):
            pytest.fail(name)  # Not entered: it is not what it was.
    with pytest.raises(KeyframeError, match="has changed"), unchanged(tmp_path / "new"):
        (tmp_path / "new").touch()
        raise ValueError("what follows from the change")
    with pytest.raises(ZeroDivisionError), unchanged(tmp_path / "new"):
        raise ZeroDivisionError


def test_names_times_and_nested_values():
    names = ["clip 10", "clip 2", "Clip 1", "2", "10", "a"]
    assert sorted(names, key=natural_key) == ["2", "10", "a", "Clip 1", "clip 2", "clip 10"]
    assert [format_clock(185), format_clock(3785), format_clock(185.24, 1)] == ["3:05", "1:03:05", "3:05.2"]
    assert dict(flat({"a": {"b": 1, "c": {"d": [2]}}, "e": None})) == {"a.b": 1, "a.c.d": [2], "e": None}


@dataclass
class Part:
    size: int
    inner: object = None


def test_a_part_is_described_by_its_class_and_its_public_values():
    part = Part(3, Part(4))
    part._hidden = 5
    inner = {"kind": "Part", "size": 4, "inner": None}
    assert described(part) == {"kind": "Part", "size": 3, "inner": inner}
    assert described(part, without={"inner"}) == {"kind": "Part", "size": 3}


def test_a_hash_of_content_sees_size_and_pieces_and_not_the_place(tmp_path):
    content = bytearray(3 << 20)
    hashes = set()
    for name, change in (("a", None), ("moved", None), ("start", 0), ("end", -1), ("piece", (3 << 20) // 15 * 4)):
        changed = bytearray(content)
        if change is not None:
            changed[change] ^= 1
        (tmp_path / name).write_bytes(changed)
        hashes.add(content_hash(tmp_path / name))
    (tmp_path / "longer").write_bytes(content + b"x")
    hashes.add(content_hash(tmp_path / "longer"))
    assert len(hashes) == 5  # `moved` is `a`
    assert file_hash(tmp_path / "a") == file_hash(tmp_path / "moved") != file_hash(tmp_path / "piece")
    for path, why in ((tmp_path / "gone", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(VideoError, match=why):
            content_hash(path)


def test_of_many_that_want_one_folder_each_gets_its_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(new_folder, [tmp_path / "new" / "run"] * 8))
    names = {"run", *(f"run-{number}" for number in range(2, 9))}
    assert {path.name for path in made} == names == {path.name for path in (tmp_path / "new").iterdir()}
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        new_folder(tmp_path / "file" / "run")
