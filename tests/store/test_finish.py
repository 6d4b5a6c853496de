"""Stores put together from what is on the disk; links go, their targets stay."""

import dataclasses
import importlib
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.linked_stores import content, plan_of

from glot_jax.errors import UsageError
from glot_jax.store import Recipe, finish, read_manifest, verify
from glot_jax.store.finish import remove_leftovers, remove_superseded
from glot_jax.store.layout import MANIFEST, lock_folder
from glot_jax.store.lock import StoreLock
from glot_jax.store.manifest import Manifest, write_manifest
from glot_jax.store.records import Appended

# The package has the function under this name.
finish_module = importlib.import_module("glot_jax.store.finish")

PROBE = {"last_token_changes_the_first": True, "error": 0.25}


def test_shards_that_are_links_are_put_together_and_their_targets_stay(linked, tmp_path):
    manifest, before = read_manifest(linked), content(tmp_path / "cache")
    (linked / MANIFEST).unlink()
    with StoreLock(linked) as lock:
        lock.begin(manifest.recipe)
        lock.plan(plan_of(manifest))
    assert finish(linked) == manifest
    assert content(tmp_path / "cache") == before


def test_a_shard_that_is_not_fetched_is_not_to_be_deleted(linked):
    """Elsewhere the advice is to delete a damaged shard and extract it again."""
    manifest = read_manifest(linked)
    (linked / MANIFEST).unlink()
    with StoreLock(linked) as lock:
        lock.begin(manifest.recipe)
        lock.plan(plan_of(manifest))
    (linked / "train/shard-00000/record.json").resolve().unlink()
    with pytest.raises(UsageError, match="record.json, a link to .*Fetch them"):
        finish(linked)


def test_an_append_replaces_links_and_leaves_their_targets(linked, tmp_path):
    manifest, before = read_manifest(linked), content(tmp_path / "cache")
    labels = (linked / "train/labels.npy").read_bytes()
    for array in ("row_offsets", "row_texts", "roles", "labels"):
        (linked / f"train/{array}-1.npy").write_bytes((linked / f"train/{array}.npy").read_bytes())
    train = manifest.splits["train"]
    grown = {
        **manifest.splits,
        "train": type(train)(**{**vars(train), "appended": (Appended(0, 0, "0" * 64),)}),
    }
    write_manifest(linked, Manifest.build(manifest.recipe, manifest.task, grown))
    remove_superseded(linked, read_manifest(linked))
    assert not (linked / "train/labels.npy").is_symlink()
    assert not (linked / "train/labels.npy").exists()
    assert (linked / "train/labels-1.npy").read_bytes() == labels
    assert verify(linked) == []
    assert content(tmp_path / "cache") == before


def test_leftovers_go_but_not_what_a_link_leads_to(plain, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / ".tmp-shard").mkdir(parents=True)
    (elsewhere / ".tmp-shard" / "file").write_text("somebody's")
    (plain / ".tmp-link").symlink_to(elsewhere)
    (plain / "train" / ".tmp-own").mkdir()
    (plain / "train" / ".tmp-own" / "link").symlink_to(elsewhere / ".tmp-shard" / "file")
    (plain / "other").symlink_to(elsewhere)
    remove_leftovers(plain)
    assert content(elsewhere) == {".tmp-shard/file": b"somebody's"}
    assert verify(plain) == [str(plain / "other")]


@pytest.mark.parametrize("probe", [PROBE, None])
def test_what_worker_0_found_out_is_in_the_finished_store(store, probe):
    manifest = read_manifest(store)
    (store / MANIFEST).unlink()
    with StoreLock(store) as lock:
        lock.begin(manifest.recipe)
        lock.plan(plan_of(manifest, probe))
    assert finish(store).probe == probe
    assert read_manifest(store) == Manifest.build(
        manifest.recipe, manifest.task, manifest.splits, probe=probe
    )


def test_a_store_is_finished_when_every_worker_is(store):
    (store / MANIFEST).unlink()
    with pytest.raises(UsageError, match="Run extract.py --worker I/N for every I first"):
        finish(store)
    with StoreLock(store) as lock:
        lock.begin(Recipe.partial(layers=(0, 2)))
    with pytest.raises(UsageError, match="where worker 0 has not. Run it again"):
        finish(store)


@pytest.fixture
def written(store):
    """A store of workers who have written every shard, and the manifest that it will have."""
    manifest = read_manifest(store)
    (store / MANIFEST).unlink()
    with StoreLock(store) as lock:
        lock.begin(manifest.recipe)
        lock.plan(plan_of(manifest))
    return store, manifest


def test_of_two_that_finish_at_once_both_succeed(written, monkeypatch):
    store, manifest = written
    begun, goes_on = threading.Event(), threading.Event()
    original = finish_module.sync_folders

    def slow(*arguments):
        begun.set()
        assert goes_on.wait(60)
        original(*arguments)

    monkeypatch.setattr(finish_module, "sync_folders", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(finish, store)
        assert begun.wait(60)
        second = pool.submit(finish, store)
        time.sleep(1.0)
        assert not second.done()
        goes_on.set()
        assert first.result(60) == second.result(60) == manifest
    assert not lock_folder(store).exists()
    assert verify(store) == []


def test_many_that_finish_again_and_again(written):
    store, manifest = written
    notes = content(lock_folder(store))
    for _ in range(20):
        with ThreadPoolExecutor(4) as pool:
            ends = [pool.submit(finish, store) for _ in range(4)]
            assert all(end.result(60) == manifest for end in ends)
        assert not lock_folder(store).exists()
        (store / MANIFEST).unlink()
        lock_folder(store).mkdir()
        for name, data in notes.items():
            (lock_folder(store) / name).write_bytes(data)


def test_a_worker_on_its_way_out_is_waited_for(written):
    store, manifest = written
    with ThreadPoolExecutor(1) as pool:
        with StoreLock(store, share=(0, 1)):
            ended = pool.submit(finish, store)
            time.sleep(1.0)
            assert not ended.done()
        assert ended.result(60) == manifest
    assert not lock_folder(store).exists()


def test_a_worker_that_still_writes_is_not_waited_for(written):
    store, _ = written
    shutil.rmtree(store / "train" / "shard-00001")
    with (
        StoreLock(store, share=(0, 1)),
        pytest.raises(UsageError, match="only one process, or workers with the same N"),
    ):
        finish(store)


def test_shards_that_are_missing_name_the_workers_that_write_them(store):
    manifest = read_manifest(store)
    plan = dataclasses.replace(plan_of(manifest), workers=2)
    (store / MANIFEST).unlink()
    with StoreLock(store) as lock:
        lock.begin(manifest.recipe)
        lock.plan(plan)
    shutil.rmtree(store / "train" / "shard-00001")
    shutil.rmtree(store / "validation" / "shard-00002")
    message = "without train/shard-00001, validation/shard-00002. Run .*with --worker 1/2[.]"
    with pytest.raises(UsageError, match=message):
        finish(store)
