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
    r"""Print characters that a stream cannot encode as escapes from now on: `\xfc`.

    Names of files, classes and models may hold any character, and a finished run must not end in an
    error about its own summary.
    """
    for stream in streams:
        if not isinstance(stream, io.TextIOWrapper) or stream.errors in _LENIENT:
            # Somebody else's stream, or somebody's choice.
            continue
        # A stream that is closed (ValueError) is not worth an error either.
        with contextlib.suppress(io.UnsupportedOperation, ValueError):
            stream.reconfigure(errors="backslashreplace")


def refuse(error: UsageError) -> NoReturn:
    """One line on stderr, and exit code 2: bad input."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def end_of(error: Exception) -> None:
    """End the process with one line, or quietly, if the streams or the device are to blame.

    Returns for every other error, which then shows its traceback: it is ours.
    """
    if isinstance(error, OSError):
        code = output_error(error)
        if code is not None:
            sys.exit(code)
    reason = memory_error(error) or device_error(error)
    if reason is not None:
        refuse(reason)


def output_error(error: OSError) -> int | None:
    """The exit code if a standard stream could not be written to; None for any other error.

    A reader that has seen enough (`| head`) ends the command quietly, as it ends others; a full
    disk is told in one line.
    """
    if isinstance(error, BrokenPipeError):
        # Python would try to flush once more at its end, and say so. 141 = 128 + SIGPIPE, what a
        # shell reports of a program that the signal ended.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    # Without a file name it is taken for a stream's: our own files are written by `glot_jax.files`,
    # whose errors are UsageErrors.
    if error.errno == errno.ENOSPC and error.filename is None:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            print(f"error: stdout must be writable; got {error}. Free some space.", file=sys.stderr)
        return 2
    return None


def memory_error(error: BaseException) -> UsageError | None:
    """What to say if `error` comes from a device that is out of memory; None of any other error.

    Training and judging know themselves what to lower; this is of the other commands.
    """
    raised_by_jax = getattr(getattr(sys.modules.get("jax"), "errors", None), "JaxRuntimeError", ())
    for cause in _chain(error):
        if isinstance(cause, raised_by_jax) and "RESOURCE_EXHAUSTED" in str(cause):
            lines = str(cause).strip().splitlines()
            return UsageError(
                rule="the device's memory must hold the head and a batch of texts",
                got=lines[0],
                fix="Lower --batch-size, or compute where there is more memory: JAX_PLATFORMS=cpu.",
            )
    return None


def device_error(error: BaseException) -> UsageError | None:
    """What to say if `error` comes from JAX, which cannot open the device it is told to use.

    Returns:
        The error to show, or None if `error` comes from elsewhere.
    """
    open_devices = getattr(sys.modules.get("jax"), "devices", None)
    # Not imported for the question: an error without JAX is none of JAX's.
    # None: JAX is not loaded, or not as a whole.
    if open_devices is None:
        return None
    # JAX opens its device at the first array, wherever that is, and says of a platform that is
    # missing anything between a RuntimeError and a bare AssertionError. So it is asked once more:
    # the same answer is the reason.
    try:
        open_devices()
    except Exception as reason:
        if any(_same(cause, reason) for cause in _chain(error)):
            return _cannot_open(reason)
    return None


def _same(error: BaseException, other: BaseException) -> bool:
    # Exceptions compare by identity, and JAX made a new one for the second question.
    return type(error) is type(other) and str(error) == str(other)


def _cannot_open(reason: Exception) -> UsageError:
    lines = str(reason).strip().splitlines()
    # Some reasons have no text at all: the bare AssertionError of a platform without a plugin.
    if lines:
        received = f"{type(reason).__name__}: {lines[0]}"
    else:
        received = f"{type(reason).__name__}, which means that it is not installed or missing"
    platforms = os.environ.get("JAX_PLATFORMS")
    if platforms:
        received = f"JAX_PLATFORMS={platforms}: {received}"
    return UsageError(
        rule="JAX must be able to open the device that it is told to use",
        got=received,
        fix="Unset JAX_PLATFORMS (JAX takes the best device there is) or set it to cpu; for a GPU"
        " install JAX's package for it.",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, its cause, the cause of that."""
    # `raise ... from` sets the cause; an error raised while another is handled has a context alone.
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
