"""One writer at a time, without locks: refused while one lives, taken over when it does not."""

from __future__ import annotations

import threading
import time

import pytest
from support.object_stores import url

from glot_jax.errors import UsageError
from glot_jax.remote import lease as lease_module
from glot_jax.remote.lease import GIVEN_BACK, Holder, Lease, Pace, require_conditions
from glot_jax.remote.objects import Objects, Tag


def lease(objects, word="", pace=None, name="lock", said=None):
    lines = [] if said is None else said
    holder = Holder("host", 7, word)
    return Lease(objects, name, holder, lines.append, pace or Pace(1.0, 0.1, 0.05))


@pytest.fixture
def notes(bucket):
    return Objects(url(f"{bucket}/store.lock"))


def test_a_second_writer_is_refused_while_the_first_lives(notes):
    with lease(notes) as first:
        first.check()
        with (
            pytest.raises(UsageError, match="which process 7 on host host is writing"),
            lease(notes),
        ):
            pass
        first.check()
    assert notes.sizes() == {}
    with lease(notes) as second:
        second.check()


def test_a_dead_one_is_taken_over_after_the_time_it_may_be_silent(notes):
    notes.put("lock", Holder("other", 9, "").content())
    said = []
    began = time.monotonic()
    with lease(notes, said=said) as held:
        assert time.monotonic() - began >= 1.0
        held.check()
    assert "waiting up to 1 s" in said[0]
    assert "process 9 on other, which held it, no longer writes" in said[1]


def test_one_of_the_same_scratch_folder_is_dead(notes):
    notes.put("lock", Holder("host", 9, "word").content())
    began = time.monotonic()
    # The scratch folder's own lock was taken before.
    with lease(notes, "word", Pace(60, 15, 5)):
        assert time.monotonic() - began < 5
    assert notes.sizes() == {}


def test_who_was_taken_over_stops(notes):
    with lease(notes) as first:
        # Asleep so long that another one has taken its place.
        assert notes.put("lock", Holder("other", 9, "").content())
        time.sleep(0.5)
        with pytest.raises(UsageError, match="and its lease is another's"):
            first.check()
    # The other one's stays.
    assert list(notes.sizes()) == ["lock"]


def test_who_slept_leaves_the_lease_of_another_alone(notes):
    # No beat comes before the end of the block: the machine was asleep.
    with lease(notes, pace=Pace(60, 60, 5)):
        other = Holder("other", 9, "").content()
        notes.put("lock", other)
    assert notes.read("lock").content == other
    notes.delete(["lock"])
    with lease(notes, pace=Pace(60, 60, 5)) as first:
        notes.put("lock", other)
        with pytest.raises(UsageError, match="and its lease is another's"):
            first.confirm()
    assert notes.read("lock").content == other


def test_sleep_is_silence(notes, monkeypatch):
    with lease(notes, pace=Pace(60, 60, 5)) as held:
        held.check()
        # The clock that goes on while the machine sleeps; the other one stands still.
        slept = lease_module._now() + 61
        monkeypatch.setattr(lease_module, "_now", lambda: slept)
        with pytest.raises(UsageError, match="after 61 s without word from it"):
            held.check()


def test_a_beat_whose_answer_was_lost_loses_nothing(notes, monkeypatch):
    swap = Objects.swap
    lost = []

    def swap_unheard(self, name, content, tag):
        answer = swap(self, name, content, tag)
        # The service has done it, and the client gives up asking for the answer.
        if len(lost) < 3:
            lost.append(content)
            raise UsageError("object storage must answer", "nothing", "")
        return answer

    with lease(notes, pace=Pace(5, 0.1, 0.05)) as held:
        monkeypatch.setattr(Objects, "swap", swap_unheard)
        time.sleep(1.0)
        assert len(lost) == 3
        held.check()
        assert notes.read("lock").content not in lost
    assert notes.sizes() == {}


def test_a_lease_on_its_way_out_is_no_sign_of_life(notes):
    notes.put("lock", Holder("other", 9, "").content())

    def give_back():
        time.sleep(0.3)
        notes.put("lock", GIVEN_BACK)
        time.sleep(0.3)
        notes.delete(["lock"])

    thread = threading.Thread(target=give_back)
    thread.start()
    with lease(notes, pace=Pace(5, 1, 0.05)) as held:
        held.check()
    thread.join()


def test_who_hears_nothing_of_the_service_stops_in_time(notes, monkeypatch):
    held = lease(notes, pace=Pace(0.2, 0.05, 0.05))
    with held:

        def fail(*_):
            raise UsageError("object storage must answer", "nothing", "")

        monkeypatch.setattr(Objects, "swap", fail)
        time.sleep(0.4)
        with pytest.raises(UsageError, match="without word from it"):
            held.check()


def test_all_rivals_are_waited_for_at_once(notes):
    rivals = [f"worker-{number}-of-9" for number in range(9)]
    for name in rivals:
        notes.put(name, Holder("other", 9, "").content())
    with lease(notes, pace=Pace(0.5, 0.1, 0.1)) as held:
        began = time.monotonic()
        held.refuse_living([*rivals, "worker-gone"])
        assert time.monotonic() - began < 4
        assert list(notes.sizes()) == ["lock"]
        notes.put("worker-0-of-9", Holder("other", 9, "").content())
        with (
            lease(notes, name="worker-1-of-9"),
            pytest.raises(UsageError, match="which process 7 on host host is writing"),
        ):
            held.refuse_living(["worker-0-of-9", "worker-1-of-9"])


def test_of_many_that_take_over_one_does(notes):
    notes.put("lock", Holder("other", 9, "").content())
    outcomes = []

    def attempt():
        try:
            with lease(notes, pace=Pace(0.3, 0.05, 0.02)) as held:
                time.sleep(0.8)
                held.check()
                outcomes.append("held")
        except UsageError:
            outcomes.append("refused")

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held", "refused", "refused", "refused"]


def test_a_service_without_conditions_is_refused(notes, monkeypatch):
    require_conditions(notes)
    assert notes.sizes() == {}

    def put(self, name, content):
        return self.put(name, content) or Tag(None, None)

    monkeypatch.setattr(Objects, "create", put)
    with pytest.raises(UsageError, match=r"\(If-None-Match\); got s3://bucket, which does not"):
        require_conditions(notes)
    assert notes.sizes() == {}
