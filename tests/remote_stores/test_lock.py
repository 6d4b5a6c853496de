"""Who may write a store at a URL beside whom, and what is left of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.object_stores import url

from glot_jax.errors import UsageError
from glot_jax.remote import lease
from glot_jax.remote.lease import Pace
from glot_jax.remote.objects import Objects
from glot_jax.remote_stores.lock import RemoteLock, read_begun, read_plan
from glot_jax.store.recipe import PendingAppend
from glot_jax.store.worker_plan import WorkerPlan


class Site:
    """A store at a URL, and machines with scratch folders of their own."""

    def __init__(self, bucket: str, folder: Path):
        self.objects = Objects(url(f"{bucket}/store"))
        self.notes = Objects(url(f"{bucket}/store.lock"))
        self._folder = folder

    def lock(self, machine: str, share: tuple[int, int] | None = None) -> RemoteLock:
        scratch = self._folder / machine / "store"
        scratch.parent.mkdir(exist_ok=True)
        return RemoteLock(self.objects, self.notes, scratch, share=share)


@pytest.fixture
def site(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "PACE", Pace(1.0, 0.1, 0.05))
    return Site(bucket, tmp_path)


WORK = PendingAppend({"train": "0" * 64}, "1" * 64)


@pytest.mark.parametrize("share", [None, (0, 3), (1, 2)])
def test_beside_a_worker_only_one_of_the_same_number_writes(site, share):
    with site.lock("a", (0, 2)) as held:
        if share == (1, 2):
            with site.lock("b", share) as other:
                held.check()
                other.check()
        else:
            with pytest.raises(UsageError, match="only one process, or workers with the same N"):
                site.lock("b", share).__enter__()
        # The same machine is told by the system.
        with pytest.raises(UsageError, match="only one process"):
            site.lock("a", (0, 2)).__enter__()
        held.check()
    assert site.notes.sizes() == {}


def test_beside_the_only_writer_nobody_does(site):
    with site.lock("a") as held:
        for share in (None, (0, 2)):
            with pytest.raises(UsageError, match="only one process"):
                site.lock("b", share).__enter__()
        held.check()


def test_the_recipe_stays_as_long_as_there_is_something_to_continue(site):
    with site.lock("a") as held:
        assert held.begun_with() is None
        assert held.begin(WORK) == WORK
    # Nothing of the store was written.
    assert site.notes.sizes() == {}
    with site.lock("a", (0, 2)) as held:
        held.begin(WORK)
        other = PendingAppend({"train": "2" * 64}, "1" * 64)
        with site.lock("b", (1, 2)) as colleague:
            assert colleague.begin(other) == WORK
        assert read_begun(site.notes) == WORK
        site.objects.put("train/shard-00000/record.json", b"{}")
        plan = WorkerPlan(2, {}, {})
        held.plan(plan)
    assert list(site.notes.sizes()) == ["plan.json", "recipe.json"]
    assert read_plan(site.notes) == plan
    with site.lock("c") as held:
        assert held.begun_with() == WORK
        held.finished()
    assert site.notes.sizes() == {}


@pytest.mark.parametrize("name", ["recipe.json", "plan.json"])
@pytest.mark.parametrize("content", [b"{", b"[]", b"x"])
def test_damaged_notes_are_refused(site, name, content):
    site.notes.put(name, content)
    read = read_begun if name == "recipe.json" else read_plan
    with pytest.raises(UsageError, match=f"{site.notes.url}/{name}"):
        read(site.notes)


def test_who_slept_removes_no_note_of_the_one_that_took_over(site, monkeypatch):
    monkeypatch.setattr(lease, "PACE", Pace(60.0, 60.0, 0.05))
    with site.lock("a") as held:
        held.begin(WORK)
        other = lease.Holder("other", 9, "").content()
        site.notes.put("lock", other)
        held.finished()
    assert list(site.notes.sizes()) == ["lock", "recipe.json"]
    assert site.notes.read("lock").content == other
