import pytest
import torch

from keyframe.models import detector as chunks
from keyframe.models.detector import choose_chunk, free_bytes

CPU = torch.device("cpu")


@pytest.fixture
def plenty(monkeypatch):
    monkeypatch.setattr(chunks, "free_bytes", lambda device: 10**12)


def test_a_chunk_depends_on_the_size_of_pictures_and_the_threads_alone(plenty, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert choose_chunk(224, 224, CPU) == choose_chunk(224, 224, CPU)
    assert choose_chunk(448, 224, CPU) == choose_chunk(224, 224, CPU) // 2
    assert choose_chunk(4000, 4000, CPU) == 1
    assert choose_chunk(8, 8, CPU) == 64
    one = choose_chunk(224, 224, CPU)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert choose_chunk(224, 224, CPU) == 2 * one
    assert choose_chunk(224, 224, torch.device("cuda")) > 2 * one


def test_a_chunk_is_halved_while_memory_is_short(plenty, monkeypatch):
    whole = choose_chunk(64, 64, CPU)
    for free in (10**8, 10**7, 10**6, 0):
        monkeypatch.setattr(chunks, "free_bytes", lambda device, free=free: free)
        smaller = choose_chunk(64, 64, CPU)
        assert 1 <= smaller <= whole
        whole = smaller
    assert whole == 1


def test_what_the_system_does_not_tell_limits_nothing(plenty, monkeypatch):
    whole = choose_chunk(64, 64, CPU)
    monkeypatch.undo()
    monkeypatch.setattr(chunks, "available_bytes", lambda: None)
    assert free_bytes(CPU) is None
    assert choose_chunk(64, 64, CPU) == whole
