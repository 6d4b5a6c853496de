"""A small disk that really fills up: a tmpfs, mounted for the test.

What is lost is nothing; the same command finishes.
"""

import contextlib
import dataclasses
import re
import shutil
import subprocess
import threading

import pytest
from support.extraction_case import finished_shards, identity, make_case, run, tree

from glot_jax import disk
from glot_jax.config.location import require_folder
from glot_jax.errors import UsageError
from glot_jax.store.layout import MANIFEST

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A folder on a disk of 1 MiB."""
    folder = tmp_path_factory.mktemp("small")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(autouse=True)
def empty_disk(small_disk):
    for path in small_disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def fill(folder, leave):
    """Write until `leave` bytes, in whole pages, are free.

    Or none, if another thread writes meanwhile.
    """
    ballast = folder / "ballast"
    free = shutil.disk_usage(folder).free - leave
    with contextlib.suppress(OSError):
        ballast.write_bytes(bytes(max(0, free)))
    return ballast


# How many shards are finished when the disk is full; and the bytes that are left: a shard of this
# case has about 4,500.
@pytest.mark.parametrize(("shards", "left"), [(0, 0), (1, 4096), (2, 8192), ("all", 0)])
def test_a_full_disk_names_what_did_not_fit_and_the_same_command_finishes(
    tmp_path, small_disk, monkeypatch, record_property, shards, left
):
    config = make_case(
        tmp_path, {"train": 30, "validation": 8}, out=small_disk / "store", shard_tokens=60
    )
    run(config, tmp_path / "undisturbed")
    expected = tree(tmp_path / "undisturbed")
    finished = len(finished_shards(tmp_path / "undisturbed")) if shards == "all" else shards
    assert finished > 0 or shards == 0
    made = []
    filling = threading.Lock()

    def rename(source, target, original=disk.rename):
        original(source, target)
        # Two threads seal shards: the second to fill the disk would first empty the ballast of the
        # other.
        with filling:
            if not made and len(finished_shards(config.out)) >= finished:
                made.append(fill(small_disk, left))

    with monkeypatch.context() as patch:
        patch.setattr(disk, "rename", rename)
        with pytest.raises(UsageError) as refused:
            run(config)
    said = str(refused.value)
    assert re.search(
        r"the disk must have room for \S*store\S*(shard-\d{5}|\.npy|\.json), \d+ bytes;"
        r" got \d+ bytes free, \d+ too few\. Free some space .* finished shards are kept",
        said,
    ), said
    assert not (require_folder(config.out) / MANIFEST).exists()
    assert not list(require_folder(config.out).rglob(".tmp-*"))
    before = identity(config.out)
    # A shard that was written before the disk was full may still be sealed.
    assert finished <= len(finished_shards(config.out)) <= finished + 3
    if left == 0:
        with pytest.raises(UsageError, match=r"(has|must have) room for"):
            run(config)
    made[0].unlink()
    run(config)
    assert tree(config.out) == expected
    assert identity(config.out).items() >= before.items()
    record_property(
        "fault",
        {
            "fault": f"disk full ({shards} shards finished, {left} bytes left)",
            "injected": 1,
            "lost": 0,
            "seen": "shard or file, its bytes, how many are missing",
        },
    )


def test_a_worker_on_a_full_disk(tmp_path, small_disk):
    config = make_case(
        tmp_path, {"train": 30, "validation": 8}, out=small_disk / "store", shard_tokens=60
    )
    ballast = fill(small_disk, 4096)
    with pytest.raises(UsageError, match=r"(has|must have) room for"):
        run(dataclasses.replace(config, worker="0/2"))
    ballast.unlink()
    run(dataclasses.replace(config, worker="0/2"))
