"""Whether processes see one folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.processes_in_threads import run_together

from glot_jax.errors import UsageError
from glot_jax.mesh import shared_folder
from glot_jax.mesh.processes import ALONE, Processes
from glot_jax.mesh.shared_folder import require_shared


def test_a_folder_that_all_see_is_made(monkeypatch, tmp_path):
    folder = tmp_path / "runs" / "run"
    require_shared(folder, ALONE)
    assert not folder.exists()

    def work(own: Processes) -> None:
        require_shared(folder, own)

    assert run_together(monkeypatch, 2, work) == [None, None]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("is_new", [True, False])
def test_a_folder_of_one_machine_is_refused_and_left_as_it_was(monkeypatch, tmp_path, is_new):
    monkeypatch.setattr(shared_folder, "_PATIENCE", 0.1)
    folder = tmp_path / "run"
    if not is_new:
        folder.mkdir()
        (folder / "config.json").touch()

    def work(own: Processes) -> None:
        require_shared(folder if own.first else Path("/elsewhere/run"), own)

    for error in run_together(monkeypatch, 2, work):
        assert isinstance(error, UsageError)
        assert "must be one that all processes see; got /elsewhere/run" in str(error)
        assert "process 1 of 2" in str(error)
    assert folder.exists() is not is_new
    if not is_new:
        assert [path.name for path in folder.iterdir()] == ["config.json"]
