"""The settings of where a run is trained: its devices and processes."""

from __future__ import annotations

import dataclasses

from glot_jax.config.base import NOTHING, Config, option
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
