"""Settings of work on more than one device: a Ray cluster, and the devices of a run."""

from __future__ import annotations

import dataclasses
import re

from glot_jax.config.base import NOTHING, Config, option
from glot_jax.config.checks import at_least, positive, whole
from glot_jax.errors import UsageError

AUTO = "auto"
ALL_DEVICES = "all"


def _number_or_all(value: str) -> str | None:
    if value == ALL_DEVICES:
        return None
    if value.isdecimal() and int(value) > 0:
        return None
    return "must be a positive number of devices, or all"


# Of the command, never of a run: a run that was begun on four devices may go on with two.
@dataclasses.dataclass(frozen=True)
class Devices(Config):
    """Which devices of which processes train a run (docs/devices.md)."""

    devices: str | None = option(
        None,
        _number_or_all,
        decides=NOTHING,
        example=ALL_DEVICES,
    )
    """Train on N local devices, or on all, the batch divided among them. Default: one; with
    --distributed all of every process.
    """
    # Addresses of machines belong in no file that is passed on.
    distributed: str | None = option(
        None,
        decides=NOTHING,
        example="10.0.0.1:8476",
    )
    """Train with several processes: auto, as srun, torchrun, mpirun or SkyPilot number them, or
    HOST:PORT of the first, on a private network. Default: this process alone.
    """
    # One word, because neither number means anything without the other.
    process: str | None = option(
        None,
        decides=NOTHING,
        example="0/2",
    )
    """--distributed HOST:PORT: I/N, the number of this process, from 0, and how many there are.
    Default: as the launcher says.
    """

    def require_consistent(self) -> None:
        """Check the address, and that a process has a number only among others."""
        if self.distributed is not None:
            self._require_address(self.distributed)
        if self.process is None:
            return
        if self.share is None:
            raise UsageError(
                rule="--process I/N must be a process's number, from 0, and how many there are",
                got=repr(self.process),
                fix="Give for example --process 0/2 and --process 1/2.",
            )
        if self.distributed in (None, AUTO):
            raise UsageError(
                rule="--process goes with --distributed HOST:PORT",
                got=f"--process {self.process} without an address",
                fix="Give the address of process 0, or --distributed auto without --process.",
            )

    @staticmethod
    def _require_address(address: str) -> None:
        if address == AUTO:
            return
        # From behind: an address of IPv6 has more of them.
        host, _, port = address.rpartition(":")
        has_port = port.isdecimal() and 0 < int(port) < 2**16
        if not host or not has_port:
            raise UsageError(
                rule="--distributed must be auto, or HOST:PORT of the first process",
                got=repr(address),
                fix="Give for example --distributed 10.0.0.1:8476 --process 0/2.",
            )

    @property
    def share(self) -> tuple[int, int] | None:
        """(I, N) of `--process I/N`; None without it, or where it is not two such numbers."""
        if self.process is None:
            return None
        number, _, processes = self.process.partition("/")
        # isdecimal, not isdigit, which takes signs that `int` refuses, such as ².
        if not (number.isdecimal() and processes.isdecimal()):
            return None
        if int(number) >= int(processes):
            return None
        return int(number), int(processes)

    @property
    def are_default(self) -> bool:
        """Whether a run has the first device of this process, as without any of these flags."""
        return self.distributed is None and self.devices in (None, "1")


_ADDRESS = re.compile(r"[\w.-]+:\d+|\[[0-9a-fA-F:]+\]:\d+")


@dataclasses.dataclass(frozen=True)
class RayChoice(Config):
    """Which Ray cluster does the work, and with how many actors."""

    ray: str | None = None
    """Let actors of Ray do the work. auto: the cluster that this machine is part of; local: one on
    this machine alone, for as long as it takes; HOST:PORT of a cluster's head.
    """
    actors: int | None = option(None, whole(1), example=8)
    """How many actors, each with the model. Default: as many as the cluster has room for."""
    gpus_per_actor: float | None = option(None, at_least(0), example=1)
    """GPUs of an actor; a part of one for small models. Default: 1 where the cluster has some."""
    cpus_per_actor: float | None = option(None, positive, example=4)
    """CPUs of an actor. Default: 4, or as many as the largest node has."""
    ray_timeout: float = option(10.0, positive)
    """Minutes without any actor after which the work is given up."""

    def require_consistent(self) -> None:
        """Check the address, and that nothing is asked of a cluster that is not there."""
        if self.ray is None:
            self._require_nothing()
            return
        # Words and not addresses.
        if self.ray in ("auto", "local"):
            return
        if _ADDRESS.fullmatch(self.ray) is None:
            raise UsageError(
                rule="--ray must be auto, local, or HOST:PORT of a cluster's head",
                got=self.ray,
                fix="Give for example --ray 10.0.0.1:6379; a ray:// address is that of a client,"
                " and the command must run on a machine of the cluster.",
            )

    def _require_nothing(self) -> None:
        # All of them in one message.
        given = []
        for field in dataclasses.fields(self):
            if getattr(self, field.name) != field.default:
                given.append("--" + field.name.replace("_", "-"))
        if given:
            raise UsageError(
                rule=f"{', '.join(given)} must come with --ray",
                got="no --ray",
                fix="Give --ray auto, local or HOST:PORT as well.",
            )
