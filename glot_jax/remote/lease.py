"""The right to write, in object storage: an object that its holder writes anew again and again.

Storage has no locks that go with a process. So a holder changes its object every `beat` seconds,
and who finds it unchanged for `ttl` seconds of their own clock takes it over: no two machines'
clocks are compared. A holder that slept longer than that finds its object changed, and stops.

Every change is conditional on the state that its writer has seen, so that of two who try one
succeeds. A takeover that was wrong all the same costs work that is done twice, and no byte: both
write the same ones.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from glot_jax.errors import HeldByAnotherError, UsageError
from glot_jax.remote.objects import Objects, Tag, Tagged


@dataclasses.dataclass(frozen=True)
class Pace:
    """How often a holder shows that it lives, and how long it may be silent."""

    ttl: float = 120.0
    beat: float = 30.0
    look: float = 5.0
    """Seconds between two looks of one who waits."""


PACE = Pace()

GIVEN_BACK = b"{}"
"""What a lease becomes before it is removed: removing alone would ask nobody whose it is."""

# A sleeping machine's time counts: Python's own clock stands still meanwhile on Linux and macOS,
# where these two go on.
_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def _now() -> float:
    """Seconds, those that this machine slept among them."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds a lease, for people; and which scratch folder it writes."""

    host: str
    process: int
    scratch: str
    """A random word of the scratch folder that its holder has locked; "" without one."""

    @classmethod
    def of_content(cls, content: bytes) -> Holder:
        """The holder that a lease names; nobody where it is damaged."""
        try:
            values = json.loads(content)
            return cls(str(values["host"]), int(values["pid"]), str(values["scratch"]))
        except (KeyError, TypeError, ValueError):
            return cls("unknown", 0, "")

    @classmethod
    def here(cls, scratch: str) -> Holder:
        """This process."""
        return cls(socket.gethostname(), os.getpid(), scratch)

    def content(self) -> bytes:
        """The bytes of a lease, other ones each time: its tag may be a hash of them."""
        # Host and process are for people. Nothing is decided by them: containers share both.
        values = {
            "host": self.host,
            "pid": self.process,
            "scratch": self.scratch,
            "beat": secrets.token_hex(8),
        }
        return json.dumps(values).encode()


