"""The port, which is taken before anything is loaded for it: no jax is needed for that."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

from glot_jax.config.serve import ServeConfig
from glot_jax.errors import UsageError


@contextlib.contextmanager
def bound_socket(config: ServeConfig) -> Iterator[socket.socket]:
    """A socket on the host and port of some settings, before anything is loaded for it.

    Raises:
        UsageError: a port that is taken or not allowed, or a host that this machine is not.
    """
    with port_errors(config.port):
        try:
            infos = socket.getaddrinfo(
                config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except (socket.gaierror, UnicodeError) as error:
            raise _no_host(config.host) from error
        # Of a name with several addresses the one that the machine prefers.
        family, kind, protocol, _, address = infos[0]
        listener = socket.socket(family, kind, protocol)
        try:
            # A port whose last connections are still being forgotten is free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRNOTAVAIL:
                raise _no_host(config.host) from error
            raise
    with listener:
        yield listener


@contextlib.contextmanager
def port_errors(port: int) -> Iterator[None]:
    """Turn the errors of a port that cannot be had into one that says so.

    Raises:
        UsageError: the port of the body is taken or not allowed.
    """
    try:
        yield
    except OSError as error:
        # By number: the texts of these errors are of the machine's language.
        if error.errno == errno.EADDRINUSE:
            got = f"{port}, which another program uses"
        elif error.errno in (errno.EACCES, errno.EPERM):
            got = f"{port}, which this user may not take"
        else:
            raise
        raise UsageError(
            rule="--port must be free", got=got, fix="Give another one; 0 takes a free one."
        ) from error


def _no_host(host: str) -> UsageError:
    return UsageError(
        rule="--host must be an address of this machine",
        got=host,
        fix="Give 127.0.0.1, or 0.0.0.0 for all of them.",
    )
