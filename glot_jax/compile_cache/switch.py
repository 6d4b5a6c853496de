"""The switch of the compile cache."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from glot_jax.compile_cache.hits import count_hits
from glot_jax.compile_cache.jax_paths import uri_of
from glot_jax.compile_cache.machine import folder_name
from glot_jax.compile_cache.programs import ProgramFolder
from glot_jax.compile_cache.trust import UntrustedFolderError, trusted_folder
from glot_jax.files import most_bytes, user_cache

JAX_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
SIZE_VARIABLE = "GLOT_JAX_COMPILED_GB"
OFF = "off"
# A head has some 40 programs, which take less than a megabyte together.
_DEFAULT_GB = 0.25

_in_use: Path | None = None


def default_folder() -> Path:
    """~/.cache/glot-jax/compiled, or under $XDG_CACHE_HOME or $GLOT_JAX_CACHE."""
    return user_cache("compiled")


def use_compile_cache(folder: str | Path | None = None) -> bool:
    """Keep compiled programs on disk, and read those that were compiled before.

    Programs are read with the options of XLA they were compiled with, for the same processor or
    device and by the same jaxlib, so that results are equal to the last bit. Whoever can write to
    the folder can run code in this process: it is used only where nobody else can
    (`compile_cache.trust`). Nothing that goes wrong with it ends a run; a line on stderr says why
    it is off.

    Args:
        folder: where; "off" for nowhere. Default: what $JAX_COMPILATION_CACHE_DIR names, which is
            then left to JAX and is neither checked nor bounded here; else
            ~/.cache/glot-jax/compiled ($XDG_CACHE_HOME, $GLOT_JAX_CACHE). It is bounded to
            $GLOT_JAX_COMPILED_GB gigabytes, a quarter by default.

    Returns:
        Whether programs are kept.

    Raises:
        UsageError: $GLOT_JAX_COMPILED_GB is no number.
    """
    global _in_use
    _in_use = None
    if folder == OFF:
        # For JAX, where it is not loaded yet, and for the processes that are started from here.
        os.environ.pop(JAX_VARIABLE, None)
        if "jax" in sys.modules:
            _tell_jax(None)
        return False
    if folder is None and os.environ.get(JAX_VARIABLE):
        count_hits()
        return True
    most = most_bytes(SIZE_VARIABLE, _DEFAULT_GB)
    try:
        root = trusted_folder(Path(folder or default_folder()).expanduser())
        uri = uri_of(ProgramFolder(root, _folder_name, most_bytes=most, say=_say))
    # RuntimeError: of a user whose home the system does not know.
    except (UntrustedFolderError, ImportError, RuntimeError) as error:
        _say(f"compile cache off: {error}")
        return use_compile_cache(OFF)
    _tell_jax(uri)
    count_hits()
    _in_use = root
    return True


def folder_in_use() -> Path | None:
    """The folder that `use_compile_cache` has switched on, to be used by other processes as well.

    None where it is off or left to JAX, whose variable they have by themselves.
    """
    return _in_use


def machine_folder() -> Path | None:
    """The folder in use of this machine alone, for what else is measured once on a machine.

    Made if it is missing. None where the cache is off, left to JAX, or not the user's alone.
    """
    if _in_use is None:
        return None
    try:
        return trusted_folder(_in_use / _folder_name())
    except UntrustedFolderError:
        # The cache itself says so when the first program is compiled.
        return None


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _folder_name() -> str:
    import jax
    import jaxlib

    return folder_name(jax.default_backend(), jaxlib.__version__)


def _tell_jax(uri: str | None) -> None:
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    # Before the name: JAX keeps to the one it has used first.
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", uri)
    if uri is None:
        return
    # JAX leaves out what compiles within a second: a head is made of such programs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # The folder is bounded by itself; JAX would wait for a lock before every program.
    jax.config.update("jax_compilation_cache_max_size", -1)
    # XLA's own files of tuning, which it would write beside ours: unchecked, and under a name that
    # is none to it. What was tuned is part of the program that is kept.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
