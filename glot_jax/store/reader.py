"""A finished store, opened for reading: `HiddenStore`."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from glot_jax.config.location import Location, StoreUrl, parse_location
from glot_jax.errors import UsageError, lookup
from glot_jax.remote.fetching import FileCache, Wanted
from glot_jax.remote.objects import Objects
from glot_jax.store.integrity import FileRecord, hash_ahead
from glot_jax.store.manifest import Manifest, read_manifest
from glot_jax.store.recipe import Recipe
from glot_jax.store.split_reader import Selection, SplitReader


class HiddenStore:
    """A finished store of token states, opened for reading.

        store = HiddenStore("stores/cola")
        row = store["validation"][7]  # row.hidden [length, dim], row.token_ids [length], row.label

    Every file is checked against the manifest's sha256 the first time this process opens it. Those
    of a store at a URL are fetched into a folder of this machine when they are first read.

    Args:
        path: folder of the store, or its URL: s3://, gs:// or az://.
        layer: the stored layer to read, 0 .. L, or negative from the end; default: the last stored.
        layers: several layers to read instead; states then have a layers axis, [length, layers,
            dim].
        trust: check only the sizes and shapes of files.
        cache: where files of stores at URLs are kept. Default: the user's cache folder.

    Attributes:
        path: folder of the store, or its URL.
        manifest: its whole description.
        content: its identity, hex.
        recipe: what it was made from.
        task: its TaskSpec as JSON.
        dim: width of a state.
        splits: names of the splits.
        stored_layers: the layers it holds.
        layers: the layers that are read, counted from 0.

    Raises:
        UsageError: the folder is not a finished store, a layer is unknown, or a file is damaged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | StoreUrl,
        *,
        layer: int | None = None,
        layers: Sequence[int] | None = None,
        trust: bool = False,
        cache: Path | None = None,
    ):
        self.path: Location = parse_location(path)
        self._trust = trust
        # Opening reads the manifest alone: no shard is touched before something of it is asked for.
        self.manifest: Manifest = read_manifest(self.path)
        self.content: str = self.manifest.content
        self.recipe: Recipe = self.manifest.recipe
        self.task: dict[str, Any] = self.manifest.task
        self.dim: int = self.recipe.dim
        self.splits: tuple[str, ...] = tuple(self.manifest.splits)
        self.stored_layers: tuple[int, ...] = self.recipe.layers
        if layer is not None and layers is not None:
            raise UsageError(
                rule="a store must be opened with either layer= or layers=",
                got=f"{layer=}, {layers=}",
                fix="Give one of them.",
            )
        # None stands for the last stored layer, which the manifest knows.
        chosen = [layer] if layers is None else layers
        self.layers: tuple[int, ...] = self._resolve(chosen)
        # One layer in a list still has an axis: code for mixed layers needs no exception.
        stack = layers is not None
        folder = self.path
        self._cache: FileCache | None = None
        if isinstance(folder, StoreUrl):
            # The readers read a folder in any case: here one that fills as it is read.
            self._cache = FileCache(Objects(folder), self.content, cache)
            folder = self._cache.folder
        selection = Selection(
            self.layers,
            self.dim,
            stack,
            trust,
            _label_shape(self.task),
            self._cache,
        )
        self._readers: dict[str, SplitReader] = {}
        for name, split in self.manifest.splits.items():
            self._readers[name] = SplitReader(folder / name, split, selection)

    def _resolve(self, layers: Sequence[int | None]) -> tuple[int, ...]:
        """The layers counted from 0; None stands for the last stored."""
        stored = ", ".join(map(str, self.stored_layers))
        if len(layers) == 0:
            raise UsageError(
                rule="layers= must name at least one layer", got=layers, fix=f"Stored: {stored}."
            )
        resolved = []
        for layer in layers:
            index = self.stored_layers[-1] if layer is None else layer
            # From the end of the model, not of those stored: -1 is always its last block. Layer 0
            # is the input of the first, so a model of L blocks has L + 1.
            if index < 0:
                index += self.recipe.num_layers + 1
            if index not in self.stored_layers:
                raise UsageError(
                    rule="a layer must be stored to be read",
                    got=f"layer {layer}",
                    fix=f"Stored: {stored}.",
                )
            resolved.append(index)
        return tuple(resolved)

    def __getitem__(self, split: str) -> SplitReader:
        """The reader of a split.

        Raises:
            UsageError: the store does not have it.
        """
        return lookup(self._readers, split, f"split of {self.path}")

    def __contains__(self, split: object) -> bool:
        return split in self._readers

    def __iter__(self) -> Iterator[str]:
        return iter(self.splits)

    def require_room(self, splits: Iterable[str] | None = None) -> None:
        """Compare what is to be fetched with the room there is; nothing of a store of this machine.

        Args:
            splits: those that will be read. Default: all.

        Raises:
            UsageError: the disk is too small.
        """
        if self._cache is None:
            return
        files = self._files(splits)
        self._cache.require_room(files)

    def read_ahead(self, splits: Iterable[str]) -> None:
        """Begin to fetch and to hash, on other threads, what reading splits will ask for.

        A damaged file is refused when it is read.
        """
        if self._cache is None:
            for split in splits:
                self[split].hash_ahead()
            return
        files = self._files(splits)
        self._cache.require_room(files)
        steps = []
        for file in files:
            record = FileRecord(sha256=file.sha256, bytes=file.size)
            # Of a file that an earlier process has fetched.
            check = None if self._trust else functools.partial(hash_ahead, file.path, record)
            steps.append((file, check))
        self._cache.ahead(steps)

    def _files(self, splits: Iterable[str] | None) -> list[Wanted]:
        files = []
        names = self.splits if splits is None else splits
        for split in names:
            for path, record in self[split].files().items():
                file = Wanted(path, record["sha256"], record["bytes"])
                files.append(file)
        return files

    def describe_fetched(self) -> str:
        """What was fetched so far, for people; "" for a store of this machine."""
        if self._cache is None:
            return ""
        missing = self._cache.missing(self._files(None))
        left = sum(file.size for file in missing)
        line = f"{self._cache.fetched / 1e6:,.0f} MB fetched into {self._cache.folder}"
        # Where states are mapped they come while the first epoch runs.
        if left:
            line += f", {left / 1e6:,.0f} MB not yet"
        return line


def _label_shape(task: Mapping[str, Any]) -> tuple[int, ...]:
    """Shape of a row's label, by the task of a manifest."""
    if task.get("label_kind") == "multilabel":
        return (len(task.get("classes", ())),)
    return ()
