"""Which files hold a model's weights, in a folder or on the Hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import because


def weight_names(
    folder: Path,
    files: Sequence[str],
    *,
    allow_bin: bool,
) -> tuple[str, ...]:
    """Return the names of the weight files that a model needs, all of one format.

    .safetensors come before .bin, and an adapter's weights before the model's own.

    Args:
        folder: with the small files: an index lists its shards.
        files: those there are, in the folder or on the Hub.
        allow_bin: whether a .bin will do.
    """
    formats = ["model.safetensors"]
    adapters = ["adapter_model.safetensors"]
    if allow_bin:
        formats.append("pytorch_model.bin")
        adapters.append("adapter_model.bin")
    names: list[str] = []
    if "adapter_config.json" in files:
        names += [file for file in adapters if file in files][:1]
    if "config.json" not in files:
        # An adapter alone: the model's weights lie elsewhere.
        return tuple(names)
    # .safetensors first: reading one cannot run code.
    for whole in formats:
        index = f"{whole}.index.json"
        if index in files:
            return (*names, *indexed_files(folder / index))
        if whole in files:
            return (*names, whole)
    return tuple(names)


def indexed_files(index: Path) -> tuple[str, ...]:
    """Return the files that an index of weights names, all of its own folder.

    Raises:
        UsageError: the index is damaged, or names files of another folder.
    """
    try:
        weight_map = json.loads(index.read_bytes())["weight_map"]
        files = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            rule="the index of a model's weights must map names of arrays to files",
            got=f"{index} ({because(error)})",
            fix="Download the file again.",
        ) from error
    for file in files:
        # What is hashed must be what is read: nothing outside the folder.
        if not isinstance(file, str) or Path(file).name != file:
            raise UsageError(
                rule="the index of a model's weights must name files of its own folder",
                got=f"{index} with {file!r}",
                fix="Download the model again from a source that you trust.",
            )
    return tuple(files)


def find_weights(folder: Path, *, allow_bin: bool) -> tuple[list[Path], bool]:
    """Return the weight files of a folder with their index, and whether they are .bin.

    Args:
        folder: of a model.
        allow_bin: whether pytorch_model.bin may be read.

    Raises:
        UsageError: there are none that may be read.
    """
    for index in folder.glob("*.index.json"):
        indexed_files(index)
    safe = _files(folder, "*.safetensors")
    adapters = [path for path in safe if path.name.startswith("adapter_model")]
    # An adapter's own weights are no model.
    if len(safe) > len(adapters):
        return [*sorted(folder.glob("*.safetensors.index.json")), *safe], False
    bins = _files(folder, "pytorch_model*.bin")
    if bins and allow_bin:
        indexes = sorted(folder.glob("pytorch_model*.bin.index.json"))
        return [*indexes, *bins, *adapters], True
    raise UsageError(
        rule="a backbone's weights must lie in its folder as .safetensors (other formats can run"
        " code when they are read)",
        got=f"{folder}, which has {bins[0].name if bins else 'none'}",
        fix="Save the model again with save_pretrained. For a pytorch_model.bin give --allow-bin:"
        " torch then reads its arrays and refuses everything else in it.",
    )


def _files(folder: Path, pattern: str) -> list[Path]:
    # Broken links are not files: a folder of a cache may have lost what they point to.
    paths = sorted(folder.glob(pattern))
    return [path for path in paths if path.is_file()]
