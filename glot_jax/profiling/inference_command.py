"""Inference beside its frozen model: the graph's share of one text's time (paper Table 10), every
pooler's of a batch's (Table 16).

Texts are random tokens of the backbone's vocabulary, all of one length; their states are real.
Forward passes are those of extraction, copies to and from the device included. All times are of
this machine, in milliseconds, and it has to be idle: torch's threads wait for one another, so other
work slows the forward pass many times more than graph and head, and the shares come out too small
with narrow spreads. Records and tables therefore name the load.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.errors import lookup, require

if TYPE_CHECKING:
    from glot_jax.extraction import Backbone
    from glot_jax.profiling.inference import Timing

POOLERS = ("cls", "mean", "max", "adapool", "mlp", "glot")
_BATCHES = 2  # different ones: a pass must not be able to remember


def run_graph_cost(
    backbone: str = "minilm",
    lengths: Sequence[int] = (128, 512),
    repeats: int = 20,
    *,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Time one text of each length through backbone, graph construction and GLOT's head, apart;
    print and return a record a length.

    A record has backbone, load_per_core (1-minute average before the backbone is loaded), length,
    repeats; graph_ms, forward_ms, head_ms (medians) and graph_spread_ms, forward_spread_ms,
    head_spread_ms (quartiles [25 %, 75 %]); total_ms, the medians' sum; overhead_percent, 100
    graph_ms / total_ms. The head is GLOT's defaults on the graph that stands. Lengths are in
    tokens.

    Raises:
        UsageError: a length beyond the backbone's positions, or a backbone that cannot be run.
    """
    from glot_jax.profiling.inference import graph_cost, head_cost

    load, frozen, records = _load_per_core(), _load(backbone, lengths, repeats), []
    for length in lengths:
        forward, [(hidden, mask)] = _forward(frozen, 1, length, repeats, seed, batches=1)
        graph = graph_cost(hidden, mask, GraphConfig(), repeats)
        head = head_cost(hidden, mask, GraphConfig(), PoolerConfig(), repeats, kind=frozen.kind)
        total = graph.median_ms + forward.median_ms + head.median_ms
        records.append(
            {
                "backbone": frozen.source.name,
                "load_per_core": load,
                "length": length,
                "repeats": repeats,
                **_times(graph=graph, forward=forward, head=head),
                "total_ms": total,
                "overhead_percent": 100 * graph.median_ms / total,
            }
        )
    _print(
        f"Time of one text, {frozen.source.name}; ms, median (25–75 %) of {repeats}",
        load,
        ("tokens", "graph", "backbone forward", "head", "total", "graph / total"),
        [
            [
                f"{of['length']:,}",
                *(_cell(of, name) for name in ("graph", "forward", "head")),
                _ms(of["total_ms"]),
                f"{of['overhead_percent']:.2f} %",
            ]
            for of in records
        ],
    )
    return records


