"""Several processes, one store: shards divided by number, put together without the model."""

import contextlib
import dataclasses
import fcntl
import json
import shutil
import socket

import pytest
from support.extraction_case import finished_shards, make_case, run, tree

from glot_jax import cli
from glot_jax.errors import UsageError
from glot_jax.extraction.dump import launched, physical_cores
from glot_jax.store import finish
from glot_jax.store.layout import MANIFEST, lock_folder
from glot_jax.store.lock import StoreLock
from glot_jax.store.recipe import Recipe


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return make_case(tmp_path_factory.mktemp("workers"), {"train": 20, "validation": 8})


@pytest.fixture(scope="module")
def expected(case, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "store"
    run(case, out)
    return tree(out)


def worker(case, tmp_path, number, workers, **options):
    return dataclasses.replace(
        case, out=tmp_path / "store", worker=f"{number}/{workers}", **options
    )


@pytest.mark.parametrize("workers", [1, 2, 3, 40])
def test_any_number_of_workers_in_any_order_write_the_same_store(case, expected, tmp_path, workers):
    for number in reversed(range(workers)):
        assert "is done" in run(worker(case, tmp_path, number, workers))
    assert cli_code("store", "finish", tmp_path / "store") == 0
    assert tree(tmp_path / "store") == expected
    assert not lock_folder(tmp_path / "store").exists()


def cli_code(*arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    return ended.value.code


def test_a_worker_writes_every_nth_shard_over_all_splits(case, expected, tmp_path):
    run(worker(case, tmp_path, 1, 3))
    shards = sorted(
        {name.rsplit("/", 1)[0] for name in expected if "shard-" in name},
        key=lambda name: (name.startswith("validation"), name),
    )
    assert [
        str(path.relative_to(tmp_path / "store")) for path in finished_shards(tmp_path / "store")
    ] == shards[1::3]


def test_finishing_names_the_shards_that_are_missing_and_their_worker(case, expected, tmp_path):
    out = tmp_path / "store"
    with pytest.raises(UsageError, match="Run extract.py --worker I/N"):
        finish(out)
    run(worker(case, tmp_path, 1, 3))
    with pytest.raises(UsageError, match="where worker 0 has not"):
        finish(out)
    run(worker(case, tmp_path, 0, 3))
    with pytest.raises(UsageError, match=r"without train/shard-00002, .*again with --worker 2/3"):
        finish(out)
    assert not (out / MANIFEST).exists()
    run(worker(case, tmp_path, 2, 3))
    shutil.rmtree(out / "train/shard-00001")
    with pytest.raises(UsageError, match=r"without train/shard-00001.*again with --worker 1/3"):
        finish(out)
    run(worker(case, tmp_path, 1, 3))
    assert finish(out) == finish(out)
    assert tree(out) == expected
    assert "complete already" in run(worker(case, tmp_path, 1, 3))


def test_a_single_process_may_go_on_with_what_workers_began(case, expected, tmp_path):
    run(worker(case, tmp_path, 0, 2))
    run(dataclasses.replace(case, out=tmp_path / "store"))
    assert tree(tmp_path / "store") == expected
    assert not lock_folder(tmp_path / "store").exists()


def test_a_damaged_shard_is_not_put_together(case, tmp_path):
    for number in range(2):
        run(worker(case, tmp_path, number, 2))
    states = next((tmp_path / "store/train/shard-00000").glob("hidden-*"))
    states.write_bytes(states.read_bytes()[:-1])
    with pytest.raises(UsageError, match=states.name):
        finish(tmp_path / "store")


def test_workers_of_another_recipe_are_refused(case, tmp_path):
    run(worker(case, tmp_path, 0, 2))
    with pytest.raises(UsageError, match="max_length: 64 -> 8"):
        run(worker(case, tmp_path, 1, 2, max_length=8))


@contextlib.contextmanager
def held_by_another(store, name, pid=4711):
    """A lock as another process holds it: open files exclude one another, also within a process."""
    lock_folder(store).mkdir(parents=True, exist_ok=True)
    with (lock_folder(store) / name).open("w") as file:
        file.write(json.dumps({"host": socket.gethostname(), "pid": pid}))
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize(
    ("held", "share", "allowed"),
    [
        ("worker-0-of-4", (1, 4), True),
        ("worker-0-of-4", (0, 4), False),
        ("worker-0-of-4", (1, 3), False),
        ("worker-0-of-4", None, False),
        ("lock", (0, 4), False),
    ],
)
def test_who_may_write_beside_whom(tmp_path, held, share, allowed):
    store = tmp_path / "store"
    with held_by_another(store, held):
        if allowed:
            with StoreLock(store, share=share):
                assert len(list(lock_folder(store).iterdir())) == 2
        else:
            with (
                pytest.raises(UsageError, match=f"process 4711 on host {socket.gethostname()}"),
                StoreLock(store, share=share),
            ):
                pass
            assert [path.name for path in lock_folder(store).iterdir()] == [held]


def test_of_workers_that_start_together_with_other_recipes_one_is_refused(tmp_path):
    """Both have looked and seen no recipe; what counts is the one that is written first."""
    with (
        StoreLock(tmp_path / "store", share=(0, 2)) as one,
        StoreLock(tmp_path / "store", share=(1, 2)) as other,
    ):
        assert one.begun_with() is None
        assert other.begun_with() is None
        first = Recipe.partial(compute_dtype="bfloat16")
        assert one.begin(first) == first
        assert other.begin(Recipe.partial(compute_dtype="float32")) == first


def test_shards_of_other_texts_are_not_put_together(case, tmp_path):
    """Every worker checks its own shards only.

    Another's, of data that changed between the two, are compared with the plan.
    """
    run(worker(case, tmp_path, 1, 2))
    changed = tmp_path / "data"
    shutil.copytree(case.data, changed)
    rows = (changed / "train.jsonl").read_text().splitlines(keepends=True)
    (changed / "train.jsonl").write_text("".join(reversed(rows)))
    run(worker(case, tmp_path, 0, 2, data=changed))
    with pytest.raises(
        UsageError, match=r"shard-0000\d of other texts than worker 0 saw.*--worker 1/2"
    ):
        finish(tmp_path / "store")
    assert not (tmp_path / "store" / MANIFEST).exists()
    for folder in ("store", "store.lock"):
        shutil.rmtree(tmp_path / folder)
    run(worker(case, tmp_path, 0, 2))
    run(worker(case, tmp_path, 1, 2))
    extra = tmp_path / "store/train/shard-00099"
    last = sorted((tmp_path / "store/train").glob("shard-*"))[-1]
    shutil.copytree(last, extra.with_name(f"shard-{int(last.name[6:]) + 1:05d}"))
    with pytest.raises(UsageError, match="beyond the last text that worker 0 saw"):
        finish(tmp_path / "store")


def test_a_changed_plan_is_refused(case, tmp_path):
    for number in range(2):
        run(worker(case, tmp_path, number, 2))
    plan = lock_folder(tmp_path / "store") / "plan.json"
    for content in (plan.read_text().replace('"rows": 20', '"rows": 21'), "[]", "{}"):
        plan.write_text(content)
        with pytest.raises(UsageError, match="Run worker 0 again"):
            finish(tmp_path / "store")
    run(worker(case, tmp_path, 0, 2))
    assert finish(tmp_path / "store").splits["train"].rows == 20


def test_a_store_that_another_process_finished_meanwhile_is_left_as_it_is(
    case, expected, tmp_path, monkeypatch
):
    """The manifest appears between the first look and the lock."""
    out, original = tmp_path / "store", StoreLock.__enter__

    def entering(self):
        monkeypatch.setattr(StoreLock, "__enter__", original)
        run(case, out)
        return original(self)

    for config in (dataclasses.replace(case, out=out), worker(case, tmp_path, 0, 2)):
        monkeypatch.setattr(StoreLock, "__enter__", entering)
        assert "complete already" in run(config)
        assert tree(out) == expected
        assert not lock_folder(out).exists()


@pytest.mark.parametrize("given", ["2/2", "-1/2", "1", "a/b", "1/0", "0/2/3", ""])
def test_a_worker_that_is_none(case, given):
    if given == "":
        assert dataclasses.replace(case, worker=None).share is None
        given = " "
    with pytest.raises(UsageError, match="--worker I/N"):
        dataclasses.replace(case, worker=given)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_launcher_numbers_the_workers_and_the_last_finishes(
    case, expected, tmp_path, monkeypatch, order
):
    monkeypatch.setenv("WORLD_SIZE", "3")
    said = ""
    for number in order:
        assert not (tmp_path / "store" / MANIFEST).exists()
        monkeypatch.setenv("RANK", str(number))
        monkeypatch.setenv("LOCAL_RANK", str(number))
        said = run(dataclasses.replace(case, out=tmp_path / "store", worker="auto"))
        assert f"worker {number} of 3, from RANK" in said
    assert "every worker is done; finished" in said
    assert tree(tmp_path / "store") == expected
    assert not lock_folder(tmp_path / "store").exists()
    assert "complete already" in run(
        dataclasses.replace(case, out=tmp_path / "store", worker="auto/3")
    )


def test_a_worker_without_a_launcher_is_refused_before_anything_is_written(case, tmp_path):
    with pytest.raises(UsageError, match="--worker auto needs a launcher"):
        run(dataclasses.replace(case, out=tmp_path / "store", worker="auto"))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("worker", ["auto/0", "auto/x", "auto/", "automatic", "4/auto"])
def test_what_is_no_worker(case, worker):
    with pytest.raises(UsageError, match="--worker I/N must be"):
        dataclasses.replace(case, worker=worker)


def test_the_device_is_the_processes_own_among_those_of_its_machine(case, monkeypatch):
    environ = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    auto = dataclasses.replace(case, worker="auto", device="auto", threads=None)
    for devices, device in ((0, "auto"), (1, "auto"), (4, "cuda:1")):
        monkeypatch.setattr("torch.cuda.device_count", lambda devices=devices: devices)
        config, line = launched(auto, environ)
        assert config.device == device
        assert ("cuda:1" in line) == (devices == 4)
        assert config.worker == "5/8"
        # What a launcher says of threads would change bits.
        assert config.threads == physical_cores() >= 1
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    typed = dataclasses.replace(auto, device="cpu", threads=3)
    assert launched(typed, environ)[0] == dataclasses.replace(typed, worker="5/8")
