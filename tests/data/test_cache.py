"""What is kept comes back as it was, or not at all; the directory stays within its bound and is never fatal."""

import errno
import multiprocessing
import os
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from keyframe.data import cache as module
from keyframe.data.cache import CachedVideo, CacheFullError, VideoCache
from keyframe.types import KeyframeError


def key(number):
    return f"{number:064x}"


def made(number=0, size=25_000):
    generator = torch.Generator().manual_seed(number)
    return CachedVideo(
        inputs=torch.rand(2, size // 2, generator=generator),
        indices=torch.tensor([3, 8 + number]),
        seconds=torch.tensor([0.1, 0.2 + number], dtype=torch.float64),
        n_frames=100 + number,
        duration=4.5,
    )


def same(one, other):
    assert one is not None
    assert (one.n_frames, one.duration) == (other.n_frames, other.duration)
    for name in ("inputs", "indices", "seconds"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs), name


def on_disk(directory):
    return {path.stem: path for path in directory.rglob("*.safetensors")}


def sum_of(entries):
    return sum(entry.nbytes for entry in entries.values())


def size_of(directory):
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def test_an_entry_comes_back_in_this_and_in_another_cache(tmp_path):
    for number, dtype in enumerate((torch.float32, torch.float16, torch.uint8)):
        entry = replace(made(), inputs=(made().inputs * 255).to(dtype))
        cache = VideoCache(str(tmp_path / "new" / "cache"))
        assert cache.get(key(number)) is None
        same(cache.put(key(number), entry), entry)
        same(cache.get(key(number)), entry)
        same(VideoCache(str(tmp_path / "new" / "cache")).get(key(number)), entry)
        assert not cache.in_memory


def test_memory_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = VideoCache()
    same(cache.put(key(1), made()), made())
    same(cache.get(key(1)), made())
    assert VideoCache().get(key(1)) is None
    assert not list(tmp_path.iterdir())


def torn(path):
    path.write_bytes(path.read_bytes()[:-100])


def cut_in_the_header(path):
    path.write_bytes(path.read_bytes()[:50])


def emptied(path):
    path.write_bytes(b"")


def one_bit_is_wrong(path):
    content = bytearray(path.read_bytes())
    content[-1000] ^= 4
    path.write_bytes(content)


def text(path):
    path.write_text("weights" * 100)


def of_another_program(path):
    safetensors.torch.save_file({"inputs": torch.zeros(2, 3)}, path)


def of_another_key(path):
    cache = VideoCache(str(path.parent.parent))
    cache.put(key(2), made(2))
    on_disk(path.parent.parent)[key(2)].replace(path)


def a_directory(path):
    path.unlink()
    path.mkdir()


def test_a_file_that_is_not_the_entry_is_not_trusted_and_not_fatal(tmp_path):
    spoils = torn, cut_in_the_header, emptied, one_bit_is_wrong, text, of_another_program, of_another_key, a_directory
    for spoil in spoils:
        directory = tmp_path / spoil.__name__
        VideoCache(str(directory)).put(key(1), made(1))
        spoil(on_disk(directory)[key(1)])
        cache = VideoCache(str(directory))
        assert cache.get(key(1)) is None, spoil
        same(cache.put(key(1), made(1)), made(1))
        same(cache.get(key(1)), made(1))


def test_the_least_recently_used_goes_first(tmp_path):
    mine = [tmp_path / "01" / "model.safetensors", tmp_path / "notes.txt", tmp_path / "02" / ".hidden"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 1000)
    for number in range(4):  # of 100 KB each
        VideoCache(str(tmp_path)).put(key(number), made(number))
        os.utime(on_disk(tmp_path)[key(number)], (number + 1, number + 1))
    VideoCache(str(tmp_path)).get(key(0))  # is now the latest
    cache = VideoCache(str(tmp_path), max_gb=420e-6)
    cache.put(key(7), made(7))
    assert on_disk(tmp_path).keys() - {"model"} == {key(0), key(2), key(3), key(7)}
    assert all(path.is_file() for path in mine)


def test_the_bound_holds_whatever_is_written(tmp_path):
    for number in range(30):
        VideoCache(str(tmp_path), max_gb=500e-6).put(key(number), made(number, size=5000 * (1 + number % 4)))
        assert size_of(tmp_path) <= 500_000
    assert len(on_disk(tmp_path)) >= 5


def test_a_run_that_needs_more_than_the_bound_keeps_the_rest_in_memory(tmp_path, caplog):
    VideoCache(str(tmp_path)).put(key(99), made())
    cache = VideoCache(str(tmp_path), max_gb=350e-6)
    for number in range(6):
        cache.put(key(number), made(number))
    for number in range(6):
        same(cache.get(key(number)), made(number))
    assert size_of(tmp_path) <= 350_000
    assert cache.in_memory.keys() == {key(3), key(4), key(5)}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cache.max_gb=0.00035 is less than this run needs" in caplog.text


@pytest.mark.parametrize("directory", ["cache", None])
def test_memory_is_taken_only_as_far_as_it_goes(tmp_path, monkeypatch, directory):
    """One entry fits on the disk; 400 KB of memory are free for three processes, beyond what is left alone."""
    cache = VideoCache(directory and str(tmp_path / directory), max_gb=150e-6)
    cache.processes = 3
    monkeypatch.setattr(module, "available_bytes", lambda: module._LEFT_FREE + 400_000 - sum_of(cache.in_memory))
    if directory:
        cache.put(key(0), made(0))
    cache.put(key(1), made(1))
    with pytest.raises(CacheFullError, match="cache.max_gb=0.00015 is less" if directory else "cache=memory") as full:
        cache.put(key(2), made(2))
    assert full.value.nbytes == made(2).nbytes
    assert cache.in_memory.keys() == {key(1)}
    monkeypatch.setattr(module, "available_bytes", lambda: None)  # a system that does not report limits nothing
    same(cache.put(key(2), made(2)), made(2))


def test_an_entry_in_use_outlives_its_removal(tmp_path):
    cache = VideoCache(str(tmp_path))
    opened = cache.put(key(1), made(1))
    VideoCache(str(tmp_path), max_gb=120e-6).put(key(2), made(2))
    assert on_disk(tmp_path).keys() == {key(2)}
    same(opened, made(1))
    same(cache.get(key(1)), made(1))


def test_a_full_disk_turns_to_memory_with_one_warning(tmp_path, monkeypatch, caplog):
    cache = VideoCache(str(tmp_path))
    cache.put(key(0), made(0))

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(module, "write_bytes", full)
    for number in (1, 2):
        same(cache.put(key(number), made(number)), made(number))
    for number in range(3):
        same(cache.get(key(number)), made(number))
    assert caplog.text.count("No space left on device") == 1
    assert str(tmp_path) in caplog.text
    assert on_disk(tmp_path).keys() == {key(0)}


def test_a_place_that_cannot_be_written_turns_to_memory(tmp_path, caplog):
    (tmp_path / "file").touch()
    cache = VideoCache(str(tmp_path / "file" / "cache"))
    assert cache.get(key(1)) is None
    same(cache.put(key(1), made(1)), made(1))
    same(cache.get(key(1)), made(1))
    assert "cannot be written" in caplog.text


def test_the_draft_of_a_killed_process_is_removed(tmp_path):
    (tmp_path / "00").mkdir()
    old, young = (tmp_path / "00" / f".{key(number)}.safetensors-abc_12_3" for number in (1, 2))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    VideoCache(str(tmp_path)).put(key(3), made(3))
    assert not old.exists() and young.exists()


def write_all(directory, order):
    cache = VideoCache(directory, max_gb=1.5e-3)
    for number in order:
        cache.put(key(number), made(number))
        same(cache.get(key(number)), made(number))


def test_several_processes_write_the_same_entries_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    orders = [range(20), range(19, -1, -1), [*range(10, 20), *range(10)]]
    processes = [context.Process(target=write_all, args=(str(tmp_path), order)) for order in orders]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    left = on_disk(tmp_path)
    assert left
    for number in range(20):
        entry = VideoCache(str(tmp_path)).get(key(number))
        assert (entry is not None) == (key(number) in left)
        if entry is not None:
            same(entry, made(number))


def test_options_out_of_range():
    for option, value in (("dtype", "float64"), ("max_gb", 0), ("views", 0)):
        with pytest.raises((ValueError, KeyframeError), match=option):
            VideoCache(**{option: value})
