"""What is read instead of compiled is counted, by thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from support.small_programs import compiled

from glot_jax.compile_cache import hits, hits_of_thread, use_compile_cache
from glot_jax.compile_cache.hits import count_hits

pytestmark = pytest.mark.usefixtures("switchable")


def test_programs_are_counted_once_however_often_counting_begins(tmp_path):
    use_compile_cache(tmp_path / "cache")
    count_hits()
    assert not compiled(5)[1]
    # It was read back from here on.
    before = hits()
    mine = hits_of_thread()
    assert compiled(5)[1]
    assert hits() == before + 1
    assert hits_of_thread() == mine + 1


def test_threads_know_which_of_their_programs_were_read(tmp_path):
    use_compile_cache(tmp_path / "cache")
    old = range(10, 14)
    new = range(20, 24)
    for factor in old:
        compiled(factor)
    before = hits()
    mine = hits_of_thread()
    factors = [factor for pair in zip(old, new, strict=True) for factor in pair]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(compiled, factors))
    for factor, (program, was_read) in zip(factors, results, strict=True):
        assert was_read == (factor in old)
        np.testing.assert_allclose(program(np.ones(8, np.float32)), np.tanh(factor), rtol=1e-6)
    assert hits() == before + len(old)
    assert hits_of_thread() == mine


def test_other_events_are_no_hits(tmp_path):
    use_compile_cache(tmp_path / "cache")
    before = hits()
    jax.monitoring.record_event("/jax/compilation_cache/cache_misses")
    assert hits() == before