class Lease:
    """The right to write under a name, while the block lasts.

    Args:
        objects: of the lock folder.
        name: of the lease.
        holder: this process.
        notice: called with a line for the user.
        pace: seconds.

    Raises:
        UsageError: somebody else holds it, and lives.
    """

    def __init__(
        self,
        objects: Objects,
        name: str,
        holder: Holder,
        notice: Callable[[str], None],
        pace: Pace | None = None,
    ):
        self.name = name
        self._objects = objects
        self._holder = holder
        self._notice = notice
        self._pace = pace or PACE
        self._tag: Tag | None = None
        # Beats that may have come through, although their answers did not.
        self._unanswered: list[bytes] = []
        self._beaten_at = 0.0
        self._lost = ""
        self._left = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Lease:
        self._take()
        # A daemon: a process that ends without leaving the block loses its lease in time.
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        # A service that does not answer now lets the lease die in time.
        with contextlib.suppress(UsageError):
            # A machine that slept may not know yet that it is another's, whose it must stay.
            if self._swap(GIVEN_BACK) is not None:
                self._objects.delete([self.name])

    def _stop(self) -> None:
        """End the beats: one behind the last word would make the object again."""
        self._left.set()
        if self._thread is not None:
            self._thread.join()

    def confirm(self) -> None:
        """Ask the service whether the lease is ours still, before something is removed.

        There are no beats behind it.

        Raises:
            UsageError: it was lost, or the service does not answer.
        """
        self._stop()
        self._renew()
        self.check()

    def check(self) -> None:
        """Raise UsageError where the lease was lost: nothing more may be written."""
        silent = _now() - self._beaten_at
        # Asleep or cut off for so long, it may have been taken over.
        if not self._lost and silent > self._pace.ttl:
            self._lost = f"after {silent:.0f} s without word from it"
        if self._lost:
            raise UsageError(
                rule="a store in the making has one writer",
                got=f"{self._objects.url}, which another process may have taken over from this"
                f" one, {self._lost}",
                fix="If it has not, run the same command again: what is there is kept.",
            )

    def refuse_living(self, names: Iterable[str]) -> None:
        """Wait for the leases of rivals to be dead, all at once, and take them away.

        Raises:
            UsageError: one of them lives.
        """
        rivals = {}
        for name in names:
            present = self._objects.read(name)
            # Otherwise given back since it was listed.
            if present is not None:
                rivals[name] = present
        for name, tag in self._wait_for_death(rivals).items():
            # By whoever of several sees it first.
            if self._objects.swap(name, GIVEN_BACK, tag) is not None:
                self._objects.delete([name])

    def _take(self) -> None:
        # Again where the lease was given back, or taken by another, between two requests.
        while True:
            content = self._holder.content()
            # Before the request: that long ago others may have seen it for the first time.
            self._beaten_at = _now()
            self._tag = self._objects.create(self.name, content)
            if self._tag is None:
                self._tag = self._take_over(content)
            if self._tag is not None:
                return

    def _take_over(self, content: bytes) -> Tag | None:
        """The tag of our content in place of that of one who died; None: look again."""
        present = self._objects.read(self.name)
        # Given back between the two requests.
        if present is None:
            return None
        # Our own request, answered too late.
        if present.content == content:
            return present.tag
        tag = self._wait_for_death({self.name: present}).get(self.name)
        # Given back while it was waited for.
        if tag is None:
            return None
        self._beaten_at = _now()
        taken = self._objects.swap(self.name, content, tag)
        if taken is not None:
            holder = Holder.of_content(present.content)
            self._notice(
                f"Taking over {self._objects.url}/{self.name}: process {holder.process} on"
                f" {holder.host}, which held it, no longer writes."
            )
        return taken

    def _wait_for_death(self, leases: Mapping[str, Tagged]) -> dict[str, Tag]:
        """The tags of leases whose holders are dead; without those that were given back meanwhile.

        Raises:
            UsageError: a holder lives.
        """
        dead = {}
        doubtful = {}
        for name, present in leases.items():
            scratch = Holder.of_content(present.content).scratch
            # The lock of that scratch folder is ours: who held it before is dead.
            if scratch and scratch == self._holder.scratch:
                dead[name] = present.tag
            else:
                doubtful[name] = present
        if not doubtful:
            return dead
        ttl = self._pace.ttl
        for present in doubtful.values():
            holder = Holder.of_content(present.content)
            self._notice(
                f"{self._objects.url}: process {holder.process} on {holder.host} is writing, or"
                f" was; waiting up to {ttl:.0f} s for a sign of it"
            )
        # By this clock alone, which nobody sets. What this machine sleeps is no time to wait.
        seen_at = time.monotonic()
        while doubtful and time.monotonic() - seen_at < ttl:
            time.sleep(min(self._pace.look, ttl / 4))
            for name, present in list(doubtful.items()):
                now = self._objects.read(name)
                if now is None:
                    del doubtful[name]
                elif now.content == GIVEN_BACK:
                    # On its way out; where its holder dies over it, it stays like this.
                    doubtful[name] = now
                # A beat, or a new holder: either lives.
                elif now.tag != present.tag:
                    raise self._refusal(now)
        for name, present in doubtful.items():
            dead[name] = present.tag
        return dead

    def _refusal(self, present: Tagged) -> HeldByAnotherError:
        holder = Holder.of_content(present.content)
        return HeldByAnotherError(
            rule="only one process, or workers with the same N, may write a store",
            got=f"{self._objects.url}, which process {holder.process} on host {holder.host} is"
            " writing",
            fix="Wait for it, or choose another --out.",
        )

    def _beat(self) -> None:
        # Between two beats the holder leaves, or goes on.
        while not self._left.wait(self._pace.beat):
            # The service does not answer: `check` knows how long it has not.
            with contextlib.suppress(UsageError):
                self._renew()
            # This thread can stop nobody: it is said where something is about to be written.
            if self._lost:
                return

    def _renew(self) -> None:
        """Show that the holder lives, or find out that the lease is another's.

        Raises:
            UsageError: the service does not answer.
        """
        began = _now()
        tag = self._swap(self._holder.content())
        if tag is None:
            self._lost = "and its lease is another's"
            return
        self._tag = tag
        self._beaten_at = began

    def _swap(self, content: bytes) -> Tag | None:
        """Write the lease anew if it is ours; None where it is another's, or gone."""
        # `_take` has set it; without it nothing was taken.
        if self._tag is None:
            return None
        self._unanswered.append(content)
        tag = self._objects.swap(self.name, content, self._tag)
        if tag is None:
            present = self._objects.read(self.name)
            # An earlier beat of ours has changed it, and we were not told.
            if present is not None and present.content in self._unanswered:
                tag = self._objects.swap(self.name, content, present.tag)
        if tag is not None:
            self._unanswered = []
        return tag


def require_conditions(objects: Objects) -> None:
    """Refuse a service that creates an object which is there already.

    Raises:
        UsageError: it does: two writers could not be told apart.
    """
    # A name of its own: two processes that begin together must not take one another for a proof.
    name = f"probe-{secrets.token_hex(4)}"
    objects.create(name, b"1")
    try:
        # Another content: the answer to a request that was repeated would be the same.
        second = objects.create(name, b"2")
    finally:
        objects.delete([name])
    if second is not None:
        raise UsageError(
            rule="object storage must refuse to create what is there already (If-None-Match)",
            got=f"{objects.url.service}, which does not",
            fix="Where nobody else writes this store give --single-writer, or choose another"
            " service.",
        )
