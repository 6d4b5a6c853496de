"""The files of a store in the making at a URL: which of its shards are there, and how one comes.

A shard is there when its record.json is: it is written last, and only where none is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from glot_jax.config.json import from_json
from glot_jax.errors import UsageError
from glot_jax.remote.objects import LARGEST_MANIFEST, Objects, Tag
from glot_jax.remote_stores.names import expected_sizes, hash_object, superseded
from glot_jax.store.finish import OTHER_TEXTS
from glot_jax.store.integrity import FileRecord
from glot_jax.store.layout import EXTRACT_AGAIN, MANIFEST, RECORD, shard_files, shard_name
from glot_jax.store.manifest import Manifest, manifest_bytes, parse_manifest
from glot_jax.store.records import DAMAGED, ShardRecord, record_bytes

_READERS = 16


class RemoteFiles:
    """The files of a store at a URL, listed once and then kept in mind.

    Args:
        objects: of the store.
        check: raises where the right to write is lost; called before everything that is written.
    """

    def __init__(self, objects: Objects, check: Callable[[], None]):
        self.objects = objects
        self._check = check
        self._sizes: dict[str, int] | None = None
        self._records: dict[str, bytes] = {}

    @property
    def sizes(self) -> dict[str, int]:
        """Name of every file -> its bytes."""
        # One request for a thousand files; asked one by one they would take hours.
        if self._sizes is None:
            self._sizes = self.objects.sizes()
        return self._sizes

    def forget(self) -> None:
        """List the files again when they are next asked for: somebody else may have written."""
        self._sizes = None
        self._records = {}

    @property
    def bytes(self) -> int:
        """Bytes of the arrays that are there."""
        total = 0
        for name, size in self.sizes.items():
            # Records are no part of the estimate that this is compared with.
            if name.endswith(".npy"):
                total += size
        return total

    def has_file(self, name: str, size: int) -> bool:
        """Whether a file is there, with this many bytes."""
        return self.sizes.get(name) == size

    def has_shard(self, split: str, index: int) -> bool:
        """Whether a shard is there."""
        # Its record comes behind its files.
        return f"{split}/{shard_name(index)}/{RECORD}" in self.sizes

    def has_part(self, split: str, index: int) -> bool:
        """Whether anything of a shard is there."""
        # With a slash: shard-00001 is no part of shard-000010.
        folder = f"{split}/{shard_name(index)}/"
        return any(name.startswith(folder) for name in self.sizes)

    def record(
        self,
        split: str,
        index: int,
        layers: tuple[int, ...],
    ) -> ShardRecord | None:
        """The record of a shard that is there, whose files all have their sizes; else None.

        Raises:
            UsageError: the shard is damaged.
        """
        if not self.has_shard(split, index):
            return None
        if not self._records:
            self._read_records()
        folder = f"{split}/{shard_name(index)}"
        url = self.objects.url / folder
        try:
            values = json.loads(self._records[f"{folder}/{RECORD}"])
            record = from_json(ShardRecord, values)
            # Names are made from numbers, never taken from a file.
            names = set(shard_files(record.layer_dtypes, index))
            is_whole = tuple(record.layer_dtypes) == layers and set(record.files) == names
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise UsageError(
                rule="a shard's record must be complete",
                got=f"{url / RECORD} ({error})",
                fix=DAMAGED,
            ) from error
        # By the listing: no file is asked for.
        for name, file in record.files.items():
            is_whole = is_whole and self.has_file(f"{folder}/{name}", file["bytes"])
        if not is_whole:
            raise UsageError(
                rule="a shard must hold the files of its record",
                got=url,
                fix=f"Delete {url} and run the same command again: the other shards are kept.",
            )
        return record

    def _read_records(self) -> None:
        """Read all records at once: one after the other would take a round trip for each."""
        names = [name for name in self.sizes if name.endswith(f"/{RECORD}")]
        with ThreadPoolExecutor(_READERS) as pool:
            contents = pool.map(self.objects.read, names)
            for name, present in zip(names, contents, strict=True):
                # Somebody may have removed it since it was listed.
                if present is not None:
                    self._records[name] = present.content

    def put_shard(self, folder: Path, record: ShardRecord) -> None:
        """Upload a finished shard of this machine.

        Args:
            folder: its folder, SPLIT/shard-00007.
            record: of it.

        Raises:
            UsageError: the service or the right to write failed; nothing can be told from a shard
                of which a part is there, and it is uploaded again.
        """
        name = f"{folder.parent.name}/{folder.name}"
        content = record_bytes(record)
        present = self.objects.read(f"{name}/{RECORD}")
        # Before any of its files: those of another writer must stay as they are.
        if present is not None:
            self._require_same(name, present.content == content)
        else:
            for file in record.files:
                # Whoever has lost the right stops here, and not behind the last file.
                self._check()
                self.objects.put_file(f"{name}/{file}", folder / file)
            # As the service holds them: from the record on nobody looks at them any more.
            self._require_sizes(name, record.files)
            self._check()
            self._require_same(name, self.objects.create_or_same(f"{name}/{RECORD}", content))
        # So that nothing has to be listed again.
        for file, about in record.files.items():
            self.sizes[f"{name}/{file}"] = about["bytes"]
        self.sizes[f"{name}/{RECORD}"] = len(content)

    def _require_same(self, name: str, is_same: bool) -> None:
        if not is_same:
            raise UsageError(
                rule="two writers of a shard must write the same bytes",
                got=f"{self.objects.url / name}, which another process has written with other ones",
                fix="Compare their machines, devices and versions. Keep the shard, or delete it and"
                f" {EXTRACT_AGAIN}.",
            )

    def _require_sizes(self, folder: str, files: dict[str, FileRecord]) -> None:
        """Compare what the service holds of a shard with what it was given."""
        present = self.objects.sizes(folder)
        for name, record in files.items():
            size = present.get(f"{folder}/{name}")
            if size != record["bytes"]:
                raise UsageError(
                    rule="a file must have its size when it is uploaded",
                    got=f"{self.objects.url / folder}/{name} with {size} bytes instead of"
                    f" {record['bytes']}",
                    fix=f"Check what else writes there, and {EXTRACT_AGAIN}.",
                )

    def put_array(self, name: str, path: Path, record: FileRecord) -> None:
        """Upload a row array, unless it is there.

        Raises:
            UsageError: one of other rows is there.
        """
        # Not by a conditional request: those are one request, of five gigabytes at most.
        if name not in self.sizes:
            self._check()
            self.objects.put_file(name, path)
            self.sizes[name] = record["bytes"]
            return
        # An earlier run has uploaded it, of the same rows or of others.
        is_same = self.has_file(name, record["bytes"])
        if not is_same or hash_object(self.objects, name) != record["sha256"]:
            raise UsageError(
                rule="the rows must be those that the store was begun with",
                got=f"other rows or labels than those of {self.objects.url / name}",
                fix=OTHER_TEXTS,
            )

    def manifest(self) -> tuple[Manifest, Tag] | None:
        """The manifest that is there now, and its state; None where there is none.

        Raises:
            UsageError: it is damaged.
        """
        present = self.objects.read(MANIFEST, LARGEST_MANIFEST)
        if present is None:
            return None
        url = self.objects.url / MANIFEST
        return parse_manifest(present.content, url), present.tag

    def publish(self, manifest: Manifest, before: tuple[Manifest, Tag] | None = None) -> None:
        """Finish the store: its manifest comes last, when all that it lists is there.

        Args:
            manifest: of the store.
            before: the manifest that it replaces, and its state.

        Raises:
            UsageError: files are missing, foreign, or of another size; another manifest is there.
        """
        # What the service says now, whatever was sent.
        self.forget()
        allowed = set()
        if before is not None:
            # Until the manifest is replaced the store is the old one, with its row arrays.
            allowed = set(superseded(manifest))
        self._require_all(manifest, allowed)
        self._check()
        content = manifest_bytes(manifest)
        if before is None:
            is_written = self.objects.create_or_same(MANIFEST, content)
        else:
            _, tag = before
            # Where another append has ended meanwhile this one must not undo it.
            is_written = self.objects.swap(MANIFEST, content, tag) is not None
        if not is_written:
            raise UsageError(
                rule="a store in the making has one writer",
                got=f"{self.objects.url / MANIFEST}, which another process has written",
                fix="Run the same command again.",
            )

    def remove(self, names: Iterable[str]) -> None:
        """Remove files that are there."""
        present = [name for name in names if name in self.sizes]
        self._check()
        self.objects.delete(present)
        for name in present:
            del self.sizes[name]

    def _require_all(self, manifest: Manifest, allowed: set[str]) -> None:
        expected = expected_sizes(manifest)
        known = {*expected, *allowed, MANIFEST}
        foreign = sorted(self.sizes.keys() - known)
        if foreign:
            raise UsageError(
                rule="a store in the making must hold nothing but the splits of its task",
                got=f"{', '.join(foreign[:5])} in {self.objects.url}",
                fix=OTHER_TEXTS,
            )
        for name, size in expected.items():
            if not self.has_file(name, size):
                raise UsageError(
                    rule="every file of a store must be there before it is finished",
                    got=f"{self.objects.url / name} with {self.sizes.get(name, 'no')} bytes"
                    f" instead of {size}",
                    fix=f"Check what else writes there, and {EXTRACT_AGAIN}.",
                )
