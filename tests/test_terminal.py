"""What a command prints when it cannot print, and what it says about a device that is missing."""

from __future__ import annotations

import errno
import io
import sys
import types

import jax
import pytest

from glot_jax.errors import UsageError
from glot_jax.terminal import device_error, memory_error, output_error, print_anything, refuse


@pytest.mark.parametrize(
    "reason",
    [
        RuntimeError("Unable to initialize backend 'foo': not known\nmore"),
        AssertionError(),
        ValueError("no"),
    ],
)
def test_whatever_opening_the_device_raises_is_the_reason(monkeypatch, reason):
    def devices():
        raise type(reason)(*reason.args)

    monkeypatch.setitem(sys.modules, "jax", types.SimpleNamespace(devices=devices))
    monkeypatch.setenv("JAX_PLATFORMS", "foo")
    wrapped = OSError("wrapped")
    wrapped.__cause__ = reason
    for error in (reason, wrapped):
        found = device_error(error)
        assert found is not None
        assert f"JAX_PLATFORMS=foo: {type(reason).__name__}" in str(found)
        assert "\n" not in str(found)
    assert device_error(KeyError("a bug of ours")) is None


def test_a_device_out_of_memory_is_told_in_one_line():
    full = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocations:")
    wrapped = ValueError("wrapped")
    wrapped.__cause__ = full
    for error in (full, wrapped):
        said = str(memory_error(error))
        assert "RESOURCE_EXHAUSTED: Out of memory. Lower --batch-size" in said
        assert "\n" not in said
    assert memory_error(jax.errors.JaxRuntimeError("INTERNAL: a bug")) is None
    assert memory_error(ValueError("RESOURCE_EXHAUSTED: a disk")) is None


def test_a_stream_of_somebody_elses_choice_is_left_alone():
    strict, lenient = (
        io.TextIOWrapper(io.BytesIO(), "ascii", errors=errors) for errors in ("strict", "replace")
    )
    print_anything(strict, lenient, io.StringIO(), None)
    assert (strict.errors, lenient.errors) == ("backslashreplace", "replace")


def test_an_error_of_ours_is_one_line_and_code_2(capsys):
    with pytest.raises(SystemExit) as ended:
        refuse(UsageError(rule="--k must be at least 1", got=0, fix="Give 8."))
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: --k must be at least 1; got 0. Give 8.\n"


def test_an_error_of_a_file_is_not_one_of_a_stream():
    assert output_error(OSError(errno.ENOSPC, "No space left on device", "store/shard")) is None
    assert output_error(PermissionError("no")) is None
