"""Arrays of a store: mapped, never unpickled, and only what their record promises."""

import errno
import subprocess
import sys

import numpy as np
import pytest
from support.synthetic_stores import make_store

from glot_jax.errors import UsageError
from glot_jax.store import HiddenStore

STATES = "train/shard-00001/hidden-L2-00001.npy"


def test_trust_still_checks_shapes(store):
    split = HiddenStore(store, trust=True)["train"]
    array = np.load(store / STATES)
    np.save(store / STATES, array.reshape(array.shape[::-1]))
    with pytest.raises(UsageError, match=STATES):
        split.read_all()


def test_pickled_objects_are_never_loaded(store):
    split = HiddenStore(store, trust=True)["train"]
    size = (store / STATES).stat().st_size
    np.save(store / STATES, np.array([{}] * 3, dtype=object), allow_pickle=True)
    with open(store / STATES, "ab") as file:
        file.write(b"\0" * (size - (store / STATES).stat().st_size))
    with pytest.raises(UsageError, match=STATES):
        split.read_all()


def test_a_limit_of_open_files_is_not_taken_for_damage(store, monkeypatch):
    def exhausted(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(np, "load", exhausted)
    with pytest.raises(UsageError, match="Too many open files.*ulimit -n"):
        HiddenStore(store)["train"].read_all()


def test_a_store_of_more_shards_than_descriptors_are_allowed(tmp_path):
    """A mapped file keeps a descriptor.

    The limit that a shell gives is raised to what the system allows.
    """
    store = make_store(tmp_path / "store", rows={"train": 80}, shards=40)
    script = (
        "import resource; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        " resource.setrlimit(resource.RLIMIT_NOFILE, (32, hard))\nfrom glot_jax.store import"
        f" HiddenStore; split = HiddenStore({str(store)!r})['train'];"
        " print(split.read_all().shape[0] == split.tokens)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True
        ).stdout
        == "True\n"
    )
