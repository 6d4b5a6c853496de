"""Real processes that write to a bucket, really killed: run again they leave the bytes of one."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import random
import signal
import time

import pytest
from support.extraction_case import make_case, run, tree
from support.object_stores import contents, moto_server, own_cache, s3, url

from glot_jax.config.extract import ExtractConfig
from glot_jax.remote.objects import Objects

__all__ = ["moto_server", "own_cache", "s3"]

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.xdist_group("moto")]

ROWS = {"train": 120, "validation": 30}


def run_there(config: ExtractConfig, environment: dict[str, str]) -> None:
    """The same in a process that was started before the bucket was."""
    os.environ.update(environment)
    run(config)


def finished_shards(objects: Objects) -> int:
    return sum(name.endswith("record.json") for name in objects.sizes())


@pytest.mark.usefixtures("own_cache")
def test_a_writer_to_a_bucket_is_killed(s3, tmp_path, soak, record_property):
    config = make_case(tmp_path, ROWS, shard_tokens=100)
    run(config)
    expected = tree(tmp_path / "store")
    shards = sum(name.endswith("record.json") for name in expected)
    assert shards > 5
    context = multiprocessing.get_context("forkserver")
    # It has imported everything, and no thread of obstore's runs in it.
    context.set_forkserver_preload(["support.extraction_case"])
    names = [name for name in os.environ if name.startswith(("AWS_", "GLOT_JAX"))]
    environment = {name: os.environ[name] for name in names}
    kills = 25 if soak else 1
    draw = random.Random(0)
    killed = between = 0
    for number in range(20 * kills):
        if killed == kills:
            break
        remote = dataclasses.replace(config, out=url(f"{s3}/store-{number}"))
        objects = Objects(url(f"{s3}/store-{number}"))
        goal = draw.randrange(1, shards)
        child = context.Process(target=run_there, args=(remote, environment))
        child.start()
        while finished_shards(objects) < goal and child.is_alive():
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.05))
        child.kill()
        child.join(60)
        if child.exitcode != -signal.SIGKILL:
            continue
        killed += 1
        between += 0 < finished_shards(objects) < shards
        # Here at once: the scratch folder's lock says that its last holder is dead.
        run(remote)
        assert contents(url(f"{s3}/store-{number}")) == expected
        assert not Objects(url(f"{s3}/store-{number}.lock")).read("lock")
    assert killed == kills
    record_property(
        "fault",
        {
            "fault": f"SIGKILL of an extraction into a bucket (moto), {between} of them between its"
            " first and its last shard",
            "injected": killed,
            "lost": "nothing",
            "seen": "`Taking over ...`; the same command continues after the last uploaded shard",
        },
    )
