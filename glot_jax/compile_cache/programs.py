"""Files of compiled programs: whole or not there, checked by a hash, and bounded.

    ROOT/<what they were compiled for>/<sha256 of JAX's key>.program

A file holds a mark, the sha256 of key and program, and the program. JAX has no check of its own: a
byte that the disk lost would be run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from glot_jax import disk
from glot_jax.compile_cache.machine import PREFIX
from glot_jax.compile_cache.trust import UntrustedFolderError, require_own
from glot_jax.files import TEMPORARY

_MARK = b"glot-jax program 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size
_SUFFIX = ".program"
_LEFT_BEHIND_S = 3600.0  # of a file that is still being written: its process was killed
_COUNTED_AFTER = 64  # the folder is counted again after this part of the size that is allowed


class ProgramFolder:
    """The compiled programs of one machine, in a folder that holds those of others too.

    Nothing here raises: a program that cannot be read is compiled, one that cannot be written is
    not kept. Threads and processes may read and write at the same time.

    Args:
        root: the folder of all machines, which is the user's alone.
        name: gives the name of this machine's folder. Asked when the first program is compiled:
            before, JAX does not know its device.
        most_bytes: what all files may take together. Beyond it, those go that were not read for
            longest, of whichever machine. Each process counts after every 64th of it that it has
            written, so that it can be exceeded by so much.
        say: takes a line when programs can no longer be kept.
    """

    def __init__(
        self,
        root: Path,
        name: Callable[[], str],
        *,
        most_bytes: float,
        say: Callable[[str], None],
    ):
        self.root = root
        self._name = name
        self._most_bytes = most_bytes
        self._say = say
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._is_open = False
        self._keeps = True
        # As if much had been written: the first program has the folder counted.
        self._uncounted = most_bytes

    def read(self, key: str) -> bytes | None:
        """The program of a key; None where there is none, or one that is not what was written."""
        folder = self._machine_folder()
        if folder is None:
            return None
        path = folder / _file_name(key)
        try:
            content = _read_own(path)
        except OSError:
            return None
        program = _unsealed(key, content)
        if program is not None:
            # What was read last is removed last.
            with contextlib.suppress(OSError):
                os.utime(path)
        return program

    def write(self, key: str, program: bytes) -> None:
        """Keep a program under a key; what is there already is replaced."""
        folder = self._machine_folder()
        content = _sealed(key, program)
        if folder is None or not self._keeps or len(content) > self._most_bytes:
            return
        try:
            _write_whole(folder / _file_name(key), content)
        except OSError as error:
            self._keep_no_more(error)
            return
        if self._is_to_be_counted(len(content)):
            _remove_oldest(self.root, self._most_bytes)

    def _machine_folder(self) -> Path | None:
        with self._lock:
            if not self._is_open:
                # Once, whatever comes of it: every program asks.
                self._is_open = True
                self._folder = self._opened()
            return self._folder

    def _opened(self) -> Path | None:
        folder = self.root / self._name()
        try:
            if not os.path.lexists(folder):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder, 0o700)
            require_own(folder)
        except UntrustedFolderError as error:
            self._say(f"compile cache off: {error}")
            return None
        except OSError as error:
            self._say(f"compile cache off: {folder}: {error.strerror}")
            return None
        return folder

    def _keep_no_more(self, error: OSError) -> None:
        with self._lock:
            is_first = self._keeps
            # A full disk is not asked again for every program.
            self._keeps = False
        if is_first:
            self._say(f"compile cache: programs of this run are not kept: {error.strerror}")

    def _is_to_be_counted(self, size: int) -> bool:
        with self._lock:
            self._uncounted += size
            if self._uncounted < self._most_bytes / _COUNTED_AFTER:
                return False
            self._uncounted = 0
            return True


def _file_name(key: str) -> str:
    # A key begins with the name of a function, which may be longer than names of files are.
    return hashlib.sha256(key.encode()).hexdigest() + _SUFFIX


def _digest(key: str, program: bytes) -> bytes:
    digest = hashlib.sha256(key.encode())
    # Of the key as well: a file under another's name is as wrong as a damaged one.
    digest.update(b"\0")
    digest.update(program)
    return digest.digest()


def _sealed(key: str, program: bytes) -> bytes:
    return _MARK + _digest(key, program) + program


def _unsealed(key: str, content: bytes) -> bytes | None:
    start = len(_MARK) + _DIGEST_BYTES
    program = content[start:]
    if content[:start] != _MARK + _digest(key, program):
        return None
    return program


def _read_own(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: it is not there, it is a link, or it is not the user's alone.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        facts = os.fstat(file.fileno())
        # From a time when others could write to the folder.
        is_own = facts.st_uid == os.geteuid()
        is_shared = bool(facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
        if not stat.S_ISREG(facts.st_mode) or not is_own or is_shared:
            raise PermissionError(f"{path} is not its user's alone")
        return file.read()


def _write_whole(path: Path, content: bytes) -> None:
    # Mode 0600, and a name that no other process has. Not synced, as `files.write_bytes` does:
    # that takes longer than compiling, and the hash tells what a power cut has torn.
    file, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    temporary = Path(name)
    try:
        try:
            disk.write(file, content, 0)
        finally:
            disk.close(file)
        disk.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


class _Entry(NamedTuple):
    """A file of the cache, in the order in which they are removed."""

    last_read: float
    size: int
    path: str


def _remove_oldest(root: Path, most_bytes: float) -> None:
    """Remove what was not read for longest, beyond the cache's size."""
    now = time.time()
    total = 0
    removable = []
    for entry in _entries(root):
        total += entry.size
        is_written = os.path.basename(entry.path).startswith(TEMPORARY)
        if not is_written or now - entry.last_read > _LEFT_BEHIND_S:
            removable.append(entry)
    for entry in sorted(removable):
        if total <= most_bytes:
            return
        # Another process may be removing it too.
        with contextlib.suppress(OSError):
            os.unlink(entry.path)
        total -= entry.size


def _entries(root: Path) -> Iterator[_Entry]:
    """The files of all machines. Others that lie there are not looked at."""
    for folder in _listed(os.fspath(root)):
        if not folder.name.startswith(PREFIX) or not folder.is_dir(follow_symlinks=False):
            continue
        for file in _listed(folder.path):
            if not file.name.endswith(_SUFFIX) and not file.name.startswith(TEMPORARY):
                continue
            with contextlib.suppress(OSError):
                facts = file.stat(follow_symlinks=False)
                # What it takes of the disk: most programs are smaller than a block.
                size = max(facts.st_size, facts.st_blocks * 512)
                yield _Entry(facts.st_mtime, size, file.path)


def _listed(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
