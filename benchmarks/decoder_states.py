r"""A decoder's states beside an encoder's: sinks, near-complete graphs, large numbers.

    python benchmarks/decoder_states.py --data DIR/stsb --task stsb --backbone smollm2

Per layer: the longest and the median state, the largest number in it (float16 holds 65504), how
much of the states' mean square one vector has (train.py standardises above .4), and the share of
the pairs of different tokens of a text whose cosine is above tau, of raw, centred and standardised
states. Then how far states move if texts are padded, if the forward pass runs in bfloat16 or
float16, and if the beginning-of-text token is put before every text. Writes
benchmarks/results/decoder_states.json; another backbone goes into a file of its own:

    python benchmarks/decoder_states.py --data DIR/stsb --backbone minilm --layers 1 2 3 4 5 6 \
        --name encoder_states
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from benchmark import Benchmark, run

from glot_jax.batches.state_statistics import common_share
from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.extraction import Backbone
from glot_jax.texts import open_task

SINK = 10.0
"""Times the median norm, above which a state is a sink: as in the store's statistics."""

Ragged = list[np.ndarray]
"""States of some texts at one layer, [tokens, dim] each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderStates(Benchmark):
    """Norms, graphs and dtypes of a backbone's states, layer by layer."""

    data: Path
    """Folder of the task."""
    task: str = "stsb"
    backbone: str = "smollm2"
    layers: tuple[int, ...] = (5, 10, 15, 20, 25, 30)
    texts: int = 400
    """The first so many training texts."""
    moved_texts: int = 32
    """Those of them that are computed again with each change: half precision takes a CPU without
    instructions for it a hundred times as long."""
    tau: float = 0.6
    name: str = "decoder_states"
    """Of the file of results."""

    def smaller(self) -> DecoderStates:
        """See Benchmark.smaller."""
        return dataclasses.replace(self, backbone="minilm", layers=(3, 6), texts=8)


def states_of(backbone: Backbone, ids: list[list[int]], *, together: int = 1) -> dict[int, Ragged]:
    """States of every layer; `together` texts share a pass, which pads them."""
    result: dict[int, Ragged] = {layer: [] for layer in backbone.layers}
    for first in range(0, len(ids), together):
        batch = ids[first : first + together]
        states = backbone.states(batch)
        ends = np.cumsum([len(text) for text in batch])[:-1]
        for layer, array in states.layers.items():
            result[layer] += np.split(array.astype(np.float64), ends)
    return result


def density(states: Ragged, tau: float) -> float:
    """Share of the pairs of different tokens of a text whose cosine is above tau."""
    linked = pairs = 0
    for tokens in states:
        unit = tokens / np.maximum(np.linalg.norm(tokens, axis=1, keepdims=True), 1e-300)
        first, second = np.triu_indices(len(tokens), 1)
        linked += int(np.sum(np.sum(unit[first] * unit[second], axis=1) > tau))
        pairs += len(first)
    return linked / max(pairs, 1)


def without_sinks(states: Ragged) -> Ragged:
    """The states that are not sinks."""
    limit = SINK * float(np.median(np.linalg.norm(np.concatenate(states), axis=1)))
    return [tokens[np.linalg.norm(tokens, axis=1) <= limit] for tokens in states]


def layer_facts(states: Ragged, tau: float) -> dict[str, float]:
    """Norms and densities of one layer."""
    joint = np.concatenate(states)
    norms = np.linalg.norm(joint, axis=1)
    kept = without_sinks(states)
    tokens = np.concatenate(kept)
    mean = tokens.mean(axis=0)
    deviation = tokens.std(axis=0)
    centred = [text - mean for text in kept]
    standardised = [text / np.where(deviation > 0, deviation, 1) for text in centred]
    return {
        "median_norm": float(np.median(norms)),
        "largest_norm": float(norms.max()),
        "sinks": float(len(joint) - len(tokens)),
        "tokens": float(len(joint)),
        "common_share": common_share(kept),
        "largest_number": float(np.abs(joint).max()),
        "density_all_tokens": density(states, tau),
        "density_without_sinks": density(kept, tau),
        "density_centred": density(centred, tau),
        "density_standardised": density(standardised, tau),
    }


