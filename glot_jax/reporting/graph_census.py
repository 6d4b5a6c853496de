"""The token graphs of a sample of stored texts: edges, density, tokens that stand alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.batches.token_choice import TokenChoice
from glot_jax.config.location import Location
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.graphs import Stem
from glot_jax.graphs.linking import BLOCK_PAIRS, slice_rows
from glot_jax.graphs.similarity import tokens_of
from glot_jax.model import ModelSpec
from glot_jax.store import HiddenStore
from glot_jax.training.measured import choose_tokens

CountText = Callable[[None, tuple[jax.Array, jax.Array]], tuple[None, jax.Array]]
"""The body of a scan over texts; see `_text_counter`."""

SAMPLE_SEED = 0
"""Seed of the sample: not the run's own, so that the cards of several seeds describe the same
texts.
"""
_CHUNK = 32  # texts read at once
_ROUND = 32  # padded lengths are multiples of it
QUANTILES = {"q05": 0.05, "q50": 0.5, "q95": 0.95}


@dataclasses.dataclass(frozen=True)
class Sample:
    """Distinct stored texts of all splits."""

    locations: tuple[tuple[str, int], ...]
    """(split, number of the text in it)"""
    lengths: np.ndarray
    """int64 [texts], tokens."""
    stored: int
    """Texts that there were to choose from."""


class Edges(NamedTuple):
    """Counts over each sampled text's graph; int64 [texts]."""

    all: np.ndarray
    """A token's own loop included."""
    others: np.ndarray
    """Edges between different tokens."""
    isolated: np.ndarray
    """Tokens that hear no other token."""
    tokens: np.ndarray
    """Tokens that take part; others are left out, as sinks or as the first ones."""


@dataclasses.dataclass(frozen=True)
class Spread:
    """Mean and quantiles over texts; None where there is no text."""

    mean: float | None
    q05: float | None
    q50: float | None
    q95: float | None

    @classmethod
    def over(cls, values: np.ndarray) -> Spread:
        """The spread of these values."""
        if len(values) == 0:
            return cls(None, None, None, None)
        quantiles = {}
        for name, share in QUANTILES.items():
            quantiles[name] = float(np.quantile(values, share))
        return cls(float(values.mean()), **quantiles)


@dataclasses.dataclass(frozen=True)
class GraphNumbers:
    """Means over the graphs of texts; numbers that no text decides are None."""

    edges_per_token: float | None
    """In-edges of a token, its own loop included; mean over texts with a token that takes part."""
    density: float | None
    """Edges between different tokens / n(n - 1); mean over texts of at least 2 tokens."""
    isolated: float | None
    """Share of all tokens that take part which hear no token but themselves."""


@dataclasses.dataclass(frozen=True)
class LayerNumbers:
    """The graphs of one stored layer, or of the mix of layers."""

    layer: int | str
    """Number of the layer, or "mix"."""
    own: bool
    """Whether the run reads it."""
    numbers: GraphNumbers

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        numbers = dataclasses.asdict(self.numbers)
        return {"layer": self.layer, "own": self.own, **numbers}


@dataclasses.dataclass(frozen=True)
class GraphCensus:
    """What the token graphs of a store's texts look like to a run."""

    store: Location
    content: str
    """Identity of the store."""
    sample: Sample
    graph: GraphNumbers | None
    """Of the states that the run reads; None: the run does not say which layer that is."""
    edges_per_token: Spread | None
    """The same, over texts."""
    layers: tuple[LayerNumbers, ...]
    """Of every stored layer by itself, and of the mix where layers are mixed."""

    @property
    def tokens(self) -> int:
        """Tokens of the sampled texts."""
        return int(self.sample.lengths.sum())

    @property
    def tokens_per_text(self) -> Spread:
        """Spread over the sampled texts."""
        return Spread.over(self.sample.lengths)

    def to_json(self) -> dict[str, Any]:
        """`sample`, `graph` and `layers` of the model card."""
        graph = None
        if self.graph is not None and self.edges_per_token is not None:
            graph = dataclasses.asdict(self.graph)
            # The spread takes the place of the mean, which it has among its numbers.
            graph["edges_per_token"] = dataclasses.asdict(self.edges_per_token)
        return {
            "sample": {
                "store": str(self.store),
                "content": self.content,
                "seed": SAMPLE_SEED,
                "texts": len(self.sample.locations),
                "texts_stored": self.sample.stored,
                "tokens": self.tokens,
                "tokens_per_text": dataclasses.asdict(self.tokens_per_text),
            },
            "graph": graph,
            "layers": [layer.to_json() for layer in self.layers],
        }


