"""GLOT's pooling head for sentence-transformers: token states -> token graph, GNN, readout -> one
vector per text.

This file stands alone: it imports torch and sentence-transformers and nothing else, and is copied
    into every exported
folder as glot_pooling.py. `GlotHead` is the arithmetic as a plain torch.nn.Module; `GlotPooling` is
what sentence-transformers loads. Both compute in float32 what the training code computes in
evaluation: arXiv 2603.03389, section 3.2, with the layers of PyTorch Geometric.

Axes: batch, length (tokens of the longest text), dim, hidden. A mask is True at real tokens;
    padding may stand on either
side. Kernels are [in, out].
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from sentence_transformers.base.modules import Module
from torch import Tensor, nn
from torch.nn import functional as F

Arrays = Any  # a torch.nn.ParameterDict: name -> array
Shapes = dict[str, tuple[int, ...]]


def make_arrays(shapes: Shapes) -> Arrays:
    """For a file to fill. Running statistics and GIN's epsilon have no gradient."""
    fixed = ("epsilon", "norm_mean", "norm_var")
    return nn.ParameterDict(
        {
            name: nn.Parameter(torch.zeros(shape), name not in fixed)
            for name, shape in shapes.items()
        }
    )


def choose(table: Mapping[str, Any], name: str, noun: str) -> Any:
    if name not in table:
        raise ValueError(f"unknown {noun}; got {name!r}. Known: {', '.join(sorted(table))}.")
    return table[name]


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
    """[length, length] bool."""
    position = torch.arange(like.shape[1], device=like.device)
    return position[:, None] == position


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Over the real tokens of each text, [batch, length]; zeros at padding, and everywhere in a
    text without tokens.
    """
    scores = scores.masked_fill(~mask, -torch.inf)
    largest = scores.amax(1, keepdim=True)
    weights = (scores - largest.masked_fill(largest == -torch.inf, 0)).exp()
    # The largest weight is 1, so only a text without tokens has a total below it.
    return weights / weights.sum(1, keepdim=True).clamp_min(1)


def weighted_sum(nodes: Tensor, weights: Tensor) -> Tensor:
    """[batch, length, width] and [batch, length] -> [batch, width]."""
    return (weights[:, None] @ nodes)[:, 0]


def mean_of(nodes: Tensor, mask: Tensor) -> Tensor:
    return weighted_sum(nodes, mask.float()) / mask.sum(1, keepdim=True).clamp_min(1)


RULES = ("threshold", "knn", "window", "self", "complete")
"""Graph rules.

