"""The sections of a report about tokens.

How long their states are by position; and of single sentences the weight of each token, and the
token graph.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from glot_jax.config.location import Location, StoreUrl
from glot_jax.errors import UsageError
from glot_jax.graphs import TokenGraph
from glot_jax.model import SentenceModel
from glot_jax.objectives.probabilities import LINKS, predicted, probabilities
from glot_jax.reporting import figures
from glot_jax.reporting.comparison import Variant
from glot_jax.reporting.pages import Block, Figure, Heading, Paragraph
from glot_jax.reporting.results import Result
from glot_jax.reporting.score_figures import page_colours
from glot_jax.reporting.tables import Cell, Column, Table
from glot_jax.run_folders.run_folder import RunFolder
from glot_jax.store.manifest import read_manifest
from glot_jax.store.norms import POSITIONS, LayerNorms, layer_norms

_SHOWN = ("adapool", "glot")
"""Poolers whose token weights are shown; the mean's are known without a run."""


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A text as the backbone of the runs sees it."""

    text: str
    tokens: tuple[str, ...]
    states: np.ndarray
    """[length, dim], or [length, layers, dim] where layers are mixed."""


@dataclasses.dataclass(frozen=True)
class _StoredLayer:
    """Norms of a layer of a store that runs were trained on."""

    task: str
    layer: int
    norms: LayerNorms
    is_read: bool


@dataclasses.dataclass(frozen=True)
class _Head:
    """A trained head whose tokens are shown."""

    label: str
    """Of its variant, as the tables have it."""
    folder: RunFolder


_BARS = "▁▂▃▄▅▆▇█"


def norm_section(results: Sequence[Result]) -> list[Block]:
    """Norms of the stored states by position, for the stores of the runs that are still there.

    Args:
        results: whose first run of each names its store. No store that counted norms: no section.
    """
    layers: dict[tuple[str | None, int], _StoredLayer] = {}
    for result in results:
        for variant in result.comparison.variants:
            run = variant.runs[0]
            for row in _stored_layers(result.comparison.task, run.config.store, run.folder):
                key = (run.folder.store, row.layer)
                # Variants and comparisons may read one store, and other layers of it.
                if key in layers and not row.is_read:
                    continue
                layers[key] = row
    rows = list(layers.values())
    if not rows:
        return []
    caption = (
        "Mean norm of the states at the first eight positions of a text and behind them, drawn on a"
        " logarithmic scale; a sink is a state of more than ten times the median. Bold: layers that"
        " the runs read."
    )
    table = Table.by_columns(_NORM_COLUMNS, rows, caption)
    return [Heading("How long the states are"), table]


def _stored_layers(task: str, store: Location, run: RunFolder) -> list[_StoredLayer]:
    # A report asks nobody on a network.
    if isinstance(store, StoreUrl):
        return []
    try:
        manifest = read_manifest(store)
    # Moved or removed: the page is about runs, and does without.
    except UsageError:
        return []
    if manifest.content != run.store:
        return []
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    rows = []
    for layer in manifest.recipe.layers:
        norms = layer_norms(shards, layer)
        if norms is not None:
            rows.append(_StoredLayer(task, layer, norms, layer in run.model.layers))
    return rows


def _bars(row: _StoredLayer) -> str:
    means = [row.norms.mean(slot) for slot in range(POSITIONS + 1)]
    logs = [math.log10(mean) for mean in means if mean]
    lowest = min(logs, default=0.0)
    # A power of ten at least: what is nearly equal shall look equal.
    width = max(max(logs, default=0.0) - lowest, 1.0)
    drawn = ""
    for mean in means:
        if not mean:
            drawn += " "
            continue
        share = (math.log10(mean) - lowest) / width
        drawn += _BARS[round(share * (len(_BARS) - 1))]
    return drawn


def _mean_text(row: _StoredLayer, slot: int) -> str:
    mean = row.norms.mean(slot)
    return "" if mean is None else f"{mean:,.4g}"


def _sinks_text(row: _StoredLayer) -> str:
    names = []
    for slot, count in row.norms.sinks().items():
        position = "later" if slot == POSITIONS else f"position {slot}"
        names.append(f"{count:,} at {position}" if slot < POSITIONS else f"{count:,} {position}")
    return ", ".join(names) or "none"


_NORM_COLUMNS: list[Column[_StoredLayer]] = [
    Column("task, layer", lambda row: Cell(f"{row.task}, {row.layer}", bold=row.is_read)),
    Column("median", lambda row: f"{row.norms.median():,.4g}"),
    Column("first token", lambda row: _mean_text(row, 0)),
    Column("second", lambda row: _mean_text(row, 1)),
    Column("later", lambda row: _mean_text(row, POSITIONS)),
    Column("by position", _bars),
    Column("sinks", _sinks_text),
]


def token_section(results: Sequence[Result], sentences: Sequence[Sentence]) -> list[Block]:
    """Figure 5 and the token graph of each sentence.

    The heads are those of the first seed, of the first task that has a glot.

    Args:
        results: searched in this order for a glot.
        sentences: with states of the width that the heads read. None: no section.
    """
    if not sentences:
        return []
    for result in results:
        shown = _shown_variants(result)
        if "glot" in shown:
            break
    else:
        return [Heading("Tokens"), Paragraph("No run of glot is here whose tokens could be shown.")]
    names = "; ".join(variant.label for variant in shown.values())
    blocks: list[Block] = [
        Heading("Tokens and their graph"),
        Paragraph(f"Heads trained on {result.comparison.task}, first seed: {names}."),
    ]
    # The first seed: a figure of one head, not of a mean that nobody trained.
    heads = {}
    for pooler, variant in shown.items():
        heads[pooler] = _Head(variant.label, RunFolder.open(variant.runs[0].path))
    # As everywhere on the page; the mean is shown without a run.
    colours = page_colours(results, ["mean"])
    for number, sentence in enumerate(sentences):
        blocks += _sentence_figures(sentence, number, heads, colours)
    return blocks


def _shown_variants(result: Result) -> dict[str, Variant]:
    """Pooler -> the variant of it that is shown."""
    # By pooler: a figure with two glots would not say which is which.
    shown: dict[str, Variant] = {}
    # The reference before other glots, which may have been given a wrong graph on purpose.
    ordered = sorted(
        result.comparison.variants, key=lambda variant: variant.label != result.reference
    )
    for variant in ordered:
        pooler = variant.runs[0].config.pooler.pooler
        if pooler in _SHOWN:
            shown.setdefault(pooler, variant)
    return shown


def _sentence_figures(
    sentence: Sentence,
    number: int,
    heads: Mapping[str, _Head],
    colours: Mapping[str, str],
) -> list[Figure]:
    length = len(sentence.tokens)
    # Every token counts alike; that needs no run.
    weights = {"mean": np.full(length, 1 / length)}
    adjacency = np.zeros((length, length), bool)
    answers = []
    for pooler, head in heads.items():
        model = head.folder.load_model()
        graph = _graph(model, sentence)
        # Of a batch of one sentence.
        (of_tokens,) = np.asarray(model.pooler.token_weights(graph))
        weights[head.label] = of_tokens
        if pooler == "glot":
            adjacency = _adjacency(graph, length)
        answer = _answer(head.folder, model, graph)
        if answer is not None:
            answers.append(f"{head.label}: {answer}")
    marked = heads["glot"].label
    caption = (
        f'The paper\'s Figure 5: weight of each token in the vector of "{sentence.text}".'
        f" Coloured: the three tokens that {marked} weighs most."
    )
    if answers:
        caption += f" Predicted by {', by '.join(answers)}."
    contributions = figures.plot_contributions(
        sentence.tokens,
        weights,
        marked,
        colours=colours,
    )
    # The diagonal is a token's own loop, which links no pair.
    edges = adjacency.sum() - length
    pairs = length * (length - 1)
    # A sentence of one token has no pair.
    density = edges / max(1, pairs)
    drawn = figures.plot_token_graph(sentence.tokens, _cosines(sentence.states), adjacency)
    return [
        Figure(f"tokens{number}", figures.svg(contributions), caption),
        Figure(
            f"graph{number}",
            figures.svg(drawn),
            f"Its token graph: cosines, and a dot for each edge; {density:.0%} of the pairs are"
            " linked.",
        ),
    ]


def _answer(folder: RunFolder, model: SentenceModel, graph: TokenGraph) -> str | None:
    """What a head says of a text: classes with their probabilities, or a score.

    None where it is asked about two texts, or ranks them.
    """
    task = model.spec.task
    objective = model.objective
    # Imported heads have none.
    if objective is None or len(task.roles) != 1:
        return None
    if task.label_kind not in (*LINKS, "regression"):
        return None
    outputs = np.asarray(model.outputs(graph), np.float32)
    if task.label_kind == "regression":
        score = objective.predict(outputs).item()
        return f"{score:.2f}"
    # Objectives of plugins may give something else than a logit for each class.
    if outputs.shape != (1, len(task.classes)):
        return None
    shares = probabilities(outputs, task, folder.temperature)
    # An index, or a flag for each class.
    (chosen,) = predicted(shares, task)
    if task.label_kind == "multilabel":
        indices = np.flatnonzero(chosen)
    else:
        indices = [int(chosen)]
    names = []
    for index in indices:
        share = shares[0, index]
        names.append(f"{task.classes[index]} ({share:.0%})")
    return ", ".join(names) or "none of the classes"


def _graph(model: SentenceModel, sentence: Sentence) -> TokenGraph:
    states = jnp.asarray(sentence.states, jnp.float32)[None]
    # A single text has no padding.
    mask = jnp.ones((1, len(sentence.tokens)), bool)
    return model.stem(states, mask)


def _adjacency(graph: TokenGraph, length: int) -> np.ndarray:
    """[length, length] bool of a single text without padding, [i, j] = edge j -> i."""
    edges = graph.edge_list()
    # A list may be longer than its edges; what is behind them belongs to no token.
    count = int(edges.n_edge[0])
    receivers = np.asarray(edges.receivers)[:count]
    senders = np.asarray(edges.senders)[:count]
    adjacency = np.zeros((length, length), bool)
    adjacency[receivers, senders] = True
    return adjacency


def _cosines(states: np.ndarray) -> np.ndarray:
    """Cosines [length, length] of token states; several layers count by their mean."""
    flat = states.astype(np.float64)
    if flat.ndim == 3:
        flat = flat.mean(axis=1)
    # A zero vector is near nothing, itself included.
    unit = flat / np.maximum(
        np.linalg.norm(
            flat,
            axis=-1,
            keepdims=True,
        ),
        1e-12,
    )
    return unit @ unit.T
