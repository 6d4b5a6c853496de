"""Windows of rows through workers that may die, and back in their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from glot_jax.cluster.work_queue import Limits, Pool, run

Window = TypeVar("Window")
Text = TypeVar("Text")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class TextItem(Generic[Text]):
    """The texts of one window, with its number."""

    number: int
    texts: Sequence[Text]

    def __str__(self) -> str:
        """For messages: not the texts, which may be private."""
        return f"window {self.number} of {len(self.texts)} rows"


def in_order(
    windows: Iterable[Window],
    texts: Callable[[Window], Sequence[Text]],
    pool: Pool[TextItem[Text], Result],
    workers: int,
    limits: Limits | None = None,
) -> Iterator[tuple[Window, Result]]:
    """Have every window done, and yield it with its result in the order of the windows.

    What is done before an earlier window waits for it: about as many windows as there are workers,
    and more only where one was lost.

    Args:
        windows: drawn when a worker is idle.
        texts: what a worker gets of a window; the rest stays here.
        pool: of the workers.
        workers: how many to keep alive.
        limits: what is put up with.

    Raises:
        UsageError: as for `work_queue.run`.
    """
    # Rows keep their other columns here, which may be large.
    held: dict[int, Window] = {}
    done: dict[int, Result] = {}

    def items() -> Iterator[TextItem[Text]]:
        for number, window in enumerate(windows):
            held[number] = window
            yield TextItem(number, texts(window))

    following = 0
    for item, result in run(items(), pool, workers, limits):
        done[item.number] = result
        # One window may set free several that have waited for it.
        while following in done:
            yield held.pop(following), done.pop(following)
            following += 1
