"""Which plugins a run has parts of."""

from __future__ import annotations

from glot_jax.config.train import TrainConfig
from glot_jax.graphs import RULES
from glot_jax.objectives import OBJECTIVES, TaskSpec, objective_kind
from glot_jax.pooling import GNN_LAYERS, POOLERS
from glot_jax.registry import Registry


def plugins_of(config: TrainConfig, task: TaskSpec) -> tuple[str, ...]:
    """Names of the plugins that registered the pooler, layer, rule or objective of a run, sorted.

    A name that the pooler does not read counts as well: it is looked up all the same.
    """
    parts: list[tuple[Registry, str]] = [
        (POOLERS, config.pooler.pooler),
        (GNN_LAYERS, config.pooler.gnn),
        (RULES, config.graph.graph),
        (OBJECTIVES, objective_kind(task, config.objective)),
    ]
    names = set()
    for table, name in parts:
        plugin = table.plugin_of(name)
        if plugin is not None:
            names.add(plugin)
    return tuple(sorted(names))
