"""The token graph in PyTorch: who listens to whom in a batch of texts.

This file is copied into every exported folder, beside glot_head.py, and imports torch alone.
Axes: batch, length, dim. A mask is True at real tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Value = TypeVar("Value")
Setting = str | float | bool | Sequence[float | None] | None
"""A value of `HeadSettings`; a whole number is a float for type checkers."""


def zeros(*shape: int) -> nn.Parameter:
    """An array for a file to fill."""
    return nn.Parameter(torch.zeros(shape))


def require_known(names: Iterable[str], name: str, noun: str) -> None:
    """A ValueError that lists the names there are, unless `name` is one of them."""
    known = sorted(names)
    if name not in known:
        raise ValueError(f"unknown {noun}; got {name!r}. Known: {', '.join(known)}.")


def choose(table: Mapping[str, Value], name: str, noun: str) -> Value:
    """`table[name]`, or a ValueError that lists the names there are."""
    require_known(table, name, noun)
    return table[name]


@dataclasses.dataclass(frozen=True)
class HeadSettings:
    """Everything that fixes the arrays of a GlotHead and what it computes with them."""

    dim: int
    """Width of the states."""
    mixed: int | None = None
    """How many layers are mixed, if any."""
    pooler: str = "glot"
    """mean, max, first, last, adapool, adapool-attention, mlp or glot."""
    gnn: str = "gat"
    """Layers of a glot: gat, gcn, gin, gine or sage."""
    hidden_dim: int = 128
    """Width of the layers of glot and mlp."""
    num_layers: int = 2
    jk: str = "cat"
    """Jumping knowledge: cat, max, mean or none."""
    heads: int = 1
    """Heads of gat and of adapool-attention."""
    edge_term: bool = False
    """gat: a trained constant in every logit."""
    residual: bool = False
    virtual_node: bool = False
    scorer_dim: int = 128
    """Width of the readout's scorer."""
    graph: str = "threshold"
    """Rule of the edges, one of RULES; `link` says what tau, k and window are in it."""
    tau: float = 0.6
    learn_tau: bool = False
    """tau lies with the weights."""
    k: int = 8
    window: int = 4
    skip_first: int = 0
    """The first so many tokens of a text are left out."""
    sink_limits: Sequence[float | None] | None = None
    """Of each layer, the norm above which a token is left out; None: none is."""
    graph_states: str = "raw"
    """What is linked: raw, centred or standardised states, by statistics that lie with the weights.
    """
    token_norm: str = "none"
    """How each state is scaled after it is linked: none, rms or l2."""
    standardise: bool = False
    """States are standardised after they are linked, by statistics that lie with the weights."""
    projection_dim: int | None = None
    """Width to which the states are mapped after they are linked."""
    linear: bool = False
    """An embedding maps its pooled vector."""
    unit: bool = False
    """An embedding scales it to length 1."""


class Graph(NamedTuple):
    """Who listens to whom in a batch of texts."""

    mask: Tensor
    """[batch, length] bool."""
    edges: Any
    """[batch, length, length] bool: [b, i, j] is the edge j -> i, between real tokens only.

    None where nothing reads it.
    """

    def looped(self) -> Tensor:
        """The edges, and exactly one loop at every token, padding included: no row is empty."""
        # `|`, so that a loop which is among the edges does not count twice.
        return self.edges | diagonal(self.edges)


def diagonal(like: Tensor) -> Tensor:
    """True on the diagonal, [length, length]."""
    position = torch.arange(like.shape[1], device=like.device)
    return position[:, None] == position


def pairs(tokens: Tensor) -> Tensor:
    """Bool [batch, length] -> [batch, length, length], True where both tokens are."""
    return tokens[:, :, None] & tokens[:, None]


RULES = ("threshold", "knn", "window", "self", "complete")
"""Graph rules.

A sixth one of the training code, `random`, hangs on a hash of its stored states and is not here.
"""