A sixth one of the training code, `random`, hangs on a hash of its stored states and is not here.
"""


def link(states: Tensor, mask: Tensor, rule: str, tau: Tensor, k: int, window: int) -> Tensor:
    """Edges [batch, length, length] of states [batch, length, dim]; see RULES, tau, k and window
    are numbers of the rules.

    threshold: cos > tau, strictly; a non-zero token is linked to itself, and at tau = 1 nothing is.
    knn: the k most similar tokens, itself always among them, ties to the earlier one; not
        symmetric.
    window: tokens at most `window` real tokens away.
    """
    real = mask[:, :, None] & mask[:, None]
    if rule in ("self", "complete"):
        return real & diagonal(mask) if rule == "self" else real
    if rule == "window":
        rank = mask.long().cumsum(1)
        return real & ((rank[:, :, None] - rank[:, None]).abs() <= window)
    similarity, possible = cosines(states)
    possible = possible & real
    if rule == "threshold":
        return possible & ((similarity > tau) | diagonal(mask)) & (tau < 1)
    scores = similarity.masked_fill(diagonal(mask), 2.0).masked_fill(~possible, -torch.inf)
    # k columns more, for texts that have fewer tokens than that.
    least = F.pad(scores, (0, k), value=-torch.inf).topk(k).values[..., -1:]
    above, tied = scores > least, scores == least
    room = k - above.sum(-1, keepdim=True)
    return possible & (above | (tied & (tied.long().cumsum(-1) <= room)))


def cosines(states: Tensor) -> tuple[Tensor, Tensor]:
    """cos(x_i, x_j) [batch, length, length], 0 where either is the zero vector; and where neither
    is.
    """
    largest = states.abs().amax(-1, keepdim=True).clamp(2.0**-126, 2.0**126)
    # A power of two: dividing by it rounds nothing, and afterwards no product overflows.
    scaled = states / torch.exp2(largest.log2().floor() + 1)
    norm = scaled.square().sum(-1).sqrt()
    inverse, nonzero = 1 / norm.clamp_min(1e-8), norm > 0
    return (scaled @ scaled.transpose(1, 2)) * inverse[:, :, None] * inverse[:, None], nonzero[
        :, :, None
    ] & nonzero[:, None]


class Stem(nn.Module):
    """Mix layers, link the mixed states, then standardise and project what the layers will see.

    Of several layers the states have an axis, [batch, length, mixed, dim]. Without a rule no edge
    is computed.
    """

    def __init__(
        self,
        dim: int,
        *,
        mixed: int | None,
        rule: str | None,
        tau: float,
        learn_tau: bool,
        k: int,
        window: int,
        standardise: bool,
        projection_dim: int | None,
    ):
        super().__init__()
        self.rule = (
            None if rule is None else choose({name: name for name in RULES}, rule, "graph rule")
        )
        self.k, self.window = k, min(window, 2**31 - 1)
        shape = (dim,) if mixed is None else (mixed, dim)
        self.layer_scores = None if mixed is None else nn.Parameter(torch.zeros(mixed))
        self.register_buffer("tau", torch.tensor(tau, dtype=torch.float32), persistent=learn_tau)
        self.register_buffer("mean", torch.zeros(shape) if standardise else None)
        self.register_buffer("deviation", torch.ones(shape) if standardise else None)
        self.projection_kernel = (
            None if projection_dim is None else nn.Parameter(torch.zeros(dim, projection_dim))
        )

    def mix(self, states: Tensor) -> Tensor:
        return (
            states
            if self.layer_scores is None
            else (states * self.layer_scores.softmax(0)[:, None]).sum(-2)
        )

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Graph, Tensor]:
        # What stands at padding, be it nan, reaches nothing.
        states = states.float().masked_fill(~mask.view(*mask.shape, *[1] * (states.ndim - 2)), 0)
        nodes = self.mix(states if self.mean is None else (states - self.mean) / self.deviation)  # type: ignore[operator]
        nodes = nodes if self.projection_kernel is None else nodes @ self.projection_kernel
        edges = (
            None
            if self.rule is None
            else link(self.mix(states), mask, self.rule, self.tau, self.k, self.window)  # type: ignore[arg-type]
        )
        return Graph(mask, edges), nodes


# Layers: (arrays, graph, nodes [batch, length, dim]) -> [batch, length, hidden]


def gat(of: Arrays, graph: Graph, nodes: Tensor) -> Tensor:
    """`softmax_j(leaky_relu(a_src .

    W u_j + a_dst . W u_i + c, 0.2))` over j in N(i) and i itself once; c an edge term.
    """
    values = (
        (nodes @ of["kernel"]).unflatten(-1, of["source"].shape).transpose(1, 2)
    )  # [batch, heads, length, width]
    source, target = ((values * of[name][:, None]).sum(-1) for name in ("source", "target"))
    if "edge" in of:
        target = target + (of["edge"] * of["edge_kernel"]).sum(-1)[:, None]
    logits = F.leaky_relu(target[..., None] + source[:, :, None], 0.2)
    weights = logits.masked_fill(~graph.looped()[:, None], -torch.inf).softmax(-1)
    return (weights @ values).transpose(1, 2).flatten(2) + of["bias"]


def gcn(of: Arrays, graph: Graph, nodes: Tensor) -> Tensor:
    """`D^-1/2 A D^-1/2 (U W) + b`, one loop at every token."""
    scale = (edges := graph.looped().float()).sum(-1, keepdim=True).rsqrt()
    return scale * (edges @ (scale * (nodes @ of["kernel"]))) + of["bias"]


def gin(of: Arrays, graph: Graph, nodes: Tensor) -> Tensor:
    """`MLP((1 + eps) u_i + sum_{j in N(i)} u_j)`, MLP = Linear, BatchNorm, relu, Linear; gine sends
    `relu(u_j + e)`.
    """
    sent = F.relu(nodes + of["edge_kernel"] + of["edge_bias"]) if "edge_kernel" in of else nodes
    values = ((1 + of["epsilon"]) * nodes + graph.edges.float() @ sent) @ of["kernel"] + of["bias"]
    normal = (values - of["norm_mean"]) * (of["norm_var"] + 1e-5).rsqrt() * of["norm_scale"] + of[
        "norm_bias"
    ]
    return F.relu(normal) @ of["out_kernel"] + of["out_bias"]


def sage(of: Arrays, graph: Graph, nodes: Tensor) -> Tensor:
    """`W [u_i ; mean_{j in N(i)} u_j] + b`; the mean of nothing is 0."""
    edges = graph.edges.float()
    heard = edges @ (nodes @ of["mean_kernel"]) / edges.sum(-1, keepdim=True).clamp_min(1)
    return nodes @ of["root_kernel"] + heard + of["bias"]


def linear(of: Arrays, graph: Graph, nodes: Tensor) -> Tensor:
    """`U W + b`, every token by itself: the layer of the pooler mlp."""
    return nodes @ of["kernel"] + of["bias"]


GNN_LAYERS: dict[str, Callable[[Arrays, Graph, Tensor], Tensor]] = {
    "gat": gat,
    "gcn": gcn,
    "gin": gin,
    "gine": gin,
    "sage": sage,
    "linear": linear,
}


def layer_shapes(gnn: str, dim: int, hidden: int, heads: int, edge_term: bool) -> Shapes:
    """Arrays of a layer of GNN_LAYERS."""
    plain: Shapes = {"kernel": (dim, hidden), "bias": (hidden,)}
    head = (heads, hidden // heads)
    normed = dict.fromkeys(("norm_scale", "norm_bias", "norm_mean", "norm_var"), (hidden,))
    mlp: Shapes = {
        "epsilon": (1,),
        **plain,
        **normed,
        "out_kernel": (hidden, hidden),
        "out_bias": (hidden,),
    }
    shapes: dict[str, Shapes] = {
        "gat": {
            **plain,
            **dict.fromkeys(
                ("source", "target", *(("edge", "edge_kernel") if edge_term else ())), head
            ),
        },
        "gcn": plain,
        "linear": plain,
        "gin": mlp,
        "gine": {**mlp, "edge_kernel": (dim,), "edge_bias": (dim,)},
        "sage": {"root_kernel": (dim, hidden), "mean_kernel": (dim, hidden), "bias": (hidden,)},
    }
    return choose(shapes, gnn, "GNN layer")


def residual_sum(of: Arrays, new: Tensor, old: Tensor) -> Tensor:
    """`LayerNorm(new + W old)`; W only where the width changes."""
    total = new + (old @ of["kernel"] if "kernel" in of else old)
    return F.layer_norm(total, of["norm_scale"].shape, of["norm_scale"], of["norm_bias"], 1e-5)


def with_virtual_node(of: Arrays, graph: Graph, nodes: Tensor) -> Tensor:
    """`u_i + MLP(mean_j u_j)`."""
    heard = F.relu(mean_of(nodes, graph.mask) @ of["hear_kernel"] + of["hear_bias"])
    return nodes + (heard @ of["speak_kernel"] + of["speak_bias"])[:, None]


class TokenGNN(nn.Module):
    """K layers, `U_k = relu(layer_k(U_{k-1}))`, then jumping knowledge: cat (U_0 ..

    U_K), max, mean (of U_1 .. U_K) or none (U_K).
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        num_layers: int,
        *,
        gnn: str,
        jk: str,
        heads: int,
        edge_term: bool,
        residual: bool,
        virtual_node: bool,
    ):
        super().__init__()
        self.layer, self.jk = (
            choose(GNN_LAYERS, gnn, "GNN layer"),
            choose(
                {name: name for name in ("cat", "max", "mean", "none")}, jk, "jumping knowledge"
            ),
        )
        widths = [dim, *[hidden] * num_layers]
        normed: Shapes = {"norm_scale": (hidden,), "norm_bias": (hidden,)}
        node = {
            f"{name}_{part}": shape
            for name in ("hear", "speak")
            for part, shape in (("kernel", (hidden, hidden)), ("bias", (hidden,)))
        }
        self.layers = nn.ModuleList(
            make_arrays(layer_shapes(gnn, width, hidden, heads, edge_term)) for width in widths[:-1]
        )
        self.residuals = nn.ModuleList(
            make_arrays(normed if width == hidden else {**normed, "kernel": (dim, hidden)})
            for width in widths[:-1]
            if residual
        )
        self.virtual_nodes = nn.ModuleList(
            make_arrays(node) for _ in range(num_layers if virtual_node else 0)
        )
        self.width = sum(widths) if jk == "cat" else widths[-1]

    def forward(self, graph: Graph, nodes: Tensor) -> Tensor:
        states = [nodes]
        for k, arrays in enumerate(self.layers):
            nodes = F.relu(self.layer(arrays, graph, states[-1]))
            if len(self.residuals):
                nodes = residual_sum(self.residuals[k], nodes, states[-1])
            if len(self.virtual_nodes):
                nodes = with_virtual_node(self.virtual_nodes[k], graph, nodes)
            states.append(nodes)
        if self.jk in ("cat", "none"):
            return torch.cat(states, -1) if self.jk == "cat" else states[-1]
        later = torch.stack(states[1:])
        return later.amax(0) if self.jk == "max" else later.mean(0)


