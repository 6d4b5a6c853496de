"""A store written by Ray's actors, one of which is killed: the bytes of one process."""

from __future__ import annotations

import dataclasses

import pytest
from support.extraction_case import finished_shards, make_case, run, tree
from support.object_stores import contents, moto_server, own_cache, s3, url
from support.ray_case import kill_an_actor, start_extraction

from glot_jax.config.location import require_folder
from glot_jax.config.machines import RayChoice
from glot_jax.errors import UsageError
from glot_jax.extraction.cluster_shards import ShardItem, ShardWriterActor
from glot_jax.extraction.shard_texts import cut_shards
from glot_jax.store.layout import lock_folder

__all__ = ["moto_server", "own_cache", "s3"]

pytest.importorskip("ray")
pytestmark = pytest.mark.xdist_group("ray")


def test_a_killed_actor_changes_no_byte(tmp_path):
    config = make_case(tmp_path, {"train": 900, "validation": 40}, shard_tokens=100)
    run(config)
    out = tmp_path / "by-ray"
    flags = ("--ray", "local", "--actors", "2", "--cpus-per-actor", "1")
    driver = start_extraction(config, out, *flags)
    killed = kill_an_actor(driver, out, 3)
    printed, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, printed
    assert killed
    assert "is lost" in printed
    assert "2 actors of 1 CPU" in printed
    assert tree(out) == tree(config.out)
    assert not lock_folder(out).exists()


def test_an_actor_that_sees_another_folder_says_so(tmp_path):
    config = make_case(tmp_path, {"train": 4})
    actor = ShardWriterActor(config, 128)
    backbone = actor._backbone
    spec_table = _table(config)
    texts = next(cut_shards(_rows(config), backbone, 1000, spec_table))
    item = ShardItem("train", 0, texts, backbone.recipe(), "a sign")
    with pytest.raises(UsageError, match="every actor must see the folder of --out"):
        actor.do(item)
    lock_folder(require_folder(config.out)).mkdir()
    (lock_folder(require_folder(config.out)) / "driver").write_text("a sign")
    written = actor.do(item)
    assert finished_shards(config.out)
    # One that another actor has finished meanwhile is not written again.
    assert actor.do(item).record == written.record
    assert str(item) == "train/shard-00000 (rows 0 to 3)"


def _rows(config):
    from glot_jax.texts import open_task

    return open_task(config).splits["train"]


def _table(config):
    from glot_jax.extraction.row_table import RowTable
    from glot_jax.texts import open_task

    return RowTable(open_task(config).spec)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ray": "127.0.0.1:1"}, "where nobody answers"),
        ({"ray": "no-such-host.invalid:6379"}, "where nobody answers"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_error(tmp_path, changes, message):
    config = make_case(tmp_path, {"train": 4})
    config = dataclasses.replace(config, cluster=RayChoice(**changes))
    with pytest.raises(UsageError, match=message):
        run(config)
    assert not require_folder(config.out).exists()
    assert not lock_folder(require_folder(config.out)).exists()


@pytest.mark.parametrize(
    "changes", [{"append": True}, {"worker": "0/2"}, {"device": "cuda:1"}, {"worker": "auto"}]
)
def test_ray_alone_says_who_does_what(tmp_path, changes):
    config = make_case(tmp_path, {"train": 4})
    with pytest.raises(UsageError, match="Ray says which process does what"):
        dataclasses.replace(config, cluster=RayChoice(ray="local"), **changes)


@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
def test_actors_write_to_a_bucket(s3, tmp_path):
    config = make_case(tmp_path, {"train": 300, "validation": 40}, shard_tokens=100)
    run(config)
    flags = ("--ray", "local", "--actors", "2", "--cpus-per-actor", "1")
    driver = start_extraction(config, url(f"{s3}/store"), *flags)
    printed, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, printed
    assert contents(url(f"{s3}/store")) == tree(config.out)
    assert contents(url(f"{s3}/store.lock")) == {}
    assert "CANARY" not in printed
