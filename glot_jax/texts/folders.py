"""Which file of a folder is which split: `--data FOLDER` as people have it, and `--data FILE`.

| a file is a split's if its name, in any case, without suffix, is | example                       |
|-----------------------------------------------------------------|-------------------------------|
| the split's, or one of `NAMES`                                  | train.csv, Valid.jsonl.gz     |
| that of a part of MNLI                                          | dev_matched.tsv               |
| one of these with a shard's number; all have to be there        | train-00000-of-00002.parquet  |
| anything, in a folder with such a name                          | train/0000.parquet            |
| what GLUE calls it, where no other file is the split's          | msr_paraphrase_train.txt      |

They lie in FOLDER, FOLDER/data, FOLDER/default or the folder of the task's name on the Hub, and are
read from the first of these that has any. Every other data file there is named in a notice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glot_jax.errors import UsageError, require
from glot_jax.texts.formats import COMPRESSED, FORMATS, OPENERS, is_data_name, name_parts
from glot_jax.texts.glue_files import LAYOUTS, NO_LAYOUT
from glot_jax.texts.quoting import listed
from glot_jax.texts.tasks import TaskSpec

NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing"),
}
"""Our split -> what people call it."""

OTHER_DATA = (
    *("xlsx", "xls", "ods", "arrow", "feather", "pkl", "pickle", "npy", "npz", "xml"),
    *("zip", "tar", "tgz", "gz", "zst", "bz2", "xz", "7z"),
)
"""Suffixes of files that hold data and cannot be read here: they are named too."""

_SHARD = re.compile(r"(?P<stem>.+)-(?P<index>\d+)-of-(?P<count>\d+)(-[0-9a-f]{6,})?")


@dataclass(frozen=True)
class FolderSplits:
    """The files of every split that a folder has, in the task's order, and what to say about the
    folder.
    """

    files: Mapping[str, Sequence[Path]]
    notices: tuple[str, ...] = ()


def expected(spec: TaskSpec) -> str:
    """File names, for messages."""
    return f"{{{','.join(split for split, _ in spec.splits)}}}.{{{','.join(FORMATS)}}}"


def split_names(splits: Iterable[str]) -> dict[str, str]:
    """Name of a file in lower case, without suffixes -> split.

    >>> split_names(["validation_matched"])["dev-matched"]
    'validation_matched'
    """
    found = {}
    for split in splits:
        kind, _, part = split.partition("_")
        for name in NAMES.get(kind, (kind,)):
            for between in "_-.":
                found[f"{name}{between}{part}" if part else name] = split
    # A split's own name is always its own.
    return found | {split.lower(): split for split in splits}


def find_splits(folder: Path, spec: TaskSpec) -> FolderSplits:
    """The task's splits in a folder.

    UsageError if there is no such folder, no file for any split, two files for one, or not all
    shards of one.
    """
    require(
        folder.is_dir(),
        "--data is a folder or a file",
        f"{folder}, which does not exist",
        f"Give a folder with {expected(spec)}, or one file.",
    )
    names = split_names(split for split, _ in spec.splits)
    stems = LAYOUTS.get(spec.name, NO_LAYOUT).stems
    order = [split for split, _ in spec.splits]
    for place in _places(folder, spec):
        found = files_by_name(place, names)
        for split, files in files_by_name(place, stems).items():
            found.setdefault(split, files)
        if found:
            files = {split: found[split] for split in order if split in found}
            return FolderSplits(files, _notices(place, folder, files, spec))
    there = listed(sorted(path.name for path in folder.iterdir())) or "nothing"
    # What DVC leaves in place of a file that has not been fetched.
    fetch = "Run: dvc pull. " if "dvc" in {path.suffix[1:] for path in folder.iterdir()} else ""
    fix = (
        f"{fetch}Rename the files (dev, valid and val are validation), give another folder, "
        "or name one file: --data FILE. "
        f"Formats: {', '.join(OPENERS)}, all but parquet also as .gz and .zst."
    )
    raise UsageError(f"--data holds {expected(spec)}", f"{folder} with {there}", fix)


def _places(folder: Path, spec: TaskSpec) -> list[Path]:
    """Where splits may lie."""
    # The Hub's conversions to Parquet call a single configuration default.
    below = ["data", "default"]
    if spec.hub is not None:
        # Of the Hub's data sets without configurations, plain_text is the only one's name.
        below.append(spec.hub[1] or "plain_text")
    return [folder, *(folder / name for name in below if (folder / name).is_dir())]


def files_by_name(place: Path, names: Mapping[str, str]) -> dict[str, list[Path]]:
    """Files whose name is one of `names`, by what that stands for, shards in their order.
    UsageError as find_splits.
    """
    single: dict[str, list[Path]] = {}
    shards: dict[str, dict[str, list[tuple[int, int, Path]]]] = {}
    for path in sorted(place.iterdir()):
        if path.is_dir():
            split = names.get(path.name.lower())
            inside = _inside(path) if split else []
            if split and inside:
                shards.setdefault(split, {})[f"{path}/"] = inside
            continue
        if not is_data_name(path.name):
            continue
        stem, *suffixes = name_parts(path.name)
        whole = names.get(stem.lower())
        shard = _SHARD.fullmatch(stem)
        if whole is not None:
            single.setdefault(whole, []).append(path)
        elif shard and shard["stem"].lower() in names:
            one = (int(shard["index"]), int(shard["count"]), path)
            group = f"{shard['stem']}-*-of-{shard['count']}.{'.'.join(filter(None, suffixes))}"
            shards.setdefault(names[shard["stem"].lower()], {}).setdefault(group, []).append(one)
    found = {}
    for split in {**single, **shards}:
        own = [
            path for path in single.get(split, []) if path.name.removeprefix(f"{split}.") in FORMATS
        ]
        if len(own) == 1:
            # The name that a split has here is its own, whatever lies beside it; that is named as
            # not read.
            found[split] = own
            continue
        groups = [str(path) for path in single.get(split, [])] + [
            str(place / name) for name in shards.get(split, {})
        ]
        fix = "Keep one of them."
        require(
            len(groups) < 2, "a split is one file, or all shards of one", " and ".join(groups), fix
        )
        found[split] = single.get(split) or _complete(next(iter(shards[split].values())))
    return found


def _inside(folder: Path) -> list[tuple[int, int, Path]]:
    """The data files of a split's own folder, numbered as their names say, else in the order of
    their names.
    """
    files = [
        path for path in sorted(folder.iterdir()) if is_data_name(path.name) and not path.is_dir()
    ]
    numbered = [(_SHARD.fullmatch(name_parts(path.name)[0]), path) for path in files]
    if files and all(match for match, _ in numbered):
        return [
            (int(match["index"]), int(match["count"]), path) for match, path in numbered if match
        ]
    kinds = {name_parts(path.name)[1:] for path in files}
    got = f"{folder} with {listed([path.name for path in files])}"
    require(
        len(kinds) < 2,
        "a split's folder holds files of one format",
        got,
        "Keep those of one format.",
    )
    return [(index, len(files), path) for index, path in enumerate(files)]


def _complete(shards: Sequence[tuple[int, int, Path]]) -> list[Path]:
    """The shards' files in order; UsageError that names the first one that is missing."""
    shards = sorted(shards)
    _, count, first = shards[0]
    by_index = {index: path for index, _, path in shards}
    missing = [index for index in range(count) if index not in by_index]
    if missing:
        shard = re.compile(r"-\d+-of-(\d+)(-[0-9a-f]{6,})?")
        name = shard.sub(lambda match: f"-{missing[0]:0{len(match[1])}d}-of-{match[1]}", first.name)
        got = f"{first.parent} without {name}" + (
            f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        )
        raise UsageError("a split has all of its shards", got, f"Add it: {count} are announced.")
    twice = len(by_index) < len(shards)
    got = f"{first.parent} with {listed([path.name for _, _, path in shards])}"
    require(not twice and max(by_index) < count, "a shard is one file", got, "Keep one of each.")
    return [path for _, _, path in shards]


