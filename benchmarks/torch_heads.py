"""The contenders of `head.py` in PyTorch.

Algorithm 1 sentence by sentence with PyTorch Geometric, and a dense batched head.

Both have the parameter names of the paper's released module, so that one state_dict fits all.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GATConv, global_add_pool
from torch_geometric.utils import softmax


class Head(nn.Module):
    """K GAT layers, jumping knowledge by concatenation, attention readout, two classes."""

    def __init__(self, dim: int, hidden: int, layers: int, scorer: int, tau: float):
        super().__init__()
        widths = [dim, *[hidden] * layers]
        self.convs = nn.ModuleList(GATConv(width, hidden) for width in widths[:-1])
        self.score_layer = nn.Sequential(
            nn.Linear(sum(widths), scorer), nn.Tanh(), nn.Linear(scorer, 1)
        )
        self.classifier = nn.Linear(sum(widths), 2)
        self.widths, self.tau = widths, tau


class PygHead(Head):
    """Algorithm 1 of the paper: a graph per sentence, batched, GATConv on its edges.

    Args:
        dim: width of the states.
        hidden: width of the layers.
        layers: how many there are.
        scorer: width of the readout's scorer.
        tau: cosine above which two tokens are linked.
        cosine: "broadcast" compares every pair of tokens as [length, length, dim], as the release
            does; "matmul" normalises the tokens and multiplies.
    """

    def __init__(self, dim: int, hidden: int, layers: int, scorer: int, tau: float, *, cosine: str):
        super().__init__(dim, hidden, layers, scorer, tau)
        self.cosine = cosine

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Logits [batch, 2] of states [batch, length, dim] and a mask [batch, length]."""
        graphs = []
        for states, real in zip(hidden, mask, strict=True):
            tokens = states[real]
            if self.cosine == "broadcast":
                similarity = F.cosine_similarity(tokens[:, None], tokens[None], dim=-1)
            else:
                unit = F.normalize(tokens, dim=-1)
                similarity = unit @ unit.T
            graphs.append(Data(x=tokens, edge_index=(similarity > self.tau).nonzero().T))
        # It gets its attributes, those of Data among them, at run time.
        batch: Any = Batch.from_data_list(graphs)
        parts = [batch.x]
        for conv in self.convs:
            parts.append(torch.relu(conv(parts[-1], batch.edge_index)))
        refined = torch.cat(parts, dim=-1)
        weights = softmax(self.score_layer(refined), batch.batch)
        return self.classifier(global_add_pool(weights * refined, batch.batch, size=len(hidden)))


class DenseHead(Head):
    """The same numbers from batched matmuls and a masked softmax.

    No gradient towards the states is computed.
    """

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Logits [batch, 2] of states [batch, length, dim] and a mask [batch, length]."""
        with torch.no_grad():
            unit = F.normalize(hidden, dim=-1)
            edges = torch.bmm(unit, unit.transpose(1, 2)) > self.tau
            edges &= mask[:, None] & mask[:, :, None]
            edges |= torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        parts = [hidden]
        # Parameters of a GATConv are declared as "tensor or module".
        layers: list[Any] = list(self.convs)
        for conv in layers:
            values = F.linear(parts[-1], conv.lin.weight)
            source, target = (values @ vector[0, 0] for vector in (conv.att_src, conv.att_dst))
            logits = F.leaky_relu(target[:, :, None] + source[:, None], 0.2).masked_fill(
                ~edges, float("-inf")
            )
            parts.append(torch.relu(torch.bmm(torch.softmax(logits, dim=-1), values) + conv.bias))
        # The scorer's rows of each part by themselves: a concatenation would be differentiated
        # towards the states too.
        first, _, last = self.score_layer
        assert isinstance(first, nn.Linear)
        scores = first.bias
        for part, rows in zip(parts, first.weight.split(self.widths, dim=1), strict=True):
            scores = scores + F.linear(part, rows)
        scores = last(torch.tanh(scores))[..., 0].masked_fill(~mask, float("-inf"))
        weights = torch.softmax(scores, dim=1)[:, None]
        return self.classifier(
            torch.cat([torch.bmm(weights, part)[:, 0] for part in parts], dim=-1)
        )
