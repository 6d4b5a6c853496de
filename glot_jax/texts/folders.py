"""Which file of a folder is which split: `--data FOLDER` as people have it.

The splits lie in FOLDER, FOLDER/data, FOLDER/default or the folder of the task's name on the Hub,
and are read from the first of these that has any. A file is a split's by its name (`split_files`),
or, where no other file is the split's, if GLUE calls it so: msr_paraphrase_train.txt. Every other
data file there is named in a notice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glot_jax.errors import UsageError
from glot_jax.file_formats.formats import COMPRESSED, FORMATS, OPENERS, name_parts
from glot_jax.file_formats.glue_files import LAYOUTS, NO_LAYOUT
from glot_jax.file_formats.quoting import listed
from glot_jax.moved import moved_name
from glot_jax.texts.split_files import files_by_name, split_names
from glot_jax.texts.tasks import TaskSpec

OTHER_DATA = [
    "xlsx",
    "xls",
    "ods",
    "arrow",
    "feather",
    "pkl",
    "pickle",
    "npy",
    "npz",
    "xml",
    "zip",
    "tar",
    "tgz",
    "gz",
    "zst",
    "bz2",
    "xz",
    "7z",
]
"""Suffixes of files that hold data and cannot be read here: they are named too."""


@dataclass(frozen=True)
class FolderSplits:
    """The files of every split that a folder has, and what to say about the folder."""

    files: Mapping[str, Sequence[Path]]
    """Split -> its files, in the task's order of the splits."""
    notices: tuple[str, ...] = ()


def expected(spec: TaskSpec) -> str:
    """The names of a task's files, for messages: {train,test}.{jsonl,csv,tsv,parquet}."""
    splits = ",".join(split for split, _ in spec.splits)
    return f"{{{splits}}}.{{{','.join(FORMATS)}}}"


def find_splits(folder: Path, spec: TaskSpec) -> FolderSplits:
    """Find the task's splits in a folder.

    Raises:
        UsageError: no such folder, no file for any split, two files for one, or not all shards of
            one.
    """
    if not folder.is_dir():
        raise UsageError(
            rule="--data must be a folder or a file",
            got=f"{folder}, which does not exist",
            fix=f"Give a folder with {expected(spec)}, or one file.",
        )
    names = split_names(split for split, _ in spec.splits)
    glues_names = LAYOUTS.get(spec.name, NO_LAYOUT).stems
    for subfolder in _subfolders(folder, spec):
        files_by_split = files_by_name(subfolder, names)
        for split, files in files_by_name(subfolder, glues_names).items():
            files_by_split.setdefault(split, files)
        # The first folder that has any, whole: half of the splits from each would be a mixture.
        if files_by_split:
            # In the task's order: train decides how the labels of the others are read.
            ordered: dict[str, Sequence[Path]] = {}
            for split, _ in spec.splits:
                if split in files_by_split:
                    ordered[split] = files_by_split[split]
            return FolderSplits(
                files=ordered,
                notices=_notices(subfolder, folder, ordered, spec),
            )
    raise _nothing_in(folder, spec)


def _nothing_in(folder: Path, spec: TaskSpec) -> UsageError:
    paths = sorted(folder.iterdir())
    # What DVC leaves in place of a file that has not been fetched.
    has_dvc_files = any(path.suffix == ".dvc" for path in paths)
    fetch = "Run: dvc pull. " if has_dvc_files else ""
    return UsageError(
        rule=f"--data must hold {expected(spec)}",
        got=f"{folder} with {listed([path.name for path in paths]) or 'nothing'}",
        fix=f"{fetch}Rename the files (dev, valid and val are validation), give another folder, "
        "or name one file: --data FILE. "
        f"Formats: {', '.join(OPENERS)}, all but parquet also as .gz and .zst.",
    )


def _subfolders(folder: Path, spec: TaskSpec) -> list[Path]:
    """Where splits may lie, the folder itself first."""
    # The Hub's conversions to Parquet call a single configuration default.
    names = ["data", "default"]
    if spec.hub is not None:
        # Of the Hub's data sets without configurations, plain_text is the only one's name.
        names.append(spec.hub[1] or "plain_text")
    subfolders = [folder / name for name in names]
    return [folder, *filter(Path.is_dir, subfolders)]


def _notices(
    subfolder: Path,
    folder: Path,
    files: Mapping[str, Sequence[Path]],
    spec: TaskSpec,
) -> tuple[str, ...]:
    """What is read, where that is not plain to see, and what is not."""
    lines: list[str] = []
    # Nothing is said where the folder is as the documentation has it.
    have_own_names = all(map(_has_own_name, files, files.values()))
    is_plain = have_own_names and subfolder == folder
    if not is_plain:
        read: list[str] = []
        for split, paths in files.items():
            read.append(f"{split} from {_described(folder, paths)}")
        lines.append(f"read: {', '.join(read)}")
    used: set[Path] = set()
    for paths in files.values():
        used.update(paths)
    # A train.csv in FOLDER/data is a surprise to whoever sees the one in FOLDER being read.
    neighbours = {other for other in _subfolders(folder, spec) if other.parent == subfolder}
    unread: list[str] = []
    paths_around: list[Path] = []
    for parent in {subfolder, *neighbours}:
        paths_around += parent.iterdir()
    for path in sorted(paths_around):
        # An evaluation.csv that nobody reads is a typing error more often than not.
        if path not in used and path.is_file() and _is_data(path):
            unread.append(str(path.relative_to(subfolder)))
    if unread:
        splits = ", ".join(split for split, _ in spec.splits)
        lines.append(
            f"not read: {listed(unread)} (in {subfolder}; the splits of task {spec.name} are "
            f"{splits})"
        )
    return tuple(lines)


def _has_own_name(split: str, paths: Sequence[Path]) -> bool:
    stem, _, _ = name_parts(paths[0].name)
    return len(paths) == 1 and stem == split


def _described(folder: Path, files: Sequence[Path]) -> str:
    first = str(files[0].relative_to(folder))
    if len(files) == 1:
        return first
    return f"{first} and {len(files) - 1} more"


def _is_data(path: Path) -> bool:
    # Of editors and file systems: .~lock.train.csv and the like.
    if path.name.startswith("."):
        return False
    suffix = path.suffix[1:].lower()
    return suffix in OPENERS or suffix in OTHER_DATA or suffix in COMPRESSED


_MOVED = {
    "NAMES": "texts.split_files",
}


def __getattr__(name: str) -> object:
    """Names of version 0.1 that have moved."""
    return moved_name(__name__, name, _MOVED)
