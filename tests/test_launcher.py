"""Which worker a process is, as its launcher says it."""

from __future__ import annotations

import re

import pytest

from glot_jax.errors import UsageError
from glot_jax.launcher import Worker, find_worker

ARRAY = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_COUNT": "8"}
STEP = {"SLURM_PROCID": "3", "SLURM_NTASKS": "64", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0"}
TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
MPI = {
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "2",
}
SKYPILOT = {"SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_NODES": "2"}
ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    ("environ", "worker"),
    [
        (ARRAY, Worker(3, 8, 0, "SLURM_ARRAY_TASK_ID")),
        # sbatch --array=0-14:2
        (
            {**ARRAY, "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "2"},
            Worker(3, 8, 0, "SLURM_ARRAY_TASK_ID"),
        ),
        (STEP, Worker(3, 64, 1, "SLURM_PROCID")),
        (TORCHRUN, Worker(5, 8, 1, "RANK")),
        (MPI, Worker(2, 4, 2, "OMPI_COMM_WORLD_RANK")),
        (SKYPILOT, Worker(1, 2, 0, "SKYPILOT_NODE_RANK")),
        # An array whose jobs are srun steps of one process each.
        (
            {**ARRAY, **STEP, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"},
            Worker(3, 8, 0, "SLURM_ARRAY_TASK_ID"),
        ),
        ({**SKYPILOT, **ALONE}, Worker(1, 2, 0, "SKYPILOT_NODE_RANK")),
        (ALONE, Worker(0, 1, 0, "RANK")),
        # Two that agree: the place on the machine is told by one of them.
        (
            {**TORCHRUN, "SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_STEP_ID": "0"},
            Worker(5, 8, 1, "SLURM_PROCID"),
        ),
    ],
)
def test_launchers_number_their_processes(environ, worker):
    assert find_worker(environ) == worker
    assert find_worker({**environ, "HOME": "/"}, worker.workers) == worker


def test_an_indexed_job_of_kubernetes_is_told_how_many_there_are():
    environ = {"JOB_COMPLETION_INDEX": "2"}
    assert find_worker(environ, 8) == Worker(2, 8, 0, "JOB_COMPLETION_INDEX")
    with pytest.raises(UsageError, match="auto needs a launcher"):
        find_worker(environ)


@pytest.mark.parametrize(
    ("environ", "workers", "message"),
    [
        ({}, None, "needs a launcher"),
        # A batch script without srun is no worker.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, None, "needs a launcher"),
        ({"RANK": "0"}, None, "needs a launcher"),
        ({**TORCHRUN, **STEP}, None, "3 of 64 by SLURM_PROCID, 5 of 8 by RANK"),
        (TORCHRUN, 4, "auto/4, and 8 by RANK"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, None, "RANK must be a whole number; got 'x'"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, None, "RANK must be a whole number"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, None, "number 2 of 2 by RANK"),
        ({"JOB_COMPLETION_INDEX": "8"}, 8, "number 8 of 8 by JOB_COMPLETION_INDEX"),
        (
            {**ARRAY, "SLURM_ARRAY_TASK_MIN": "9"},
            None,
            "number -2 of 8 by SLURM_ARRAY_TASK_ID",
        ),
    ],
)
def test_what_launchers_cannot_mean(environ, workers, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        find_worker(environ, workers)
