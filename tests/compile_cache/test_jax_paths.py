"""JAX reaches a folder of programs by a name, and what it reads there is whole."""

from __future__ import annotations

import numpy as np
import pytest
from etils import epath
from support.small_programs import compiled

from glot_jax.compile_cache import use_compile_cache
from glot_jax.compile_cache.jax_paths import ProgramPath, uri_of
from glot_jax.compile_cache.programs import ProgramFolder

pytestmark = pytest.mark.usefixtures("switchable")

X = np.linspace(-1, 1, 8).astype(np.float32)


def make_empty(content: bytes) -> bytes:
    return content[:0]


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def lengthen(content: bytes) -> bytes:
    return content + b"\0"


def test_a_path_that_jax_makes_is_that_of_the_folder(tmp_path):
    lines: list[str] = []
    folder = ProgramFolder(tmp_path, lambda: "jaxlib-1-cpu-a", most_bytes=1e6, say=lines.append)
    # As JAX does it.
    root = epath.Path(uri_of(folder))
    assert isinstance(root, ProgramPath)
    root.mkdir(parents=True, exist_ok=True)
    path = root / "key-cache"
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        path.read_bytes()
    assert path.write_bytes(b"program") == 7
    assert (root / "key-cache").exists()
    assert path.read_bytes() == b"program"
    assert folder.read("key-cache") == b"program"
    assert lines == []


@pytest.mark.parametrize("damage", [make_empty, cut, flip, lengthen])
def test_a_damaged_program_is_compiled_again_and_kept(tmp_path, damage):
    assert use_compile_cache(tmp_path / "cache")
    first, was_read = compiled(2)
    assert not was_read
    expected = np.asarray(first(X))
    files = list((tmp_path / "cache").glob("*/*.program"))
    for path in files:
        path.write_bytes(damage(path.read_bytes()))
    second, was_read = compiled(2)
    assert not was_read
    np.testing.assert_array_equal(second(X), expected)
    third, was_read = compiled(2)
    assert was_read
    np.testing.assert_array_equal(third(X), expected)


def test_another_option_of_xla_is_another_program(tmp_path):
    use_compile_cache(tmp_path / "cache")
    options = {"xla_cpu_enable_fast_math": True}
    for chosen in (None, options):
        assert not compiled(3, chosen)[1]
    for chosen in (options, None):
        assert compiled(3, chosen)[1]
