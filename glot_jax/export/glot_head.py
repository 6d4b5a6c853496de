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
from .glot_graph import (
    Graph,
    HeadSettings,
    Setting,
    Stem,
    choose,
    require_known,
    zeros,
)

Arrays = Any  # a torch.nn.ParameterDict: name -> array
Shapes = dict[str, tuple[int, ...]]


def make_arrays(shapes: Shapes) -> Arrays:
    """Arrays of zeros for a file to fill. Running statistics and GIN's epsilon have no gradient."""
    fixed = ("epsilon", "norm_mean", "norm_var")
    arrays = nn.ParameterDict()
    for name, shape in shapes.items():
        # Parameters all of them: a ParameterDict holds no buffers.
        array = zeros(*shape)
        array.requires_grad = name not in fixed
        arrays[name] = array
    return arrays


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the real tokens of each text, [batch, length].

    Padding gets zeros, and so does all of a text without tokens.
    """
    scores = scores.masked_fill(~mask, -torch.inf)
    largest = scores.amax(1, keepdim=True)
    # Without tokens the largest is -inf, and -inf - -inf would be nan.
    largest = largest.masked_fill(largest == -torch.inf, 0)
    weights = (scores - largest).exp()
    # The largest weight is 1, so only a text without tokens has a total below it.
    total = weights.sum(1, keepdim=True).clamp_min(1)
    return weights / total


def weighted_sum(nodes: Tensor, weights: Tensor) -> Tensor:
    """Sum of the tokens by weight: [batch, length, width] and [batch, length] -> [batch, width]."""
    # A matmul and no product of arrays: nothing of the size of the nodes is written.
    rows = weights[:, None] @ nodes
    return rows[:, 0]


def mean_of(nodes: Tensor, mask: Tensor) -> Tensor:
    """Mean of the real tokens, [batch, width]; zeros for a text without tokens."""
    total = weighted_sum(nodes, mask.float())
    return total / mask.sum(1, keepdim=True).clamp_min(1)


# Layers: (arrays, graph, nodes [batch, length, dim]) -> [batch, length, hidden]


def gat(arrays: Arrays, graph: Graph, nodes: Tensor) -> Tensor:
    """Graph attention: `softmax_j(leaky_relu(a_src . W u_j + a_dst . W u_i + c, 0.2))`.

    j runs over N(i) and i itself once; c is the edge term.
    """
    # The vectors of attention are [heads, width of a head].
    heads = arrays["source"].shape
    values = (nodes @ arrays["kernel"]).unflatten(-1, heads)
    values = values.transpose(1, 2)  # [batch, heads, length, width]
    source = values * arrays["source"][:, None]
    source = source.sum(-1)
    target = values * arrays["target"][:, None]
    target = target.sum(-1)
    if "edge" in arrays:
        # Every edge has the attribute 1, so that its term is one number for each head.
        term = arrays["edge"] * arrays["edge_kernel"]
        target = target + term.sum(-1)[:, None]
    # Row i of the logits is the token that listens, column j the one that is heard.
    logits = target[..., None] + source[:, :, None]
    logits = F.leaky_relu(logits, 0.2)
    # With a loop everywhere no row is empty, so that no softmax is nan.
    unheard = ~graph.looped()[:, None]
    weights = logits.masked_fill(unheard, -torch.inf).softmax(-1)
    heard = (weights @ values).transpose(1, 2)
    return heard.flatten(2) + arrays["bias"]


def gcn(arrays: Arrays, graph: Graph, nodes: Tensor) -> Tensor:
    """`D^-1/2 A D^-1/2 (U W) + b`, one loop at every token."""
    edges = graph.looped().float()
    # The in-degree: row i holds whom token i listens to. With the loop it is never 0.
    scale = edges.sum(-1, keepdim=True).rsqrt()
    # D^-1/2 scales the rows before the sum over neighbours and after it: no matrix is scaled.
    values = scale * (nodes @ arrays["kernel"])
    return scale * (edges @ values) + arrays["bias"]


def gin(arrays: Arrays, graph: Graph, nodes: Tensor) -> Tensor:
    """Graph isomorphism: `MLP((1 + eps) u_i + sum_{j in N(i)} u_j)`.

    MLP is Linear, BatchNorm, relu, Linear; gine sends `relu(u_j + e)` in place of u_j.
    """
    sent = nodes
    # Only gine has arrays of its edges.
    if "edge_kernel" in arrays:
        shifted = nodes + arrays["edge_kernel"] + arrays["edge_bias"]
        sent = F.relu(shifted)
    # Edges as they are: a token that is linked to itself counts beside the (1 + eps) too.
    own = (1 + arrays["epsilon"]) * nodes
    heard = graph.edges.float() @ sent
    total = own + heard
    values = total @ arrays["kernel"] + arrays["bias"]
    # BatchNorm in evaluation, by the statistics of training.
    # 1e-5 is the epsilon of PyTorch's BatchNorm.
    inverse = (arrays["norm_var"] + 1e-5).rsqrt()
    centred = values - arrays["norm_mean"]
    normal = centred * inverse * arrays["norm_scale"]
    normal = normal + arrays["norm_bias"]
    out = F.relu(normal) @ arrays["out_kernel"]
    return out + arrays["out_bias"]


def sage(arrays: Arrays, graph: Graph, nodes: Tensor) -> Tensor:
    """`W [u_i ; mean_{j in N(i)} u_j] + b`; the mean of nothing is 0."""
    edges = graph.edges.float()
    degree = edges.sum(-1, keepdim=True)
    # Mapped before the mean, which is linear: hidden may be narrower than dim.
    values = nodes @ arrays["mean_kernel"]
    heard = edges @ values / degree.clamp_min(1)
    own = nodes @ arrays["root_kernel"]
    return own + heard + arrays["bias"]


def linear(arrays: Arrays, _graph: Graph, nodes: Tensor) -> Tensor:
    """`U W + b`, every token by itself: the layer of the pooler mlp."""
    return nodes @ arrays["kernel"] + arrays["bias"]


Layer = Callable[[Arrays, Graph, Tensor], Tensor]

GNN_LAYERS: dict[str, Layer] = {
    "gat": gat,
    "gcn": gcn,
    "gin": gin,
    # One function: the arrays say which of the two it is.
    "gine": gin,
    "sage": sage,
    "linear": linear,
}


def layer_shapes(gnn: str, dim: int, settings: HeadSettings) -> Shapes:
    """Arrays of a layer of GNN_LAYERS that takes nodes of width `dim`."""
    hidden = settings.hidden_dim
    plain: Shapes = {
        "kernel": (dim, hidden),
        "bias": (hidden,),
    }
    # Heads share the width: hidden = heads x width of a head.
    head = (settings.heads, hidden // settings.heads)
    norm = ("norm_scale", "norm_bias", "norm_mean", "norm_var")
    normed = dict.fromkeys(norm, (hidden,))
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
        "gine": {
            **mlp,
            "edge_kernel": (dim,),
            "edge_bias": (dim,),
        },
        "sage": {
            "root_kernel": (dim, hidden),
            "mean_kernel": (dim, hidden),
            "bias": (hidden,),
        },
    }
    return choose(shapes, gnn, "GNN layer")


def residual_sum(arrays: Arrays, new: Tensor, old: Tensor) -> Tensor:
    """`LayerNorm(new + W old)`; W only where the width changes."""
    if "kernel" in arrays:
        old = old @ arrays["kernel"]
    scale = arrays["norm_scale"]
    bias = arrays["norm_bias"]
    return F.layer_norm(
        new + old,
        scale.shape,
        scale,
        bias,
        1e-5,
    )


def with_virtual_node(arrays: Arrays, graph: Graph, nodes: Tensor) -> Tensor:
    """`u_i + MLP(mean_j u_j)`."""
    mean = mean_of(nodes, graph.mask)
    heard = mean @ arrays["hear_kernel"]
    heard = F.relu(heard + arrays["hear_bias"])
    spoken = heard @ arrays["speak_kernel"]
    spoken = spoken + arrays["speak_bias"]
    # The same for every token of a text.
    return nodes + spoken[:, None]


class TokenGNN(nn.Module):
    """K layers, `U_k = relu(layer_k(U_{k-1}))`, then jumping knowledge.

    It is cat (U_0 .. U_K), max or mean (of U_1 .. U_K) or none (U_K).

    Args:
        dim: width of the nodes, U_0.
        settings: number, type and sizes of the layers.
    """

    def __init__(self, dim: int, settings: HeadSettings):
        super().__init__()
        gnn = settings.gnn
        if settings.pooler != "glot":
            # mlp's layers read no edges.
            gnn = "linear"
        num_layers = settings.num_layers
        if settings.pooler == "adapool":
            # It reads out of the states themselves.
            num_layers = 0
        hidden = settings.hidden_dim
        self.layer = choose(GNN_LAYERS, gnn, "GNN layer")
        require_known(("cat", "max", "mean", "none"), settings.jk, "jumping knowledge")
        self.jk = settings.jk
        if num_layers == 0:
            # Of no layers there is nothing to choose from.
            self.jk = "none"
        # Of U_0 .. U_K.
        widths = [dim, *[hidden] * num_layers]
        normed: Shapes = {
            "norm_scale": (hidden,),
            "norm_bias": (hidden,),
        }
        node: Shapes = {}
        for name in ("hear", "speak"):
            node[f"{name}_kernel"] = (hidden, hidden)
            node[f"{name}_bias"] = (hidden,)
        self.layers = nn.ModuleList()
        self.residuals = nn.ModuleList()
        self.virtual_nodes = nn.ModuleList()
        for width in widths[:-1]:
            shapes = layer_shapes(gnn, width, settings)
            self.layers.append(make_arrays(shapes))
            if settings.residual:
                shapes = dict(normed)
                if width != hidden:
                    # The first layer changes the width, and a map takes the old nodes along.
                    shapes["kernel"] = (dim, hidden)
                self.residuals.append(make_arrays(shapes))
            if settings.virtual_node:
                self.virtual_nodes.append(make_arrays(node))
        self.width = widths[-1]
        if self.jk == "cat":
            self.width = sum(widths)

    def forward(self, graph: Graph, nodes: Tensor) -> Tensor:
        """Nodes [batch, length, dim] -> [batch, length, width]."""
        states = [nodes]
        for k, arrays in enumerate(self.layers):
            nodes = self.layer(arrays, graph, states[-1])
            nodes = F.relu(nodes)
            # Lists of the other parts are empty where the settings leave them out.
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
        hidden = nodes @ readout["kernel"]
        hidden = torch.tanh(hidden + readout["bias"])
        scores = hidden @ readout["vector"]
        scores = scores + readout["vector_bias"]
        weights = masked_softmax(scores, graph.mask)
        return weighted_sum(nodes, weights)


class Static(nn.Module):
    """A pooler without weights of its own.

    It is a mean (mean, weighted-mean, mean-sqrt-len), the largest entries (max) or one token
    (first, last).
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
            padding = ~mask[..., None]
            largest = nodes.masked_fill(padding, -torch.inf).amax(1)
            # Of no tokens the largest is -inf.
            is_empty = ~mask.any(1, keepdim=True)
            return largest.masked_fill(is_empty, 0)
        if self.pooler == "mean-sqrt-len":
            count = mask.sum(1, keepdim=True).clamp_min(1)
            return weighted_sum(nodes, mask / count.sqrt())
        # Counted over real tokens: on whichever side the padding stands.
        rank = mask.long().cumsum(1)
        if self.pooler == "weighted-mean":
            share = rank * mask
            total = share.sum(1, keepdim=True).clamp_min(1)
            return weighted_sum(nodes, share / total)
        chosen = rank == 1
        if self.pooler == "last":
            chosen = rank == rank[:, -1:]
        # Padding has the rank of the token before it.
        token = mask & chosen
        return weighted_sum(nodes, token.float())


