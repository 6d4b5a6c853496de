"""A queue of work for workers that may die: what a lost one held goes to whoever is idle.

The queue is the driver's. An item lives with it until its result is back; a worker without an item
holds nothing, so that losing it loses nothing. Nothing of a cluster is known here: a `Pool` starts
workers, hands them items and says what became of them.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from glot_jax.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")
Input = TypeVar("Input", contravariant=True)


@dataclasses.dataclass(frozen=True)
class Joined:
    """A worker that was asked for is ready."""

    worker: int


@dataclasses.dataclass(frozen=True)
class Done(Generic[Result]):
    """A worker has finished its item."""

    worker: int
    result: Result


@dataclasses.dataclass(frozen=True)
class Lost:
    """A worker died, with its item if it had one, or before it was ready."""

    worker: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Failed:
    """The code of a worker raised this: another worker would raise it again."""

    worker: int
    error: BaseException


class Pool(Protocol[Input, Result]):
    """Workers, by numbers that are never used twice."""

    def spawn(self) -> int:
        """Ask for one more worker, which joins when there is room for it; its number."""
        ...

    def submit(
        self,
        worker: int,
        item: Input,
        /,
    ) -> None:
        """Give an item to a worker that has none."""
        ...

    def wait(self, seconds: float) -> Sequence[Joined | Done[Result] | Lost | Failed]:
        """What has happened since the last call; nothing where nothing did within `seconds`."""
        ...

    def outlook(self) -> str:
        """What workers there may be, for a message."""
        ...


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is put up with."""

    retries: int = 3
    """How often an item may be lost: what kills four workers is the item's own doing. And how often
    in a row a worker may be lost before it is ready.
    """
    lonely_seconds: float = 600.0
    """How long there may be no worker at all."""


def run(
    items: Iterable[Item],
    pool: Pool[Item, Result],
    workers: int,
    limits: Limits | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[Item, Result]]:
    """Have every item done once, by workers of which any may die at any time.

    Args:
        items: drawn one at a time, when a worker is idle: whatever makes them need not be ahead.
        pool: of the workers.
        workers: how many to keep alive while there is work.
        limits: what is put up with.
        clock: seconds that only go forward.

    Yields:
        Each item with its result, in the order in which they are done.

    Raises:
        UsageError: an item was lost too often, workers died before they were ready, or there was no
            worker for too long.
        BaseException: what the code of a worker has raised.
    """
    return _Queue(items, pool, workers, limits or Limits(), clock).run()


class _Queue(Generic[Item, Result]):
    def __init__(
        self,
        items: Iterable[Item],
        pool: Pool[Item, Result],
        workers: int,
        limits: Limits,
        clock: Callable[[], float],
    ):
        self._items = iter(items)
        self._pool = pool
        self._workers = workers
        self._limits = limits
        self._clock = clock
        # An item is in exactly one of three places: not drawn yet, with a worker, or here again.
        self._busy: dict[int, Item] = {}
        self._idle: deque[int] = deque()
        # Worker -> how many have died in its place before they were ready.
        self._joining: dict[int, int] = {}
        # Why the last one died whose place was given up.
        self._given_up = ""
        self._again: deque[Item] = deque()
        self._losses: list[tuple[Item, int]] = []
        self._exhausted = False
        # No worker is there yet.
        self._lonely_since = clock()

    def run(self) -> Iterator[tuple[Item, Result]]:
        """See `run`."""
        for _ in range(self._workers):
            self._ask(0)
        while True:
            self._give()
            if not self._busy and not self._again and self._exhausted:
                return
            # Not for ever: whether there is anybody left is asked in between.
            events = self._pool.wait(1.0)
            for event in events:
                match event:
                    case Joined():
                        del self._joining[event.worker]
                        self._idle.append(event.worker)
                    case Done():
                        item = self._busy.pop(event.worker)
                        self._idle.append(event.worker)
                        yield item, event.result
                    case Lost():
                        self._lose(event)
                    case Failed():
                        # Tried again it would be raised again.
                        raise event.error
            self._require_workers()

    def _give(self) -> None:
        """An item for every idle worker, those that were lost before new ones."""
        while self._idle:
            if self._again:
                item = self._again.popleft()
            elif self._exhausted:
                return
            else:
                try:
                    item = next(self._items)
                except StopIteration:
                    # Others may still lose theirs: idle workers are kept for that.
                    self._exhausted = True
                    return
            worker = self._idle.popleft()
            # Known before it is given: it may be lost at once.
            self._busy[worker] = item
            self._pool.submit(worker, item)

    def _ask(self, deaths: int) -> None:
        """Ask for a worker, in a place where so many have died while they got ready."""
        number = self._pool.spawn()
        self._joining[number] = deaths

    def _lose(self, event: Lost) -> None:
        deaths = 0
        if event.worker in self._joining:
            # One that was never ready has done nothing that its place was kept for.
            deaths = self._joining.pop(event.worker) + 1
        # A node may go while nobody works on it.
        if event.worker in self._idle:
            self._idle.remove(event.worker)
        if event.worker in self._busy:
            item = self._busy.pop(event.worker)
            self._count(item, event.reason)
            # First of all: whoever waits for the items in order waits for this one.
            self._again.appendleft(item)
        if deaths > self._limits.retries:
            # The others go on without it, if there are any.
            self._given_up = event.reason
        elif self._again or self._busy or not self._exhausted:
            # Not where nobody would have anything to do.
            self._ask(deaths)

    def _count(self, item: Item, reason: str) -> None:
        """Refuse an item that was lost too often."""
        # By identity: items may be equal, and need no hash.
        for number, (other, times) in enumerate(self._losses):
            if other is item:
                self._losses[number] = (item, times + 1)
                break
        else:
            number = len(self._losses)
            self._losses.append((item, 1))
        _, times = self._losses[number]
        if times > self._limits.retries:
            raise UsageError(
                rule=f"a part of the work may be lost {self._limits.retries} times",
                got=f"{item}, lost {times} times; the last time: {reason}",
                fix="See the workers' logs: memory that is used up kills them, for example. The"
                " same command goes on.",
            )

    def _require_workers(self) -> None:
        """Refuse to wait for ever where nobody works."""
        now = self._clock()
        if self._busy or self._idle:
            self._lonely_since = now
            return
        is_work_left = self._again or not self._exhausted
        if self._given_up and is_work_left and not self._joining:
            raise never_ready(self._limits.retries + 1, self._given_up)
        seconds = now - self._lonely_since
        if seconds > self._limits.lonely_seconds:
            raise UsageError(
                rule="there must be a worker",
                got=f"none for {seconds / 60:.0f} minutes, {len(self._joining)} asked for;"
                f" {self._pool.outlook()}",
                fix="See what the cluster has free. The same command goes on.",
            )


def never_ready(deaths: int, reason: str) -> UsageError:
    """What ends the work where every worker dies while it gets ready.

    Args:
        deaths: how many have died in one place.
        reason: of the last one.
    """
    return UsageError(
        rule="a worker must live until it is ready",
        got=f"{deaths} that died before, one after the other; the last one: {reason}",
        fix="See the workers' logs: a model that does not fit their memory kills them, for example."
        " The same command goes on.",
    )
