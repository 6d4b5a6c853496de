"""From settings to the devices of a run, over processes where there are several."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import jax

from glot_jax.config.machines import ALL_DEVICES, Devices
from glot_jax.dispatch.memory import keep_memory
from glot_jax.errors import UsageError
from glot_jax.mesh.addresses import Place, find_place
from glot_jax.mesh.device_mesh import ONE, Device, Mesh
from glot_jax.mesh.processes import Processes

PATIENCE = 300
"""Seconds in which all processes must have come."""
HEARTBEAT = 100
"""Seconds after which a process that is not heard of is taken for dead."""
_SHUTDOWN = 30
"""Seconds that the end of a process waits for the ends of the others."""


def start(
    settings: Devices,
    say: Callable[[str], None],
    environ: Mapping[str, str] = os.environ,
    heartbeat: int = HEARTBEAT,
) -> Mesh:
    """The devices that the settings ask for.

    Before the first array of the process is made. With `distributed` it waits for the other
    processes; where JAX has been told of them already (by Ray's JaxTrainer, for instance), those
    are the ones.

    Args:
        settings: of the command.
        say: takes a line for people, of process 0 alone once it is numbered.
        environ: environment variables.
        heartbeat: seconds after which a process that is not heard of is taken for dead.

    Raises:
        UsageError: fewer devices than asked for, or a process that nobody has numbered.
    """
    if settings.are_default:
        return ONE
    # It changes nothing once a device is open.
    keep_memory()
    joined = jax.distributed.is_initialized()
    own = None
    if settings.distributed is not None and not joined:
        own = find_place(settings, environ)
        # A launcher of one process has nobody to be waited for.
        joined = own.processes > 1
    processes = Processes()
    if joined:
        with _stdout_for_results():
            processes = _joined(own, say, heartbeat)
    with processes.agree():
        devices = _devices(settings, processes)
    if len(devices) == 1:
        return ONE
    if processes.first:
        say(_described(devices, processes))
    return Mesh(devices, processes)


def _joined(
    own: Place | None,
    say: Callable[[str], None],
    heartbeat: int,
) -> Processes:
    """The processes, when all of them have met; without a place they have been told before."""
    if own is not None:
        _join(own, say, heartbeat)
    processes = Processes(
        jax.process_index(),
        jax.process_count(),
    )
    # The first use of a device and the first exchange are a rendezvous of all.
    owners = [device.process_index for device in jax.devices()]
    counts = Counter(owners)
    if len(set(counts.values())) > 1:
        listed = [f"process {number}: {counts[number]}" for number in counts]
        raise UsageError(
            rule="every process must have as many devices as the others",
            got=", ".join(listed),
            fix="Let each see as many (CUDA_VISIBLE_DEVICES, JAX_LOCAL_DEVICE_IDS).",
        )
    processes.gather(None)
    return processes


def _join(
    own: Place,
    say: Callable[[str], None],
    heartbeat: int,
) -> None:
    where = ""
    if own.address is not None:
        where = f" at {own.address}"
    # Said before: when the others do not come, JAX ends the process without another word of ours.
    say(
        f"process {own.number} of {own.processes}, from {own.source}: waiting{where} for the"
        f" others, {PATIENCE} s at most"
    )
    method = "deactivate"
    if own.address is None:
        # JAX reads it from what Open MPI says.
        method = "ompi"
    jax.distributed.initialize(
        coordinator_address=own.address,
        num_processes=own.processes,
        process_id=own.number,
        local_device_ids=own.local_devices,
        cluster_detection_method=method,
        initialization_timeout=PATIENCE,
        heartbeat_timeout_seconds=heartbeat,
        shutdown_timeout_seconds=_SHUTDOWN,
        coordinator_bind_address=own.bind_address,
    )


@contextlib.contextmanager
def _stdout_for_results() -> Iterator[None]:
    """Send to stderr what libraries print meanwhile: Gloo says on stdout who it has met."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:
        # A process without a stdout has nothing to keep clean.
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _devices(settings: Devices, processes: Processes) -> list[Device]:
    """Those of the run, in the order of the processes."""
    there = jax.local_device_count()
    asked = settings.devices
    if asked is None:
        # Several processes are there for all that they have.
        asked = "1"
        if settings.distributed is not None:
            asked = ALL_DEVICES
    count = there
    if asked != ALL_DEVICES:
        count = int(asked)
    if count > there:
        platform = jax.default_backend()
        raise UsageError(
            rule="as many devices as --devices asks for must be there",
            got=f"{count}, of which this process sees {there} ({platform})",
            fix=f"Give --devices {there} or fewer.",
        )
    counts = processes.gather(count)
    if len(set(counts)) > 1:
        raise UsageError(
            rule="every process must use as many devices as the others",
            got=", ".join(map(str, counts)),
            fix="Give all of them one --devices.",
        )
    if not processes.several:
        return jax.local_devices()[:count]
    devices: list[Device] = []
    # Side by side, so that the rows of a process are one slice of a batch.
    for number in range(processes.count):
        own = [device for device in jax.devices() if device.process_index == number]
        devices += own[:count]
    return devices


def _described(devices: list[Device], processes: Processes) -> str:
    kind = devices[0].device_kind
    line = f"{len(devices)} devices ({kind}) divide every batch"
    if processes.several:
        line += f", of {processes.count} processes"
    return line
