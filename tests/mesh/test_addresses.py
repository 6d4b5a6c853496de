"""Where a process stands, and where the first one listens, by settings and launchers."""

from __future__ import annotations

import pytest

from glot_jax.config.machines import Devices
from glot_jax.errors import UsageError
from glot_jax.mesh.addresses import Place, find_place

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "gpu-a",
    "MASTER_PORT": "29500",
}
SLURM = {
    "SLURM_JOB_ID": "4242",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "gpu[007-010,12],login",
    "SLURM_PROCID": "3",
    "SLURM_NTASKS": "4",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
SLURM_ADDRESS = f"gpu007:{61440 + 4242 % 4096}"
MPI = {
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911",
}
SKYPILOT = {
    "SKYPILOT_NODE_RANK": "1",
    "SKYPILOT_NUM_NODES": "2",
    "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
}


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        (TORCHRUN, Place(5, 8, "gpu-a:29501", "RANK", (1,))),
        # One process a machine has all its devices.
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": "1"}, Place(5, 8, "gpu-a:29501", "RANK")),
        # The launcher has given it one.
        ({**TORCHRUN, "CUDA_VISIBLE_DEVICES": "3"}, Place(5, 8, "gpu-a:29501", "RANK")),
        ({**TORCHRUN, "JAX_LOCAL_DEVICE_IDS": "2,3"}, Place(5, 8, "gpu-a:29501", "RANK")),
        ({**TORCHRUN, "JAX_COORDINATOR_ADDRESS": "x:1"}, Place(5, 8, "x:1", "RANK", (1,))),
        (SLURM, Place(3, 4, SLURM_ADDRESS, "SLURM_PROCID", (1,))),
        (
            {**SLURM, "SLURM_STEP_TASKS_PER_NODE": "1(x4)", "SLURM_LOCALID": "0"},
            Place(3, 4, SLURM_ADDRESS, "SLURM_PROCID"),
        ),
        # The jobs of an array are not processes of one run.
        (
            {**SLURM, "SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "9"},
            Place(3, 4, SLURM_ADDRESS, "SLURM_PROCID", (1,)),
        ),
        (
            {**SLURM, "SLURM_STEP_NODELIST": "node001,other"},
            Place(3, 4, SLURM_ADDRESS.replace("gpu007", "node001"), "SLURM_PROCID", (1,)),
        ),
        (MPI, Place(2, 4, None, "OMPI_COMM_WORLD_RANK", (0,))),
        (SKYPILOT, Place(1, 2, "10.0.0.1:8476", "SKYPILOT_NODE_RANK")),
        ({"RANK": "0", "WORLD_SIZE": "1"}, Place(0, 1, None, "RANK", (0,))),
    ],
)
def test_launchers_say_where_a_process_stands(environ, place):
    assert find_place(Devices(distributed="auto"), environ) == place


def test_an_address_may_be_given_and_the_number_too():
    settings = Devices(distributed="10.0.0.1:9", process="1/2")
    # Whatever a launcher says.
    assert find_place(settings, TORCHRUN) == Place(1, 2, "10.0.0.1:9", "--process")
    numbered = find_place(Devices(distributed="10.0.0.1:9"), SKYPILOT)
    assert numbered == Place(1, 2, "10.0.0.1:9", "SKYPILOT_NODE_RANK")


@pytest.mark.parametrize(
    ("address", "bound"),
    [
        ("127.0.0.1:8476", "127.0.0.1:8476"),
        ("localhost:8476", "127.0.0.1:8476"),
        ("[::1]:8476", "[::1]:8476"),
        ("10.0.0.1:8476", None),
        (None, None),
    ],
)
def test_what_is_meant_for_one_machine_is_not_offered_to_others(address, bound):
    assert Place(0, 2, address, "--process").bind_address == bound


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "--distributed auto needs a launcher"),
        ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2"}, "needs a launcher"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "needs to know where process 0 is; got a process num"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "Give --distributed HOST:PORT --process I/N"),
    ],
)
def test_what_launchers_do_not_say(environ, message):
    with pytest.raises(UsageError, match=message):
        find_place(Devices(distributed="auto"), environ)
