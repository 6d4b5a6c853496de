"""What in an exported folder would have a loader run code from another place than the folder.

A folder is loaded with trust_remote_code=True, for the head in it. transformers then follows every
`auto_map` that it reads, and one of `owner/model--file.Class` is code on the Hub, whatever it has
become there since. A backbone that transformers knows may have such an entry all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from glot_jax.config.json import Json
from glot_jax.errors import UsageError
from glot_jax.files import read_json, write_json

_AUTO_MAP = "auto_map"


def remove_code_references(folder: Path) -> None:
    """Take them out of every JSON file of a folder that is being written.

    The backbone was run by the code of transformers alone, and so it is when it is loaded again.
    """
    for path in _settings_files(folder):
        values = read_json(path)
        # Written again only then: other files keep the bytes that their own writers gave them.
        if isinstance(values, dict) and _AUTO_MAP in values:
            del values[_AUTO_MAP]
            write_json(path, values)


def require_own_code(folder: Path) -> None:
    """Require that loading a folder runs no code but what lies in it.

    Raises:
        UsageError: a file names code of another place.
    """
    for path in _settings_files(folder):
        for reference in _references(read_json(path)):
            raise UsageError(
                rule="an exported folder must name no code but its own",
                got=f"{reference!r} in {path}",
                fix="Export the run again with this version, into a new folder.",
            )


def _settings_files(folder: Path) -> list[Path]:
    # Loaders read those at the top; what a tokenizer is made of are megabytes, and no settings.
    paths = sorted(folder.glob("*.json"))
    return [path for path in paths if path.name not in ("tokenizer.json", "vocab.json")]


def _references(values: Json) -> Iterator[str]:
    """Every entry that names code: an auto_map, and the type of a module on the Hub."""
    # Objects have settings, and modules.json is a list.
    if isinstance(values, dict):
        if _AUTO_MAP in values:
            yield str(values[_AUTO_MAP])
    elif isinstance(values, list):
        for module in values:
            # Of modules.json: what stands before `--` is a repository.
            kind = str(module.get("type", "")) if isinstance(module, dict) else ""
            if "--" in kind:
                yield kind
