"""The compile cache is switched by our commands or by a call, and never ends a run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from support.small_programs import compiled
from support.synthetic_stores import make_store
from support.trained_runs import write_lines

import glot_jax
from glot_jax import cli
from glot_jax.cli.main import COMMANDS
from glot_jax.compile_cache import folder_in_use, hits, machine_folder, switch, use_compile_cache
from glot_jax.config.train import PoolerConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.training import train

pytestmark = pytest.mark.usefixtures("switchable")

ROOT = Path(__file__).parents[2]
FOLDER = "jax_compilation_cache_dir"
UNTOUCHED = """
import jax
import glot_jax.cli, glot_jax.compile_cache, glot_jax.training
assert jax.config.jax_compilation_cache_dir is None
"""


def folder_of_jax() -> str | None:
    return getattr(jax.config, FOLDER)


def test_programs_are_read_back(tmp_path, capsys):
    assert use_compile_cache(tmp_path / "cache")
    assert folder_in_use() == tmp_path / "cache"
    assert not compiled(7)[1]
    assert compiled(7)[1]
    # Into another folder, and back.
    assert use_compile_cache(tmp_path / "other")
    assert not compiled(7)[1]
    assert use_compile_cache(tmp_path / "cache")
    assert compiled(7)[1]
    (machine,) = (tmp_path / "cache").iterdir()
    assert machine.name.startswith(f"jaxlib-{jax.lib.__version__}-cpu-")
    assert capsys.readouterr().err == ""


def test_a_machine_has_a_folder_of_its_own(tmp_path):
    assert machine_folder() is None
    use_compile_cache(tmp_path / "cache")
    folder = machine_folder()
    # That of its programs, made before there are any.
    compiled(7)
    assert list((tmp_path / "cache").iterdir()) == [folder]
    assert folder is not None
    folder.chmod(0o777)
    assert machine_folder() is None
    use_compile_cache("off")
    assert machine_folder() is None


def test_the_default_is_a_folder_of_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("GLOT_JAX_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert use_compile_cache()
    assert folder_in_use() == tmp_path / ".cache" / "glot-jax" / "compiled"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert use_compile_cache()
    assert folder_in_use() == tmp_path / "xdg" / "glot-jax" / "compiled"


def test_off_keeps_nothing(tmp_path, monkeypatch):
    use_compile_cache(tmp_path / "cache")
    monkeypatch.setenv(switch.JAX_VARIABLE, str(tmp_path / "of-jax"))
    assert not use_compile_cache("off")
    assert folder_in_use() is None
    for _ in range(2):
        assert not compiled(8)[1]
    assert not list((tmp_path / "cache").rglob("*.program"))
    # Nor does a process that is started from here.
    assert switch.JAX_VARIABLE not in os.environ


def test_the_variable_of_jax_is_left_to_jax(tmp_path, monkeypatch):
    monkeypatch.setenv(switch.JAX_VARIABLE, str(tmp_path / "of-jax"))
    before = folder_of_jax()
    assert use_compile_cache()
    assert folder_of_jax() == before
    assert folder_in_use() is None
    # What is typed wins.
    assert use_compile_cache(tmp_path / "cache")
    assert folder_in_use() == tmp_path / "cache"


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_a_folder_that_others_may_write_to_is_not_used(tmp_path, capsys, mode):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    assert not use_compile_cache(folder)
    said = capsys.readouterr().err
    assert said == (
        f"compile cache off: others may write to {folder} (mode {mode:04o}); chmod go-w {folder}\n"
    )
    assert not compiled(9)[1]
    assert not list(folder.iterdir())


def test_a_home_that_nobody_knows_is_told(capsys):
    assert not use_compile_cache("~no-such-user/cache")
    assert capsys.readouterr().err == "compile cache off: Could not determine home directory.\n"


def test_a_bound_of_jax_is_none_of_ours(tmp_path):
    # As $JAX_COMPILATION_CACHE_MAX_SIZE sets it.
    jax.config.update("jax_compilation_cache_max_size", 1)
    use_compile_cache(tmp_path / "cache")
    assert not compiled(12)[1]
    assert compiled(12)[1]
    assert not list((tmp_path / "cache").glob(".*"))


def test_a_folder_that_is_deleted_during_a_run_ends_nothing(tmp_path, capsys):
    use_compile_cache(tmp_path / "cache")
    compiled(10)
    shutil.rmtree(tmp_path / "cache")
    for factor in (10, 11):
        program, was_read = compiled(factor)
        assert not was_read
        np.testing.assert_allclose(program(np.ones(8, np.float32)), np.tanh(factor), rtol=1e-6)
    assert capsys.readouterr().err == (
        "compile cache: programs of this run are not kept: No such file or directory\n"
    )


def test_the_size_is_a_number(tmp_path, monkeypatch):
    monkeypatch.setenv(switch.SIZE_VARIABLE, "much")
    with pytest.raises(UsageError, match="GLOT_JAX_COMPILED_GB must be a number of gigabytes"):
        use_compile_cache(tmp_path / "cache")


def test_the_cache_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setenv(switch.SIZE_VARIABLE, "0.00002")
    use_compile_cache(tmp_path / "cache")
    for factor in range(30, 42):
        compiled(factor)
    sizes = [path.stat().st_size for path in (tmp_path / "cache").glob("*/*")]
    assert 0 < sum(sizes) <= 20_000


def test_an_import_leaves_jax_as_it_is():
    # `switchable` has taken the variable of the tests away.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", UNTOUCHED]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def command(*words: object) -> int:
    """Run a command, and return how many programs it has read."""
    # Nothing of what this process has compiled before.
    jax.clear_caches()
    before = hits()
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in words])
    assert not ended.value.code
    return hits() - before


def test_a_warm_cache_changes_no_number(tmp_path):
    store = make_store(tmp_path / "store")
    settings = ("--store", store, "--pooler", "glot", "--hidden-dim", 8, "--num-layers", 1)
    settings += ("--epochs", 1, "--batch-size", 8, "--buckets", 1)
    settings += ("--compile-cache", tmp_path / "cache")
    command("train", *settings, "--out", tmp_path / "cold")
    assert command("train", *settings, "--out", tmp_path / "warm") > 10
    cold = (tmp_path / "cold" / "metrics.jsonl").read_bytes()
    assert (tmp_path / "warm" / "metrics.jsonl").read_bytes() == cold
    # Where programs are kept is no setting of the run.
    assert "compile_cache" not in (tmp_path / "warm" / "config.json").read_text()


class Reached(Exception):
    """A command has come to the switch, with the folder that it was given."""


def stop(folder: str | None) -> None:
    raise Reached(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on texts, and its store beside it."""
    folder = tmp_path_factory.mktemp("run")
    store = make_store(folder / "store")
    config = TrainConfig(
        store=store,
        out=folder / "run",
        epochs=1,
        buckets=1,
        pooler=PoolerConfig(pooler="mean"),
    )
    train(config, quiet=True)
    return folder / "run"