# Poolers: (graph, nodes [batch, length, dim]) -> [batch, width]


class Glot(nn.Module):
    """Token-GNN, then the attention readout `pi = softmax(v . tanh(W u_i + b) + b_v)`, `z = sum_i
    pi_i u_i`.
    """

    def __init__(self, gnn: TokenGNN, scorer_dim: int):
        super().__init__()
        self.width, self.gnn = gnn.width, gnn
        self.readout: Arrays = make_arrays(
            {
                "kernel": (gnn.width, scorer_dim),
                "bias": (scorer_dim,),
                "vector": (scorer_dim,),
                "vector_bias": (),
            }
        )

    def forward(self, graph: Graph, nodes: Tensor) -> Tensor:
        nodes, of = self.gnn(graph, nodes), self.readout
        scores = torch.tanh(nodes @ of["kernel"] + of["bias"]) @ of["vector"] + of["vector_bias"]
        return weighted_sum(nodes, masked_softmax(scores, graph.mask))


class Static(nn.Module):
    """mean, max, first or last: the mean or the largest entries of the real tokens, or one of
    them.
    """

    def __init__(self, dim: int, which: str):
        super().__init__()
        self.width, self.which = dim, which

    def forward(self, graph: Graph, nodes: Tensor) -> Tensor:
        mask = graph.mask
        if self.which == "mean":
            return mean_of(nodes, mask)
        if self.which == "max":
            return (
                nodes.masked_fill(~mask[..., None], -torch.inf)
                .amax(1)
                .masked_fill(~mask.any(1, keepdim=True), 0)
            )
        rank = mask.long().cumsum(1)
        return weighted_sum(
            nodes, (mask & (rank == (1 if self.which == "first" else rank[:, -1:]))).float()
        )