def link(
    states: Tensor,
    mask: Tensor,
    rule: str,
    tau: Tensor,
    k: int,
    window: int,
) -> Tensor:
    """Edges [batch, length, length] of states [batch, length, dim] by one of RULES.

    threshold: cos > tau, strictly; a non-zero token is linked to itself, and at tau = 1 nothing is.
    knn: the k most similar tokens, itself always among them, ties to the earlier one; not
        symmetric.
    window: tokens at most `window` real tokens away.
    """
    real = pairs(mask)
    # Rules of positions first: no cosine is computed for them.
    if rule == "complete":
        return real
    if rule == "self":
        return real & diagonal(mask)
    if rule == "window":
        # Distances count real tokens, whatever stands between them.
        rank = mask.long().cumsum(1)
        distance = (rank[:, :, None] - rank[:, None]).abs()
        return real & (distance <= window)
    similarity, possible = cosines(states)
    possible = possible & real
    itself = diagonal(mask)
    if rule == "threshold":
        # A token's cosine with itself is 1, but rounding may put it below a tau near 1.
        linked = (similarity > tau) | itself
        return possible & linked & (tau < 1)
    # 2 is above every cosine: a token is the first among its neighbours.
    scores = similarity.masked_fill(itself, 2.0)
    scores = scores.masked_fill(~possible, -torch.inf)
    # k columns more, for texts that have fewer tokens than that.
    padded = F.pad(scores, (0, k), value=-torch.inf)
    least = padded.topk(k).values[..., -1:]
    above = scores > least
    tied = scores == least
    # Ties go to the earlier token: as many of them as there is room for.
    room = k - above.sum(-1, keepdim=True)
    fits = tied.long().cumsum(-1) <= room
    return possible & (above | (tied & fits))