def _notices(
    place: Path, folder: Path, files: Mapping[str, Sequence[Path]], spec: TaskSpec
) -> tuple[str, ...]:
    """What is read, where that is not plain to see, and what is not."""
    lines = []
    plain = all(len(of) == 1 and name_parts(of[0].name)[0] == split for split, of in files.items())
    if not plain or place != folder:
        told = [f"{split} from {_told(folder, of)}" for split, of in files.items()]
        lines.append(f"read: {', '.join(told)}")
    used = {path for of in files.values() for path in of}
    around = {place, *(other for other in _places(folder, spec) if other.parent == place)}
    there = sorted(path for of in around for path in of.iterdir())
    others = [
        str(path.relative_to(place))
        for path in there
        if path not in used and path.is_file() and _is_data(path)
    ]
    if others:
        lines.append(
            f"not read: {listed(others)} (in {place}; "
            f"the splits of task {spec.name} are {', '.join(name for name, _ in spec.splits)})"
        )
    return tuple(lines)


def _told(folder: Path, files: Sequence[Path]) -> str:
    first = str(files[0].relative_to(folder))
    return first if len(files) == 1 else f"{first} and {len(files) - 1} more"


def _is_data(path: Path) -> bool:
    suffix = path.suffix[1:].lower()
    return not path.name.startswith(".") and (
        suffix in OPENERS or suffix in OTHER_DATA or suffix in COMPRESSED
    )