class AdaPoolAttention(nn.Module):
    """The text's mean asks, every token answers:

    `softmax_i(q^h . W_k^h x_i / sqrt(dim))`, `z = W_o [sum_i pi_i^h W_v^h x_i]_h`.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.width, self.heads = dim, heads
        self.query, self.key, self.value, self.out = (
            nn.Parameter(torch.zeros(dim, dim)) for _ in range(4)
        )

    def forward(self, graph: Graph, nodes: Tensor) -> Tensor:
        split = (self.heads, self.width // self.heads)
        query = (mean_of(nodes, graph.mask) @ self.query).unflatten(-1, split)
        asked = torch.einsum("bhw,dhw->bhd", query, self.key.unflatten(-1, split)) / self.width**0.5
        weights = torch.stack(
            [
                masked_softmax(of_head, graph.mask)
                for of_head in (nodes @ asked.transpose(1, 2)).unbind(-1)
            ],
            1,
        )
        return (
            torch.einsum("bhd,dhw->bhw", weights @ nodes, self.value.unflatten(-1, split)).flatten(
                1
            )
            @ self.out
        )


class GlotHead(nn.Module):
    """Stem and pooler: token states -> one float32 vector per text, zeros for a text without
    tokens.

    Args:
        dim: width of the states.
        mixed: how many layers are mixed, if any.
        pooler: mean, max, first, last, adapool, adapool-attention, mlp or glot.
        gnn, hidden_dim, num_layers, jk, heads, edge_term, residual, virtual_node: of glot and mlp,
        whose layers are gat,
            gcn, gin, gine, sage (mlp: linear); `heads` also of adapool-attention.
        scorer_dim: width of the readout's scorer.
        graph: rule of the edges, see `link`, with its numbers tau, k, window; learn_tau: tau lies
            with the weights.
        standardise, projection_dim: what is done to the states after they are linked.
        linear, unit: what an embedding does to the pooled vector: a linear map, then scaling to
            length 1.
    """

    def __init__(
        self,
        dim: int,
        *,
        mixed: int | None = None,
        pooler: str = "glot",
        gnn: str = "gat",
        hidden_dim: int = 128,
        num_layers: int = 2,
        jk: str = "cat",
        heads: int = 1,
        edge_term: bool = False,
        residual: bool = False,
        virtual_node: bool = False,
        scorer_dim: int = 128,
        graph: str = "threshold",
        tau: float = 0.6,
        learn_tau: bool = False,
        k: int = 8,
        window: int = 4,
        standardise: bool = False,
        projection_dim: int | None = None,
        linear: bool = False,
        unit: bool = False,
    ):
        super().__init__()
        width = projection_dim or dim
        reads_edges = pooler == "glot" and num_layers > 0

        def stacked(num_layers: int = num_layers) -> Glot:
            layers = TokenGNN(
                width,
                hidden_dim,
                num_layers,
                gnn=gnn if pooler == "glot" else "linear",
                jk=jk if num_layers else "none",
                heads=heads,
                edge_term=edge_term,
                residual=residual,
                virtual_node=virtual_node,
            )
            return Glot(layers, scorer_dim)

        learned = {
            "glot": stacked,
            "mlp": stacked,
            "adapool": lambda: stacked(0),
            "adapool-attention": lambda: AdaPoolAttention(width, heads),
        }
        static = {name: lambda: Static(width, pooler) for name in ("mean", "max", "first", "last")}
        self.pooler: Any = choose(learned | static, pooler, "pooler")()
        self.width: int = self.pooler.width
        self.out, self.unit = (
            make_arrays(
                {"kernel": (self.width, self.width), "bias": (self.width,)} if linear else {}
            ),
            unit,
        )
        self.stem = Stem(
            dim,
            mixed=mixed,
            rule=graph if reads_edges else None,
            tau=tau,
            learn_tau=learn_tau,
            k=k,
            window=window,
            standardise=standardise,
            projection_dim=projection_dim,
        )

    def forward(self, token_embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        """States [batch, length, dim] ([batch, length, mixed, dim] of several layers), mask [batch,
        length] -> [batch, width].
        """
        pooled = self.pooler(*self.stem(token_embeddings, attention_mask.bool()))
        pooled = pooled @ self.out["kernel"] + self.out["bias"] if len(self.out) else pooled
        return (
            pooled / pooled.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-8)
            if self.unit
            else pooled
        )


class GlotPooling(Module):
    """The head as a module of sentence-transformers, behind a Transformer.

    Args:
        dim, head: those of GlotHead.
        layers: whose states are read: -1 the last one's, after the final norm (`token_embeddings`);
            else an index of `all_layer_embeddings` (0 = embeddings, 1 .. = blocks). Several are
            mixed, in this order.
    """

    def __init__(self, dim: int, *, layers: Sequence[int] = (-1,), **head: Any):
        super().__init__()
        self.layers = list(layers)
        self.settings = {"dim": dim, "layers": self.layers, **head}
        self.head = GlotHead(dim, mixed=len(self.layers) if len(self.layers) > 1 else None, **head)
        self.kept: dict[str, Tensor] = {}  # the head's arrays when they were first seen

    def get_config_dict(self) -> dict[str, Any]:
        return self.settings

    def get_embedding_dimension(self) -> int:
        return self.head.width

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        if "attention_mask" not in features:
            raise ValueError(
                "GlotPooling reads padded texts with their attention_mask; got flattened ones. Load"
                " the Transformer with unpad_inputs=False."
            )
        if max(self.layers) >= 0 and "all_layer_embeddings" not in features:
            raise ValueError(
                f"GlotPooling reads the layers {self.layers}; got the last one alone. Load the"
                " Transformer with output_hidden_states=True."
            )
        states = [
            features["token_embeddings"] if layer < 0 else features["all_layer_embeddings"][layer]
            for layer in self.layers
        ]
        with torch.autocast(states[0].device.type, enabled=False):
            features["sentence_embedding"] = self.exact().head(
                states[0] if len(states) == 1 else torch.stack(states, 2),
                features["attention_mask"],
            )
        return features

    def exact(self) -> GlotPooling:
        """Itself, the head in float32: in half precision other tokens would be linked. What
        `model.half()` did to the weights is undone; those that were trained since they were kept
        stay rounded."""
        for name, of in [*self.head.named_parameters(), *self.head.named_buffers()]:
            if name not in self.kept:
                self.kept[name] = of.detach().clone()
            if of.dtype != torch.float32:
                kept = self.kept[name].to(of.device)
                of.data = (
                    (kept if torch.equal(kept.to(of.dtype), of) else of.detach()).float().clone()
                )
        return self

    def save(
        self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        self.exact().save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)
        if type(self).__module__.startswith("transformers_modules."):
            # Loaded from an exported folder: the one that is saved needs this file too, beside its
            # modules.json.
            shutil.copy(__file__, Path(output_path).resolve().parent)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: Any = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: Any = None,
        **kwargs: Any,
    ) -> GlotPooling:
        where: dict[str, Any] = {
            "subfolder": subfolder,
            "token": token,
            "cache_folder": cache_folder,
            "revision": revision,
            "local_files_only": local_files_only,
        }
        pooling = cls(**cls.load_config(model_name_or_path, **where))
        cls.load_torch_weights(model_name_or_path, model=pooling, **where)
        return pooling.exact().eval()
