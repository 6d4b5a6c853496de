"""Processes that train one run together: what they tell one another, and how they agree."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import TypeVar

import numpy as np

from glot_jax.config.json import Json
from glot_jax.errors import UsageError

Value = TypeVar("Value")

_FRAME = 1024
"""Bytes of a message that travels in one collective, its size among them."""
_SIZE = 4
"""Bytes of the size in front of a message."""


class Processes:
    """The processes of a run.

    What they exchange are small JSON values, by a collective of their devices: all call the same
    methods in the same order, in their main threads. For a process that is alone each is the
    identity, and JAX is not asked.

    Args:
        number: of this process, from 0.
        count: how many there are.
    """

    def __init__(self, number: int = 0, count: int = 1):
        self.number = number
        self.count = count
        self._agreed: list[BaseException] = []
        self._kinds: dict[str, type[UsageError]] = {}

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and decides."""
        return self.number == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    def gather(self, value: Json) -> list[Json]:
        """The value of each process, in their order.

        Raises:
            UsageError: a process has left `agree` with an error; all raise the same.
        """
        if not self.several:
            return [value]
        return self._exchanged({"value": value}, None)

    def from_first(self, value: Value) -> Value:
        """The value of process 0, which is JSON; what others pass is not read."""
        if not self.several:
            return value
        # Nothing of the others, because it may be long.
        return self.gather(value if self.first else None)[0]

    @contextlib.contextmanager
    def agree(self, *kinds: type[UsageError]) -> Iterator[None]:
        """A block that all leave, or none does: an error of one ends it for all.

        Within it the processes may exchange values, and run nothing else together: an error then
        reaches the others in the exchange that comes next.

        Args:
            kinds: of errors that keep their class in the other processes.

        Raises:
            UsageError: that of the first process that has one, in all of them.
        """
        if not self.several:
            yield
            return
        self._kinds |= {kind.__name__: kind for kind in kinds}
        try:
            yield
        except UsageError as error:
            # What came in an exchange is known to all.
            if self.is_agreed(error):
                raise
            told = [error.rule, str(error.got), error.fix]
            kind = type(error).__name__
            self._exchanged({"error": told, "kind": kind}, error)
            raise
        except Exception as error:
            # A mistake of ours, which keeps its traceback here and has a line elsewhere.
            told = [
                "every process must be ready to train",
                f"{type(error).__name__}: {error}",
                "The message of that process says more.",
            ]
            self._exchanged({"error": told}, error)
            raise
        else:
            self.gather(None)

    @contextlib.contextmanager
    def same_everywhere(self) -> Iterator[None]:
        """A block whose errors follow from what all have: each raises its own, and they are one."""
        try:
            yield
        except UsageError as error:
            self._agreed.append(error)
            raise

    def is_agreed(self, error: BaseException) -> bool:
        """Whether all processes have raised this error, so that nobody waits for anybody."""
        return any(error is other for other in self._agreed)

    def _exchanged(
        self,
        message: dict[str, Json],
        own: Exception | None,
    ) -> list[Json]:
        host = socket.gethostname()
        answers = _all_of({**message, "host": host})
        failed = [number for number, answer in enumerate(answers) if "error" in answer]
        if not failed:
            return [answer["value"] for answer in answers]
        # All raise one error, whoever else has failed meanwhile.
        number = failed[0]
        answer = answers[number]
        rule, got, fix = answer["error"]
        # Of all of them nobody needs to be named.
        if len(failed) < self.count:
            where = f"process {number} of {self.count}, on {answer['host']}"
            got = f"{got} ({where})"
        name = answer.get("kind", "")
        kind = self._kinds.get(name, UsageError)
        error = kind(rule, got, fix)
        self._agreed.append(error)
        raise error from own


ALONE = Processes()
"""A process without others."""


def _all_of(message: Json) -> list[Json]:
    """The message of each process."""
    content = json.dumps(message).encode()
    # Most are short and travel with their size; a long one is sent once more, when all know how
    # long the longest is.
    frames = _gathered(content, _FRAME)
    sizes = []
    for frame in frames:
        size = int.from_bytes(frame[:_SIZE], "big")
        sizes.append(size)
    longest = max(sizes) + _SIZE
    if longest > _FRAME:
        # A power of two: each size is a program.
        frames = _gathered(content, 1 << longest.bit_length())
    texts = []
    for frame, size in zip(frames, sizes, strict=True):
        end = _SIZE + size
        text = frame[_SIZE:end]
        texts.append(json.loads(text))
    return texts


def _gathered(content: bytes, room: int) -> list[bytes]:
    """The first bytes of each process's content, behind their size."""
    from jax.experimental import multihost_utils

    frame = np.zeros(room, np.uint8)
    size = len(content).to_bytes(_SIZE, "big")
    whole = size + content
    part = np.frombuffer(whole[:room], np.uint8)
    frame[: len(part)] = part
    rows = multihost_utils.process_allgather(frame)
    return [row.tobytes() for row in rows]
