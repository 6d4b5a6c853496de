"""A store written by one process: resumed byte for byte, one writer at a time."""

import errno
import json

import pytest
from support.dump_case import interrupt_after, refuse, run
from support.extraction_case import tree

from glot_jax.errors import UsageError
from glot_jax.store import HiddenStore
from glot_jax.store.layout import lock_folder


def test_an_interrupted_store_is_continued_and_equal_byte_for_byte(make, monkeypatch):
    undisturbed, config = make("undisturbed"), make()
    run(undisturbed)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    assert [path.name for path in (config.out / "train").iterdir()] == ["shard-00000"]
    assert [path.name for path in lock_folder(config.out).iterdir()] == ["recipe.json"]
    with pytest.raises(UsageError, match="Run the extract command again to continue"):
        HiddenStore(config.out)
    (config.out / "train/.tmp-shard-00001").mkdir()
    (config.out / ".tmp-manifest.json").write_text("{")
    states = config.out / "train/shard-00000/hidden-L2-00000.npy"
    before = states.stat()
    run(config)
    assert tree(config.out) == tree(undisturbed.out)
    assert (states.stat().st_ino, states.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not lock_folder(config.out).exists()


def test_a_second_writer_is_refused(make):
    config = make()
    lock_folder(config.out).mkdir()
    (lock_folder(config.out) / "lock").write_text(json.dumps({"host": "elsewhere", "pid": 12}))
    refuse(config, "process 12 on host elsewhere")
    assert not config.out.exists()


def test_a_disk_that_fills_up_names_the_shard_and_keeps_the_rest(make, monkeypatch):
    config, undisturbed = make(), make("undisturbed")
    run(undisturbed)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1, OSError(errno.ENOSPC, "No space left on device"))
        refuse(config, r"shard-00001, \d+ bytes; got \d+ bytes free")
    assert [path.name for path in (config.out / "train").iterdir()] == ["shard-00000"]
    run(config)
    assert tree(config.out) == tree(undisturbed.out)
