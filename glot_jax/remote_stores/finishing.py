"""The shards of workers put together at a URL: `glot store finish`."""

from __future__ import annotations

from collections.abc import Callable

from glot_jax.config.location import StoreUrl, require_url
from glot_jax.config.store import RemoteChoice
from glot_jax.errors import UsageError
from glot_jax.remote import lease
from glot_jax.remote.objects import Objects
from glot_jax.remote_stores.files import RemoteFiles
from glot_jax.remote_stores.lock import read_plan
from glot_jax.remote_stores.names import hash_object
from glot_jax.remote_stores.out import RemoteOut
from glot_jax.store.finish import assemble, in_turn
from glot_jax.store.integrity import FileRecord
from glot_jax.store.manifest import Manifest
from glot_jax.store.records import ShardRecord


def finish(
    url: str | StoreUrl,
    notice: Callable[[str], None] | None = None,
    choice: RemoteChoice | None = None,
) -> Manifest:
    """Make a store of the shards that workers wrote to a URL; see `glot_jax.store.finish`.

    Args:
        url: of the store.
        notice: called with a line for the user.
        choice: how it is written.

    Raises:
        UsageError: as for `glot_jax.store.finish`, or the service failed.
    """
    out = RemoteOut(require_url(url), choice or RemoteChoice())
    manifest = out.manifest()
    # It is written last: nothing is left to do.
    if manifest is not None:
        return manifest
    # For the lock alone: the workers' shards are there.
    out.use_scratch(None)

    def is_nearly_done() -> bool:
        # In this order: what is finished in between has no plan any more, but a manifest.
        return has_every_shard(out.url) or out.manifest() is not None

    # The lock of an only writer: it refuses while any worker holds its own.
    with in_turn(out.lock(notice, None), is_nearly_done, lease.PACE.look) as lock:
        # Others may have written while this process waited.
        out.files.forget()
        manifest = out.manifest()
        if manifest is None:
            plan = read_plan(out.notes)
            manifest = assemble(_Written(out.files), lock.begun_with(), plan)
            out.publish(manifest)
        lock.finished()
    out.clear()
    return manifest


def has_every_shard(url: StoreUrl) -> bool:
    """Whether all workers have written their shards, and nobody has finished the store yet."""
    objects = Objects(url)
    plan = read_plan(objects.beside(f"{url.name}.lock"))
    # Worker 0 writes it at its end.
    if plan is None:
        return False

    def no_check() -> None:
        """Nothing is written here."""

    files = RemoteFiles(objects, no_check)
    # Another worker was the last one, and has finished it.
    if files.manifest() is not None:
        return False
    for split, texts in plan.splits.items():
        for index in range(len(texts.texts)):
            if not files.has_shard(split, index):
                return False
    return True


class _Written:
    """What workers have written, as `assemble` asks for it."""

    def __init__(self, files: RemoteFiles):
        self._files = files
        self.place = files.objects.url

    def record(
        self,
        split: str,
        index: int,
        layers: tuple[int, ...],
    ) -> ShardRecord | None:
        """The record of a shard; None where it is missing."""
        return self._files.record(split, index, layers)

    def has_shard(self, split: str, index: int) -> bool:
        """Whether anything of a shard is there."""
        return self._files.has_part(split, index)

    def check_array(self, split: str, name: str, record: FileRecord) -> None:
        """Compare a row array with its record."""
        path = f"{split}/{name}"
        # Hashed, unlike the shards: nobody has read them since they were written.
        is_same = self._files.has_file(path, record["bytes"])
        if not is_same or hash_object(self._files.objects, path) != record["sha256"]:
            raise UsageError(
                rule="a stored file must have the sha256 of its record",
                got=f"{self.place / path}, which is missing or differs",
                fix="Run worker 0 again.",
            )
