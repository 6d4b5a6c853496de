"""The folder OUT: what may be in it when an extraction starts, and what it must agree with."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from glot_jax.config.location import Location
from glot_jax.errors import UsageError
from glot_jax.store.layout import MANIFEST, lock_folder, lock_place
from glot_jax.store.lock import read_begun
from glot_jax.store.recipe import PendingAppend, Recipe


def refuse_other_folder(out: Path) -> None:
    """Raise UsageError unless OUT is new, empty, a store, or a store in the making.

    Anything else is somebody's own folder.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(
            rule="--out must be a folder",
            got=f"{out}, which is a file",
            fix="Choose another --out.",
        )
    # A store in the making has its recipe beside it, in OUT.lock.
    is_store = (out / MANIFEST).exists()
    is_new = not out.is_dir() or not any(out.iterdir())
    if is_new or is_store or read_begun(out) is not None:
        return
    rule = "--out must be a new or empty folder, or a store"
    # Shards without a recipe: somebody moved OUT and forgot OUT.lock.
    if any(out.glob("*/shard-*")):
        raise UsageError(
            rule=rule,
            got=f"{out}, which holds shards, and no {lock_folder(out)} that says what they are",
            fix="Bring that folder back (it moves with an unfinished store), or choose another"
            " --out.",
        )
    raise UsageError(
        rule=rule,
        got=f"{out}, which holds other things",
        fix="Choose another --out, or empty the folder.",
    )


def require_same_recipe(
    out: Location,
    stored: Recipe | PendingAppend | None,
    expected: Recipe,
    ignore: Collection[str] = (),
) -> None:
    """Raise UsageError, with every difference, unless OUT has the recipe that was asked for.

    A store that an unfinished append has changed is refused as such.

    Args:
        out: the store.
        stored: its recipe; None for a new store.
        expected: that of this extraction.
        ignore: fields that may differ.
    """
    refuse_unfinished_append(out, stored)
    if not isinstance(stored, Recipe):
        return
    # All differences at once, not the first: the user may have changed several options.
    lines = stored.explain(expected, ignore=ignore)
    if lines:
        raise UsageError(
            rule=f"{out} must hold states of the same recipe (stored -> asked for)",
            got="\n  " + "\n  ".join(lines),
            fix="\nChoose another --out, or repeat the options that the store was made with.",
        )


def refuse_unfinished_append(out: Location, begun: Recipe | PendingAppend | None) -> None:
    """Raise UsageError where the lock of OUT says that an append was begun."""
    if isinstance(begun, PendingAppend):
        raise other_append(out, str(out))


def other_append(out: Location, got: str) -> UsageError:
    """Return the error for an extraction that an unfinished append of OUT keeps from starting."""
    return UsageError(
        rule="an append that was begun must be finished first",
        got=got,
        fix="Run it again with its own --data; to give it up, delete"
        f" {lock_place(out)} and the files that `glot store verify` then lists.",
    )


def stored_bytes(out: Path) -> int:
    """Return the size of the arrays that OUT holds already."""
    return sum(path.stat().st_size for path in out.rglob("*.npy"))


@contextlib.contextmanager
def empty_folders_removed(out: Path) -> Iterator[None]:
    """Take back the folders that the block made, where nothing was stored in them."""
    is_new = not out.exists()
    try:
        yield
    finally:
        # Shards are renamed into these folders only when they are whole.
        for folder in out.glob("*/"):
            _remove_if_empty(folder)
        # An empty folder that the user made stays.
        if is_new:
            _remove_if_empty(out)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