def distances(states: Ragged, others: Ragged) -> dict[str, float]:
    """How far states moved, relative to their own length: median, largest, and how many broke."""
    first = np.concatenate(states)
    second = np.concatenate(others)
    is_finite = np.isfinite(second).all(axis=1)
    moved = np.linalg.norm(second - first, axis=1) / np.linalg.norm(first, axis=1)
    return {
        "median": float(np.median(moved[is_finite])),
        "largest": float(moved[is_finite].max()),
        "not_finite": float(np.sum(~is_finite)),
    }


def compared(bench: DecoderStates, whole: dict[int, Ragged], ids: list[list[int]]) -> dict:
    """Layer -> how far its states move, for each change of how they are computed."""
    changes: dict[str, Any] = {}
    padded = states_of(load(bench), ids, together=32)
    changes["padded to the longest of 32"] = padded
    for dtype in ("bfloat16", "float16"):
        try:
            changes[dtype] = states_of(load(bench, compute_dtype=dtype), ids)
        except UsageError as error:
            # A probe may find that a dtype cannot run the model at all, which is the answer.
            print(f"{dtype}: {error}")
    try:
        backbone = load(bench, add_bos=True)
        added = len(backbone.tokenize(["a"]).ids[0]) - len(load(bench).tokenize(["a"]).ids[0])
        longer = [backbone.tokenize(["a"]).ids[0][:added] + text for text in ids]
        with_bos = states_of(backbone, longer)
        changes["add_bos"] = {
            layer: [text[added:] for text in states] for layer, states in with_bos.items()
        }
    except UsageError as error:
        print(f"add_bos: {error}")
    return {
        name: {str(layer): distances(whole[layer], states[layer]) for layer in whole}
        for name, states in changes.items()
    }


def load(bench: DecoderStates, **options: str | bool) -> Backbone:
    """The backbone on the CPU, in float32 unless another dtype is given."""
    settings: dict[str, Any] = {"compute_dtype": "float32", "device": "cpu", **options}
    config = ExtractConfig(
        backbone=bench.backbone,
        task=bench.task,
        data=bench.data,
        out=Path("unused"),
        layers=bench.layers,
        **settings,
    )
    return Backbone(config)


def main(bench: DecoderStates) -> None:
    """Measure, print a table, and write `decoder_states.json`."""
    backbone = load(bench)
    config = ExtractConfig(
        backbone=bench.backbone, task=bench.task, data=bench.data, out=Path("unused")
    )
    texts: list[str] = []
    for row in open_task(config).splits["train"]:
        texts.extend(row.texts)
        if len(texts) >= bench.texts:
            break
    ids = backbone.tokenize(texts[: bench.texts]).ids
    whole = states_of(backbone, ids)
    facts = {str(layer): layer_facts(states, bench.tau) for layer, states in whole.items()}
    tokenizer = backbone.tokenizer
    special = {
        "bos": tokenizer.bos_token,
        "eos": tokenizer.eos_token,
        "pad": tokenizer.pad_token,
        "added": tokenizer.convert_ids_to_tokens(tokenizer("")["input_ids"]),
    }
    print(f"special tokens: {special}")
    print(
        "layer  median  longest  sinks  largest |x|  common"
        f"   pairs above {bench.tau}: all, no sinks, centred, standardised"
    )
    for layer, row in facts.items():
        print(
            f"{layer:>5} {row['median_norm']:7.1f} {row['largest_norm']:8.0f} {row['sinks']:6.0f}"
            f" {row['largest_number']:12.1f} {row['common_share']:7.3f}"
            f"   {row['density_all_tokens']:.3f}"
            f" {row['density_without_sinks']:.3f} {row['density_centred']:.3f}"
            f" {row['density_standardised']:.3f}"
        )
    # One text a pass gave each text its own arrays.
    few = {layer: states[: bench.moved_texts] for layer, states in whole.items()}
    moved = compared(bench, few, ids[: bench.moved_texts])
    for name, layers in moved.items():
        for layer, row in layers.items():
            print(
                f"{name}, layer {layer}: states move by {row['median']:.2g} of their length"
                f" (largest {row['largest']:.2g}), {row['not_finite']:.0f} not finite"
            )
    bench.write(
        bench.name,
        {
            "backbone": bench.backbone,
            "task": bench.task,
            "texts": len(ids),
            "moved_texts": min(len(ids), bench.moved_texts),
            "tau": bench.tau,
            "special_tokens": special,
            "layers": facts,
            "moved": moved,
        },
    )


if __name__ == "__main__":
    run(DecoderStates, main)
