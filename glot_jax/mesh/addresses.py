"""Where a process stands among those that train one run, and where the first of them listens.

Read from settings and environment variables alone; nothing is connected here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from glot_jax.config.machines import AUTO, Devices
from glot_jax.errors import UsageError
from glot_jax.launcher import Asker, Worker, find_worker

PROCESSES = Asker(
    option="--distributed",
    launched="srun, torchrun, mpirun or SkyPilot",
    by_hand="--distributed HOST:PORT --process I/N",
    # Jobs of an array start when they like: they would wait for one another for hours.
    arrays=False,
)

_PORT = 8476
"""What JAX's documentation uses."""
_SLURM_PORTS = range(61440, 65536)
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclasses.dataclass(frozen=True)
class Place:
    """A process among those that train one run."""

    number: int
    """From 0."""
    processes: int
    address: str | None
    """HOST:PORT of process 0; None where JAX asks Open MPI for it."""
    source: str
    """What numbers the process."""
    local_devices: tuple[int, ...] | None = None
    """GPUs of this machine that are the process's own; None: all that it sees."""

    @property
    def bind_address(self) -> str | None:
        """Where process 0 listens; None: on the port, at all of its addresses."""
        if self.address is None:
            return None
        host, _, port = self.address.rpartition(":")
        # What is meant for one machine is not offered to others: nobody is asked for a password.
        if host in _LOOPBACK:
            return f"{host.replace('localhost', '127.0.0.1')}:{port}"
        return None


def find_place(settings: Devices, environ: Mapping[str, str]) -> Place:
    """The place of this process.

    Args:
        settings: with `distributed`.
        environ: environment variables.

    Raises:
        UsageError: no launcher has numbered this process, or it does not say where process 0 is.
    """
    address = settings.distributed
    if settings.share is not None:
        number, processes = settings.share
        # By hand a process has all the devices that it sees.
        return Place(
            number=number,
            processes=processes,
            address=address,
            source="--process",
        )
    worker = find_worker(environ, asker=PROCESSES)
    if address == AUTO:
        address = _first_address(environ, worker)
    return Place(
        number=worker.number,
        processes=worker.workers,
        address=address,
        source=worker.source,
        local_devices=_own_devices(environ, worker),
    )


def _first_address(environ: Mapping[str, str], worker: Worker) -> str | None:
    """HOST:PORT of process 0, as the launcher says it."""
    # Whoever sets it means it, whatever the launcher.
    given = environ.get("JAX_COORDINATOR_ADDRESS")
    if given or worker.workers == 1:
        return given
    if worker.source == "RANK" and "MASTER_ADDR" in environ:
        # The next port: torchrun listens on its own.
        taken = environ.get("MASTER_PORT", "29500")
        host = environ["MASTER_ADDR"]
        return f"{host}:{int(taken) + 1}"
    if worker.source == "SLURM_PROCID" and "SLURM_STEP_NODELIST" in environ:
        # Jobs that share a machine have ports of their own: from the upper end of those that
        # nobody is registered for.
        job = int(environ.get("SLURM_JOB_ID", "0"))
        host = _first_host(environ["SLURM_STEP_NODELIST"])
        port = _SLURM_PORTS.start + job % len(_SLURM_PORTS)
        return f"{host}:{port}"
    if worker.source == "SKYPILOT_NODE_RANK" and environ.get("SKYPILOT_NODE_IPS"):
        hosts = environ["SKYPILOT_NODE_IPS"].split()
        return f"{hosts[0]}:{_PORT}"
    # Its address stands in there, in a form of Open MPI's own.
    if "OMPI_MCA_orte_hnp_uri" in environ:
        return None
    raise UsageError(
        rule="--distributed auto needs to know where process 0 is",
        got=f"a process numbered by {worker.source}, without the address of the first",
        fix="Set JAX_COORDINATOR_ADDRESS=HOST:PORT for all of them, or give --distributed"
        " HOST:PORT.",
    )


def _first_host(nodes: str) -> str:
    """The first machine of Slurm's list: `gpu[007-010,12],login` begins with gpu007."""
    match = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)
    assert match is not None, nodes  # Slurm's own
    prefix, number = match.groups()
    return prefix + (number or "")


def _own_devices(
    environ: Mapping[str, str],
    worker: Worker,
) -> tuple[int, ...] | None:
    """GPUs of the process among those that it sees; None for all of them."""
    # JAX reads it by itself.
    if "JAX_LOCAL_DEVICE_IDS" in environ:
        return None
    # On a machine of its own a process has what it sees.
    if _is_alone(environ, worker):
        return None
    visible = environ.get("CUDA_VISIBLE_DEVICES", "")
    # The launcher has given each process its own.
    if visible and "," not in visible:
        return None
    return (worker.local,)


def _is_alone(environ: Mapping[str, str], worker: Worker) -> bool:
    """Whether the launcher says that no other process is on this machine."""
    if worker.source == "RANK":
        return environ.get("LOCAL_WORLD_SIZE") == "1"
    if worker.source == "SLURM_PROCID":
        # Such as `2(x3),1`, for the machines of the step.
        tasks = environ.get("SLURM_STEP_TASKS_PER_NODE", "")
        return re.fullmatch(r"1(\(x\d+\))?", tasks) is not None
    if worker.source.startswith("OMPI"):
        return environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"
    # SkyPilot starts one a machine.
    return True
