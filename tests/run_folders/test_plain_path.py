"""Runs in folders of any name.

What orbax would take for a pattern is another name for the length of a save or a load.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from support import runs
from support.synthetic_stores import make_store

from glot_jax.errors import UsageError
from glot_jax.run_folders.checkpoint import Checkpoints
from glot_jax.run_folders.plain_path import plain_path
from glot_jax.training import train, train_seeds
from glot_jax.training.evaluation import evaluate_run

EVERYTHING = "runs [v1] a*b c?d 100% %20 {x} ~ # $HOME 'q' \\ ü 😀 " + os.fsdecode(b"\xff")
LONG = "n" * 240
NAMES = [
    "[v1]",
    "a*b",
    "a?b",
    "100%",
    "{x}",
    "a b",
    "ümlaut 😀",
    "~",
    "#1",
    "back\\slash",
    "$HOME",
    "new\nline",
    "[",
    os.fsdecode(b"\xff"),
    LONG,
]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("store") / "store")


def state(value: float = 1.0, step: int = 1) -> dict:
    return {
        "params": {"w": jax.numpy.full(3, value)},
        "stats": {"count": jax.numpy.zeros(2)},
        "step": jax.numpy.asarray(step),
        "key": jax.random.key(int(value)),
    }


def files(folder: Path) -> set[str]:
    """Of a checkpoint, without the names that orbax draws at random."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name.rpartition("/")[0] + "/*" if "/d/" in f"/{name}" else name for name in found}


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The system's temporary files, empty."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_is_read_back_from_a_folder_of_any_name(tmp_path, temporary, name):
    for folder, value in ((tmp_path / name, 1.0), (tmp_path / "aXb", 2.0), (tmp_path / "v", 3.0)):
        with Checkpoints(folder, writing=True) as checkpoints:
            checkpoints.save(state(value))
    with Checkpoints(tmp_path / name) as checkpoints:
        assert checkpoints.load(1, state())["params"]["w"].tolist() == [1.0] * 3
    assert files(tmp_path / name / "checkpoints" / "1") == files(
        tmp_path / "v" / "checkpoints" / "1"
    )
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("name", [EVERYTHING, LONG])
def test_train_resume_evaluate_and_seeds_in_a_folder_of_any_name(store, tmp_path, name):
    out = tmp_path / name / "run"
    summary = train(runs.config(store, out, epochs=2), quiet=True)
    assert Path(json.loads((out / "config.json").read_text())["config"]["out"]) == out
    (out / "summary.json").unlink()
    assert runs.resume(out)["validation"] == summary["validation"]
    scores = {
        metric: value
        for metric, value in summary["validation"]["last"].items()
        if metric != "epoch"
    }
    assert evaluate_run(out, checkpoint="last", quiet=True)["validation"] == pytest.approx(
        scores, abs=1e-6
    )
    seeds = train_seeds(runs.config(store, tmp_path / name / "seeds", epochs=1), [1, 2], quiet=True)
    assert seeds["runs"] == ["seed-1", "seed-2"]


def test_a_plain_folder_keeps_its_name(tmp_path):
    with plain_path(tmp_path) as path:
        assert path == tmp_path


def test_where_the_temporary_files_lie_in_a_pattern_too_a_parent_holds_the_link(
    tmp_path, monkeypatch
):
    (tmp_path / "tmp [1]").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp [1]"))
    folder = tmp_path / "plain" / "a [b]" / "run"
    folder.mkdir(parents=True)
    with plain_path(folder) as path:
        assert path.parent.parent == tmp_path / "plain"
        assert path.samefile(folder)
    assert [entry.name for entry in (tmp_path / "plain").iterdir()] == ["a [b]"]


def test_without_links_the_run_is_refused_before_it_trains(store, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("a privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(UsageError, match=r"\* \? \[ \].*a privilege.*Choose a folder without"):
        train(runs.config(store, tmp_path / "a [b]"), quiet=True)


def test_an_error_names_the_folder_and_not_the_link(tmp_path, temporary):
    folder = tmp_path / "a [b]"
    with Checkpoints(folder, writing=True) as checkpoints:
        checkpoints.save(state())
    for path in (folder / "checkpoints/1/model").rglob("*"):
        if path.is_file() and path.name == "manifest.ocdbt":
            path.write_bytes(b"")
    with Checkpoints(folder) as checkpoints, pytest.raises(UsageError) as raised:
        checkpoints.load(1, state())
    assert str(folder) in str(raised.value)
    assert str(temporary) not in str(raised.value)
    assert np.all(state()["params"]["w"] == 1)
