"""Items made ahead of the one that is asked for, on a thread."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")


class _End(Generic[Item]):
    """There is no further item."""


@contextlib.contextmanager
def ahead(items: Iterable[Item], count: int) -> Generator[Iterator[Item]]:
    """An iterator over `items` that has up to `count` of them ready.

    One thread makes them, so that they come in their order. Leaving the block makes no more.

    Args:
        items: are drawn on the thread; what they raise is raised where the item is asked for.
        count: how many wait at most.
    """
    source = iter(items)

    def draw() -> Item | _End[Item]:
        # A sentinel: a StopIteration does not pass through a future.
        return next(source, _End[Item]())

    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        waiting: deque[Future[Item | _End[Item]]] = deque()

        def draining() -> Iterator[Item]:
            while True:
                while len(waiting) < count:
                    waiting.append(thread.submit(draw))
                item = waiting.popleft().result()
                if isinstance(item, _End):
                    return
                yield item

        try:
            yield draining()
        finally:
            for future in waiting:
                future.cancel()
