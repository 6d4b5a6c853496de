"""The model card of a trained run: its parameters by part, what its stem learned, and the token
graph it sees.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table

from glot_jax.config.train import TrainConfig, unread_options
from glot_jax.errors import UsageError, require
from glot_jax.graphs import Stem
from glot_jax.graphs.linking import BLOCK_PAIRS, Linking, slice_rows
from glot_jax.graphs.similarity import tokens_of
from glot_jax.model import ModelSpec, SentenceModel
from glot_jax.moved import renamed_keywords
from glot_jax.pooling import Glot
from glot_jax.store import HiddenStore
from glot_jax.training.evaluation import load_model
from glot_jax.training.run_folder import CheckpointName, RunFolder

SAMPLE_SEED = 0
"""Of the texts that are looked at: not the run's own, so that the cards of several seeds describe
the same texts.
"""
_CHUNK, _ROUND = 32, 32  # texts read at once; padded lengths are multiples
_QUANTILES = {"q05": 0.05, "q50": 0.5, "q95": 0.95}


@renamed_keywords(which="checkpoint")
def describe_run(
    run: str | os.PathLike[str],
    *,
    store: str | os.PathLike[str] | None = None,
    texts: int = 512,
    checkpoint: CheckpointName = "best",
) -> dict[str, Any]:
    """The model card of a run, as plain JSON values.

    - `parameters`: `parts`: per part (dotted path in the model, GNN layer by layer) its numbers,
      `trained` and `statistics` (running averages and the like, computed and not trained); sums for
      stem, pooler, head and all; counted from the checkpoint's tree
    - `learned`: `layer_weights`: softmax weights of mixed layers; `tau`: learned threshold. None
      where there is none
    - `rule`: of the graph, with the numbers it reads; tau as learned
    - `sample`: the store and the texts of it that are looked at; `tokens_per_text` with quantiles
    - `graph`: of the states the run reads, at its rule; see below
    - `layers`: the same of every stored layer by itself, `own` marks those the run reads; of mixed
      layers the mix too
    - `left_out`: why sample, graph or layers are None, in one line; None where they are not

    Of a graph: `edges_per_token` counts in-edges, a token's own loop included, mean and quantiles
    over texts with a token; `density` is edges between different tokens / n(n - 1), mean over texts
    of at least 2 tokens; `isolated` is the share of all tokens that hear no token but themselves.
    Numbers that no text decides are None.

    Args:
        run: run folder.
        store: store whose texts are looked at, of the run's backbone. Default: the run's own, if it
            is still there.
        texts: at most this many distinct stored texts of all splits, drawn with `SAMPLE_SEED`.
        checkpoint: "best" or "last".

    Raises:
        UsageError: no run folder, no checkpoint, no text to look at, or a given store that is none
            or of another backbone.
    """
    require(texts >= 1, "--texts is at least 1", texts, "Give for example --texts 512.")
    folder = RunFolder.open(run)
    config, spec = folder.config, folder.model
    model = load_model(folder.path, checkpoint)
    card: dict[str, Any] = {
        "run": str(folder.path),
        "checkpoint": checkpoint,
        "task": spec.task.name,
        "backbone": folder.backbone,
        "pooler": config.pooler.pooler,
        "dim": spec.dim,
        "layers_read": list(spec.layers),
        "mixed": spec.mixed,
        "parameters": _parameters(model),
        "learned": _learned(model.stem, spec, config),
        "rule": None,
        "sample": None,
        "graph": None,
        "layers": None,
        "left_out": _without_edges(model),
    }
    if card["left_out"] is None:
        card["rule"] = _rule(config, model.stem)
        path, card["left_out"] = _open(folder, None if store is None else Path(store))
        if path is not None:
            if not spec.layers:
                card["left_out"] = (
                    "the run does not say which layer it reads: of its graph there are only those"
                    " of the stored layers"
                )
            card |= _graphs(path, model.stem, spec, texts)
    return card


# --------------------------------------------------------------------------------------------------
# Parameters


def _parameters(model: SentenceModel) -> dict[str, Any]:
    _, trained, others = nnx.split(model, nnx.Param, ...)
    parts: dict[tuple[Any, ...], dict[str, int]] = {}
    for kind, state in (("trained", trained), ("statistics", others)):
        for path, variable in nnx.to_flat_state(state):
            part = parts.setdefault(_part(path), {"trained": 0, "statistics": 0})
            part[kind] += math.prod(variable.shape)
    stages = ("stem", "pooler", "head")
    ordered = sorted(
        parts,
        key=lambda part: (
            stages.index(part[0]),
            parts[part]["trained"] == 0,
            [*map(_place, part[1:])],
        ),
    )
    listed = [
        {"part": ".".join(map(str, part)), "type": _type(model, part), **parts[part]}
        for part in ordered
    ]
    sums = {
        stage: {
            kind: sum(counts[kind] for part, counts in parts.items() if part[0] in within)
            for kind in ("trained", "statistics")
        }
        for stage, within in [*((stage, (stage,)) for stage in stages), ("total", stages)]
    }
    return {"parts": listed, **sums}


def _part(path: Sequence[Any]) -> tuple[Any, ...]:
    """A module of a list, whatever is inside it; else the stage's direct member."""
    numbers = [place for place, name in enumerate(path) if isinstance(name, int)]
    return tuple(path[: numbers[0] + 1 if numbers else 2])