def census(
    path: Location,
    stem: Stem,
    spec: ModelSpec,
    texts: int,
    config: TrainConfig,
) -> GraphCensus:
    """Count the edges of the graphs that the stem links in a sample of a store's texts.

    Args:
        path: the store.
        stem: of the run; its rule, its tokens, its statistics and its mix of layers are used.
        spec: tells which layers the run reads.
        texts: at most this many distinct texts.
        config: of the run; tells which tokens of another layer would be left out.

    Raises:
        UsageError: a store without a text, or one that cannot be read.
    """
    # Not hashed: 512 texts would cost the reading of every byte of every layer. `glot store verify`
    # is there for that.
    stored = HiddenStore(path, trust=True)
    sample = draw_sample(stored, texts)
    stems = _StemsOfLayers(stem, spec, config, sample)
    # Each stored layer by itself, whether the run reads it or not.
    layers = []
    own: Edges | None = None
    for layer in stored.stored_layers:
        store = HiddenStore(path, layer=layer, trust=True)
        edges = _count(store, sample, stems.counter(store, layer))
        # Own layers are marked; of mixed ones the mix is what the run reads.
        is_own = layer in spec.layers
        layers.append(LayerNumbers(layer, is_own, _numbers(edges)))
        if is_own and not spec.mixed:
            own = edges
    if spec.mixed:
        # All mixed layers of a token at once: the stem weighs them.
        store = HiddenStore(path, layers=spec.layers, trust=True)
        own = _count(store, sample, _text_counter(stem))
        layers.append(LayerNumbers("mix", True, _numbers(own)))
    graph = None
    edges_per_token = None
    if own is not None:
        # A text without a token has no edges to share among its tokens.
        nonempty = own.tokens > 0
        graph = _numbers(own)
        per_token = own.all[nonempty] / own.tokens[nonempty]
        edges_per_token = Spread.over(per_token)
    return GraphCensus(
        store=path,
        content=stored.content,
        sample=sample,
        graph=graph,
        edges_per_token=edges_per_token,
        layers=tuple(layers),
    )


class _StemsOfLayers:
    """What links the states of one layer by itself, as the run links those that it reads.

    Of another layer nothing was measured when the run was trained: which of its tokens are sinks
    stands in the store, and its statistics are those of the sampled texts.
    """

    def __init__(self, stem: Stem, spec: ModelSpec, config: TrainConfig, sample: Sample):
        self._stem = stem
        self._spec = spec
        self._config = config
        self._sample = sample
        # A program is compiled for each of them: layers that are linked alike share one.
        self._counters: dict[TokenChoice, CountText] = {}

    def counter(self, store: HiddenStore, layer: int) -> CountText:
        """What counts the edges of a text of this layer, the only one that `store` reads."""
        read = layer in self._spec.layers
        # What the run reads is linked by its own stem; of a mix there is none for a single layer.
        if read and not self._spec.mixed:
            return _text_counter(self._stem)
        tokens = self._tokens(store, layer)
        if self._stem.graph_mean is not None:
            return _text_counter(self._with_statistics(self._plain(tokens), store, layer))
        if tokens not in self._counters:
            self._counters[tokens] = _text_counter(self._plain(tokens))
        return self._counters[tokens]

    def _tokens(self, store: HiddenStore, layer: int) -> TokenChoice:
        chosen = self._stem.tokens
        if layer in self._spec.layers:
            if chosen.sink_limits is None:
                return chosen
            index = self._spec.layers.index(layer)
            return TokenChoice(chosen.skip_first, (chosen.sink_limits[index],))
        # A store that counted no norms knows of no sinks, which is no mistake here.
        sinks = "keep" if self._config.sinks == "keep" else "auto"
        choice, _ = choose_tokens(store, dataclasses.replace(self._config, sinks=sinks))
        return choice

    def _plain(self, tokens: TokenChoice) -> Stem:
        """A stem of one layer with the run's rule and its threshold."""
        plain = Stem(self._stem.dim, config=self._stem.config, tokens=tokens, rngs=nnx.Rngs(0))
        if plain.tau is not None and self._stem.tau is not None:
            plain.tau[...] = self._stem.tau[...]
        return plain

    def _with_statistics(self, plain: Stem, store: HiddenStore, layer: int) -> Stem:
        if layer not in self._spec.layers:
            plain.set_graph_statistics(*_statistics(store, self._sample, plain.tokens))
            return plain
        index = self._spec.layers.index(layer)
        mean = self._stem.graph_mean
        deviation = self._stem.graph_deviation
        assert mean is not None  # else no statistics were asked for
        # Centred states have no deviation, and a stem that centres alone reads none.
        scale = np.ones(self._stem.dim) if deviation is None else deviation[...][index]
        plain.set_graph_statistics(mean[...][index], scale)
        return plain


