"""Arrays of a store: their dtypes, their bytes, and maps of their files."""

from __future__ import annotations

import contextlib
import functools
import io
from pathlib import Path

import ml_dtypes
import numpy as np

from glot_jax.errors import UsageError, lookup
from glot_jax.store.integrity import REPAIR, unreadable

Shape = tuple[int, ...]

DTYPES: dict[str, np.dtype] = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "int8": np.dtype(np.int8),
    # Two values a byte.
    "int4": np.dtype(np.uint8),
}
"""Logical dtype of stored states -> what NumPy calls it. int8 and int4 come with scales:
`scaled_states`.
"""


def stored_dtype(logical: str) -> np.dtype:
    """The dtype in the .npy header.

    bfloat16 is stored as uint16, because the .npy format has no name for it.
    """
    if logical == "bfloat16":
        return np.dtype(np.uint16)
    return lookup(DTYPES, logical, "storage dtype")


def npy_bytes(array: np.ndarray) -> bytes:
    """The bytes of an array's .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def load_array(
    path: Path,
    dtype: np.dtype | None,
    shape: Shape,
) -> np.ndarray:
    """Memory-map an .npy file, read-only and never unpickling.

    Args:
        path: the file.
        dtype: the one it must have; None for any.
        shape: the one it must have.

    Raises:
        UsageError: the file cannot be read or mapped, or holds another array.
    """
    _allow_many_files()
    try:
        # A header may lie about the shape: its product overflows, with a warning before the error.
        with np.errstate(over="ignore"):
            # A pickle could run any code, and stores are passed on.
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OverflowError) as error:
        raise UsageError(
            rule="a stored array must be a readable .npy file", got=f"{path} ({error})", fix=REPAIR
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
    # Views of single texts are taken from rows that must lie one after the other.
    if not array.flags.c_contiguous:
        raise UsageError(
            rule="a stored array must be in C order", got=f"{path} in Fortran order", fix=REPAIR
        )
    # A file of another dtype would be read without an error, as other numbers.
    expected = array.dtype if dtype is None else dtype
    if array.shape != shape or array.dtype != expected:
        raise UsageError(
            rule="a stored array must have the dtype and shape of its record",
            got=f"{path} with {array.dtype} {array.shape} instead of {expected} {shape}",
            fix=REPAIR,
        )
    # A plain view of the map: np.memmap's own indexing costs several times more per text.
    return np.asarray(array)


@functools.cache
def _allow_many_files() -> None:
    """Raise the limit of open files as far as this user may.

    Python keeps a descriptor open for each mapped file, and the usual limit is 1024.
    """
    try:
        import resource
    except ImportError:  # no such limits
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    # A system may refuse the limit that it reports; the lower one stays then.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