def _place(name: Any) -> tuple[int, str]:
    # Layer 10 comes after layer 9.
    return (name, "") if isinstance(name, int) else (0, str(name))


def _type(model: SentenceModel, part: Sequence[Any]) -> str:
    """Class of a part: GAT, AttentionReadout, Linear ...; Param or BatchStat of a lone array."""
    found: Any = model
    for name in part:
        found = found[name] if isinstance(name, int) else getattr(found, name)
    return type(found).__name__


# --------------------------------------------------------------------------------------------------
# What the stem learned


def _learned(stem: Stem, spec: ModelSpec, config: TrainConfig) -> dict[str, Any]:
    weights = stem.layer_weights()
    return {
        "layer_weights": (
            None
            if weights is None
            else [
                {"layer": layer, "weight": float(weight)}
                for layer, weight in zip(spec.layers, np.asarray(weights), strict=True)
            ]
        ),
        "tau": (
            None
            if stem.tau is None
            else {"initial": float(config.graph.tau), "learned": float(stem.tau[...])}
        ),
    }


def _rule(config: TrainConfig, stem: Stem) -> dict[str, Any]:
    """Name of the rule and the numbers it reads."""
    unread = unread_options(config.graph, config.pooler)
    numbers = {
        name: getattr(config.graph, name)
        for name in ("tau", "k", "window", "graph_seed")
        if name not in unread
    }
    if stem.tau is not None:
        numbers["tau"] = float(stem.tau[...])
    return {"graph": config.graph.graph, **numbers}


# --------------------------------------------------------------------------------------------------
# The token graph


class _Texts(NamedTuple):
    """Sampled texts."""

    places: list[tuple[str, int]]
    """(split, number of the text in it)"""
    lengths: np.ndarray
    """int64 [texts], tokens."""


class _Edges(NamedTuple):
    """Of each sampled text's graph; int64 [texts]."""

    all: np.ndarray
    others: np.ndarray
    """Edges between different tokens."""
    isolated: np.ndarray
    """Tokens that hear no other token."""


def _without_edges(model: SentenceModel) -> str | None:
    pooler = model.pooler
    if not pooler.uses_edges:
        return f"pooler {type(pooler).__name__} uses no edges: no graph is computed"
    if isinstance(pooler, Glot) and not pooler.gnn.layers:
        return "a glot of 0 layers hears along no edge: no graph is computed"
    return None


