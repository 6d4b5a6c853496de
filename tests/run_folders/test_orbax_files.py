"""Parts of a checkpoint: read alone, read in part, and what is damage."""

from __future__ import annotations

import errno

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glot_jax.run_folders import orbax_files
from glot_jax.run_folders.orbax_files import Damaged, is_damage, one_line, read_parts

TREE = {"a": jnp.arange(3.0), "layers": {0: jnp.ones((2, 2))}, "key": jax.random.key(1)}


@pytest.fixture
def folder(tmp_path):
    parts = {"model": TREE, "training": {"step": jnp.array(3)}}
    orbax_files.start_saving(tmp_path / "7", parts, {"note": 1}).result()
    return tmp_path


def test_a_part_is_read_alone_on_the_host_or_the_device(folder):
    for target in (orbax_files.on_the_device(TREE), orbax_files.on_the_host(TREE)):
        parts = read_parts(folder, 7, {"model": target})
        assert list(parts) == ["model"]
        np.testing.assert_array_equal(parts["model"]["a"], TREE["a"])
        np.testing.assert_array_equal(parts["model"]["layers"][0], TREE["layers"][0])
        assert jax.random.key_data(parts["model"]["key"]).tolist() == [0, 1]


def test_some_arrays_are_read_only_where_that_is_asked_for(folder):
    target = orbax_files.on_the_device({"a": TREE["a"]})
    assert list(read_parts(folder, 7, {"model": target}, partly=True)["model"]) == ["a"]
    with pytest.raises(Damaged, match="ValueError"):
        read_parts(folder, 7, {"model": target})


def test_what_is_broken_is_told_in_one_line(folder):
    for path in (folder / "7" / "model" / "d").iterdir():
        path.write_bytes(b"")
    with pytest.raises(Damaged) as raised:
        read_parts(folder, 7, {"model": orbax_files.on_the_device(TREE)})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("error", "damage"),
    [
        (FileNotFoundError(), True),
        (OSError(errno.EIO, "broken"), True),
        (OSError(errno.EACCES, "forbidden"), False),
        (ValueError("bad magic"), True),
        (ValueError("PERMISSION_DENIED: no"), False),
        (MemoryError(), False),
    ],
)
def test_only_the_files_own_faults_are_damage(error, damage):
    assert is_damage(error) == damage


def test_tensorstores_settings_are_left_out():
    error = ValueError("cannot read [tensorstore_spec={...}]\nmore")
    assert one_line(error) == "ValueError: cannot read"


def test_saves_of_many_runs_at_once_are_all_whole(tmp_path):
    # Orbax numbers what it does by process: two saves at once, or a save and a reading, take each
    # other's files or wait for each other's signals.
    responses = []
    for step in range(12):
        parts = {"model": {"a": jnp.full((64, 64), step)}, "training": {"step": jnp.array(step)}}
        responses.append(orbax_files.start_saving(tmp_path / str(step), parts, {}))
        if step:
            read_parts(tmp_path, step - 1, {"model": {"a": np.broadcast_to(0, (64, 64))}})
    for response in responses:
        response.result()
    for step in range(12):
        target = {"model": {"a": np.zeros((64, 64), int)}}
        assert (read_parts(tmp_path, step, target)["model"]["a"] == step).all()
