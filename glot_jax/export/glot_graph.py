"""The token graph in PyTorch: who listens to whom in a batch of texts.

This file is copied into every exported folder, beside glot_head.py, and imports torch alone.
Axes: batch, length, dim. A mask is True at real tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def choose(table: Mapping[str, Any], name: str, noun: str) -> Any:
    """`table[name]`, or a ValueError that lists the names there are."""
    if name not in table:
        raise ValueError(f"unknown {noun}; got {name!r}. Known: {', '.join(sorted(table))}.")
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
        return self.edges | diagonal(self.edges)


def diagonal(like: Tensor) -> Tensor:
    """True on the diagonal, [length, length]."""
    position = torch.arange(like.shape[1], device=like.device)
    return position[:, None] == position


RULES = ("threshold", "knn", "window", "self", "complete")
"""Graph rules.

A sixth one of the training code, `random`, hangs on a hash of its stored states and is not here.
"""


def link(states: Tensor, mask: Tensor, rule: str, tau: Tensor, k: int, window: int) -> Tensor:
    """Edges [batch, length, length] of states [batch, length, dim] by one of RULES.

    threshold: cos > tau, strictly; a non-zero token is linked to itself, and at tau = 1 nothing is.
    knn: the k most similar tokens, itself always among them, ties to the earlier one; not
        symmetric.
    window: tokens at most `window` real tokens away.
    """
    real = mask[:, :, None] & mask[:, None]
    if rule == "complete":
        return real
    if rule == "self":
        return real & diagonal(mask)
    if rule == "window":
        # Distances count real tokens, whatever stands between them.
        rank = mask.long().cumsum(1)
        return real & ((rank[:, :, None] - rank[:, None]).abs() <= window)
    similarity, possible = cosines(states)
    possible = possible & real
    if rule == "threshold":
        # A token's cosine with itself is 1, but rounding may put it below a tau near 1.
        return possible & ((similarity > tau) | diagonal(mask)) & (tau < 1)
    # 2 is above every cosine: a token is the first among its neighbours.
    scores = similarity.masked_fill(diagonal(mask), 2.0).masked_fill(~possible, -torch.inf)
    # k columns more, for texts that have fewer tokens than that.
    least = F.pad(scores, (0, k), value=-torch.inf).topk(k).values[..., -1:]
    above = scores > least
    tied = scores == least
    # Ties go to the earlier token: as many of them as there is room for.
    room = k - above.sum(-1, keepdim=True)
    return possible & (above | (tied & (tied.long().cumsum(-1) <= room)))


def cosines(states: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines of the tokens, and where both are non-zero.

    Returns:
        cos(x_i, x_j) [batch, length, length], 0 where either is the zero vector; and bool [batch,
        length, length], True where neither is.
    """
    largest = states.abs().amax(-1, keepdim=True).clamp(2.0**-126, 2.0**126)
    # A power of two: dividing by it rounds nothing, and afterwards no product overflows.
    scaled = states / torch.exp2(largest.log2().floor() + 1)
    norm = scaled.square().sum(-1).sqrt()
    inverse = 1 / norm.clamp_min(1e-8)
    products = scaled @ scaled.transpose(1, 2)
    nonzero = norm > 0
    possible = nonzero[:, :, None] & nonzero[:, None]
    return products * inverse[:, :, None] * inverse[:, None], possible


class Stem(nn.Module):
    """Mix layers, link the mixed states, then standardise and project what the layers will see.

    States of several layers have an axis, [batch, length, mixed, dim].
    """

    # Buffers, which torch registers by name.
    tau: Tensor
    mean: Tensor | None
    deviation: Tensor | None

    def __init__(self, settings: HeadSettings):
        super().__init__()
        dim = settings.dim
        mixed = settings.mixed
        # Only the layers of a glot read edges; for all others no similarity is computed.
        reads_edges = settings.pooler == "glot" and settings.num_layers > 0
        if reads_edges:
            choose(dict.fromkeys(RULES), settings.graph, "graph rule")
        self.rule = settings.graph if reads_edges else None
        self.k = settings.k
        # Ranks of tokens are compared with it, in integers of the device.
        self.window = min(settings.window, 2**31 - 1)
        shape: tuple[int, ...] = (dim,)
        self.layer_scores = None
        if mixed is not None:
            shape = (mixed, dim)
            self.layer_scores = nn.Parameter(torch.zeros(mixed))
        tau = torch.tensor(settings.tau, dtype=torch.float32)
        # A tau that is not learned is a number of the settings, and not a weight in the file.
        self.register_buffer("tau", tau, persistent=settings.learn_tau)
        self.register_buffer("mean", torch.zeros(shape) if settings.standardise else None)
        self.register_buffer("deviation", torch.ones(shape) if settings.standardise else None)
        self.projection_kernel = None
        if settings.projection_dim is not None:
            self.projection_kernel = nn.Parameter(torch.zeros(dim, settings.projection_dim))

    def mix(self, states: Tensor) -> Tensor:
        """Weigh the axis of layers away, where there is one."""
        if self.layer_scores is None:
            return states
        return (states * self.layer_scores.softmax(0)[:, None]).sum(-2)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Graph, Tensor]:
        """The graph of a batch of texts, and the nodes that layers and poolers read."""
        # What stands at padding, be it nan, reaches nothing.
        padding = ~mask.view(*mask.shape, *[1] * (states.ndim - 2))
        states = states.float().masked_fill(padding, 0)
        nodes = states
        if self.mean is not None and self.deviation is not None:
            nodes = (states - self.mean) / self.deviation
        nodes = self.mix(nodes)
        if self.projection_kernel is not None:
            nodes = nodes @ self.projection_kernel
        edges = None
        if self.rule is not None:
            # Linked as they were stored: whatever the nodes become, edges come from raw states.
            edges = link(self.mix(states), mask, self.rule, self.tau, self.k, self.window)
        return Graph(mask, edges), nodes
