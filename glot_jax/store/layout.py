"""Names of the files and folders of a store.

OUT/manifest.json                                  written last
OUT/<split>/row_offsets.npy, row_texts.npy, roles.npy, labels.npy
OUT/<split>/shard-00000/record.json, lengths.npy, token_ids.npy
OUT/<split>/shard-00000/hidden-L6-00000.npy        a file per layer
OUT/<split>/shard-00000/scale-L6-00000.npy         of int8 and int4 states
OUT.lock/                                          beside a store in the making
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from glot_jax.config.location import Location, StoreUrl
from glot_jax.errors import UsageError
from glot_jax.files import AGAIN

MANIFEST = "manifest.json"
RECORD = "record.json"

TEXT_FILES = ("lengths.npy", "token_ids.npy")
"""Files of a shard that say which texts it holds."""

# The last of the arrays: it is the only one that a split may lack.
LABELS = "labels.npy"
SPLIT_ARRAYS = ("row_offsets.npy", "row_texts.npy", "roles.npy", LABELS)
"""Row arrays of a split; a task without labels has all but the last."""

EXTRACT_AGAIN = f"{AGAIN}: finished shards are kept"
"""How an error of the disk tells the user to go on with a store."""

# No dot or dash in front: hidden folders, and options of the commands that people type.
_SPLIT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def shard_name(index: int) -> str:
    """Folder of a shard inside its split: `shard-00007`."""
    # Five digits keep listings in order; a number with more of them is still a name of its own.
    return f"shard-{index:05d}"


def states_name(layer: int, index: int) -> str:
    """File of one layer's states inside its shard: `hidden-L6-00007.npy`."""
    return f"hidden-L{layer}-{index:05d}.npy"


def scales_name(layer: int, index: int) -> str:
    """File of the scales of one layer's states: `scale-L6-00007.npy`, float16 [tokens] of int8.

    Of int4 float16 [tokens, groups].
    """
    return f"scale-L{layer}-{index:05d}.npy"


def array_file(name: str, appended: int) -> str:
    """File of a row array after so many appends: `labels.npy`, then `labels-1.npy`."""
    # New names, so that the old arrays stay readable until the manifest names the new ones.
    return name.replace(".npy", f"-{appended}.npy") if appended else name


def shard_files(dtypes: Mapping[int, str], index: int) -> tuple[str, ...]:
    """Arrays that a shard folder holds beside its record, for these logical dtypes by layer."""
    # Scales last: stores of all other dtypes keep the order that they had before there were any.
    states = [states_name(layer, index) for layer in dtypes]
    scales = []
    for layer, dtype in dtypes.items():
        if dtype in ("int8", "int4"):
            scales.append(scales_name(layer, index))
    return (*TEXT_FILES, *states, *scales)


def lock_folder(store: Path) -> Path:
    """`OUT.lock` beside OUT: the lock and the recipe of a store in the making."""
    # Resolved, so that `.` and a link have a name to put `.lock` behind.
    resolved = Path(store).resolve()
    return resolved.with_name(resolved.name + ".lock")


def lock_place(store: Location) -> Location:
    """`OUT.lock` beside OUT, wherever that lies."""
    if isinstance(store, StoreUrl):
        return store.with_name(f"{store.name}.lock")
    return lock_folder(store)


def passes_folder(store: Path) -> Path:
    """`OUT.lock/passes`: what is finished of shards that are not complete yet."""
    return lock_folder(store) / "passes"


def check_split_name(name: str) -> None:
    """Raise UsageError for a split name that cannot be the name of a folder everywhere."""
    if not _SPLIT_NAME.fullmatch(name):
        raise UsageError(
            rule="a split's name must consist of letters, digits, _ - and inner dots",
            got=repr(name),
            fix="Rename the split.",
        )


def refuse_link(path: Path) -> None:
    """Raise UsageError if `path` is a symbolic link: others may use what lies behind it."""
    if path.is_symlink():
        raise UsageError(
            rule="a store must not be written through symbolic links",
            got=path,
            fix="Put the file or folder itself there (`dvc unprotect`, `git annex unlock`), or"
            " choose another --out.",
        )
