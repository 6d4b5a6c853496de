"""Settings of work that a Ray cluster does."""

from __future__ import annotations

import dataclasses
import re

from glot_jax.config.base import Config, option
from glot_jax.config.checks import at_least, positive, whole
from glot_jax.errors import UsageError

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
