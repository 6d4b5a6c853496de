"""The first checkpoint of a run is read back while the run goes on.

No run finds out at its end that its checkpoints cannot be read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Readback:
    """Runs `read` on a thread, and hands what it raises to whoever looks.

    Args:
        read: reads and compares; it raises what the run is to end with.
    """

    def __init__(self, read: Callable[[], None]):
        self._read = read
        self._error: BaseException | None = None
        # A daemon: a process that is told to end twice does not wait for it.
        self._thread = threading.Thread(
            target=self._work,
            name="readback",
            daemon=True,
        )
        self._thread.start()

    def _work(self) -> None:
        try:
            self._read()
        # All of them: an exception that leaves a thread is printed, and reaches nobody.
        except BaseException as error:
            self._error = error

    def check(self) -> None:
        """Raise the error there is so far, once; does not wait."""
        error = self._error
        # Once: who catches it and ends the run comes by here again.
        self._error = None
        if error is not None:
            raise error

    def wait(self) -> None:
        """Wait until it has been read; raises like `check`."""
        self._thread.join()
        self.check()


class LateReadback:
    """The same on the thread that waits, for what several processes read together.

    They would meet in another order on threads.
    """

    def __init__(self, read: Callable[[], None]):
        self._read: Callable[[], None] | None = read

    def check(self) -> None:
        """Nothing has been read so far."""

    def wait(self) -> None:
        """Read, once; raises what the run is to end with."""
        read = self._read
        self._read = None
        if read is not None:
            read()
