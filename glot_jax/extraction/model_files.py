"""The files of a model's folder, before anybody parses them: are they the files themselves?"""

from __future__ import annotations

import atexit
import json
import re
import shutil
import tempfile
from pathlib import Path

from glot_jax.errors import UsageError
from glot_jax.texts.quoting import because

_LFS = b"version https://git-lfs.github.com/spec/"
_TEXT_LINK = re.compile(rb"\.{1,2}/[^\n\0]{1,400}")
_READ = re.compile(
    r"(config|adapter_config|generation_config|special_tokens_map|added_tokens|tokenizer\w*|vocab|.*\.index)\.json"
    r"|vocab\w*\.txt|merges\.txt|.*\.(safetensors|model|tiktoken|jinja)"
)
"""Names of the files that are read.

Others in the folder may be anything: logs, predictions, weights of other formats.
"""


def usable_folder(folder: Path, *, allow_bin: bool = False) -> tuple[Path, list[str]]:
    """The folder to read a model's files from, and notices. `allow_bin`: pytorch_model.bin may be
    one of them.

    It is the folder itself, unless a copy turned its links into text (git without symbolic links,
    some archives): then a temporary one with the links, as long as this process runs.

    Raises:
        UsageError: a pointer of git-lfs, a link to nothing, or a .json that is none stands in a
            file's place.
    """
    links: dict[str, Path] = {}
    bins = allow_bin and not any(folder.glob("model*.safetensors"))
    for path in sorted(folder.iterdir()):
        if not _READ.fullmatch(path.name) and not (bins and path.suffix == ".bin"):
            continue
        target = _checked(path)
        if target is not None:
            links[path.name] = target
    if not links:
        return folder, []
    repaired = Path(tempfile.mkdtemp(prefix="glot-jax-links-"))
    atexit.register(shutil.rmtree, repaired, ignore_errors=True)
    for path in folder.iterdir():
        (repaired / path.name).symlink_to(links.get(path.name, path.absolute()))
    for target in links.values():
        _checked(target)
    first = next(iter(links))
    return repaired, [
        f"{folder}: {len(links)} files ({first} ...) are links that a copy turned into text; they"
        " were followed"
    ]


def _checked(path: Path) -> Path | None:
    """None for a file that is itself; for a link as text what it points to."""
    if path.is_symlink() and not path.exists():
        raise UsageError(
            "a backbone's files must be there",
            f"{path}, a link to {path.readlink()}, which is not",
            "Fetch what it points to (`dvc pull`, `git annex get`, `hf download`), or copy the"
            " folder with its targets.",
        )
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(_LFS):
        raise UsageError(
            "a backbone's files must be the files themselves",
            f"{path}, a pointer that git-lfs puts in a file's place",
            "Run `git lfs pull` in its folder.",
        )
    if path.stat().st_size < 512 and _TEXT_LINK.fullmatch(head):
        return _target(path, head.decode(errors="replace"))
    if path.suffix == ".json" and path.stat().st_size < 1 << 20:
        _require_json(path)
    return None


def _target(path: Path, text: str) -> Path:
    target = path.parent / text
    try:
        there = target.is_file()
    except OSError:  # a name that no file can have
        there = False
    if not there:
        raise UsageError(
            "a backbone's files must be the files themselves",
            f"{path}, which holds the path {text}: a symbolic link that a copy turned into text,"
            " and its target is not there",
            "Copy the folder again with its links and their targets (cp -a, rsync -l), or download"
            " it again.",
        )
    return target.resolve()


def _require_json(path: Path) -> None:
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UsageError(
            "a .json file of a backbone must be JSON",
            f"{path} ({because(error)})",
            "Download the file again, or correct it.",
        ) from error
