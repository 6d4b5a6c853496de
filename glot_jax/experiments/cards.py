"""An experiment card for each table and figure of the paper.

What is run, beside which numbers, and what it would need more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["runs", "search", "stress", "graph-cost", "inference-cost", "quoted"]


@dataclasses.dataclass(frozen=True)
class CardVariant:
    """A row of a table: how it differs from GLOT as the paper describes it."""

    label: str
    pooler: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of PoolerConfig."""
    graph: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of GraphConfig."""
    prompt: str | None = None
    """Name of glot_jax.backbones.prompts.PROMPTS: the states are extracted once more, from texts
    in this template.
    """


@dataclasses.dataclass(frozen=True)
class Card:
    """A table or figure of the paper: what is run for it, and what it would need more."""

    title: str
    kind: Kind
    tasks: tuple[str, ...] = ()
    variants: tuple[CardVariant, ...] = ()
    probe: bool = False
    """A linear probe on the frozen vectors too, for tasks with classes."""
    lacks: tuple[str, ...] = ()
    """Parts of the table that this command does not run, and what they need."""
    note: str = ""
    """What differs from the paper even where everything is at hand."""


# In the order of the paper's Table 1.
_GLUE = ("cola", "sst2", "stsb", "mrpc", "qqp", "mnli", "qnli", "rte", "wnli")
# The tasks of most of the paper's ablations.
_THREE = ("cola", "stsb", "rte")
_GLOT = CardVariant("glot")
_STATIC = tuple(CardVariant(name, {"pooler": name}) for name in ("cls", "mean", "max"))
# cls takes the token whose state the prompt asks for.
_PROMPTED = tuple(
    CardVariant(label, {"pooler": "cls"}, prompt=name)
    for label, name in (
        ("PromptBERT", "promptbert"),
        ("PromptEOL", "prompteol"),
        ("pretended chain of thought", "pretended-cot"),
        ("knowledge enhancement", "knowledge"),
    )
)
_ADAPOOL = CardVariant("adapool", {"pooler": "adapool"})
_MLP = CardVariant("mlp", {"pooler": "mlp"})
# The poolers of the paper's main tables, in their order.
_FIVE = (*_STATIC, _ADAPOOL, _GLOT)
# 0 links all tokens whose cosine is positive; 0.6 is that of plain GLOT.
_TAUS = tuple(
    CardVariant(f"glot, tau {tau:g}", graph={"tau": tau}) for tau in (0.0, 0.2, 0.4, 0.6, 0.8)
)
MORE: dict[str, CardVariant] = {
    "weighted-mean": CardVariant("weighted-mean", {"pooler": "weighted-mean"}),
    "latent-attention": CardVariant("latent-attention", {"pooler": "latent-attention"}),
    "pma": CardVariant("pma", {"pooler": "pma"}),
    "mlp": _MLP,
    "self": CardVariant("glot, self-loops", graph={"graph": "self"}),
    "complete": CardVariant("glot, complete", graph={"graph": "complete"}),
    "random": CardVariant("glot, random edges", graph={"graph": "random"}),
}
"""Rows that the paper's main tables do not have: later poolers, and controls of the graph."""
_FINE_TUNING = (
    "rows of LoRA and full fine-tuning are quoted: benchmarks/finetune.py (extra bench) measures"
    " their step and memory on this backbone"
)
# Quoted from the paper: nothing that this command runs would give these numbers.
_MTEB = "needs heads trained on MS MARCO and the MTEB data sets"

CARDS: dict[str, Card] = {
    "table1": Card("Poolers on GLUE", "runs", _GLUE, _FIVE),
    "table2": Card("Poolers on IMDB", "runs", ("imdb",), _FIVE),
    "table3": Card("Zero-shot MTEB, seven tasks", "quoted", lacks=(_MTEB,)),
    "table4": Card("Sparsity of the graph", "runs", _GLUE, _TAUS),
    "table5": Card(
        "Cost and score of training methods, CoLA",
        "runs",
        ("cola",),
        (_GLOT,),
        lacks=(_FINE_TUNING,),
    ),
    "table6": Card(
        "Search space",
        "search",
        ("stsb",),
        note="24 trials of the 1,944 by default; the paper's grid search tried all",
    ),
    "table7": Card(
        "Stress test, all ratios",
        "stress",
        note="controls beside it, and every pooler's learning rate tuned on a validation split",
    ),
    "table8": Card(
        "Sparsity and linear separability",
        "runs",
        _THREE,
        _TAUS,
        probe=True,
        note="the paper does not say on which task its probe is",
    ),
    "table9": Card(
        "Cost and score of training methods",
        "runs",
        _THREE,
        (_GLOT,),
        lacks=(_FINE_TUNING,),
    ),
    "table10": Card("Cost of making the graph", "graph-cost"),
    "table11": Card(
        "Layers of the Token-GNN",
        "runs",
        _THREE,
        (
            _ADAPOOL,
            *(
                CardVariant(f"glot, {gnn}", {"gnn": gnn})
                for gnn in ("gcn", "gat", "gin", "gine", "sage")
            ),
        ),
        note="gine and sage are not in the paper's table",
    ),
    "table12": Card("Zero-shot MTEB, all tasks", "quoted", lacks=(_MTEB,)),
    "table13": Card(
        "Prompts, STS-B",
        "runs",
        ("stsb",),
        (_GLOT, *_PROMPTED),
        note=(
            "prompted vectors get the linear layer that STS-B trains for every pooler; the paper"
            " does not say whether its rows have one"
        ),
    ),
    "table14": Card(
        "Contrastively trained sentence encoders",
        "runs",
        _THREE,
        (_GLOT,),
        lacks=(
            (
                "SBERT and SimCSE are other checkpoints: extract with --backbone NAME and train"
                " --pooler mean"
            ),
        ),
    ),
    "table15": Card(
        "The graph against an MLP of as many parameters",
        "runs",
        _THREE,
        (
            _MLP,
            _GLOT,
            CardVariant("glot, self-loops only", graph={"graph": "self"}),
            CardVariant("glot, random edges", graph={"graph": "random"}),
        ),
        note="GLOT on wrong graphs is not in the paper's table",
    ),
    "table16": Card("Cost of inference by pooler", "inference-cost"),
    "table17": Card(
        "Cost and score, all methods",
        "runs",
        _THREE,
        (
            CardVariant("mean", {"pooler": "mean"}),
            CardVariant("max", {"pooler": "max"}),
            _ADAPOOL,
            _MLP,
            _GLOT,
        ),
        lacks=(_FINE_TUNING,),
    ),
    "figure3": Card(
        "Stress test by distractor ratio",
        "stress",
        note="controls beside it, and every pooler's learning rate tuned on a validation split",
    ),
    "figure4": Card("z-scores on GLUE", "runs", _GLUE, _FIVE),
    "figure5": Card(
        "Token contributions",
        "runs",
        ("qqp",),
        (CardVariant("mean", {"pooler": "mean"}), _ADAPOOL, _GLOT),
    ),
}
"""Name on the command line -> card.

Sources: arXiv 2603.03389, the table or figure of that number.
"""
