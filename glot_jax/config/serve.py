"""Settings of `glot serve`."""

from __future__ import annotations

import dataclasses
import ipaddress
from pathlib import Path
from typing import ClassVar, Literal

from glot_jax.config.base import ARGUMENT, Config, option
from glot_jax.config.checks import between, positive, whole
from glot_jax.config.compile_cache import ProgramCache
from glot_jax.config.runs import BackboneChoice
from glot_jax.errors import UsageError

KEY_VARIABLE = "GLOT_SERVE_KEY"
"""Environment variable with the key that clients must send."""


@dataclasses.dataclass(frozen=True)
class ServeConfig(Config):
    """Answer texts over HTTP by a trained run: vectors in OpenAI's format, classes, scores.

    Clients send the key that stands in $GLOT_SERVE_KEY as `Authorization: Bearer KEY`.
    """

    takes_plugins: ClassVar[bool] = True

    run: Path = dataclasses.field(metadata=ARGUMENT)
    """Run folder."""
    host: str = "127.0.0.1"
    """Address to listen on. One that other machines reach needs a key, or --no-key."""
    port: int = option(8000, whole(0), between(0, 65535, "a port"))
    """Port to listen on; 0 takes a free one and says which."""
    no_key: bool = False
    """Answer whoever reaches the port, on any --host."""
    name: str | None = None
    """Name of the model in requests and answers. Default: that of the run folder."""
    # Off, as in encode: a served vector is the one that encode writes.
    normalize: bool = False
    """Scale the vectors to unit length, as OpenAI's are."""
    batch_size: int = option(32, whole(1))
    """Texts of one forward pass; texts of different clients share one."""
    batch_wait_ms: float = option(5.0, positive)
    """How long a text waits for company, at most, where a batch is not full."""
    max_body_bytes: int = option(4 * 2**20, whole(1))
    """Longest body of a request that is read; a longer one is answered 413."""
    max_texts: int = option(2048, whole(1))
    """Texts of a request, at most; more are answered 422."""
    max_tokens: int = option(300_000, whole(1))
    """Tokens of a request, at most, each text cut as in training; more are answered 422."""
    max_waiting: int = option(4096, whole(1))
    """Texts that wait or are worked on, at most; a request that exceeds it is answered 429."""
    max_connections: int = option(512, whole(1))
    """Connections, at most; further ones are answered 503."""
    client_seconds: float = option(10.0, positive)
    """How long a client may take to send the head of a request, then its body, and to read an
    answer.
    """
    grace_seconds: int = option(60, whole(1))
    """After SIGTERM or Ctrl-C: how long requests that have arrived may still take."""
    log_requests: bool = True
    """A line a request on stderr: route, status, milliseconds."""
    frozen: BackboneChoice = dataclasses.field(default_factory=BackboneChoice)
    """Where the backbone lies and runs."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint of the run answers."""
    programs: ProgramCache = dataclasses.field(default_factory=ProgramCache)
    """Where compiled programs are kept."""

    def require_consistent(self) -> None:
        """Check that a request of the allowed size can be accepted at all."""
        if self.max_waiting < self.max_texts:
            raise UsageError(
                rule="--max-waiting must be at least --max-texts, or the largest request could"
                " never be accepted",
                got=f"{self.max_waiting} and {self.max_texts}",
                fix="Raise the one or lower the other.",
            )

    def usable_key(self, key: str | None) -> str | None:
        """The key that clients must send; None where anybody is answered.

        Args:
            key: what the environment variable holds, None where it is not set.

        Raises:
            UsageError: a key that cannot be sent, or that --no-key contradicts; or none, and a
                host that other machines reach. The key itself is in no message.
        """
        if key is None:
            if not self.no_key and not _is_loopback(self.host):
                raise UsageError(
                    rule="an address that other machines reach needs a key",
                    got=f"--host {self.host} and no ${KEY_VARIABLE}",
                    fix=f"Set {KEY_VARIABLE}, or give --no-key to answer whoever comes.",
                )
            return None
        if self.no_key:
            raise UsageError(
                rule=f"--no-key answers without the key of ${KEY_VARIABLE}",
                got="both",
                fix="Leave out --no-key, or unset the variable.",
            )
        # What a header can carry.
        is_visible = key.isascii() and key.isprintable() and " " not in key
        if not key or not is_visible:
            raise UsageError(
                rule=f"${KEY_VARIABLE} must be of visible ASCII characters, without spaces",
                got=f"{len(key)} characters" + (", others among them" if key else ""),
                fix="Take for example the output of: openssl rand -hex 32.",
            )
        return key


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # Of names this one alone is known to stay on the machine.
        return host == "localhost"
