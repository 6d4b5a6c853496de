"""What processes compare before they save together, and who writes alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.processes_in_threads import run_together

from glot_jax.errors import UsageError
from glot_jax.mesh.processes import ALONE, Processes
from glot_jax.run_folders.readback import LateReadback, Readback
from glot_jax.run_folders.run_log import RunLog, only_writer
from glot_jax.run_folders.shared_writing import (
    agreed_reason,
    agreed_record,
    one_command,
    readback_of,
    require_plain,
)
from glot_jax.run_folders.silent_log import SilentLog, open_log


def record(number: int, sha: str = "a") -> dict:
    return {"arrays": {"params/w": ["float32", [2], sha]}, "notes": {"seconds": number}}


def test_one_record_is_saved_of_equal_states(monkeypatch):
    def work(own: Processes) -> dict:
        return agreed_record(own, 5, record(own.number))

    # Clocks differ: those of the first process are saved.
    assert run_together(monkeypatch, 3, work) == [record(0)] * 3
    assert agreed_record(ALONE, 5, record(7)) == record(7)


def test_a_state_that_drifts_is_never_saved(monkeypatch):
    def work(own: Processes) -> dict:
        return agreed_record(own, 5, record(own.number, sha="ab"[own.number == 2]))

    for error in run_together(monkeypatch, 3, work):
        assert isinstance(error, UsageError)
        assert "got another one in process 2 after step 5" in str(error)


def test_what_one_sees_of_a_checkpoint_all_know(monkeypatch):
    def work(own: Processes) -> str | None:
        return agreed_reason(own, "broken" if own.number == 1 else None)

    assert run_together(monkeypatch, 2, work) == ["broken (process 1)"] * 2
    assert agreed_reason(ALONE, "broken") == "broken"
    assert agreed_reason(ALONE, None) is None


def test_processes_read_back_where_they_wait():
    read = []
    late = readback_of(Processes(0, 2), lambda: read.append(1))
    assert isinstance(late, LateReadback)
    late.check()
    assert read == []
    late.wait()
    late.wait()
    assert read == [1]
    thread = readback_of(ALONE, lambda: read.append(2))
    assert isinstance(thread, Readback)
    thread.wait()
    assert read == [1, 2]


def test_a_run_of_another_command_is_refused_by_all(monkeypatch, tmp_path):
    def work(own: Processes) -> None:
        with one_command(tmp_path, own):
            own.gather(None)

    assert run_together(monkeypatch, 2, work) == [None, None]
    with only_writer(tmp_path):
        refused = run_together(monkeypatch, 2, work)
    for error in refused:
        assert isinstance(error, UsageError)
        assert "only one process at a time may train a run" in str(error)


def test_a_folder_that_orbax_takes_for_a_pattern_is_refused(tmp_path):
    require_plain(tmp_path)
    folder = tmp_path / "run[1]"
    folder.mkdir()
    with pytest.raises(UsageError, match="must have a path without"):
        require_plain(folder)


def test_one_process_writes_the_log(tmp_path: Path):
    silent = open_log(tmp_path, 0, Processes(1, 2))
    assert isinstance(silent, SilentLog)
    silent.metrics(step=1, epoch=1, split="train", loss=0.5)
    silent.timing(epoch=1, train_seconds=2.0)
    silent.sync()
    silent.close()
    assert list(tmp_path.iterdir()) == []
    log = open_log(tmp_path, 0, Processes(0, 2))
    assert type(log) is RunLog
    log.close()
