"""The files of a split: row arrays are written once, and a split is sealed behind the next one."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from rich.console import Console

from glot_jax.errors import UsageError
from glot_jax.extraction.progress import SplitProgress
from glot_jax.extraction.row_table import RowTable
from glot_jax.extraction.shard import OpenSplit
from glot_jax.extraction.split_files import (
    has_rows,
    refuse_further_shard,
    write_row_arrays,
    write_splits,
)
from glot_jax.store.writer_thread import WriterThread
from glot_jax.texts import TASKS


def test_row_arrays_are_written_once_and_never_changed(tmp_path):
    folder = tmp_path / "train"
    arrays = {"labels.npy": np.array([1, 0, 1])}
    records = write_row_arrays(folder, arrays)
    content = (folder / "labels.npy").read_bytes()
    assert records == {
        "labels.npy": {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    }
    before = (folder / "labels.npy").stat().st_mtime_ns
    assert write_row_arrays(folder, arrays) == records
    assert (folder / "labels.npy").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match=r"other rows or labels than those of .*labels\.npy"):
        write_row_arrays(folder, {"labels.npy": np.array([1, 1, 1])})


def test_each_append_writes_files_of_its_own(tmp_path):
    for appended in (0, 1, 2):
        write_row_arrays(tmp_path, {"roles.npy": np.zeros(appended)}, appended)
    names = [path.name for path in tmp_path.iterdir()]
    assert sorted(names) == ["roles-1.npy", "roles-2.npy", "roles.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "roles-2.npy"), np.zeros(2))


def test_rows_are_not_written_through_links(tmp_path):
    (tmp_path / "target.npy").write_bytes(b"")
    (tmp_path / "labels.npy").symlink_to(tmp_path / "target.npy")
    with pytest.raises(UsageError, match="symbolic link"):
        has_rows(tmp_path / "labels.npy", b"")


def test_a_shard_beyond_the_last_text_is_refused(tmp_path):
    (tmp_path / "shard-00002").mkdir()
    refuse_further_shard(tmp_path, 3)
    with pytest.raises(UsageError, match="shard-00002, a shard beyond the last text"):
        refuse_further_shard(tmp_path, 2)


def test_a_split_is_sealed_when_the_next_one_has_run():
    """Its last shard may be sealed while the model runs over the next split."""
    events = []

    def start(name: str, _thread: WriterThread) -> OpenSplit:
        events.append(f"run {name}")
        progress = SplitProgress(Console(file=io.StringIO()), name, tokens=0)
        return OpenSplit(name, RowTable(TASKS["cola"]), progress=progress, shards=[])

    def seal(split: OpenSplit, thread: WriterThread) -> str:
        assert split.records(thread) == []
        events.append(f"seal {split.name}")
        return split.name.upper()

    assert write_splits(["a", "b", "c"], start, seal) == {"a": "A", "b": "B", "c": "C"}
    assert events == ["run a", "run b", "seal a", "run c", "seal b", "seal c"]