class AdaPoolAttention(nn.Module):
    """The text's mean asks, every token answers.

    `pi^h = softmax_i(q^h . W_k^h x_i / sqrt(dim))`, `z = W_o [sum_i pi_i^h W_v^h x_i]_h`.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.width = dim
        self.heads = heads
        self.query = zeros(dim, dim)
        self.key = zeros(dim, dim)
        self.value = zeros(dim, dim)
        self.out = zeros(dim, dim)

    def forward(self, graph: Graph, nodes: Tensor) -> Tensor:
        """Nodes [batch, length, dim] -> vectors [batch, width]."""
        split = (self.heads, self.width // self.heads)
        mean = mean_of(nodes, graph.mask)
        query = mean @ self.query
        query = query.unflatten(-1, split)
        key = self.key.unflatten(-1, split)
        value = self.value.unflatten(-1, split)
        # The keys are never built: W_k goes to the query's side, which has one row for each head.
        mapped = torch.einsum("bhw,dhw->bhd", query, key)
        # By the width of all heads, not of one, as its authors do.
        mapped = mapped / self.width**0.5
        scores = (nodes @ mapped.transpose(1, 2)).unbind(-1)
        heads = [masked_softmax(head, graph.mask) for head in scores]
        weights = torch.stack(heads, 1)
        # Nor are the values: W_v comes after the sum over tokens, which it commutes with.
        answers = torch.einsum("bhd,dhw->bhw", weights @ nodes, value)
        return answers.flatten(1) @ self.out


POOLERS = (
    "mean",
    "max",
    "first",
    "last",
    "weighted-mean",
    "mean-sqrt-len",
    "adapool",
    "adapool-attention",
    "mlp",
    "glot",
)


class GlotHead(nn.Module):
    """Stem and pooler: token states -> one float32 vector per text.

    A text without tokens gets zeros.

    Args:
        dim: width of the states.
        options: further fields of `HeadSettings`.
    """

    def __init__(self, dim: int, **options: Setting):
        super().__init__()
        # A name that HeadSettings lacks is an error of the constructor.
        values: dict[str, Any] = dict(options)
        settings = HeadSettings(dim, **values)
        width = settings.projection_dim or dim
        pooler = settings.pooler
        require_known(POOLERS, pooler, "pooler")
        # All three are a readout behind layers, of which adapool has none.
        if pooler in ("glot", "mlp", "adapool"):
            gnn = TokenGNN(width, settings)
            self.pooler: Any = Glot(gnn, settings.scorer_dim)
        elif pooler == "adapool-attention":
            self.pooler = AdaPoolAttention(width, settings.heads)
        else:
            self.pooler = Static(width, pooler)
        # Width of a vector; the map of an embedding does not change it.
        self.width: int = self.pooler.width
        self.unit = settings.unit
        shapes: Shapes = {}
        if settings.linear:
            shapes["kernel"] = (self.width, self.width)
            shapes["bias"] = (self.width,)
        self.out = make_arrays(shapes)
        self.stem = Stem(settings)

    def forward(self, token_embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        """Vectors [batch, width] of texts.

        Args:
            token_embeddings: [batch, length, dim], or [batch, length, mixed, dim] of several
                layers.
            attention_mask: [batch, length].
        """
        graph, nodes = self.stem(token_embeddings, attention_mask.bool())
        pooled = self.pooler(graph, nodes)
        if len(self.out):
            pooled = pooled @ self.out["kernel"] + self.out["bias"]
        if self.unit:
            norm = pooled.square().sum(-1, keepdim=True).sqrt()
            # The zero vector of a text without tokens has no direction, and stays zero.
            pooled = pooled / norm.clamp_min(1e-8)
        return pooled
