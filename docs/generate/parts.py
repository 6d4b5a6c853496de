"""The page of everything that has a name: poolers, layers, rules, objectives, tasks, presets."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from generate.commands import escaped
from glot_jax.texts.tasks import TASKS, TaskSpec


def summary(part: object) -> str:
    """The first sentence of a part's docstring, on one line."""
    # A rule is an object around its predicate, which has the docstring.
    text = inspect.getdoc(getattr(part, "predicate", part)) or ""
    paragraph = text.partition("\n\n")[0]
    return " ".join(paragraph.split())


def table(parts: Mapping[str, Any]) -> list[str]:
    """Name and summary of each part."""
    lines = ["| name | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {escaped(summary(part))} |" for name, part in parts.items()]
    return [*lines, ""]


def pages() -> dict[str, str]:
    """The page, by its path."""
    from glot_jax.graphs import RULES
    from glot_jax.objectives import OBJECTIVES
    from glot_jax.objectives.metrics import METRICS
    from glot_jax.pooling import GNN_LAYERS, POOLERS
    from glot_jax.presets import PRESETS
    from glot_jax.tracking import TRACKERS

    lines = [
        "# Parts by name",
        "",
        "What flags such as `--pooler` take. Parts of your own are added by",
        "[a plugin](../plugins.md), and are then found under their names too.",
        "",
    ]
    for title, flag, parts in (
        ("Poolers", "--pooler", POOLERS),
        ("Layers of the token GNN", "--gnn", GNN_LAYERS),
        ("Rules of the token graph", "--graph", RULES),
        ("Objectives", "--objective", OBJECTIVES),
        ("Trackers", "--track", TRACKERS),
    ):
        lines += [f"## {title}", "", f"`{flag} NAME`", "", *table(parts)]
    lines += ["## Tasks", "", "`--task NAME`; GLUE's ten, IMDB and four of our own.", ""]
    lines += ["| name | texts | labels | judged by |", "|---|---|---|---|"]
    for name, task in TASKS.items():
        lines.append(
            f"| `{name}` | {task_texts(task)} | {task_labels(task)} | {task_metrics(task)} |"
        )
    lines += [
        "",
        "## Metrics",
        "",
        "`--metric NAME`: " + ", ".join(f"`{name}`" for name in METRICS),
    ]
    lines += ["", "## Presets", "", "`--preset NAME`. Flags beside a preset win over it.", ""]
    for name, preset in PRESETS.items():
        card = inspect.getdoc(preset) or ""
        lines += [f"### {name}", "", preset_card(card), ""]
    return {"reference/parts.md": "\n".join(lines)}


def task_texts(task: TaskSpec) -> str:
    """The columns of a task's texts."""
    columns = ", ".join(f"`{column}`" for column in task.text_columns)
    return columns or "named by flags"


def task_labels(task: TaskSpec) -> str:
    """The kind of a task's labels, and the number of its classes."""
    if task.classes:
        return f"{task.label_kind}, {len(task.classes)} classes"
    return task.label_kind


def task_metrics(task: TaskSpec) -> str:
    """What judges a task, the selecting metric first."""
    metrics = ", ".join(f"`{metric}`" for metric in task.metrics)
    return metrics or "depends on the labels"


def preset_card(card: str) -> str:
    """A docstring that is a list of `name`: text, with its signs escaped outside of code."""
    lines = []
    for line in card.splitlines():
        if line.startswith("- "):
            lines.append("- " + escaped(line[2:]))
        else:
            lines.append(escaped(line))
    return "\n".join(lines)
