"""What a command prints when it cannot print, and what it says when the device cannot be opened."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import NoReturn, TextIO

from glot_jax.errors import UsageError

_LENIENT = ("backslashreplace", "replace", "ignore", "namereplace", "xmlcharrefreplace")
"""What Python calls the ways to go on after a character that an encoding does not have."""


def print_anything(*streams: TextIO | None) -> None:
    """From now on, characters that a stream cannot encode are printed as escapes: `\\xfc`. Names of
    files, classes and models may hold any, and a finished run is not to end in an error about its
    own summary."""
    for stream in streams:
        if not isinstance(stream, io.TextIOWrapper) or stream.errors in _LENIENT:
            continue  # somebody else's stream, or somebody's choice
        with contextlib.suppress(io.UnsupportedOperation, ValueError):
            stream.reconfigure(errors="backslashreplace")


def refuse(error: UsageError) -> NoReturn:
    """One line on stderr, and exit code 2: bad input."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def explain(error: Exception) -> None:
    """End the process with one line, or quietly, if the streams or the device are to blame for an
    error.
    """
    code = output_error(error) if isinstance(error, OSError) else None
    if code is not None:
        sys.exit(code)
    reason = device_error(error)
    if reason is not None:
        refuse(reason)


def output_error(error: OSError) -> int | None:
    """The exit code if a standard stream could not be written to; None if the error is of something
    else.

    A reader that has seen enough (`| head`) ends the command quietly, as it ends others; of a full
    disk a line is said.
    """
    if isinstance(error, BrokenPipeError):
        # Python would try to flush once more at its end, and say so.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    if error.errno == errno.ENOSPC and error.filename is None:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            print(f"error: stdout must be writable; got {error}. Free some space.", file=sys.stderr)
        return 2
    return None


def device_error(error: BaseException) -> UsageError | None:
    """What to say if `error` comes from JAX, which cannot open the device it is told to use; None
    if it comes from elsewhere.

    JAX opens it at the first array, wherever that is, and says of a platform that is not there
    anything between a RuntimeError and a bare AssertionError. So it is asked once more: the same
    answer is the reason.
    """
    open_devices = getattr(sys.modules.get("jax"), "devices", None)
    if open_devices is None:  # JAX is not loaded, or not as a whole
        return None
    try:
        open_devices()
    except Exception as reason:
        if not any(
            type(cause) is type(reason) and str(cause) == str(reason) for cause in _chain(error)
        ):
            return None
        told = os.environ.get("JAX_PLATFORMS")
        said = str(reason).strip().splitlines()
        what = f": {said[0]}" if said else ", which means that it is not installed or not there"
        got = f"{type(reason).__name__}{what}"
        return UsageError(
            "JAX can open the device that it is told to use",
            f"{f'JAX_PLATFORMS={told}: ' if told else ''}{got}",
            "Unset JAX_PLATFORMS (JAX takes the best device there is) or set it to cpu; for a GPU"
            " install JAX's package for it.",
        )
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what caused it, what caused that."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
