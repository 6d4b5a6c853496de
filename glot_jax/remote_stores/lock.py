"""One writer at a time of a store at a URL: `OUT.lock/` there, and the scratch folder's lock here.

OUT.lock/lock                   the only writer's lease
OUT.lock/worker-1-of-4          a worker's
OUT.lock/recipe.json, plan.json, copy.json as beside a store in a folder
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from glot_jax.errors import UsageError
from glot_jax.files import json_bytes, write_bytes
from glot_jax.remote.lease import Holder, Lease, require_conditions
from glot_jax.remote.objects import Objects
from glot_jax.store.lock import COPY, RECIPE, STYLE, StoreLock, work_of
from glot_jax.store.recipe import PendingAppend, Recipe
from glot_jax.store.worker_plan import PLAN, WorkerPlan, plan_of

_ONLY_WRITER = "lock"


class RemoteLock(StoreLock):
    """The right to write a store at a URL, or a worker's share of its shards, for a `with` block.

    It is a lease (see `glot_jax.remote.lease`), and the lock of the scratch folder besides: whoever
    holds that one knows that the process which held it before is dead, and need not wait.

    Args:
        objects: of the store.
        notes: of OUT.lock.
        scratch: the folder that shards are written to.
        notice: called with a line for the user.
        share: (number, workers) of a worker; None for the only writer.

    Raises:
        UsageError: as for `StoreLock`; or the service cannot tell two writers apart.
    """

    def __init__(
        self,
        objects: Objects,
        notes: Objects,
        scratch: Path,
        notice: Callable[[str], None] | None = None,
        *,
        share: tuple[int, int] | None = None,
    ):
        super().__init__(scratch, notice, share=share)
        self._objects = objects
        self._notes = notes
        self._scratch = scratch
        # The names that StoreLock gives its files.
        self._name = _ONLY_WRITER
        self._workers = 0
        if share is not None:
            number, self._workers = share
            self._name = f"worker-{number}-of-{self._workers}"
        self._say = notice or _say_nothing
        self._lease: Lease | None = None
        self._done = False

    def __enter__(self) -> RemoteLock:
        # First: of two processes of this machine one does not even ask the service.
        super().__enter__()
        # Where nobody is asked, nobody can be found.
        if not self._notes.conditional:
            return self
        stack = contextlib.ExitStack()
        try:
            # Before the first lease, which would be worth nothing.
            require_conditions(self._notes)
            holder = Holder.here(self._word())
            lease = Lease(self._notes, self._name, holder, self._say)
            stack.enter_context(lease)
            # Taken first, looked around second, as StoreLock does.
            lease.refuse_living(self._rivals_there())
        except BaseException:
            stack.close()
            super().__exit__(None, None, None)
            raise
        # From here on `__exit__` gives it back.
        self._lease = lease
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            # After an error the service may be what failed: the first error is the one to report.
            with contextlib.suppress(UsageError):
                self._leave()
        finally:
            super().__exit__(kind, error, trace)

    def _leave(self) -> None:
        lease = self._lease
        self._lease = None
        try:
            # Notes of a store that another one has taken over are not ours to remove. Asked of the
            # service: this machine may have slept since its last beat.
            if lease is not None:
                lease.confirm()
            colleagues = []
            for name in self._notes.sizes():
                if name.startswith("worker-") and name != self._name:
                    colleagues.append(name)
            # Colleagues that still write need the recipe, and so does who continues.
            is_needed = bool(colleagues) or bool(self._objects.sizes())
            if self._done or not is_needed:
                self._notes.delete([RECIPE, PLAN, COPY])
        finally:
            if lease is not None:
                lease.__exit__(None, None, None)

    def check(self) -> None:
        """Raise UsageError where the right was lost."""
        if self._lease is not None:
            self._lease.check()

    def finished(self) -> None:
        """The store is complete: leave nothing beside it."""
        super().finished()
        self._done = True

    def begun_with(self) -> Recipe | PendingAppend | None:
        """What the unfinished store beside this lock was begun with, if there is one."""
        return read_begun(self._notes)

    def begin(self, work: Recipe | PendingAppend) -> Recipe | PendingAppend:
        """Keep what is being written for runs that continue it; see `StoreLock.begin`."""
        # Of workers that start together the first one's is kept.
        self._notes.create(RECIPE, json_bytes(work.to_json(), STYLE))
        return self.begun_with() or work

    def plan(self, plan: WorkerPlan) -> None:
        """Keep what a store that workers write will consist of, for `finish`."""
        self.check()
        self._notes.put(PLAN, json_bytes(plan.to_json(), STYLE))

    def begun_copy(self) -> bytes | None:
        """What `begin_copy` has kept; see `StoreLock.begun_copy`."""
        present = self._notes.read(COPY)
        return None if present is None else present.content

    def begin_copy(self, note: bytes) -> None:
        """Keep which store is copied, for the run that continues it."""
        self.check()
        self._notes.put(COPY, note)

    def _rivals_there(self) -> list[str]:
        """Leases that must not be held beside this one."""
        names = []
        colleagues = f"-of-{self._workers}"
        for name in self._notes.sizes():
            is_lease = name == _ONLY_WRITER or name.startswith("worker-")
            # Workers with the same N share the shards out among them by number.
            is_rival = is_lease and not name.endswith(colleagues)
            # Its own is there, too.
            if is_rival and name != self._name:
                names.append(name)
        return names

    def _word(self) -> str:
        """A random word of this scratch folder and share, the same in each process."""
        path = self._scratch.with_name(f"{self._name}.word")
        # Of two processes that write it one succeeds; the lock lets one at a time.
        write_bytes(path, secrets.token_hex(16).encode(), replace=False)
        return path.read_text(encoding="utf-8")


def _say_nothing(line: str) -> None:
    """For callers that have nobody to tell."""
    del line


def read_begun(notes: Objects) -> Recipe | PendingAppend | None:
    """What an unfinished store, or an unfinished append to one, was begun with; None if nothing.

    Raises:
        UsageError: the object that says so is damaged.
    """
    values = _read_json(notes, RECIPE)
    if values is None:
        return None
    fix = f"Delete {notes.url} and what it belongs to, and start again."
    return work_of(values, notes.url / RECIPE, fix)


def read_plan(notes: Objects) -> WorkerPlan | None:
    """The plan of an unfinished store; None if worker 0 has not come to its end.

    Raises:
        UsageError: the plan is damaged.
    """
    values = _read_json(notes, PLAN)
    return None if values is None else plan_of(values, notes.url / PLAN)


def _read_json(notes: Objects, name: str) -> object:
    present = notes.read(name)
    if present is None:
        return None
    try:
        return json.loads(present.content)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            rule=f"{name} must be a whole JSON file",
            got=f"{notes.url / name}: {error}",
            fix=f"Delete {notes.url}, and start again.",
        ) from error