def cosines(states: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines of the tokens, and where both are non-zero.

    Returns:
        cos(x_i, x_j) [batch, length, length], 0 where either is the zero vector; and bool [batch,
        length, length], True where neither is.
    """
    largest = states.abs().amax(-1, keepdim=True)
    # Within the exponents of normal float32 numbers, so that the power below is one too.
    largest = largest.clamp(2.0**-126, 2.0**126)
    # A power of two: dividing by it rounds nothing, and afterwards no product overflows.
    power = torch.exp2(largest.log2().floor() + 1)
    scaled = states / power
    norm = scaled.square().sum(-1).sqrt()
    inverse = 1 / norm.clamp_min(1e-8)
    # One matmul of the states as they are: no unit vectors are kept beside them.
    products = scaled @ scaled.transpose(1, 2)
    cosine = products * inverse[:, :, None]
    cosine = cosine * inverse[:, None]
    return cosine, pairs(norm > 0)


def normalised(states: Tensor, norm: str) -> Tensor:
    """States of a mean square of 1 (rms) or of length 1 (l2); a state of zeros stays one."""
    # By its largest entry first: its square need not be a float32 number.
    scaled = states / states.abs().amax(-1, keepdim=True).clamp_min(2.0**-126)
    square = scaled.square().sum(-1, keepdim=True)
    if norm == "rms":
        square = square / states.shape[-1]
    return scaled * square.clamp_min(2.0**-126).rsqrt()


class Stem(nn.Module):
    """Choose tokens, mix layers, link the mixed states, then make what the layers will see.

    States of several layers have an axis, [batch, length, mixed, dim].
    """

    # Buffers, which torch registers by name.
    tau: Tensor
    mean: Tensor | None
    deviation: Tensor | None
    graph_mean: Tensor | None
    graph_deviation: Tensor | None

    def __init__(self, settings: HeadSettings):
        super().__init__()
        dim = settings.dim
        mixed = settings.mixed
        # Only the layers of a glot read edges; for all others no similarity is computed.
        reads_edges = settings.pooler == "glot" and settings.num_layers > 0
        self.rule = None
        if reads_edges:
            require_known(RULES, settings.graph, "graph rule")
            self.rule = settings.graph
        self.k = settings.k
        # Ranks of tokens are compared with it, in integers of the device.
        self.window = min(settings.window, 2**31 - 1)
        self.skip_first = settings.skip_first
        self.sink_limits = settings.sink_limits
        require_known(("none", "rms", "l2"), settings.token_norm, "norm of a token")
        self.token_norm = settings.token_norm
        shape: tuple[int, ...] = (dim,)
        self.layer_scores = None
        if mixed is not None:
            # Every layer is standardised by itself, before they are mixed.
            shape = (mixed, dim)
            self.layer_scores = zeros(mixed)
        tau = torch.tensor(settings.tau, dtype=torch.float32)
        # A tau that is not learned is a number of the settings, and not a weight in the file.
        self.register_buffer("tau", tau, persistent=settings.learn_tau)
        mean = None
        deviation = None
        if settings.standardise:
            mean = torch.zeros(shape)
            deviation = torch.ones(shape)
        # Registered in any case, so that the attributes exist; None is not in the file.
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        kinds = ("raw", "centred", "standardised")
        require_known(kinds, settings.graph_states, "kind of linked states")
        centre = None
        scale = None
        if reads_edges and settings.graph_states != "raw":
            centre = torch.zeros(shape)
            if settings.graph_states == "standardised":
                scale = torch.ones(shape)
        self.register_buffer("graph_mean", centre)
        self.register_buffer("graph_deviation", scale)
        self.projection_kernel = None
        if settings.projection_dim is not None:
            self.projection_kernel = zeros(dim, settings.projection_dim)

    def mix(self, states: Tensor) -> Tensor:
        """Weigh the axis of layers away, where there is one."""
        if self.layer_scores is None:
            return states
        shares = self.layer_scores.softmax(0)[:, None]
        return (states * shares).sum(-2)

    def choose(self, states: Tensor, mask: Tensor) -> Tensor:
        """The tokens [batch, length] that take part; a text that would lose all keeps them."""
        chosen = mask
        if self.skip_first:
            rank = mask.long().cumsum(1) - 1
            chosen = mask & (rank >= self.skip_first)
        for layer, limit in enumerate(self.sink_limits or ()):
            if limit is None:
                continue
            of_layer = states if self.layer_scores is None else states[..., layer, :]
            norm = of_layer.square().sum(-1).sqrt()
            chosen = chosen & ~(norm > limit)
        # In logic, not by `where`, which ONNX Runtime lacks for booleans.
        is_empty = ~chosen.any(1, keepdim=True)
        return chosen | (mask & is_empty)

    def linked(self, states: Tensor) -> Tensor:
        """The states [batch, length, dim] whose cosines are taken."""
        if self.graph_mean is not None:
            states = states - self.graph_mean
        if self.graph_deviation is not None:
            states = states / self.graph_deviation
        return self.mix(states)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Graph, Tensor]:
        """The graph of a batch of texts, and the nodes that layers and poolers read."""
        # What stands at padding, be it nan, reaches nothing.
        axes_of_states = [1] * (states.ndim - 2)
        padding = ~mask.view(*mask.shape, *axes_of_states)
        # Filled and not multiplied: nan times 0 is nan.
        states = states.float().masked_fill(padding, 0)
        mask = self.choose(states, mask)
        nodes = states
        if self.token_norm != "none":
            nodes = normalised(nodes, self.token_norm)
        if self.mean is not None and self.deviation is not None:
            nodes = (nodes - self.mean) / self.deviation
        nodes = self.mix(nodes)
        if self.projection_kernel is not None:
            nodes = nodes @ self.projection_kernel
        edges = None
        if self.rule is not None:
            # Whatever the nodes become, edges come from the states as they were stored.
            edges = link(
                self.linked(states),
                mask,
                self.rule,
                self.tau,
                self.k,
                self.window,
            )
        return Graph(mask, edges), nodes
