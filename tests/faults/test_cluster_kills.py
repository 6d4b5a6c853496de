"""Actors, drivers and nodes of a Ray cluster, really killed, by `make soak` alone: minutes each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from support.extraction_case import finished_shards, make_case, run, tree
from support.ray_case import ENVIRONMENT, kill_an_actor, start_extraction

from glot_jax.store.layout import lock_folder

pytest.importorskip("ray")
pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("ray")]

LOCAL = ("--ray", "local", "--actors", "3", "--cpus-per-actor", "1")

TWO_NODES = """
import sys, time
from ray.cluster_utils import Cluster

cluster = Cluster(
    initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
)
second = cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.readline()
second.kill_raylet()
sys.stdin.readline()
cluster.shutdown()
"""


@pytest.fixture(autouse=True)
def long_version(soak):
    if not soak:
        pytest.skip("make soak runs it")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    config = make_case(folder, {"train": 1500, "validation": 100}, shard_tokens=60)
    run(config)
    return config


def test_three_actors_one_after_another(case, tmp_path, record_property):
    out = tmp_path / "store"
    driver = start_extraction(case, out, *LOCAL)
    killed = 0
    for shards in (2, 30, 60):
        killed += kill_an_actor(driver, out, shards)
    printed, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, printed
    assert killed == 3
    assert tree(out) == tree(case.out)
    fault = {"fault": "SIGKILL of one of three Ray actors", "injected": killed, "lost": 0}
    record_property("fault", {**fault, "seen": "`actor N is lost`; another one writes its shard"})


def test_the_driver(case, tmp_path, record_property):
    out = tmp_path / "store"
    driver = start_extraction(case, out, *LOCAL)
    while len(finished_shards(out)) < 10 and driver.poll() is None:
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.communicate(timeout=60)
    before = len(finished_shards(out))
    assert 10 <= before < len(finished_shards(case.out))
    again = start_extraction(case, out, *LOCAL)
    printed, _ = again.communicate(timeout=600)
    assert again.returncode == 0, printed
    assert "Taking over" in printed
    assert tree(out) == tree(case.out)
    assert not lock_folder(out).exists()
    fault = {"fault": "SIGKILL of the driver of Ray actors", "injected": 1, "lost": 0}
    record_property("fault", {**fault, "seen": "the same command goes on"})


def test_a_node(case, tmp_path, record_property):
    out = tmp_path / "store"
    cluster = subprocess.Popen(
        [sys.executable, "-c", TWO_NODES],
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert cluster.stdin is not None
    assert cluster.stdout is not None
    try:
        address = cluster.stdout.readline().strip()
        flags = ("--ray", address, "--actors", "2", "--cpus-per-actor", "1")
        driver = start_extraction(case, out, *flags)
        while len(finished_shards(out)) < 10 and driver.poll() is None:
            time.sleep(0.05)
        cluster.stdin.write("kill\n")
        cluster.stdin.flush()
        printed, _ = driver.communicate(timeout=600)
        assert driver.returncode == 0, printed
        assert "is lost" in printed
        assert tree(out) == tree(case.out)
    finally:
        cluster.communicate("end\n", timeout=120)
    fault = {"fault": "SIGKILL of the second node of a Ray cluster", "injected": 1, "lost": 0}
    record_property("fault", {**fault, "seen": "`actor N is lost`; the first node goes on alone"})
