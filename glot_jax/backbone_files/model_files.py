"""The files of a model's folder: whether each is the file itself or something in its place."""

from __future__ import annotations

import atexit
import json
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import because

_LFS = b"version https://git-lfs.github.com/spec/"
_TEXT_LINK = re.compile(rb"\.{1,2}/[^\n\0]{1,400}")
_READ = re.compile(
    r"(config|adapter_config|generation_config|special_tokens_map|added_tokens"
    r"|tokenizer\w*|vocab|.*\.index)\.json"
    r"|vocab\w*\.txt|merges\.txt|.*\.(safetensors|model|tiktoken|jinja)"
)
"""Names of the files that are read.

Others in the folder may be anything: logs, predictions, weights of other formats.
"""


def usable_folder(folder: Path, *, allow_bin: bool = False) -> tuple[Path, list[str]]:
    """Return the folder to read a model's files from, and notices.

    It is the folder itself, unless a copy turned its links into text (git without symbolic links,
    some archives): then a temporary one with the links, as long as this process runs.

    Args:
        folder: of a model.
        allow_bin: whether pytorch_model.bin may be one of the files.

    Raises:
        UsageError: a pointer of git-lfs, a link to nothing, or a .json that is not JSON stands in a
            file's place.
    """
    links: dict[str, Path] = {}
    # With .safetensors beside it a .bin is not read, so it may be anything.
    reads_bin = allow_bin and not any(folder.glob("model*.safetensors"))
    for path in sorted(folder.iterdir()):
        is_read = _READ.fullmatch(path.name) or (reads_bin and path.suffix == ".bin")
        target = link_target(path) if is_read else None
        if target is not None:
            links[path.name] = target
    if not links:
        return folder, []
    # A folder of its own: the user's is not changed, and may not be writable.
    repaired = Path(tempfile.mkdtemp(prefix="glot-jax-links-"))
    atexit.register(shutil.rmtree, repaired, ignore_errors=True)
    # All files, not only those that are read: a loader may look for others beside them.
    for path in folder.iterdir():
        target = links.get(path.name, path.absolute())
        (repaired / path.name).symlink_to(target)
    for target in links.values():
        # A link may lead to a pointer or to damaged JSON as well.
        link_target(target)
    # One name stands for all: the folder is what the user has to repair.
    first = next(iter(links))
    return repaired, [
        f"{folder}: {len(links)} files ({first} ...) are links that a copy turned into text; they"
        " were followed"
    ]


def refuse_gguf_alone(where: str, names: Iterable[str]) -> None:
    """Refuse a place that holds GGUF files and no other model, by the names that may be given.

    Args:
        where: a folder, or a name on the Hub.
        names: of the files there.

    Raises:
        UsageError: some of them are GGUF files.
    """
    files = sorted(name for name in names if name.lower().endswith(".gguf"))
    if files:
        raise UsageError(
            rule="of a place with GGUF files alone, one must be named",
            got=f"{where} with {', '.join(files)}",
            fix=f"Name it: --gguf-file {files[0]}.",
        )


def read_settings(path: Path) -> dict[str, Any]:
    """Return the values of a model's config.json or adapter_config.json.

    Raises:
        UsageError: it is not a JSON object.
    """
    values = json.loads(path.read_bytes())
    if not isinstance(values, dict):
        raise UsageError(
            rule="a backbone's settings must be a JSON object",
            got=path,
            fix="Download the file again.",
        )
    return values


def link_target(path: Path) -> Path | None:
    """None for a file that is itself; what it points to for a link that was turned into text.

    Raises:
        UsageError: a pointer of git-lfs, a link to nothing, or a .json that is not JSON stands in
            the file's place.
    """
    if path.is_symlink() and not path.exists():
        raise UsageError(
            rule="a backbone's files must be there",
            got=f"{path}, a link to {path.readlink()}, which is not",
            fix="Fetch what it points to (`dvc pull`, `git annex get`, `hf download`), or copy the"
            " folder with its targets.",
        )
    if not path.is_file():
        return None
    with path.open("rb") as file:
        # Enough for either: a pointer has about 130 bytes, a path rarely more than 400.
        head = file.read(512)
    if head.startswith(_LFS):
        raise UsageError(
            rule="a backbone's files must be the files themselves",
            got=f"{path}, a pointer that git-lfs puts in a file's place",
            fix="Run `git lfs pull` in its folder.",
        )
    size = path.stat().st_size
    if size < 512 and _TEXT_LINK.fullmatch(head):
        return _follow(path, head.decode(errors="replace"))
    # Settings are small; a tokenizer of many megabytes is left to its own reader.
    if path.suffix == ".json" and size < 1 << 20:
        _require_json(path)
    return None


def _follow(path: Path, text: str) -> Path:
    target = path.parent / text
    try:
        is_file = target.is_file()
    except OSError:  # a name that no file can have
        is_file = False
    if not is_file:
        raise UsageError(
            rule="a backbone's files must be the files themselves",
            got=f"{path}, which holds the path {text}: a symbolic link that a copy turned into"
            " text, and its target is not there",
            fix="Copy the folder again with its links and their targets (cp -a, rsync -l), or"
            " download it again.",
        )
    # Resolved, because the temporary folder lies elsewhere.
    return target.resolve()


def _require_json(path: Path) -> None:
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UsageError(
            rule="a .json file of a backbone must be JSON",
            got=f"{path} ({because(error)})",
            fix="Download the file again, or correct it.",
        ) from error
