"""What XLA made of a step: memory, operations, fusions and scatters of the compiled program."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax
import jaxlib

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.model import SentenceModel
from glot_jax.training.step_functions import TrainState
from glot_jax.training.steps import Steps


@dataclasses.dataclass(frozen=True)
class Program:
    """Facts about the compiled steps of a head."""

    forward_peak_bytes: int
    """Temporaries and results of the forward pass, beyond states and parameters."""
    peak_bytes: int
    """Arguments, temporaries and results of the training step, or of the forward pass if that is
    all.
    """
    flops: float | None
    """By XLA's cost analysis; it counts the body of a loop once, so None unless dense."""
    bytes: float | None
    """Bytes accessed, by the same analysis."""
    fusions: int
    scatters: int
    """In the step as JAX hands it to XLA."""
    compilations: int
    compile_seconds: float


def inspect_program(
    steps: Steps,
    state: TrainState,
    batch: TokenBatch,
    *,
    backend: str,
    forward_only: bool,
) -> Program:
    """Read what the compiled steps say of themselves.

    Args:
        steps: after every step that is of interest has run once.
        state: of the training.
        batch: of the shape that was run.
        backend: what computes the graph; XLA counts the operations of dense ones alone.
        forward_only: the forward pass is shown, not the training step.
    """
    # Keys are (name of the step, shapes); all batches are of one shape.
    executables: dict[str, Any] = {}
    for (name, *_), executable in steps.executables.finished().items():
        executables[name] = executable
    # The forward pass is always compiled, the training step unless it is left out.
    forward = executables["evaluate"]
    shown = forward if forward_only else executables["train"]
    # The dense step has no loop, whose body XLA would count once.
    analysis = shown.cost_analysis() if backend == "dense" else {}
    memory = forward.memory_analysis()
    # As JAX hands it over: on a CPU, XLA turns scatters into loops.
    step = "evaluate" if forward_only else "train"
    lowered = steps.lower(step, state, batch).as_text()
    return Program(
        forward_peak_bytes=memory.temp_size_in_bytes + memory.output_size_in_bytes,
        peak_bytes=peak_bytes(shown),
        flops=analysis.get("flops"),
        bytes=analysis.get("bytes accessed"),
        fusions=len(re.findall(r"= \S.* fusion\(", shown.as_text())),
        scatters=len(re.findall(r"\bstablehlo\.scatter\b", lowered)),
        compilations=len(steps.executables),
        compile_seconds=steps.compile_seconds,
    )


def peak_bytes(executable: jax.stages.Compiled) -> int:
    """Arguments, temporaries and results of a compiled program, what is donated counted once."""
    memory: Any = executable.memory_analysis()
    # What is donated is an argument and a result at once.
    return (
        memory.argument_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
    )


def backend_of(
    model: SentenceModel,
    batch: TokenBatch,
    edge_budget: int | None,
) -> str:
    """What computes the graph of such a batch, "auto" resolved: dense, blockwise or sparse."""
    names = []

    def look(hidden: jax.Array, mask: jax.Array) -> None:
        graph = model.stem(hidden, mask, edge_budget=edge_budget)
        names.append(type(graph).__name__)

    # Traced for shapes alone: nothing is computed.
    jax.eval_shape(look, batch.hidden, batch.mask)
    # The classes are DenseGraph, BlockwiseGraph and SparseGraph.
    return names[0].removesuffix("Graph").lower()


def scatter_warning(backend: str) -> str | None:
    """A line about a known fault of XLA on NVIDIA GPUs, or None where it does not apply.

    It makes the sparse backend hundreds of times slower.
    """
    if backend != "sparse" or jax.default_backend() != "gpu":
        return None
    # Only digits: a development version ends in letters.
    digits = re.findall(r"(?:^|\.)(\d*)", jaxlib.__version__)[:3]
    version = tuple(int(number or 0) for number in digits)
    first_slow = (0, 10, 2)
    last_slow = (0, 11, 0)
    if not first_slow <= version <= last_slow:
        return None
    return (
        f"warning: jaxlib {jaxlib.__version__} adds float32 by atomics that were up to 450"
        " times slower in 0.10.2 to 0.11.0 on CUDA; the sparse backend scatters, so use dense"
        " or blockwise, or another jaxlib"
    )
