"""Which files of a folder have a split's name: one file, or all shards of one.

| a file is a split's if its name, in any case, without suffix, is | example                       |
|-----------------------------------------------------------------|-------------------------------|
| the split's, or one of `NAMES`                                  | train.csv, Valid.jsonl.gz     |
| that of a part of MNLI                                          | dev_matched.tsv               |
| one of these with a shard's number; all have to be there        | train-00000-of-00002.parquet  |
| anything, in a folder with such a name                          | train/0000.parquet            |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glot_jax.errors import UsageError
from glot_jax.file_formats.formats import FORMATS, is_data_name, name_parts
from glot_jax.file_formats.quoting import listed

NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing"),
}
"""Our split -> what people call it."""

_SHARD = re.compile(r"(?P<stem>.+)-(?P<index>\d+)-of-(?P<count>\d+)(-[0-9a-f]{6,})?")
_SHARD_NUMBER = re.compile(r"-\d+-of-(\d+)(-[0-9a-f]{6,})?")


@dataclass(frozen=True, order=True)
class _Shard:
    """One of the files that a split is cut into; they are sorted by their index."""

    index: int
    count: int
    path: Path


def split_names(splits: Iterable[str]) -> dict[str, str]:
    """Name of a file in lower case, without suffixes -> split.

    >>> split_names(["validation_matched"])["dev-matched"]
    'validation_matched'
    """
    names: dict[str, str] = {}
    own_names: dict[str, str] = {}
    for split in splits:
        own_names[split.lower()] = split
        kind, _, part = split.partition("_")
        for name in NAMES.get(kind, (kind,)):
            if not part:
                names[name] = split
                continue
            # dev_matched, dev-matched and dev.matched are all in use.
            for between in "_-.":
                names[f"{name}{between}{part}"] = split
    # A split's own name is always its own.
    return names | own_names


def files_by_name(folder: Path, names: Mapping[str, str]) -> dict[str, list[Path]]:
    """The files of a folder whose name is one of `names`.

    Args:
        folder: where the files lie; folders in it may be called so too.
        names: name of a file in lower case, without suffixes -> what it stands for.

    Returns:
        What a name stands for -> its files, shards in their order.

    Raises:
        UsageError: two files, or a file and shards, for one of them; not all shards.
    """
    single: dict[str, list[Path]] = {}
    shards: dict[str, dict[str, list[_Shard]]] = {}
    # Sorted: the order of a directory is the file system's, and messages must not depend on it.
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            split = names.get(path.name.lower())
            inside = _inside(path) if split is not None else []
            # A folder without any data file may be anything, whatever it is called.
            if split is not None and inside:
                shards.setdefault(split, {})[f"{path}/"] = inside
            continue
        if not is_data_name(path.name):
            continue
        stem, suffix, compression = name_parts(path.name)
        split = names.get(stem.lower())
        if split is not None:
            single.setdefault(split, []).append(path)
            continue
        match = _SHARD.fullmatch(stem)
        split = names.get(match["stem"].lower()) if match else None
        if match and split is not None:
            suffixes = f"{suffix}.{compression}" if compression else suffix
            group = f"{match['stem']}-*-of-{match['count']}.{suffixes}"
            groups = shards.setdefault(split, {})
            groups.setdefault(group, []).append(_numbered(match, path))
    chosen: dict[str, list[Path]] = {}
    # In the order in which they were met, files before shards: messages name the first problem.
    for split in {**single, **shards}:
        files = single.get(split, [])
        chosen[split] = _only_one(folder, split, files, shards.get(split, {}))
    return chosen


def _only_one(
    folder: Path,
    split: str,
    files: Sequence[Path],
    shards: Mapping[str, list[_Shard]],
) -> list[Path]:
    """The files of a split for which there may be several candidates."""
    # The name that a split has here is its own, whatever lies beside it; that is named as not read.
    own = [path for path in files if path.name.removeprefix(f"{split}.") in FORMATS]
    if len(own) == 1:
        return own
    candidates = [str(path) for path in files]
    candidates += [str(folder / name) for name in shards]
    if len(candidates) > 1:
        raise UsageError(
            rule="a split must be one file, or all shards of one",
            got=" and ".join(candidates),
            fix="Keep one of them.",
        )
    if files:
        return list(files)
    # One set of shards is left: without files it was the only candidate.
    return _complete(next(iter(shards.values())))


def _inside(folder: Path) -> list[_Shard]:
    """The data files of a split's own folder.

    They are numbered as their names say, else in the order of their names.
    """
    files: list[Path] = []
    for path in sorted(folder.iterdir()):
        if is_data_name(path.name) and not path.is_dir():
            files.append(path)
    numbered: list[_Shard] = []
    for path in files:
        match = _SHARD.fullmatch(name_parts(path.name)[0])
        if match:
            numbered.append(_numbered(match, path))
    if files and len(numbered) == len(files):
        return numbered
    # A .csv and a .jsonl may be the same rows twice.
    formats = {name_parts(path.name)[1:] for path in files}
    if len(formats) > 1:
        raise UsageError(
            rule="a split's folder must hold files of one format",
            got=f"{folder} with {listed([path.name for path in files])}",
            fix="Keep those of one format.",
        )
    # Numbered here, so that none is missing.
    count = len(files)
    return [_Shard(index, count, path) for index, path in enumerate(files)]


def _numbered(match: re.Match[str], path: Path) -> _Shard:
    index = int(match["index"])
    count = int(match["count"])
    return _Shard(index, count, path)


def _complete(shards: Sequence[_Shard]) -> list[Path]:
    """The shards' files in order; UsageError that names the first one that is missing."""
    shards = sorted(shards)
    first = shards[0]
    by_index = {shard.index: shard.path for shard in shards}
    # Counted by the names, which say how many there are; a gap is a file not fetched.
    missing = [index for index in range(first.count) if index not in by_index]
    if missing:
        name = _SHARD_NUMBER.sub(
            # As many digits as the count has: 00001 of 00002.
            lambda match: f"-{missing[0]:0{len(match[1])}d}-of-{match[1]}",
            first.path.name,
        )
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UsageError(
            rule="a split must have all of its shards",
            got=f"{first.path.parent} without {name}{more}",
            fix=f"Add it: {first.count} are announced.",
        )
    # Two hashes for one number are left by a second download.
    if len(by_index) < len(shards) or max(by_index) >= first.count:
        names = [shard.path.name for shard in shards]
        raise UsageError(
            rule="a shard must be one file",
            got=f"{first.path.parent} with {listed(names)}",
            fix="Keep one of each.",
        )
    return [shard.path for shard in shards]
