"""Trees of arrays to files and back by orbax, and what its failures mean.

Only this module imports orbax.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from glot_jax.errors import UsageError
from glot_jax.run_folders.plain_path import plain_path

METADATA = "_CHECKPOINT_METADATA"
"""Orbax's own file in the folder of a checkpoint; `custom_metadata` in it is ours."""
UNFINISHED = ".orbax-checkpoint-tmp"
"""Part of the name of a folder that orbax has not finished."""

Parts = dict[str, Any]
"""Name of a part -> tree of arrays. Each part lies in a folder of its own and can be read alone."""

# Orbax reports every phase of every save at INFO.
logging.getLogger("absl").setLevel(logging.ERROR)


_one_at_a_time = threading.Lock()
_under_way: list[Response] = []
"""The save that was begun last, if there was one."""


class Damaged(Exception):
    """Files that cannot be read because they are broken; the message says why, in one line."""


class Response(Protocol):
    """A save that goes on in the background."""

    def result(self) -> object:
        """Wait for its end; raises what went wrong."""


def start_saving(
    path: Path,
    parts: Parts,
    metadata: Mapping[str, Any],
) -> Response:
    """Begin to write the parts from a copy. Orbax writes under a temporary name and renames.

    Saves of one process follow one another, whichever runs they are of.
    """
    # Orbax asks for a dict, where any mapping would do.
    custom = dict(metadata)
    with _one_at_a_time:
        _wait_for_the_last()
        response = ocp.save_checkpointables_async(str(path), parts, custom_metadata=custom)
        # The one before is done: what it holds of its arrays is let go.
        _under_way[:] = [response]
    return response


def _wait_for_the_last() -> None:
    # Two operations at once wait for each other's signals, or mistake each other's files: orbax
    # numbers them by process.
    for response in _under_way:
        # Whoever began it says what went wrong.
        with contextlib.suppress(Exception):
            response.result()


def read_parts(
    folder: Path,
    step: int,
    targets: Parts,
    *,
    partly: bool = False,
) -> Parts:
    """The named parts of the checkpoint FOLDER/<step>.

    Args:
        folder: absolute path of the folder of checkpoints.
        step: name of the checkpoint in it.
        targets: part -> tree of what is expected (`on_the_device`, `on_the_host`).
        partly: the files may hold more arrays than the targets name, which are not read then.

    Raises:
        Damaged: the files are broken.
        UsageError: they may not be read, or the memory ran out.
    """
    context = ocp.Context()
    context.pytree.loading.partial_load = partly
    with _one_at_a_time, plain_path(folder) as plain, quiet_failures(), context:
        _wait_for_the_last()
        try:
            return ocp.load_checkpointables(str(plain / str(step)), targets)
        except Exception as error:  # orbax documents no list of what a broken file makes it raise
            causes = all_causes(error)
            reason = one_line(causes[-1])
            reason = reason.replace(str(plain), str(folder))
            # One harmless cause anywhere in the chain clears the file: a checkpoint that is called
            # damaged is moved away.
            if not all(is_damage(cause) for cause in causes):
                raise UsageError(
                    rule="a checkpoint must be readable",
                    got=f"{folder / str(step)}: {reason}",
                    fix="Free memory or grant access.",
                ) from error
        gc.collect()  # what failed is logged when it is collected, so here, where it is quiet
    raise Damaged(reason)


def on_the_device(
    tree: PyTree[jax.Array | jax.ShapeDtypeStruct],
) -> PyTree[jax.ShapeDtypeStruct]:
    """What orbax is asked for: arrays of these shapes and dtypes, where those of `tree` are.

    Shapes that lie nowhere are read to where a new array would go.
    """
    return jax.tree.map(_on_its_device, tree)


def on_the_host(tree: PyTree[jax.Array]) -> PyTree:
    """The same in the host's memory, because a device may not have room for two states.

    Keys stay on the device: they exist nowhere else.
    """
    return jax.tree.map(_on_the_host, tree)


def _on_its_device(leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    sharding = leaf.sharding
    if sharding is None:
        # Put there, not computed: nothing is compiled for it.
        sharding = jax.device_put(np.float32(0)).sharding
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _on_the_host(leaf: jax.Array) -> jax.ShapeDtypeStruct | np.ndarray:
    if is_key(leaf):
        return _on_its_device(leaf)
    # Orbax wants an array of NumPy's, of which it reads shape and dtype: one that takes no memory.
    element = np.zeros((), leaf.dtype)
    return np.broadcast_to(element, leaf.shape)


def is_key(leaf: jax.Array) -> bool:
    """Whether an array holds PRNG keys, whose bytes JAX hands out only as `key_data`."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@contextlib.contextmanager
def quiet_failures() -> Iterator[None]:
    """Keep all but the first failure out of the log.

    Orbax reads many arrays at once, and each that fails would be reported, a page each.
    """
    # asyncio reports each task whose exception nobody fetched, through its own log.
    log = logging.getLogger("asyncio")
    level = log.level
    hook = sys.unraisablehook

    def without_closed_loops(failure: sys.UnraisableHookArgs) -> None:
        # Tasks that are still alive when orbax has closed its loop fail once more, in __del__.
        if "Event loop is closed" not in str(failure.exc_value):
            hook(failure)

    log.setLevel(logging.CRITICAL)
    sys.unraisablehook = without_closed_loops
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            yield
    finally:
        log.setLevel(level)
        sys.unraisablehook = hook


def all_causes(error: BaseException) -> list[BaseException]:
    """The error, what caused it, what caused that."""
    # The context counts as well: not every library raises with `from`.
    cause = error.__cause__ or error.__context__
    if cause is None:
        return [error]
    return [error, *all_causes(cause)]


def is_damage(error: BaseException) -> bool:
    """Whether the file is to blame: not the memory that ran out, nor the right to read it."""
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return True
    if isinstance(error, OSError):
        # EIO: the disk failed to read. Other numbers are circumstances, such as rights of access.
        return error.errno == errno.EIO
    if isinstance(error, MemoryError):
        return False
    # TensorStore has no exceptions of its own for these two: only their names in the text.
    text = str(error)
    return "RESOURCE_EXHAUSTED" not in text and "PERMISSION_DENIED" not in text


def one_line(error: BaseException) -> str:
    """The error in one line; TensorStore adds a page of its settings."""
    reason, _, _ = str(error).partition(" [tensorstore_spec")
    lines = reason.strip().splitlines()
    # An exception without a text has no line at all.
    text = lines[0][:300] if lines else ""
    return f"{type(error).__name__}: {text}"
