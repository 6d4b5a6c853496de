"""What this machine can do at most.

Floating-point operations and bytes per second, measured in this process: of many ways to multiply
matrices and to copy arrays the fastest counts. What the ceiling rests on must not be the way in
which steps are compiled, or a step would be measured by itself.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glot_jax.xla.cpu_options import EIGEN, XLA, Options, compiled_with

FULL = "float32 at full precision"
"""Key of float32 products that may not be rounded to TensorFloat-32, as GPUs do by default: the
cosine's.
"""

Sizes = tuple[int, int, int]
"""Rows, summed columns and columns of a product."""

_SQUARES: tuple[Sizes, ...] = ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 4096, 4096))
# As a step has them: 32 texts of 128 tokens, times a matrix of weights.
_TALL: tuple[Sizes, ...] = ((4096, 384, 256), (4096, 768, 768))
# Nothing smaller keeps one busy, and each is a program to be compiled and tuned.
_ON_ACCELERATORS: tuple[Sizes, ...] = ((4096, 4096, 4096), (8192, 8192, 8192))
# Of the arrays that are copied, in bytes: from what a cache holds to what only the memory does.
_COPIES = (4 * 1024**2, 32 * 1024**2, 256 * 1024**2)

_SECONDS = 0.3
"""For the runs of a candidate, of which there are at least two."""
_MOST_SECONDS = 2.0
"""Of one run: what would take longer at the rate so far is left out."""
_ONE_THREAD: Options = {"xla_cpu_multi_thread_eigen": False}


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """What this machine reached in this process."""

    flops: Mapping[str, float]
    """Dtype, or FULL, -> floating-point operations per second of the fastest product."""
    bandwidth: float
    """Bytes per second, read and written, of the fastest copy of the largest array."""
    copies: Mapping[int, float] = dataclasses.field(default_factory=dict)
    """Bytes of an array -> bytes per second of its fastest copy."""
    reached_by: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Key of `flops`, or `copy` -> the sizes and options that reached it."""

    def bandwidth_for(self, moved: float) -> float:
        """Bytes per second that nothing which moves so many bytes can exceed.

        What fits into a cache is faster than the memory.
        """
        # A copy reads and writes. Less than the smallest copy was not measured.
        smaller = [size for size in self.copies if 2 * size <= moved]
        least = max(smaller, default=0)
        rates = [rate for size, rate in self.copies.items() if size >= least]
        return max(rates, default=self.bandwidth)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to multiply, or to copy."""

    name: str
    amount: float
    """Operations or bytes of a run."""
    prepare: Callable[[], Callable[[], object]]
    """Makes arrays and program; what it returns is one run."""


@dataclasses.dataclass(frozen=True)
class Reached:
    """The best rate among some candidates."""

    rate: float
    """Operations or bytes per second."""
    name: str
    """Of the candidate."""


def fastest(
    candidates: Iterable[Candidate],
    seconds_of: Callable[[Candidate], float],
    most_seconds: float = _MOST_SECONDS,
) -> Reached:
    """The best rate that any of the candidates reaches.

    Args:
        candidates: at least one; those that take longer come later.
        seconds_of: seconds of the fastest run of a candidate.
        most_seconds: a candidate whose run would take longer at the best rate so far is left out.
    """
    best: Reached | None = None
    for candidate in candidates:
        # The largest product takes a slow machine half a minute, and is not its best one.
        if best is not None and candidate.amount > most_seconds * best.rate:
            continue
        rate = candidate.amount / seconds_of(candidate)
        if best is None or rate > best.rate:
            best = Reached(rate, candidate.name)
    assert best is not None
    return best


@functools.cache
def measure_ceilings(dtypes: tuple[str, ...] = ("float32", FULL)) -> Ceilings:
    """Measure products of each dtype, and copies; each of them once in a process.

    About 15 s on a CPU of two cores. Of each candidate the best run counts: a ceiling is what the
    machine can do when nobody disturbs it.

    Args:
        dtypes: names of dtypes, or FULL; see `ceilings_of`.
    """
    flops: dict[str, float] = {}
    reached_by: dict[str, str] = {}
    for dtype in dtypes:
        reached = _fastest_product(dtype)
        flops[dtype] = reached.rate
        reached_by[dtype] = reached.name
    copies: dict[int, float] = {}
    for size in _COPIES:
        reached = _fastest_copy(size)
        copies[size] = reached.rate
        # Of the largest in the end.
        reached_by["copy"] = reached.name
    return Ceilings(flops, copies[_COPIES[-1]], copies, reached_by)


def best_of(several: Sequence[Ceilings]) -> Ceilings:
    """The best rates of several measurements of one machine, of the same dtypes.

    A ceiling that was measured while the machine did other work is too low; measured now and then,
    one of them is not.
    """
    flops: dict[str, float] = {}
    copies: dict[int, float] = {}
    reached_by: dict[str, str] = {}
    for dtype in several[0].flops:
        best = max(several, key=lambda ceilings: ceilings.flops[dtype])
        flops[dtype] = best.flops[dtype]
        reached_by[dtype] = best.reached_by[dtype]
    for size in several[0].copies:
        best = max(several, key=lambda ceilings: ceilings.copies[size])
        copies[size] = best.copies[size]
        reached_by["copy"] = best.reached_by["copy"]
    bandwidth = max(ceilings.bandwidth for ceilings in several)
    return Ceilings(flops, bandwidth, copies, reached_by)


def forget_ceilings() -> None:
    """Let the next call of `measure_ceilings` measure again."""
    for cached in (measure_ceilings, _fastest_product, _fastest_copy):
        cached.cache_clear()


@functools.cache
def _fastest_product(dtype: str) -> Reached:
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu and dtype == FULL:
        # A CPU rounds neither.
        return _fastest_product("float32")
    reached = fastest(_products(dtype), _fastest_run)
    if on_cpu and dtype != "float32":
        # What has fewer bits can always be multiplied as float32.
        wide = _fastest_product("float32")
        if wide.rate > reached.rate:
            return Reached(wide.rate, f"{wide.name}, in float32")
    return reached


@functools.cache
def _fastest_copy(size: int) -> Reached:
    return fastest(_copies(size), _fastest_run)


def _fastest_run(candidate: Candidate) -> float:
    call = candidate.prepare()
    spent: list[float] = []
    begin = time.perf_counter()
    # The first finds cold caches and memory that was never touched: it counts too, but another one
    # follows.
    while len(spent) < 2 or time.perf_counter() - begin < _SECONDS:
        started = time.perf_counter()
        jax.block_until_ready(call())
        spent.append(time.perf_counter() - started)
    # Other work makes a run longer, nothing makes it shorter.
    return min(spent)


def _products(dtype: str) -> Iterator[Candidate]:
    """Products of every shape in every way, the small ones first."""
    on_cpu = jax.default_backend() == "cpu"
    shapes = (*_SQUARES, *_TALL) if on_cpu else _ON_ACCELERATORS
    for sizes in sorted(shapes, key=_operations):
        rows, summed, columns = sizes
        shape = f"{rows} x {summed} x {columns}"
        for label, options in _options(on_cpu).items():
            build = functools.partial(_xla_product, dtype, sizes, options)
            yield Candidate(f"{shape}, {label}", _operations(sizes), build)
        # The machine's ceiling is asked for, and not XLA's.
        if on_cpu and dtype == "float32":
            build = functools.partial(_numpy_product, sizes)
            yield Candidate(f"{shape}, NumPy", _operations(sizes), build)


def _options(on_cpu: bool) -> dict[str, Options]:
    """XLA's options by what people call them."""
    if jax.default_backend() == "gpu":
        # XLA would tune kernels of its own for each product, half a minute of it.
        return {"the vendor's library": {"xla_gpu_enable_triton_gemm": False}}
    if not on_cpu:
        return {"XLA": XLA}
    return {
        "XLA's own choice": XLA,
        "Eigen": EIGEN,
        # Two threads of one core, or of a core that others use, are slower than one.
        "XLA's own choice on one thread": _ONE_THREAD,
        "Eigen on one thread": {**EIGEN, **_ONE_THREAD},
    }