def _statistics(
    store: HiddenStore, sample: Sample, tokens: TokenChoice
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation per dimension of the sampled texts' tokens."""
    total = np.zeros(store.dim)
    squares = np.zeros(store.dim)
    count = 0
    for split, text in sample.locations:
        states = tokens.of_text(store[split].states(text))
        total += states.sum(axis=0, dtype=np.float64)
        count += len(states)
    mean = total / max(count, 1)
    # Read again and not kept: all sampled states of a wide layer are gigabytes.
    for split, text in sample.locations:
        states = tokens.of_text(store[split].states(text))
        squares += np.square(states.astype(np.float64) - mean).sum(axis=0)
    return mean, np.sqrt(squares / max(count, 1))


def draw_sample(store: HiddenStore, texts: int) -> Sample:
    """Draw distinct texts of all splits with SAMPLE_SEED, sorted as they are stored.

    Args:
        store: any of its layers.
        texts: at most this many; a larger number keeps what a smaller one drew.

    Raises:
        UsageError: a store without a text.
    """
    lengths = {split: store[split].text_lengths for split in store}
    counts = [len(of_split) for of_split in lengths.values()]
    starts = np.cumsum([0, *counts])
    stored = int(starts[-1])
    if stored == 0:
        raise UsageError(
            rule="a graph must be described from stored texts",
            got=f"{store.path}, which has none",
            fix="Give another --store.",
        )
    # A permutation, of which a larger sample takes more: what was drawn stays drawn.
    order = np.random.default_rng(SAMPLE_SEED).permutation(stored)
    chosen = np.sort(order[:texts])
    # The split whose texts end behind the chosen number.
    splits = np.searchsorted(starts, chosen, side="right") - 1
    locations = []
    sampled = []
    for number, text in zip(splits, chosen, strict=True):
        split = store.splits[number]
        # Numbered on through all splits until here, from here on within its own.
        member = int(text - starts[number])
        locations.append((split, member))
        sampled.append(lengths[split][member])
    return Sample(tuple(locations), np.array(sampled, np.int64), stored)


def _count(
    store: HiddenStore,
    sample: Sample,
    count_text: CountText,
) -> Edges:
    """Edges of each text's graph, in the states that the store reads."""
    shape = (len(Edges._fields), len(sample.locations))
    # Texts without a token are in no chunk: their counts stay 0.
    counts = np.zeros(shape, np.int64)
    for members, hidden, mask in _chunks(store, sample):
        _, edges = jax.lax.scan(count_text, None, (jnp.asarray(hidden), jnp.asarray(mask)))
        # A chunk is filled up with empty texts, which are nobody's.
        real = np.asarray(edges)[: len(members)]
        counts[:, members] = real.T
    return Edges(*counts)


def _chunks(
    store: HiddenStore,
    sample: Sample,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Texts of one padded length, a chunk at a time.

    Yields (their numbers in the sample, hidden [chunk, length, (layers,) dim], mask [chunk,
    length]).

    Lengths are rounded up and chunks filled up with empty texts, so that few shapes are ever
    compiled.
    """
    dtypes = {store[split].dtype for split in store}
    # As a reader does where its shards differ.
    dtype = dtypes.pop() if len(dtypes) == 1 else np.float32
    # Rounded up: a floor of the negative number is its ceiling.
    padded = -(-sample.lengths // _ROUND) * _ROUND
    for length in np.unique(padded[padded > 0]).tolist():
        (group,) = np.nonzero(padded == length)
        cuts = range(_CHUNK, len(group), _CHUNK)
        for members in np.split(group, cuts):
            texts = []
            for member in members:
                split, text = sample.locations[member]
                states = store[split].states(text)
                texts.append(states.astype(dtype, copy=False))
            batch = TokenBatch.from_ragged(
                texts, sample.lengths[members], length=length, rows=_CHUNK
            )
            yield members, batch.hidden, batch.mask


def _text_counter(stem: Stem) -> CountText:
    """The body of a scan over texts.

    (nothing, (hidden [length, (layers,) dim], mask [length])) -> (nothing, int32 [4], the fields of
    Edges).

    A scan outside of jit is compiled whole, once per shape as long as its body is the same object:
    so one body serves all chunks. As in Stem.count_edges, no [length, length] array of a long text
    is ever built, but for a control, which is the dense backend's alone.
    """

    def count_text(
        _: None,
        text: tuple[jax.Array, jax.Array],
    ) -> tuple[None, jax.Array]:
        states, real = text
        # Linked as a batch of one text: rules know batches only.
        hidden = states[None]
        linking = stem.linking(hidden, stem.tokens(hidden, real[None]))
        tokens = tokens_of(linking.hidden, linking.mask)
        sentences = linking.sentences(tokens)
        taking_part = jnp.sum(tokens.mask, dtype=jnp.int32)
        if linking.control is not None:
            whole = linking.link(tokens, tokens, sentences)
            edges = linking.controlled(whole, tokens)
            return None, jnp.append(_marked(edges, tokens.mask, 0), taking_part)
        length = real.shape[0]
        # As many rows as keep a block at BLOCK_PAIRS pairs, and at least one.
        rows = min(length, max(1, BLOCK_PAIRS // length))
        padded = tokens.pad_rows(-length % rows)

        def count_block(start: jax.Array) -> jax.Array:
            block = slice_rows(padded, start, rows)
            linked = linking.link(block, padded, sentences, start)
            return _marked(linked, block.mask, start)

        starts = jnp.arange(0, padded.mask.shape[1], rows)
        blocks = jax.lax.map(count_block, starts)
        return None, jnp.append(jnp.sum(blocks, axis=0), taking_part)

    return count_text


def _marked(linked: jax.Array, mask: jax.Array, start: jax.Array | int) -> jax.Array:
    """Edges, edges between different tokens and tokens alone among some receivers, int32 [3].

    Args:
        linked: [1, rows, length] bool.
        mask: [1, rows] bool, of the receivers.
        start: place of the first receiver.
    """
    receivers = start + jnp.arange(linked.shape[-2])[:, None]
    senders = jnp.arange(linked.shape[-1])[None, :]
    is_other = receivers != senders
    others = linked & is_other[None]
    # Padding hears nobody and is not alone.
    alone = mask & ~jnp.any(others, axis=-1)
    # In the order of the fields of Edges.
    counts = [jnp.sum(marks, dtype=jnp.int32) for marks in (linked, others, alone)]
    return jnp.stack(counts)


def _numbers(edges: Edges) -> GraphNumbers:
    # Texts without a token, or without a pair, decide nothing about a mean.
    nonempty = edges.tokens > 0
    several = edges.tokens > 1
    # Ordered pairs of different tokens: an edge has a direction.
    pairs = edges.tokens[several] * (edges.tokens[several] - 1)
    tokens = edges.tokens.sum()
    isolated = None
    if tokens:
        isolated = float(edges.isolated.sum() / tokens)
    return GraphNumbers(
        edges_per_token=_mean(edges.all[nonempty] / edges.tokens[nonempty]),
        density=_mean(edges.others[several] / pairs),
        isolated=isolated,
    )


def _mean(values: np.ndarray) -> float | None:
    # Of nothing NumPy would say NaN, with a warning.
    if len(values):
        return float(values.mean())
    return None