def run_inference_cost(
    backbone: str = "minilm",
    poolers: Sequence[str] = POOLERS,
    batch_size: int = 32,
    length: int = 128,
    repeats: int = 20,
    *,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Time a batch of `batch_size` texts of `length` tokens through the backbone and through each
    pooler; print and return a record a pooler.

    A record has backbone, load_per_core (as in `run_graph_cost`), pooler, batch_size, length,
    repeats; forward_ms, head_ms (medians; the head with its graph) and forward_spread_ms,
    head_spread_ms (quartiles [25 %, 75 %]); total_ms, the medians' sum; head_percent, 100 head_ms /
    total_ms; parameters (of the pooler); peak_bytes (of the head: states, parameters, temporaries
    and results, by XLA; nothing of the backbone's). The forward pass is the same for all and
    measured once, so that poolers differ by what they do themselves.

    Raises:
        UsageError: an unknown pooler, a length beyond the backbone's positions, or a backbone that
            cannot be run.
    """
    from glot_jax import pooling
    from glot_jax.profiling.inference import batch_of, pooler_cost

    for name in poolers:
        lookup(pooling.POOLERS, name, "pooler")
    require(
        len(poolers) > 0,
        "at least one pooler is measured",
        "none",
        f"Give some of {', '.join(POOLERS)}.",
    )
    require(batch_size >= 1, "a batch holds at least 1 text", batch_size, "Give for example 32.")
    load, frozen = _load_per_core(), _load(backbone, (length,), repeats)
    forward, states = _forward(frozen, batch_size, length, repeats, seed, batches=_BATCHES)
    batches = [batch_of(hidden, mask) for hidden, mask in states]
    records = []
    for name in poolers:
        cost = pooler_cost(
            GraphConfig(), PoolerConfig(pooler=name), batches, repeats, kind=frozen.kind
        )
        total = forward.median_ms + cost.time.median_ms
        records.append(
            {
                "backbone": frozen.source.name,
                "load_per_core": load,
                "pooler": name,
                "batch_size": batch_size,
                "length": length,
                "repeats": repeats,
                **_times(forward=forward, head=cost.time),
                "total_ms": total,
                "head_percent": 100 * cost.time.median_ms / total,
                "parameters": cost.parameters,
                "peak_bytes": cost.peak_bytes,
            }
        )
    _print(
        f"Time of {batch_size} texts of {length} tokens, {frozen.source.name}; ms, median (25–75 %)"
        f" of {repeats}",
        load,
        (
            "pooler",
            "backbone forward",
            "head",
            "total",
            "head / total",
            "parameters",
            "head's memory",
        ),
        [
            [
                of["pooler"],
                _cell(of, "forward"),
                _cell(of, "head"),
                _ms(of["total_ms"]),
                f"{of['head_percent']:.2f} %",
                f"{of['parameters']:,}",
                f"{of['peak_bytes'] / 1e6:,.1f} MB",
            ]
            for of in records
        ],
    )
    return records


def _load_per_core() -> float:
    """Processes that run or wait to, over the last minute, for each of the machine's cores."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def _load(backbone: str, lengths: Sequence[int], repeats: int) -> Backbone:
    from glot_jax.extraction import Backbone

    require(
        len(lengths) > 0 and min(lengths) >= 1,
        "texts have a length of at least 1 token",
        list(lengths),
        "Give for example 128.",
    )
    require(repeats >= 1, "a time is measured at least once", repeats, "Give for example 20.")
    # As a default a length may exceed the model's positions; `max_length` is then all that it has.
    frozen = Backbone(
        ExtractConfig(backbone=backbone, task="custom", out=Path("unwritten")),
        default_max_length=max(128, *lengths),
    )
    require(
        max(lengths) <= frozen.max_length,
        f"{frozen.source.name} has positions for texts of up to {frozen.max_length} tokens",
        f"a length of {max(lengths)}",
        f"Give {frozen.max_length} or less.",
    )
    return frozen


def _forward(
    frozen: Backbone, texts: int, length: int, repeats: int, seed: int, *, batches: int
) -> tuple[Timing, list[tuple[np.ndarray, np.ndarray]]]:
    """Time of one forward pass, and (hidden float32 [texts, length, dim], mask bool [texts,
    length]) of `batches` different ones.
    """
    from glot_jax.profiling.inference import timed

    drawn = [_random_texts(frozen, texts, length, seed + number) for number in range(batches)]
    time = timed(lambda: frozen.states(drawn[0]), repeats)
    hidden = [
        frozen.states(ids).layers[frozen.layers[0]].reshape(texts, length, frozen.dim)
        for ids in drawn
    ]
    return time, [(of, np.ones((texts, length), bool)) for of in hidden]


def _random_texts(frozen: Backbone, texts: int, length: int, seed: int) -> list[np.ndarray]:
    """Token ids [length] of each text, evenly from the vocabulary."""
    # Not the special ones: RoBERTa counts positions by the pad token.
    ids = sorted(set(frozen.tokenizer.get_vocab().values()) - set(frozen.tokenizer.all_special_ids))
    return list(np.random.default_rng(seed).choice(np.asarray(ids), (texts, length)))


def _times(**timings: Timing) -> dict[str, Any]:
    """NAME_ms and NAME_spread_ms of each, plain JSON values."""
    medians = {f"{name}_ms": of.median_ms for name, of in timings.items()}
    return medians | {f"{name}_spread_ms": list(of.spread_ms) for name, of in timings.items()}


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:,.1f}"


def _cell(record: dict[str, Any], name: str) -> str:
    low, high = record[f"{name}_spread_ms"]
    return f"{_ms(record[f'{name}_ms'])} ({_ms(low)}–{_ms(high)})"


def _print(title: str, load: float, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, caption=f"load per core before: {load:.2f}")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    # A pipe has no width of its own, and half a number helps nobody.
    console = Console()
    (console if console.is_terminal else Console(width=150)).print(table)
