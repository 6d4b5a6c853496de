"""A disk that fails on demand: it takes the place of `glot_jax.disk` and dies at a chosen call.

    with FaultyDisk(monkeypatch, at=17, how="torn") as faulty:
        dump(config)

| how | what is left of the call, and of what came before |
| --- | --- |
| kill | the call does not happen; what came before stays (the process dies, the system lives) |
| torn | a write leaves half of its bytes; otherwise as kill |
| power | as kill, and bytes and names without fsync are lost |
| error | the call fails with EIO and the process lives: it may clean up |
"""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

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


@dataclasses.dataclass(frozen=True)
class _Name:
    """What a folder's entry was before the change that no fsync of the folder has reached."""

    moved_from: Path | None = None
    """The name before a rename; None for a new file or folder."""
    replaced: bytes | None = None
    """Content of the file whose name a rename took."""


class FaultyDisk:
    """Counts calls; the one numbered `at` (from 0) fails.

    After it, but for `error`, the process counts as dead: no further call does anything.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int | None = None, how: str = "kill"):
        self.calls: list[str] = []
        self._patch = monkeypatch
        self._at = at
        self._how = how
        self._dead = False
        self._lock = threading.RLock()
        self._unsynced: set[Path] = set()
        """Files with bytes that no fsync has reached."""
        self._names: dict[Path, _Name] = {}
        """Names that their folder may forget."""

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._context.__exit__(kind, error, trace)
        if self._how == "power" and self._dead:
            self._lose()

    def _wrap(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        # What the calls of `glot_jax.disk` take and return differs from call to call.
        def call(*arguments: Any) -> object:  # noqa: ANN401
            with self._lock:
                if self._dead:
                    # The system closes what a dead process had open; tests run out of descriptors
                    # otherwise.
                    if name == "close":
                        return original(*arguments)
                    raise Killed
                number = len(self.calls)
                self.calls.append(name)
                if number == self._at:
                    self._fail(name, original, arguments)
                # Before the call: afterwards the file that a rename replaces is gone.
                replaced = _content(arguments[1]) if name == "rename" else None
                result = original(*arguments)
                self._remember(name, arguments, replaced)
                return result

        return call

    def _fail(self, name: str, original: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
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

    def _remember(self, name: str, arguments: tuple[Any, ...], replaced: bytes | None) -> None:
        """Note what a power cut would take back after this call."""
        if name == "write":
            self._unsynced.add(_opened(arguments[0]))
        elif name == "sync":
            self._unsynced.discard(_opened(arguments[0]))
        elif name in ("create", "make_folder"):
            self._names.setdefault(arguments[0], _Name())
        elif name == "link":
            self._names.setdefault(arguments[1], _Name())
        elif name == "rename":
            source, target = arguments
            self._rename(source, target, replaced)
        elif name == "sync_folder":
            folder = arguments[0]
            self._names = {
                path: before for path, before in self._names.items() if path.parent != folder
            }

    def _rename(self, source: Path, target: Path, replaced: bytes | None) -> None:
        self._unsynced = {_moved(path, source, target) for path in self._unsynced}
        names = {}
        for path, before in self._names.items():
            if path != source:
                names[_moved(path, source, target)] = before
        names[target] = _Name(source, replaced)
        self._names = names

    def _lose(self) -> None:
        for path in self._unsynced:
            if path.is_file():
                path.write_bytes(b"")
        # The innermost first: a name in a folder that goes itself needs no thought.
        for path, before in sorted(self._names.items(), key=lambda item: -len(item[0].parts)):
            if before.moved_from is not None and path.exists():
                os.rename(path, before.moved_from)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            if before.replaced is not None:
                path.write_bytes(before.replaced)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _opened(descriptor: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{descriptor}"))


def _moved(path: Path, source: Path, target: Path) -> Path:
    """The name of `path` after `source` was renamed to `target`."""
    return target / path.relative_to(source) if source in (path, *path.parents) else path
