"""Stores written to a URL: the bytes of one in a folder, whoever dies in between."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.extraction_case import load_backbone, make_case, tree, write_texts
from support.object_stores import Dying, Killed, contents, extract, url

from glot_jax.config.store import RemoteChoice
from glot_jax.errors import UsageError
from glot_jax.extraction import dump_share
from glot_jax.remote import lease
from glot_jax.remote.lease import Pace
from glot_jax.remote.objects import Objects
from glot_jax.remote_stores import finish
from glot_jax.remote_stores.files import RemoteFiles
from glot_jax.store import HiddenStore

ROWS = {"train": 12, "validation": 4}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """(settings, the backbone, the files of the store in a folder)."""
    folder = tmp_path_factory.mktemp("case")
    config = make_case(folder, ROWS)
    backbone = load_backbone(config.backbone)
    extract(config, backbone)
    return config, backbone, tree(Path(str(config.out)))


def at(config, where, **changes):
    return dataclasses.replace(config, out=url(where), **changes)


def test_a_store_at_a_url_has_the_bytes_of_one_in_a_folder(case, bucket, own_cache):
    config, backbone, files = case
    remote = at(config, f"{bucket}/store")
    printed = extract(remote, backbone)
    assert contents(remote.out) == files
    # Nothing beside it, nothing on the way.
    assert Objects(url(f"{bucket}/store.lock")).sizes() == {}
    assert list((own_cache / "scratch").iterdir()) == []
    assert f"{bucket}/store: finished, content" in printed
    assert "for shards on their way" in printed
    assert "nothing to do" in extract(remote, backbone)
    assert contents(remote.out) == files


def test_scratch_is_kept_where_it_is_asked_for(case, bucket, tmp_path):
    config, backbone, files = case
    choice = RemoteChoice(scratch=tmp_path / "scratch", keep_scratch=True)
    extract(at(config, f"{bucket}/store", remote=choice), backbone)
    (folder,) = (tmp_path / "scratch").iterdir()
    kept = tree(folder / "store")
    assert kept == {name: files[name] for name in files if name != "manifest.json"}


def count_changes(case, bucket, monkeypatch) -> int:
    config, backbone, _ = case
    with monkeypatch.context() as patch:
        counted = Dying(patch, 10**9)
        extract(at(config, f"{bucket}/count"), backbone)
    return counted.count


@pytest.mark.parametrize("part", range(4))
def test_a_writer_killed_between_any_two_changes(
    case, bucket, own_cache, monkeypatch, part, request
):
    """And run again: here, and on another machine, which has nothing of its scratch folder."""
    config, backbone, files = case
    changes = count_changes(case, bucket, monkeypatch)
    assert changes > 20
    step = 4 if request.config.getoption("--soak") else 8
    for number in range(part, changes, step):
        remote = at(config, f"{bucket}/store-{number}")
        with monkeypatch.context() as patch:
            Dying(patch, number)
            with pytest.raises(Killed):
                extract(remote, backbone)
        if number % 2:
            shutil.rmtree(own_cache, ignore_errors=True)
            # As two minutes later: tests of leases wait for it.
            Objects(url(f"{bucket}/store-{number}.lock")).delete(["lock"])
        extract(remote, backbone)
        assert contents(remote.out) == files
        left = Objects(url(f"{bucket}/store-{number}.lock")).sizes()
        # But what a process that died while it probed the service has left.
        assert [name for name in left if not name.startswith("probe-")] == []


def test_a_shard_that_waits_for_its_upload_is_not_computed_again(case, bucket, monkeypatch):
    config, backbone, files = case
    remote = at(config, f"{bucket}/store")
    with monkeypatch.context() as patch:
        original = Objects.put_file

        def fail(self, name, path):
            if "shard-00001" in name:
                raise UsageError("object storage must answer", "nothing", "")
            original(self, name, path)

        patch.setattr(Objects, "put_file", fail)
        with pytest.raises(UsageError, match="object storage must answer"):
            extract(remote, backbone)
    shards = {name for name in files if name.endswith("record.json")}
    there = {name for name in contents(remote.out) if name.endswith("record.json")}
    assert "train/shard-00000/record.json" in there
    computed = []
    states = type(backbone).states

    def counted(self, ids, dtype):
        computed.append(len(ids))
        return states(self, ids, dtype)

    monkeypatch.setattr(type(backbone), "states", counted)
    extract(remote, backbone)
    assert contents(remote.out) == files
    # Shard 1 lay in the scratch folder, and perhaps one more.
    computed_shards = shards - there - {"train/shard-00001/record.json"}
    texts = sum(json.loads(files[name])["texts"] for name in computed_shards)
    assert sum(computed) <= texts


def test_workers_and_the_one_who_finishes(case, bucket):
    config, _, files = case
    out = url(f"{bucket}/store")
    for number in (1, 0):
        dump_share(at(config, f"{bucket}/store", worker=f"{number}/2"))
        if number:
            with pytest.raises(UsageError, match="every worker must come to its end"):
                finish(out)
    manifest = finish(out)
    assert contents(out) == files
    assert Objects(url(f"{bucket}/store.lock")).sizes() == {}
    assert finish(out) == manifest


@pytest.mark.parametrize("machines", ["one", "two"])
def test_of_two_that_finish_at_once_both_succeed(case, bucket, own_cache, monkeypatch, machines):
    config, _, files = case
    monkeypatch.setattr(lease, "PACE", Pace(2.0, 0.2, 0.05))
    out = url(f"{bucket}/store")
    for number in (0, 1):
        dump_share(at(config, f"{bucket}/store", worker=f"{number}/2"))
    # That of the workers stays.
    scratch = list((own_cache / "scratch").iterdir())
    begun, goes_on = threading.Event(), threading.Event()
    original = RemoteFiles.publish

    def slow(*arguments):
        begun.set()
        assert goes_on.wait(60)
        original(*arguments)

    monkeypatch.setattr(RemoteFiles, "publish", slow)
    elsewhere = RemoteChoice(scratch=own_cache / "elsewhere")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(finish, out)
        assert begun.wait(60)
        second = pool.submit(finish, out, choice=elsewhere if machines == "two" else None)
        time.sleep(1.0)
        assert not second.done()
        goes_on.set()
        assert first.result(60) == second.result(60)
    assert contents(out) == files
    assert Objects(url(f"{bucket}/store.lock")).sizes() == {}
    assert list((own_cache / "scratch").iterdir()) == scratch


def test_a_worker_on_its_way_out_is_waited_for(case, bucket, monkeypatch):
    config, _, files = case
    monkeypatch.setattr(lease, "PACE", Pace(2.0, 0.2, 0.05))
    out = url(f"{bucket}/store")
    dump_share(at(config, f"{bucket}/store", worker="0/1"))
    held = lease.Lease(
        Objects(url(f"{bucket}/store.lock")),
        "worker-0-of-1",
        lease.Holder("other", 9, ""),
        print,
    )
    with ThreadPoolExecutor(1) as pool:
        with held:
            ended = pool.submit(finish, out)
            time.sleep(1.0)
            assert not ended.done()
        ended.result(60)
    assert contents(out) == files


def test_the_last_worker_of_a_launcher_finishes(case, bucket, monkeypatch):
    config, _, files = case
    monkeypatch.setenv("WORLD_SIZE", "2")
    for number in ("0", "1"):
        monkeypatch.setenv("RANK", number)
        dump_share(at(config, f"{bucket}/store", worker="auto"))
    assert contents(url(f"{bucket}/store")) == files


def test_rows_are_appended(case, bucket, tmp_path, monkeypatch):
    config, backbone, _ = case
    folder = tmp_path / "local"
    more = write_texts(tmp_path / "more", {"train": 5, "test": 3}, seed=3)
    local = dataclasses.replace(config, out=folder)
    remote = at(config, f"{bucket}/store")
    for here in (local, remote):
        extract(here, backbone)
    changes = dataclasses.replace(remote, data=more, append=True)
    # Killed once, in the middle of it.
    with monkeypatch.context() as patch:
        Dying(patch, 12)
        with pytest.raises(Killed):
            extract(changes, backbone)
    old = HiddenStore(remote.out)
    for here in (dataclasses.replace(changes, out=folder), changes):
        assert "extended by rows" in extract(here, backbone)
    assert contents(remote.out) == tree(folder)
    assert HiddenStore(remote.out).content != old.content
    assert "holds these rows already" in extract(changes, backbone)


def test_what_else_may_lie_there(case, bucket):
    config, backbone, _ = case
    Objects(url(f"{bucket}/store")).put("somebody's", b"x")
    with pytest.raises(UsageError, match="must be a URL where nothing lies, or a store"):
        extract(at(config, f"{bucket}/store"), backbone)


def test_another_recipe_is_refused(case, bucket, monkeypatch):
    config, backbone, _ = case
    remote = at(config, f"{bucket}/store")
    with monkeypatch.context() as patch:
        Dying(patch, 12)
        with pytest.raises(Killed):
            extract(remote, backbone)
    # Another recipe has another scratch folder, which knows nothing of the dead process.
    monkeypatch.setattr(lease, "PACE", Pace(0.5, 0.1, 0.1))
    with pytest.raises(UsageError, match=f"{bucket}/store must hold states of the same recipe"):
        extract(dataclasses.replace(remote, shard_tokens=60), backbone)
    extract(remote, backbone)
    with pytest.raises(UsageError, match="same recipe"):
        extract(dataclasses.replace(remote, shard_tokens=60), backbone)


def test_a_single_writer_asks_nobody(case, bucket, monkeypatch):
    config, backbone, files = case
    remote = at(config, f"{bucket}/store")
    with monkeypatch.context() as patch:
        # A service that creates what is there already.
        patch.setattr(Objects, "create", lambda self, name, content: self.put(name, content))
        with pytest.raises(UsageError, match="--single-writer"):
            extract(remote, backbone)
    choice = RemoteChoice(single_writer=True)
    extract(dataclasses.replace(remote, remote=choice), backbone)
    assert contents(remote.out) == files


def test_a_lost_lease_stops_the_writer_before_its_next_upload(case, bucket, monkeypatch):
    config, backbone, files = case
    remote = at(config, f"{bucket}/store")
    monkeypatch.setattr(lease, "PACE", Pace(2.0, 0.02, 0.01))
    original = Objects.put_file

    def put_file(self, name, path):
        original(self, name, path)
        if name == "train/shard-00001/lengths.npy":
            # Another process takes it over, as if this one had slept.
            Objects(url(f"{bucket}/store.lock")).put("lock", b"another's")
            time.sleep(0.2)

    monkeypatch.setattr(Objects, "put_file", put_file)
    with pytest.raises(UsageError, match="a store in the making has one writer"):
        extract(remote, backbone)
    there = contents(remote.out)
    # The first shard may be behind the second one: they are sent at the same time.
    assert "train/shard-00001/lengths.npy" in there
    assert "train/shard-00001/record.json" not in there
    assert contents(url(f"{bucket}/store.lock"))["lock"] == b"another's"
    assert all(files[name] == there[name] for name in there)