def test_training_from_python_leaves_jax_as_it_is(tmp_path, monkeypatch, run):
    monkeypatch.setenv("GLOT_JAX_CACHE", str(tmp_path / "own"))
    before = folder_of_jax()
    store = run.parent / "store"
    glot_jax.train(store=store, out=tmp_path / "run", pooler="mean", epochs=1, buckets=1)
    assert folder_of_jax() == before
    assert folder_in_use() is None
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize(
    "name",
    [
        "evaluate",
        "encode",
        "predict",
        "explain",
        "serve",
        "stress",
        "compare",
        "sweep",
        "reproduce",
    ],
)
def test_every_command_comes_to_the_switch(run, tmp_path, monkeypatch, name):
    texts = write_lines(tmp_path / "texts.jsonl", [{"text": "the cat"}])
    words = {
        "evaluate": (run,),
        "encode": (texts, "--run", run, "--out", tmp_path / "vectors.npy"),
        "predict": (texts, "--run", run, "--out", tmp_path / "answers.csv"),
        "explain": ("the cat", "--run", run),
        "serve": (run, "--port", 0),
        "stress": (),
        "compare": ("--store", run.parent / "store", "--out", tmp_path / "compared"),
        "sweep": ("--store", run.parent / "store", "--out", tmp_path / "sweep"),
        "reproduce": ("table4",),
    }[name]
    module = sys.modules[COMMANDS[name].run.__module__]
    monkeypatch.setattr(module, "use_compile_cache", stop)
    with pytest.raises(Reached) as reached:
        cli.main([name, *map(str, words), "--compile-cache", "given"])
    assert reached.value.args == ("given",)
