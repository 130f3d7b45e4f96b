"""Of several ranks in one run directory the first writes the log."""

import logging

import pytest

from keyframe.cli.main import JobLog


@pytest.mark.parametrize("variable", ["SLURM_PROCID", "LOCAL_RANK"])
@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_rank_writes(monkeypatch, tmp_path, variable, rank):
    monkeypatch.setenv(variable, str(rank))
    handler = JobLog(str(tmp_path / "train.log"))
    handler.emit(logging.makeLogRecord({"msg": "a line"}))
    handler.close()
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == ({} if rank else {"train.log": "a line\n"})
