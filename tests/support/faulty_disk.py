"""A disk that fails on demand: it takes the place of `glot_jax.disk` and dies at a chosen
call.

    with FaultyDisk(monkeypatch, at=17, how="torn") as faulty: dump(config)

| how | what is left of the call, and of what came before |
| --- | --- |
| kill | the call does not happen; what came before stays (the process dies, the system lives) |
| torn | a write leaves half of its bytes; otherwise as kill |
| power | as kill, and bytes and names without fsync are lost |
| error | the call fails with EIO and the process lives: it may clean up |
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from glot_jax import disk

CALLS = (
    "make_folder",
    "create",
    "write",
    "sync",
    "close",
    "rename",
    "link",
    "sync_folder",
    "remove",
)


class Killed(BaseException):
    """The process died here."""


class FaultyDisk:
    """Counts calls; the one numbered `at` (from 0) fails, and after it, but for `error`, no call
    does anything.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int | None = None, how: str = "kill"):
        self.calls: list[str] = []
        self._patch, self._at, self._how, self._dead = monkeypatch, at, how, False
        self._lock = threading.RLock()
        self._unsynced: set[Path] = set()
        """Files with bytes that no fsync has reached."""
        self._names: dict[Path, Path | None] = {}
        """Name that its folder may forget -> what it was called before a rename; None if it is new.
        """

    @property
    def fired(self) -> bool:
        """Whether the chosen call came, and failed."""
        return self._at is not None and len(self.calls) > self._at

    def __enter__(self) -> FaultyDisk:
        self._context = self._patch.context()
        patch = self._context.__enter__()
        for name in CALLS:
            patch.setattr(disk, name, self._wrap(name, getattr(disk, name)))
        return self

    def __exit__(self, *exception: object) -> None:
        self._context.__exit__(*exception)
        if self._how == "power" and self._dead:
            self._lose()

    def _wrap(self, name, original):
        def call(*arguments):
            with self._lock:
                if self._dead:
                    if name == "close":
                        return original(*arguments)
                    raise Killed
                number = len(self.calls)
                self.calls.append(name)
                if number == self._at:
                    self._fail(name, original, arguments)
                result = original(*arguments)
                self._remember(name, arguments, result)
                return result

        return call

    def _fail(self, name, original, arguments) -> None:
        if self._how == "error":
            if name == "close":
                original(*arguments)
            raise OSError(errno.EIO, "Input/output error")
        self._dead = True
        if self._how == "torn" and name == "write":
            file, data, at = arguments
            view = memoryview(data)
            if view.nbytes:
                original(file, view.cast("B")[: view.nbytes // 2], at)
        raise Killed

    def _remember(self, name, arguments, result) -> None:
        path = (
            Path(os.readlink(f"/proc/self/fd/{arguments[0]}"))
            if name in ("write", "sync")
            else arguments[0]
        )
        if name == "write":
            self._unsynced.add(path)
        elif name == "sync":
            self._unsynced.discard(path)
        elif name in ("create", "make_folder"):
            self._names.setdefault(path, None)
        elif name == "link":
            self._names.setdefault(arguments[1], None)
        elif name == "rename":
            source, target = arguments
            self._names = {
                _moved(one, source, target): was
                for one, was in self._names.items()
                if one != source
            }
            self._unsynced = {_moved(one, source, target) for one in self._unsynced}
            self._names[target] = source
        elif name == "sync_folder":
            self._names = {one: was for one, was in self._names.items() if one.parent != path}

    def _lose(self) -> None:
        for path in self._unsynced:
            if path.is_file():
                path.write_bytes(b"")
        # The innermost first: a name in a folder that goes itself needs no thought.
        for path, was in sorted(self._names.items(), key=lambda item: -len(item[0].parts)):
            if was is not None and path.exists():
                os.rename(path, was)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _moved(path: Path, source: Path, target: Path) -> Path:
    return target / path.relative_to(source) if source in (path, *path.parents) else path
