"""A store that was begun keeps the commit of its backbone when the branch moves on."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.extraction_case import finished_shards, identity, tree
from support.hub_server import HubServer
from support.hub_walks import (
    assert_done,
    assert_refused,
    commit_of,
    extraction,
    notices_of,
    texts,
)
from support.walks import PYTHON, ROOT, Walker, settled

from glot_jax.store.layout import MANIFEST, lock_folder

pytestmark = pytest.mark.xdist_group("hub-walks")


def test_a_finished_store_whose_branch_moved(
    shared: HubServer, walker: Walker, tiny: Path, retrained: Path, data: Path, tmp_path: Path
) -> None:
    """The same command means the commit that the store was made with, and says what changed."""
    out = tmp_path / "store"
    first = shared.add_model("acme/moved", tiny)
    assert_done(walker.glot(*extraction("acme/moved", data, out)))
    before = tree(out)
    second = shared.add_model("acme/moved", retrained)
    again = walker.glot(*extraction("acme/moved", data, out))
    assert_done(again)
    assert tree(out) == before
    assert commit_of(out) == first
    assert notices_of(again.stderr, second) == 1, again.stderr
    # Whoever names the other commit means it.
    other = walker.glot(*extraction("acme/moved", data, out, "--revision", second))
    assert_refused(other, "states of the same recipe")
    assert tree(out) == before
    # A new store is of today's commit.
    assert_done(walker.glot(*extraction("acme/moved", data, tmp_path / "new")))
    assert commit_of(tmp_path / "new") == second


@pytest.mark.slow
@pytest.mark.parametrize("revision", [[], ["--revision", "stable"]])
def test_an_unfinished_store_whose_branch_moved(
    hub: HubServer, tiny: Path, retrained: Path, tmp_path: Path, revision: list[str]
) -> None:
    """A killed run goes on with its own commit, byte for byte as if nothing had happened."""
    branch = revision[-1] if revision else "main"
    rows = texts(tmp_path / "texts", {"train": 1500, "validation": 40})
    first = hub.add_model("acme/tiny", tiny, branch)
    arguments = extraction("acme/tiny", rows, tmp_path / "store", *revision)
    fine = ["--tokens-per-batch", "60"]
    _kill_after_a_shard([*arguments, *fine], hub.env(tmp_path / "hf"), tmp_path / "store")
    kept = identity(tmp_path / "store")
    second = hub.add_model("acme/tiny", retrained, branch)
    with Walker(hub.env(tmp_path / "hf"), tmp_path / "walks", ()) as walker:
        done = walker.glot(*arguments, *fine)
        assert_done(done)
        assert notices_of(done.stderr, second) == 1, done.stderr
        assert commit_of(tmp_path / "store") == first
        after = identity(tmp_path / "store")
        assert {file: stat for file, stat in after.items() if file in kept} == kept
        named = extraction("acme/tiny", rows, tmp_path / "whole", "--revision", first)
        assert_done(walker.glot(*named, *fine))
    assert tree(tmp_path / "store") == tree(tmp_path / "whole")
    assert not lock_folder(tmp_path / "store").exists()
    assert hub.leaks() == []


def _kill_after_a_shard(arguments: list[str], env: dict[str, str], out: Path) -> None:
    command = [PYTHON, "extract.py", *arguments[1:]]
    process = subprocess.Popen(command, cwd=ROOT, env=settled(env), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 100
    while process.poll() is None and not finished_shards(out) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    _, stderr = process.communicate()
    assert process.returncode == -signal.SIGKILL, stderr.decode()
    assert finished_shards(out)
    assert not (out / MANIFEST).exists()
