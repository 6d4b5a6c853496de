"""README.md of an exported folder: what was trained, on what, how well, under which licence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib import resources
from typing import Any

from glot_jax.backbone_files.backbone_source import MINILM
from glot_jax.run_folders.run_folder import CheckpointName, RunFolder, Summary

CODE_FILES = ("glot_pooling.py", "glot_head.py", "glot_graph.py", "glot_task.py")
"""Code of an exported folder, named here too: glot_pooling itself needs the extra `export`."""


FACTS = "glot_export.json"
"""The file that says what an exported folder is of."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """glot_export.json: what an exported folder holds, without the paths of this machine."""

    glot_jax: str
    """Version of this package."""
    task: str
    checkpoint: CheckpointName
    max_length: int
    """Tokens that a text is cut to."""
    dim: int
    """Width of a vector."""
    backbone: Mapping[str, Any]
    """name, revision and sha256 of the frozen model."""
    layers: list[int]
    store: str
    """Content of the store that was trained on."""
    run: str
    """sha256 of the run's config.json."""
    weights: str
    """sha256 of the head's weights."""
    task_head: Mapping[str, Any] | None = None
    """Settings of the task's head, where the folder has it."""

    def to_json(self) -> dict[str, Any]:
        """The values of glot_export.json."""
        values = dataclasses.asdict(self)
        if self.task_head is None:
            del values["task_head"]
        return values


def model_card(run: RunFolder, summary: Summary, facts: Facts, dtype: str) -> str:
    """The template model_card.md, filled in.

    Args:
        run: the run that was exported.
        summary: its scores.
        facts: what the folder holds.
        dtype: dtype in which the backbone ran when it was trained on.
    """
    # Package data: it lies in the wheel beside this module.
    template = resources.files("glot_jax.export").joinpath("model_card.md")
    task = run.model.task
    name = facts.backbone["name"]
    ranked = task.label_kind == "ranking"
    parameters = summary.parameters["pooler"]
    # The baseline that the card sets beside the scores.
    commonest = "the commonest answer"
    if ranked:
        commonest = "a random order"
    # A ranking's map is exported with the pooler; a classifier where it was asked for.
    if ranked or facts.task_head is not None:
        parameters += summary.parameters["head"]
    more_files = [f"`{file}`" for file in CODE_FILES[1:]]
    return template.read_text(encoding="utf-8").format(
        base=_base_model(facts.backbone),
        backbone=name,
        task=facts.task,
        dim=facts.dim,
        pooler=run.config.pooler.pooler,
        version=facts.glot_jax,
        file=CODE_FILES[0],
        more_files=", ".join(more_files),
        answers=_answers(facts.task_head),
        max_length=facts.max_length,
        dtype=dtype,
        parameters=parameters,
        roles=", ".join(task.roles),
        vector=_vector(run, facts.task_head, ranked=ranked),
        scores=_scores(run, summary, facts.checkpoint),
        selected=_selected(summary, facts.checkpoint),
        commonest=commonest,
        identity=_identity(facts.backbone),
        layers=facts.layers,
        last=run.recipe.num_layers,
        store=facts.store,
        run=facts.run,
        checkpoint=facts.checkpoint,
        weights=facts.weights,
    )


def _base_model(backbone: Mapping[str, Any]) -> str:
    """The header's line that links the backbone, if the Hub has it under this name."""
    # A revision is known only of a backbone from the Hub; MiniLM's weights are known by their hash.
    if backbone["revision"] or backbone["name"] == MINILM:
        return f"base_model: {backbone['name']}\n"
    return ""


def _identity(backbone: Mapping[str, Any]) -> str:
    """What tells the backbone from others of its name."""
    if backbone["revision"]:
        return f"`{backbone['name']}`, commit `{backbone['revision']}`"
    return f"`{backbone['name']}`, sha256 `{backbone['sha256']}`"


def _answers(task_head: Mapping[str, Any] | None) -> str:
    """How a folder with the task's head is asked what it was trained to say."""
    if task_head is None:
        return ""
    output = "score"
    scores = "the score of each row"
    if "classes" in task_head:
        output = "probabilities"
        scores = "[rows, classes]; the classes: model[1].classes"
    if task_head["texts"] == 1:
        lines = [
            'rows = model.encode(["a sentence", "another one"], output_value=None)',
            f'rows[0]["{output}"]  # beside "sentence_embedding"',
        ]
    else:
        lines = [
            'first = model.encode(["a sentence"])',
            'second = model.encode(["another one"])',
            f'model[1].answers(first, second)["{output}"]  # {scores}',
        ]
    if task_head["texts"] == 1 and "classes" in task_head:
        lines.append("model[1].classes  # their names, in this order")
    return "\n".join(["\nWhat the run was trained to say:\n", "```python", *lines, "```", ""])


def _vector(run: RunFolder, task_head: Mapping[str, Any] | None, *, ranked: bool) -> str:
    """What a vector was trained for."""
    if task_head is not None:
        return "A vector is\nwhat the task's own head reads, which is in this folder too."
    if not ranked:
        return (
            "A vector is\nwhat the task's own classifier or projection read; that one is not in"
            " this folder."
        )
    length = "as they are"
    if run.config.objective.embedding_vectors == "unit":
        length = "of unit length"
    return f"Vectors were compared by inner product, {length}."


def _selected(summary: Summary, checkpoint: CheckpointName) -> str:
    """Which epoch these weights are of, and what chose it."""
    if checkpoint == "last" or summary.selected_on in ("last", None):
        return "No split selected: these are the weights of the last epoch."
    return f"The best epoch was selected on `{summary.selected_on}`."


def _scores(run: RunFolder, summary: Summary, checkpoint: CheckpointName) -> str:
    """A Markdown table: a row for each split, and one for the majority."""
    # The task's own metrics: a loss says nothing to those who did not train.
    metrics: list[str] = list(run.model.task.metrics)
    if summary.splits:
        metrics.append("epoch")
    rows = {}
    for name, split in summary.splits.items():
        rows[name] = split.at(checkpoint)
    rows["majority"] = summary.reported_baselines.get("majority", {})
    lines = [
        f"| split | {' | '.join(metrics)} |",
        "|---|" + "---|" * len(metrics),
    ]
    for name, scores in rows.items():
        cells: list[str] = []
        for metric in metrics:
            # A baseline has no epoch.
            cell = ""
            if metric in scores:
                cell = f"{scores[metric]:.4g}"
            cells.append(cell)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