def _open(folder: RunFolder, given: Path | None) -> tuple[Path | None, str | None]:
    """The store to look at, or why there is none.

    A store that was asked for has to fit; the run's own may be gone.
    """
    if given is None:
        if not folder.store:
            return None, "the run was made without a store: name one of its backbone with --store"
        try:
            content = HiddenStore(folder.config.store, trust=True).content
        except UsageError as error:
            path = folder.config.store
            why = (
                f"cannot be read: {error}"
                if path.exists()
                else f"is not at {path} any more: name it, or one like it, with --store"
            )
            return None, f"the run's store {why}"
        if content != folder.store:
            return (
                None,
                (
                    f"{folder.config.store} holds another store than the one trained on: give it as"
                    " --store to look at it all the same"
                ),
            )
        return folder.config.store, None
    # An imported run knows neither its layers nor their recipe, and can only be compared by its
    # width.
    store = HiddenStore(given, layers=folder.model.layers or None, trust=True)
    changed = folder.fits(store.recipe)
    if store.dim != folder.model.dim:
        changed = [f"dim: {folder.model.dim} -> {store.dim}", *changed]
    require(
        not changed,
        "the store holds states of the run's backbone",
        "; ".join(changed),
        "Use the store the head was trained on, or one like it.",
    )
    return given, None


def _graphs(path: Path, stem: Stem, spec: ModelSpec, texts: int) -> dict[str, Any]:
    """`sample`, `graph` and `layers` of the card."""
    # Not hashed: 512 texts would cost the reading of every byte of every layer. `glot store verify`
    # is there for that.
    stored = HiddenStore(path, trust=True)
    sample, total = _sample(stored, texts)
    of_text = _edges_of_text(stem)
    layers: list[dict[str, Any]] = []
    own: _Edges | None = None
    for layer in stored.stored_layers:
        edges = _count(
            HiddenStore(path, layer=layer, trust=True), sample, lambda hidden: hidden, of_text
        )
        layers.append(
            {"layer": layer, "own": layer in spec.layers, **_summary(sample.lengths, edges)}
        )
        if not spec.mixed and layer in spec.layers:
            own = edges
    if spec.mixed:
        own = _count(HiddenStore(path, layers=spec.layers, trust=True), sample, stem.mix, of_text)
        layers.append({"layer": "mix", "own": True, **_summary(sample.lengths, own)})
    nonempty = sample.lengths > 0
    return {
        "sample": {
            "store": str(path),
            "content": stored.content,
            "seed": SAMPLE_SEED,
            "texts": len(sample.places),
            "texts_stored": total,
            "tokens": int(sample.lengths.sum()),
            "tokens_per_text": _spread(sample.lengths),
        },
        "graph": (
            None
            if own is None
            else {
                **_summary(sample.lengths, own),
                "edges_per_token": _spread(own.all[nonempty] / sample.lengths[nonempty]),
            }
        ),
        "layers": layers,
    }


def _sample(store: HiddenStore, texts: int) -> tuple[_Texts, int]:
    """Distinct texts of all splits, and how many there are to choose from."""
    lengths = {split: store[split].text_lengths for split in store}
    starts = np.cumsum([0, *map(len, lengths.values())])
    require(
        starts[-1] > 0,
        "a graph is described from stored texts",
        f"{store.path}, which has none",
        "Give another --store.",
    )
    chosen = np.sort(np.random.default_rng(SAMPLE_SEED).permutation(starts[-1])[:texts])
    splits = np.searchsorted(starts, chosen, side="right") - 1
    places = [
        (store.splits[split], int(text - starts[split]))
        for split, text in zip(splits, chosen, strict=True)
    ]
    return _Texts(
        places, np.array([lengths[split][text] for split, text in places], np.int64)
    ), int(starts[-1])


