"""Actors of Ray that die while they get ready."""

from __future__ import annotations

import pytest

from glot_jax.cluster.ray_pool import RayPool, connected
from glot_jax.cluster.work_queue import run
from glot_jax.config.machines import RayChoice
from glot_jax.errors import UsageError

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.xdist_group("ray"),
    # What Ray forks calls nothing of JAX, which other tests have started in this process.
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <function _at_fork"),
]


@pytest.fixture(scope="module")
def room():
    choice = RayChoice(ray="local", actors=2, cpus_per_actor=1.0)
    with connected(choice, takes_gpus=False) as room:
        yield room


def workmen(folder, deaths):
    """Makes workmen, of which so many die while they are made."""

    # Inside, so that Ray sends it by value: nobody else can import this file.
    class Facts:
        def differences(self, other):
            del other
            return []

    class Workman:
        def facts(self):
            return Facts()

        def do(self, item):
            return 2 * item

    def make():
        import os

        for number in range(deaths):
            try:
                os.close(os.open(folder / f"{number}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            # As the system kills a process that takes too much memory.
            os.kill(os.getpid(), 9)
        return Workman()

    return make


def test_some_that_die_while_they_load_are_replaced(room, tmp_path):
    said = []
    with RayPool(room, workmen(tmp_path, 3), said.append) as pool:
        pool.start(120.0)
        done = sorted(run(range(5), pool, room.actors))
    assert done == [(0, 0), (1, 2), (2, 4), (3, 6), (4, 8)]
    assert len(said) == 3
    assert all("is lost" in line for line in said)


def test_where_all_die_while_they_load_their_death_is_named(room, tmp_path):
    said = []
    message = "live until it is ready; got 4 that died before.*the last one: pid: "
    with (
        RayPool(room, workmen(tmp_path, 100), said.append) as pool,
        pytest.raises(UsageError, match=message),
    ):
        pool.start(120.0)
    assert len(said) == 8
