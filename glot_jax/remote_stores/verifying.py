"""Checking every byte of a store at a URL: `glot store verify`."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from glot_jax.config.location import StoreUrl, require_url
from glot_jax.errors import UsageError
from glot_jax.remote.objects import LARGEST_MANIFEST, Objects
from glot_jax.remote_stores.names import listed_files, shard_records
from glot_jax.store.arrays import Shape
from glot_jax.store.integrity import FileRecord
from glot_jax.store.layout import MANIFEST, shard_name
from glot_jax.store.manifest import Manifest, parse_manifest, read_manifest
from glot_jax.store.verify import promised_arrays

_THREADS = 8
_HEADER = 4096
"""Bytes that the header of an .npy file has at most."""


def verify(url: str | StoreUrl) -> list[str]:
    """The files of a finished store that are damaged, missing or foreign, as sorted URLs.

    Every byte is read and hashed, and nothing is kept. A damaged manifest is the only URL returned.

    Raises:
        UsageError: there is no finished store, or the service failed.
    """
    url = require_url(url)
    objects = Objects(url)
    present = objects.read(MANIFEST, LARGEST_MANIFEST)
    if present is None:
        # Raises, and knows best what is there instead.
        read_manifest(url)
        return []
    try:
        manifest = parse_manifest(present.content, url / MANIFEST)
    except UsageError:
        return [str(url / MANIFEST)]
    sizes = objects.sizes()
    records = shard_records(manifest)
    known = {*listed_files(manifest), *records, MANIFEST}
    # Foreign files are as bad as damaged ones.
    bad = set(sizes) - known
    check = _Check(objects, sizes)
    # Hashing releases the interpreter's lock, and requests wait for the network.
    with ThreadPoolExecutor(_THREADS) as pool:
        arrays = pool.map(check.array, _arrays(manifest))
        others = pool.map(check.record, records.items())
        for name, is_good in itertools.chain(arrays, others):
            if not is_good:
                bad.add(name)
    urls = [str(url / name) for name in bad]
    return sorted(urls)


Header = tuple[np.dtype, Shape]
"""What the header of an array's file says of it."""

Promise = tuple[str, FileRecord, Header | None]
"""An array's name, its record, and the header that it must have; None where any will do."""


def _arrays(manifest: Manifest) -> Iterator[Promise]:
    """Every array with its record, and the dtype and shape that it must have, if known."""
    files = listed_files(manifest)
    for split, record in manifest.splits.items():
        for index, shard in enumerate(record.shards):
            folder = f"{split}/{shard_name(index)}"
            promised = promised_arrays(index, shard)
            for file in shard.files:
                name = f"{folder}/{file}"
                # Taken out: the row arrays are left.
                yield name, files.pop(name), promised[file]
    # Row arrays, of which the task decides the dtype.
    for name, file in files.items():
        yield name, file, None


class _Check:
    def __init__(self, objects: Objects, sizes: dict[str, int]):
        self._objects = objects
        self._sizes = sizes

    def array(self, promise: Promise) -> tuple[str, bool]:
        """Whether an array has the bytes of its record, and is what the record promises."""
        name, record, promised = promise
        # The size first: a file that was cut need not be read to be found.
        if self._sizes.get(name) != record["bytes"]:
            return name, False
        digest = hashlib.sha256()
        beginning = b""
        for chunk in self._objects.stream(name, record["bytes"]):
            # Of the first piece alone.
            beginning = beginning or chunk[:_HEADER]
            digest.update(chunk)
        if digest.hexdigest() != record["sha256"]:
            return name, False
        # A file with the right hash can still be an array that its record does not promise: then
        # the manifest was made by hand.
        is_promised = promised is None or header_of(beginning) == promised
        return name, is_promised

    def record(self, promise: tuple[str, bytes]) -> tuple[str, bool]:
        """Whether a shard's record is the one of the manifest."""
        name, content = promise
        present = self._objects.read(name)
        # It has no hash of its own; the manifest holds all of it.
        is_same = present is not None and present.content == content
        return name, is_same


def header_of(content: bytes) -> Header | None:
    """Dtype and shape in the header of an .npy file; None where it is none in C order."""
    file = io.BytesIO(content)
    try:
        # Later versions are for headers that no array of a store needs.
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            return None
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except ValueError:
        # What NumPy raises of a header that is none.
        return None
    # An array of one axis is in both orders.
    if fortran and len(shape) > 1:
        return None
    return dtype, shape