def _count(
    store: HiddenStore,
    texts: _Texts,
    mix: Callable[[jax.Array], jax.Array],
    of_text: Callable[..., Any],
) -> _Edges:
    """Edges of each text's graph; `mix` makes one layer of what the store holds."""
    found = np.zeros((len(_Edges._fields), len(texts.places)), np.int64)
    for members, hidden, mask in _chunks(store, texts):
        _, edges = jax.lax.scan(of_text, None, (mix(jnp.asarray(hidden)), jnp.asarray(mask)))
        found[:, members] = np.asarray(edges).T[:, : len(members)]
    return _Edges(*found)


def _chunks(
    store: HiddenStore, texts: _Texts
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Texts of one padded length: (their places in the sample, hidden [chunk, length, (layers,)
    dim], mask [chunk, length]).

    Lengths are rounded up and chunks filled up with empty texts, so that few shapes are ever
    compiled.
    """
    shape = store[store.splits[0]].token_shape
    dtypes = {store[split].dtype for split in store}
    dtype = (
        dtypes.pop() if len(dtypes) == 1 else np.float32
    )  # as a reader does where its shards differ
    padded = -(-texts.lengths // _ROUND) * _ROUND
    for length in np.unique(padded[padded > 0]).tolist():
        group = np.nonzero(padded == length)[0]
        for members in np.split(group, range(_CHUNK, len(group), _CHUNK)):
            hidden = np.zeros((_CHUNK, length, *shape), dtype)
            mask = np.zeros((_CHUNK, length), bool)
            for row, member in enumerate(members):
                split, text = texts.places[member]
                hidden[row, : texts.lengths[member]] = store[split].states(text)
                mask[row, : texts.lengths[member]] = True
            yield members, hidden, mask


def _edges_of_text(stem: Stem) -> Callable[..., tuple[None, jax.Array]]:
    """A scan's body: (nothing, (hidden [length, dim], mask [length])) -> (nothing, int32 [3], the
    fields of _Edges).

    A scan outside of jit is compiled whole, once per shape as long as its body is the same object:
    so one body serves all chunks and layers. As in Stem.count_edges, no [length, length] array of a
    long text is ever built.
    """
    options = stem.options()

    def of_text(_: None, text: tuple[jax.Array, jax.Array]) -> tuple[None, jax.Array]:
        hidden, mask = (of[None] for of in text)
        tokens = tokens_of(hidden, mask)
        linking = Linking(hidden, mask, hidden, stem.rule, options)
        sentences = linking.sentences(tokens)
        length = mask.shape[1]
        rows = min(length, max(1, BLOCK_PAIRS // length))
        padded = tokens.pad_rows(-length % rows)

        def of_block(start: jax.Array) -> jax.Array:
            block = slice_rows(padded, start, rows)
            linked = linking.link(block, padded, sentences, start)
            others = linked & (start + jnp.arange(rows)[:, None] != jnp.arange(linked.shape[-1]))
            alone = block.mask & ~jnp.any(others, axis=-1)
            return jnp.stack([jnp.sum(of, dtype=jnp.int32) for of in (linked, others, alone)])

        return None, jnp.sum(
            jax.lax.map(of_block, jnp.arange(0, padded.mask.shape[1], rows)), axis=0
        )

    return of_text


def _summary(lengths: np.ndarray, edges: _Edges) -> dict[str, float | None]:
    some, several = lengths > 0, lengths > 1
    tokens = lengths.sum()
    return {
        "edges_per_token": _mean(edges.all[some] / lengths[some]),
        "density": _mean(edges.others[several] / (lengths[several] * (lengths[several] - 1))),
        "isolated": float(edges.isolated.sum() / tokens) if tokens else None,
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _spread(values: np.ndarray) -> dict[str, float | None]:
    """Mean and quantiles over texts."""
    return {
        "mean": _mean(values),
        **{
            name: float(np.quantile(values, share)) if len(values) else None
            for name, share in _QUANTILES.items()
        },
    }


# --------------------------------------------------------------------------------------------------
# For people


def print_description(card: dict[str, Any], console: Console | None = None) -> None:
    """Print what `describe_run` found as tables. `console`: default stdout."""
    console = console or Console(highlight=False)
    layers = ", ".join(map(str, card["layers_read"]))
    read = f"layers {layers} mixed" if card["mixed"] else f"layer {layers or 'unknown'}"
    backbone = f" of {card['backbone']}" if card["backbone"] else ""
    _line(
        console,
        f"{card['run']} ({card['checkpoint']} checkpoint): {card['pooler']} for {card['task']}, on"
        f" {read}{backbone}, width {card['dim']}",
    )
    parameters = card["parameters"]
    rows = [
        [entry["part"], entry["type"], f"{entry['trained']:,}", f"{entry['statistics']:,}"]
        for entry in parameters["parts"]
    ]
    sums = [
        [name, "", f"{parameters[name]['trained']:,}", f"{parameters[name]['statistics']:,}"]
        for name in ("stem", "pooler", "head", "total")
    ]
    _table(console, "Parameters", ["part", "type", "trained", "statistics"], rows, sums)
    learned = card["learned"]
    if learned["layer_weights"] is not None:
        _table(
            console,
            "Learned weights of the mixed layers",
            ["layer", "weight"],
            [[str(of["layer"]), f"{of['weight']:.4f}"] for of in learned["layer_weights"]],
        )
    if learned["tau"] is not None:
        _line(
            console,
            f"\nLearned tau: {learned['tau']['learned']:.4f}, from {learned['tau']['initial']:g}",
        )
    if card["sample"] is not None:
        _print_graphs(card, console)
    if card["left_out"] is not None:
        _line(console, f"\n{card['left_out']}")


def _print_graphs(card: dict[str, Any], console: Console) -> None:
    sample, graph = card["sample"], card["graph"]
    rule = " ".join(
        [
            card["rule"]["graph"],
            *(f"{name} {value:.4g}" for name, value in card["rule"].items() if name != "graph"),
        ]
    )
    _line(
        console,
        f"\nOf {sample['store']}: {sample['texts']:,} of {sample['texts_stored']:,} texts,"
        f" {sample['tokens']:,} tokens",
    )
    spreads = [("tokens per text", sample["tokens_per_text"])]
    if graph is not None:
        spreads.append(("edges per token", graph["edges_per_token"]))
    rows = [
        [noun, *(_number(of[statistic]) for statistic in ("mean", *_QUANTILES))]
        for noun, of in spreads
    ]
    _table(console, f"Token graph: {rule}", ["over texts", "mean", "5 %", "50 %", "95 %"], rows)
    if graph is not None:
        _line(
            console,
            f"density {_share(graph['density'])}; {_share(graph['isolated'])} of the tokens hear no"
            " token but themselves",
        )
    rows = [
        [
            f"{'→ ' if entry['own'] else '  '}{entry['layer']}",
            _share(entry["density"]),
            _number(entry["edges_per_token"]),
            _share(entry["isolated"]),
        ]
        for entry in card["layers"]
    ]
    _table(
        console,
        f"Density by layer: {rule}; → read by the run",
        ["layer", "density", "edges per token", "tokens alone"],
        rows,
    )


def _table(
    console: Console, title: str, columns: Sequence[str], *sections: Sequence[Sequence[str]]
) -> None:
    """Numbers to the right; the first column, and a column of types, to the left."""
    table = Table()
    for column in columns:
        table.add_column(
            column, justify="left" if column in (columns[0], "type") else "right", no_wrap=True
        )
    for rows in sections:
        for row in rows:
            table.add_row(*row)
        table.add_section()
    _line(console, f"\n{title}")  # a table's own title would be broken at the table's width
    console.print(table)


def _line(console: Console, text: str) -> None:
    # Paths may hold brackets, which are no markup, and stay on one line so that they can be copied.
    console.print(text, markup=False, soft_wrap=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
