"""Real processes, really killed.

Whatever was written stays; whatever was not is written by the next run, byte for byte.
"""

import dataclasses
import multiprocessing
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from support.extraction_case import finished_shards, identity, make_case, run, run_in_child, tree

from glot_jax.store import finish
from glot_jax.store.layout import MANIFEST, lock_folder

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("kills")]

ROWS = {"train": 400, "validation": 80}
SHARDS = 12  # about; asserted below


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return make_case(tmp_path_factory.mktemp("kills"), ROWS, shard_tokens=300, tokens_per_batch=100)


@pytest.fixture(scope="module")
def expected(case, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "store"
    run(case, out)
    assert len(finished_shards(out)) >= SHARDS
    return tree(out)


@pytest.fixture(scope="module")
def processes():
    """A context whose children start in milliseconds.

    Its server has imported everything, and no thread of torch runs in it yet.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.extraction_case"])
    return context


def start(processes, config):
    child = processes.Process(target=run_in_child, args=(config,))
    child.start()
    return child


def kill_when(child, condition, delay):
    """SIGKILL `delay` seconds after `condition()` holds; whether the child was still running."""
    while not condition() and child.is_alive():
        time.sleep(0.0005)
    time.sleep(delay)
    child.kill()
    child.join()
    return child.exitcode == -signal.SIGKILL


def fresh(config):
    shutil.rmtree(config.out, ignore_errors=True)
    shutil.rmtree(lock_folder(config.out), ignore_errors=True)


def test_a_killed_extraction_continues(case, expected, processes, tmp_path, soak, record_property):
    config = dataclasses.replace(case, out=tmp_path / "store")
    kills, between, moments = 25 if soak else 2, 0, []
    draw = random.Random(0)
    for _ in range(100 * kills):
        if len(moments) == kills:
            break
        fresh(config)
        goal = draw.randrange(SHARDS)
        child = start(processes, config)
        if not kill_when(
            child,
            lambda goal=goal: len(finished_shards(config.out)) >= goal,
            draw.uniform(0, 0.03),
        ):
            continue
        done, before = len(finished_shards(config.out)), identity(config.out)
        writing = [path.name for path in config.out.glob("*/.tmp-*")]
        manifest = ", manifest there" if (config.out / MANIFEST).exists() else ""
        moments.append(
            f"{done} shards finished, writing {', '.join(writing) or 'nothing'}{manifest}"
        )
        between += done > 0 and not (config.out / "validation/labels.npy").exists()
        # The second run may be the victim too: it continues what the first one left.
        if draw.random() < 0.3:
            kill_when(start(processes, config), lambda: False, draw.uniform(0.5, 1.5))
        run(config)
        assert tree(config.out) == expected, moments[-1]
        assert identity(config.out).items() >= before.items(), moments[-1]
        assert not lock_folder(config.out).exists()
    print(
        "\n".join(
            [
                "killed at:",
                *moments,
                f"{between} of {len(moments)} between the first and the last rename of a shard",
            ]
        )
    )
    assert len(moments) == kills
    assert between >= (0.6 * kills if soak else 1)
    record_property(
        "fault",
        {
            "fault": (
                f"SIGKILL while extracting ({between} of them between the first and the last shard)"
            ),
            "injected": len(moments),
            "lost": 0,
            "seen": (
                "`Taking over ...: process N no longer runs`; goes on after the last finished shard"
            ),
        },
    )


def test_four_workers_of_which_one_is_killed(
    case, expected, processes, tmp_path, soak, record_property
):
    kills = 0
    for repeat in range(5 if soak else 1):
        config = dataclasses.replace(case, out=tmp_path / f"store-{repeat}")
        workers = [dataclasses.replace(config, worker=f"{number}/4") for number in range(4)]
        victim = repeat % 4
        children = [start(processes, worker) for worker in workers]
        lock = lock_folder(config.out) / f"worker-{victim}-of-4"
        kills += kill_when(children[victim], lock.exists, 0.05 * repeat)
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [
            -9 if number == victim else 0 for number in range(4)
        ]
        run(workers[victim])
        finish(config.out)
        assert tree(config.out) == expected
        assert not lock_folder(config.out).exists()
    record_property(
        "fault",
        {
            "fault": "SIGKILL of one of four workers",
            "injected": kills,
            "lost": 0,
            "seen": "`glot store finish` names the missing shards and the worker to run again",
        },
    )


def test_ctrl_c_leaves_finished_shards_and_no_lock(case, expected, tmp_path):
    config = dataclasses.replace(case, out=tmp_path / "store")
    arguments = [
        "--backbone",
        config.backbone,
        "--task",
        "custom",
        "--data",
        str(config.data),
        "--out",
        str(config.out),
        "--text-columns",
        "text",
        "--label-column",
        "label",
        "--shard-tokens",
        "300",
        "--tokens-per-batch",
        "100",
        "--device",
        "cpu",
    ]
    child = subprocess.Popen(
        [sys.executable, "-c", "from glot_jax.cli import main; main()", "extract", *arguments],
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(finished_shards(config.out)) < 2 and child.poll() is None:
        time.sleep(0.001)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate()
    assert child.returncode == 130
    assert said.rstrip().endswith("interrupted")
    assert "Traceback" not in said
    assert [path.name for path in lock_folder(config.out).iterdir()] == ["recipe.json"]
    assert not list(config.out.glob("*/.tmp-*"))
    run(config)
    assert tree(config.out) == expected
