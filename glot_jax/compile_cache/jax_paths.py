"""How JAX comes to read and write our files.

JAX takes a folder, and lets packages of file systems (gs://) stand in for one through `etils`. A
name of our own leads it to a `ProgramFolder`, which checks what is read. JAX's folder by itself
neither checks an entry nor writes it at once, and keeps a damaged one for good.
"""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from glot_jax.compile_cache.programs import ProgramFolder

if TYPE_CHECKING:
    from typing_extensions import Buffer

_SCHEME = "glot-jax-programs://"

_FOLDERS: dict[str, ProgramFolder] = {}
"""By their roots: JAX carries nothing but a name."""


class ProgramPath(pathlib.PosixPath):
    """The root of a `ProgramFolder`, or under it the key of a program; else a path like others."""

    _program: bytes | None = None

    @property
    def _folder(self) -> ProgramFolder:
        return _FOLDERS[str(self.parent)]

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: the root has been made, with the mode it must have."""

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is a whole program, which is then read."""
        del follow_symlinks  # programs are no links
        # JAX asks before it reads: an answer that holds must have read all of it.
        self._program = self._folder.read(self.name)
        return self._program is not None

    def read_bytes(self) -> bytes:
        """The program, as `exists` has read it."""
        if self._program is None and not self.exists():
            raise FileNotFoundError(f"no program {self.name}")
        program = self._program
        # Read once, and large.
        self._program = None
        return program or b""

    def write_bytes(self, data: Buffer) -> int:
        """Keep a program, if the disk takes it."""
        program = bytes(data)
        self._folder.write(self.name, program)
        return len(program)


class _Uri:
    """What `etils` calls with a name of our scheme."""

    def __new__(cls, uri: str) -> ProgramPath:
        return ProgramPath(uri.removeprefix(_SCHEME))


def uri_of(folder: ProgramFolder) -> str:
    """The name by which JAX reaches a folder from now on.

    Raises:
        ImportError: `etils` is missing, without which JAX takes folders alone.
    """
    from etils import epath

    _FOLDERS[str(folder.root)] = folder
    epath.register_path_cls(_SCHEME)(_Uri)
    return f"{_SCHEME}{folder.root}"
