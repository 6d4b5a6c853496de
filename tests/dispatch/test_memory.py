"""Training keeps a step's memory for the next one.

Pages mapped by the system are counted, in a process of their own.
"""

import os
import platform
import subprocess
import sys

import jax
import pytest

from glot_jax.dispatch.memory import keep_memory, told_of_memory
from glot_jax.errors import UsageError

GLIBC = platform.libc_ver()[0] == "glibc"
SCRIPT = """
import resource, sys
from glot_jax.dispatch.memory import keep_memory
assert keep_memory() is (sys.argv[1] == "kept")
import jax, jax.numpy as jnp
x = jnp.ones((4000, 64))
call = jax.jit(lambda x: ((x @ x.T) @ x).sum())  # one block of 64 MB between the products
for _ in range(3):
    call(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    call(x).block_until_ready()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 3)
"""


def pages_a_call(which, **environment):
    names = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MALLOC_", "GLIBC_TUNABLES", "JAX_CPU_"))
    }
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, which],
        env={**names, **environment},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)


@pytest.mark.skipif(not GLIBC, reason="the thresholds are glibc's")
def test_no_page_is_mapped_again_at_every_step():
    block = 4000 * 4000 * 4 // 4096
    assert pages_a_call("kept") < block / 10
    # The same call without it, so that the count above can fail.
    assert pages_a_call("as it was", MALLOC_ARENA_MAX="8") > block / 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
        ("JAX_CPU_ENABLE_ASYNC_DISPATCH", "1"),
        ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"),
    ],
)
def test_what_the_user_decided_stays(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    assert keep_memory.__wrapped__() is False


def test_a_device_out_of_memory_is_told_and_nothing_else_is():
    full = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore")

    @told_of_memory("Lower it.")
    def fails(error):
        raise error

    with pytest.raises(
        UsageError, match=r"hold .* got RESOURCE_EXHAUSTED: .* 9 bytes\.\. Lower it"
    ):
        fails(full)
    for other in (jax.errors.JaxRuntimeError("INTERNAL: a bug"), KeyError("RESOURCE_EXHAUSTED")):
        with pytest.raises(type(other)) as raised:
            fails(other)
        assert raised.value is other