def _operations(sizes: Sizes) -> float:
    rows, summed, columns = sizes
    # A product and a sum for each of the terms.
    return 2.0 * rows * summed * columns


def _matrices(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    rows, summed, columns = sizes
    # Random: some devices are faster on zeros, which draw less power.
    rng = np.random.default_rng(0)
    left = rng.standard_normal((rows, summed), np.float32)
    right = rng.standard_normal((summed, columns), np.float32)
    return left, right


def _xla_product(
    dtype: str,
    sizes: Sizes,
    options: Options,
) -> Callable[[], object]:
    precision = jax.lax.Precision.HIGHEST if dtype == FULL else None
    kept_as = "float32" if dtype == FULL else dtype
    rows, summed, columns = sizes
    # Random as those of NumPy, and made where they are multiplied.
    first, second = jax.random.split(jax.random.key(0))
    left = jax.random.normal(first, (rows, summed)).astype(kept_as)
    right = jax.random.normal(second, (summed, columns)).astype(kept_as)
    multiply = functools.partial(jnp.matmul, precision=precision)
    return _program(multiply, (left, right), options)


def _numpy_product(sizes: Sizes) -> Callable[[], object]:
    left, right = _matrices(sizes)
    return functools.partial(np.matmul, left, right)


def _copies(size: int) -> Iterator[Candidate]:
    """Copies of an array of this many bytes in every way."""
    # Each byte is read once and written once.
    moved = 2.0 * size
    mib = f"{size / 1024**2:g} MiB"
    yield Candidate(f"{mib}, XLA", moved, functools.partial(_xla_copy, size))
    if jax.default_backend() == "cpu":
        for threads in sorted({1, os.cpu_count() or 1}):
            name = f"{mib}, NumPy on {threads} threads"
            yield Candidate(name, moved, functools.partial(_numpy_copy, size, threads))


def _xla_copy(size: int) -> Callable[[], object]:
    # Four bytes each.
    array = jnp.zeros(size // 4, jnp.float32)
    # Plus one, because JAX hands an unchanged argument back without a copy.
    return _program(lambda values: values + 1, (array,), XLA)


def _numpy_copy(size: int, threads: int) -> Callable[[], object]:
    # Ones: the system maps zeros that nobody has written to one page.
    source = np.ones(size // 4, np.float32)
    target = np.ones(size // 4, np.float32)
    if threads == 1:
        return functools.partial(np.copyto, target, source)
    pool = ThreadPoolExecutor(threads)
    # Views: what is split is not copied.
    sources = np.array_split(source, threads)
    targets = np.array_split(target, threads)
    # NumPy lets go of the interpreter while it copies.
    return lambda: list(pool.map(np.copyto, targets, sources))


def _program(
    function: Callable[..., Any],
    arguments: tuple[jax.Array, ...],
    options: Options,
) -> Callable[[], object]:
    call = compiled_with(jax.jit(function).lower(*arguments), options)
    return functools.partial(call, *arguments)


def ceilings_of(states_dtype: str, dtype: str) -> tuple[str, ...]:
    """The dtypes whose rates the floor of a head needs.

    In a fixed order, so that `measure_ceilings` measures each set once.

    Args:
        states_dtype: dtype of the token states, in which the cosines are taken.
        dtype: dtype of the head.
    """
    cosines = FULL if states_dtype == "float32" else states_dtype
    return tuple(sorted({dtype, "float32", cosines}))
