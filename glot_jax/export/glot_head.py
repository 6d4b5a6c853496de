"""GLOT's pooling head in PyTorch: token states -> token graph, GNN, readout -> one vector per text.

This file is copied into every exported folder, beside glot_pooling.py and glot_graph.py, and
imports torch alone. It computes in float32 what the training code computes in evaluation: arXiv
2603.03389, section 3.2, with the layers of PyTorch Geometric.

Axes: batch, length (tokens of the longest text), dim, hidden. A mask is True at real tokens;
padding may stand on either side. Kernels are [in, out].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Relative, because it must hold in an exported folder as it does here.
from .glot_graph import Graph, HeadSettings, Stem, choose

Arrays = Any  # a torch.nn.ParameterDict: name -> array
Shapes = dict[str, tuple[int, ...]]


def make_arrays(shapes: Shapes) -> Arrays:
    """Arrays of zeros for a file to fill. Running statistics and GIN's epsilon have no gradient."""
    fixed = ("epsilon", "norm_mean", "norm_var")
    arrays = nn.ParameterDict()
    for name, shape in shapes.items():
        arrays[name] = nn.Parameter(torch.zeros(shape), name not in fixed)
    return arrays


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the real tokens of each text, [batch, length].

    Padding gets zeros, and so does all of a text without tokens.
    """
    scores = scores.masked_fill(~mask, -torch.inf)
    largest = scores.amax(1, keepdim=True)
    weights = (scores - largest.masked_fill(largest == -torch.inf, 0)).exp()
    # The largest weight is 1, so only a text without tokens has a total below it.
    return weights / weights.sum(1, keepdim=True).clamp_min(1)


def weighted_sum(nodes: Tensor, weights: Tensor) -> Tensor:
    """Sum of the tokens by weight: [batch, length, width] and [batch, length] -> [batch, width]."""
    return (weights[:, None] @ nodes)[:, 0]


def mean_of(nodes: Tensor, mask: Tensor) -> Tensor:
    """Mean of the real tokens, [batch, width]; zeros for a text without tokens."""
    return weighted_sum(nodes, mask.float()) / mask.sum(1, keepdim=True).clamp_min(1)


# Layers: (arrays, graph, nodes [batch, length, dim]) -> [batch, length, hidden]


def gat(arrays: Arrays, graph: Graph, nodes: Tensor) -> Tensor:
    """Graph attention: `softmax_j(leaky_relu(a_src . W u_j + a_dst . W u_i + c, 0.2))`.

    j runs over N(i) and i itself once; c is the edge term.
    """
    values = (nodes @ arrays["kernel"]).unflatten(-1, arrays["source"].shape)
    values = values.transpose(1, 2)  # [batch, heads, length, width]
    source = (values * arrays["source"][:, None]).sum(-1)
    target = (values * arrays["target"][:, None]).sum(-1)
    if "edge" in arrays:
        # Every edge has the attribute 1, so that its term is one number for each head.
        target = target + (arrays["edge"] * arrays["edge_kernel"]).sum(-1)[:, None]
    # Row i of the logits is the token that listens, column j the one that is heard.
    logits = F.leaky_relu(target[..., None] + source[:, :, None], 0.2)
    # With a loop everywhere no row is empty, so that no softmax is nan.
    weights = logits.masked_fill(~graph.looped()[:, None], -torch.inf).softmax(-1)
    return (weights @ values).transpose(1, 2).flatten(2) + arrays["bias"]


def gcn(arrays: Arrays, graph: Graph, nodes: Tensor) -> Tensor:
    """`D^-1/2 A D^-1/2 (U W) + b`, one loop at every token."""
    edges = graph.looped().float()
    scale = edges.sum(-1, keepdim=True).rsqrt()
    # D^-1/2 scales the rows before the sum over neighbours and after it: no matrix is scaled.
    values = scale * (nodes @ arrays["kernel"])
    return scale * (edges @ values) + arrays["bias"]


def gin(arrays: Arrays, graph: Graph, nodes: Tensor) -> Tensor:
    """Graph isomorphism: `MLP((1 + eps) u_i + sum_{j in N(i)} u_j)`.

    MLP is Linear, BatchNorm, relu, Linear; gine sends `relu(u_j + e)` in place of u_j.
    """
    sent = nodes
    if "edge_kernel" in arrays:
        sent = F.relu(nodes + arrays["edge_kernel"] + arrays["edge_bias"])
    # Edges as they are: a token that is linked to itself counts beside the (1 + eps) too.
    own = (1 + arrays["epsilon"]) * nodes
    total = own + graph.edges.float() @ sent
    values = total @ arrays["kernel"] + arrays["bias"]
    # BatchNorm in evaluation, by the statistics of training.
    inverse = (arrays["norm_var"] + 1e-5).rsqrt()
    centred = values - arrays["norm_mean"]
    normal = centred * inverse * arrays["norm_scale"] + arrays["norm_bias"]
    return F.relu(normal) @ arrays["out_kernel"] + arrays["out_bias"]


def sage(arrays: Arrays, graph: Graph, nodes: Tensor) -> Tensor:
    """`W [u_i ; mean_{j in N(i)} u_j] + b`; the mean of nothing is 0."""
    edges = graph.edges.float()
    degree = edges.sum(-1, keepdim=True)
    # Mapped before the mean, which is linear: hidden may be narrower than dim.
    heard = edges @ (nodes @ arrays["mean_kernel"]) / degree.clamp_min(1)
    return nodes @ arrays["root_kernel"] + heard + arrays["bias"]


def linear(arrays: Arrays, _graph: Graph, nodes: Tensor) -> Tensor:
    """`U W + b`, every token by itself: the layer of the pooler mlp."""
    return nodes @ arrays["kernel"] + arrays["bias"]


GNN_LAYERS: dict[str, Callable[[Arrays, Graph, Tensor], Tensor]] = {
    "gat": gat,
    "gcn": gcn,
    "gin": gin,
    "gine": gin,
    "sage": sage,
    "linear": linear,
}


def layer_shapes(gnn: str, dim: int, settings: HeadSettings) -> Shapes:
    """Arrays of a layer of GNN_LAYERS that takes nodes of width `dim`."""
    hidden = settings.hidden_dim
    plain: Shapes = {"kernel": (dim, hidden), "bias": (hidden,)}
    head = (settings.heads, hidden // settings.heads)
    normed = dict.fromkeys(("norm_scale", "norm_bias", "norm_mean", "norm_var"), (hidden,))
    mlp: Shapes = {
        "epsilon": (1,),
        **plain,
        **normed,
        "out_kernel": (hidden, hidden),
        "out_bias": (hidden,),
    }
    vectors = ["source", "target"]
    if settings.edge_term:
        vectors += ["edge", "edge_kernel"]
    shapes: dict[str, Shapes] = {
        "gat": {**plain, **dict.fromkeys(vectors, head)},
        "gcn": plain,
        "linear": plain,
        "gin": mlp,
        "gine": {**mlp, "edge_kernel": (dim,), "edge_bias": (dim,)},
        "sage": {"root_kernel": (dim, hidden), "mean_kernel": (dim, hidden), "bias": (hidden,)},
    }
    return choose(shapes, gnn, "GNN layer")


def residual_sum(arrays: Arrays, new: Tensor, old: Tensor) -> Tensor:
    """`LayerNorm(new + W old)`; W only where the width changes."""
    if "kernel" in arrays:
        old = old @ arrays["kernel"]
    scale = arrays["norm_scale"]
    return F.layer_norm(new + old, scale.shape, scale, arrays["norm_bias"], 1e-5)


def with_virtual_node(arrays: Arrays, graph: Graph, nodes: Tensor) -> Tensor:
    """`u_i + MLP(mean_j u_j)`."""
    mean = mean_of(nodes, graph.mask)
    heard = F.relu(mean @ arrays["hear_kernel"] + arrays["hear_bias"])
    return nodes + (heard @ arrays["speak_kernel"] + arrays["speak_bias"])[:, None]


class TokenGNN(nn.Module):
    """K layers, `U_k = relu(layer_k(U_{k-1}))`, then jumping knowledge.

    It is cat (U_0 .. U_K), max or mean (of U_1 .. U_K) or none (U_K).

    Args:
        dim: width of the nodes, U_0.
        settings: number, type and sizes of the layers.
    """

    def __init__(self, dim: int, settings: HeadSettings):
        super().__init__()
        # mlp's layers read no edges, and adapool reads out of the states themselves.
        gnn = settings.gnn if settings.pooler == "glot" else "linear"
        num_layers = 0 if settings.pooler == "adapool" else settings.num_layers
        hidden = settings.hidden_dim
        self.layer = choose(GNN_LAYERS, gnn, "GNN layer")
        choose(dict.fromkeys(("cat", "max", "mean", "none")), settings.jk, "jumping knowledge")
        # Of no layers there is nothing to choose from.
        self.jk = settings.jk if num_layers else "none"
        widths = [dim, *[hidden] * num_layers]
        normed: Shapes = {"norm_scale": (hidden,), "norm_bias": (hidden,)}
        node: Shapes = {}
        for name in ("hear", "speak"):
            node[f"{name}_kernel"] = (hidden, hidden)
            node[f"{name}_bias"] = (hidden,)
        self.layers = nn.ModuleList()
        self.residuals = nn.ModuleList()
        self.virtual_nodes = nn.ModuleList()
        for width in widths[:-1]:
            self.layers.append(make_arrays(layer_shapes(gnn, width, settings)))
            if settings.residual:
                # The first layer changes the width, and a map takes the old nodes along.
                shapes = normed if width == hidden else {**normed, "kernel": (dim, hidden)}
                self.residuals.append(make_arrays(shapes))
            if settings.virtual_node:
                self.virtual_nodes.append(make_arrays(node))
        self.width = sum(widths) if self.jk == "cat" else widths[-1]

    def forward(self, graph: Graph, nodes: Tensor) -> Tensor:
        """Nodes [batch, length, dim] -> [batch, length, width]."""
        states = [nodes]
        for k, arrays in enumerate(self.layers):
            nodes = F.relu(self.layer(arrays, graph, states[-1]))
            if len(self.residuals):
                nodes = residual_sum(self.residuals[k], nodes, states[-1])
            if len(self.virtual_nodes):
                nodes = with_virtual_node(self.virtual_nodes[k], graph, nodes)
            states.append(nodes)
        if self.jk == "cat":
            return torch.cat(states, -1)
        if self.jk == "none":
            return states[-1]
        # U_0 has another width, so max and mean leave it out.
        later = torch.stack(states[1:])
        if self.jk == "max":
            return later.amax(0)
        return later.mean(0)


# Poolers: (graph, nodes [batch, length, dim]) -> [batch, width]


class Glot(nn.Module):
    """Token-GNN, then the attention readout.

    `pi = softmax(v . tanh(W u_i + b) + b_v)`, `z = sum_i pi_i u_i`.
    """

    def __init__(self, gnn: TokenGNN, scorer_dim: int):
        super().__init__()
        self.width = gnn.width
        self.gnn = gnn
        self.readout: Arrays = make_arrays(
            {
                "kernel": (gnn.width, scorer_dim),
                "bias": (scorer_dim,),
                "vector": (scorer_dim,),
                "vector_bias": (),
            }
        )

    def forward(self, graph: Graph, nodes: Tensor) -> Tensor:
        """Nodes [batch, length, dim] -> vectors [batch, width]."""
        nodes = self.gnn(graph, nodes)
        readout = self.readout
        heard = torch.tanh(nodes @ readout["kernel"] + readout["bias"])
        scores = heard @ readout["vector"] + readout["vector_bias"]
        return weighted_sum(nodes, masked_softmax(scores, graph.mask))


class Static(nn.Module):
    """mean, max, first or last.

    The mean or the largest entries of the real tokens, or one of them.
    """

    def __init__(self, dim: int, pooler: str):
        super().__init__()
        self.width = dim
        self.pooler = pooler

    def forward(self, graph: Graph, nodes: Tensor) -> Tensor:
        """Nodes [batch, length, dim] -> vectors [batch, width]."""
        mask = graph.mask
        if self.pooler == "mean":
            return mean_of(nodes, mask)
        if self.pooler == "max":
            largest = nodes.masked_fill(~mask[..., None], -torch.inf).amax(1)
            return largest.masked_fill(~mask.any(1, keepdim=True), 0)
        # Counted over real tokens: on whichever side the padding stands.
        rank = mask.long().cumsum(1)
        last = rank[:, -1:]
        chosen = rank == (1 if self.pooler == "first" else last)
        return weighted_sum(nodes, (mask & chosen).float())


class AdaPoolAttention(nn.Module):
    """The text's mean asks, every token answers.

    `pi^h = softmax_i(q^h . W_k^h x_i / sqrt(dim))`, `z = W_o [sum_i pi_i^h W_v^h x_i]_h`.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.width = dim
        self.heads = heads
        self.query = nn.Parameter(torch.zeros(dim, dim))
        self.key = nn.Parameter(torch.zeros(dim, dim))
        self.value = nn.Parameter(torch.zeros(dim, dim))
        self.out = nn.Parameter(torch.zeros(dim, dim))

    def forward(self, graph: Graph, nodes: Tensor) -> Tensor:
        """Nodes [batch, length, dim] -> vectors [batch, width]."""
        split = (self.heads, self.width // self.heads)
        query = (mean_of(nodes, graph.mask) @ self.query).unflatten(-1, split)
        # The keys are never built: W_k goes to the query's side, which has one row for each head.
        mapped = torch.einsum("bhw,dhw->bhd", query, self.key.unflatten(-1, split))
        mapped = mapped / self.width**0.5
        scores = (nodes @ mapped.transpose(1, 2)).unbind(-1)
        weights = torch.stack([masked_softmax(head, graph.mask) for head in scores], 1)
        answers = torch.einsum("bhd,dhw->bhw", weights @ nodes, self.value.unflatten(-1, split))
        return answers.flatten(1) @ self.out


POOLERS = ("mean", "max", "first", "last", "adapool", "adapool-attention", "mlp", "glot")


class GlotHead(nn.Module):
    """Stem and pooler: token states -> one float32 vector per text.

    A text without tokens gets zeros.

    Args:
        dim: width of the states.
        options: further fields of `HeadSettings`.
    """

    def __init__(self, dim: int, **options: Any):
        super().__init__()
        settings = HeadSettings(dim, **options)
        width = settings.projection_dim or dim
        pooler = settings.pooler
        choose(dict.fromkeys(POOLERS), pooler, "pooler")
        if pooler in ("glot", "mlp", "adapool"):
            self.pooler: Any = Glot(TokenGNN(width, settings), settings.scorer_dim)
        elif pooler == "adapool-attention":
            self.pooler = AdaPoolAttention(width, settings.heads)
        else:
            self.pooler = Static(width, pooler)
        # Width of a vector; the map of an embedding does not change it.
        self.width: int = self.pooler.width
        self.unit = settings.unit
        shapes: Shapes = {}
        if settings.linear:
            shapes = {"kernel": (self.width, self.width), "bias": (self.width,)}
        self.out = make_arrays(shapes)
        self.stem = Stem(settings)

    def forward(self, token_embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        """Vectors [batch, width] of texts.

        Args:
            token_embeddings: [batch, length, dim], or [batch, length, mixed, dim] of several
                layers.
            attention_mask: [batch, length].
        """
        pooled = self.pooler(*self.stem(token_embeddings, attention_mask.bool()))
        if len(self.out):
            pooled = pooled @ self.out["kernel"] + self.out["bias"]
        if self.unit:
            pooled = pooled / pooled.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-8)
        return pooled
