"""What a sweep prints at its end: the best trials, which of them tie, and what explains them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from glot_jax.config.sweep import SweepConfig
from glot_jax.experiments.search_space import SearchSpace
from glot_jax.experiments.sweep_trials import SweepTrial, tied
from glot_jax.files import read_json
from glot_jax.health import Finding
from glot_jax.reporting.tables import Column, Table, table_console
from glot_jax.run_folders.run_folder import SUMMARY, Summary

_SHOWN = 10  # trials of the printed table


def print_sweep(
    config: SweepConfig,
    space: SearchSpace,
    trials: Sequence[SweepTrial],
    importance: Mapping[str, float],
    metric: str,
) -> None:
    """Print the best trials, which of them tie, and the importance of the settings.

    Args:
        config: of the sweep.
        space: of the sweep.
        trials: best first.
        importance: setting -> share of the variance; empty: not known.
        metric: that trials are compared by.
    """
    states = [trial.state for trial in trials]
    split = space.base.objective.select_on
    title = f"{metric} on {split}; {len(trials)} trials, {states.count('pruned')} pruned"
    if states.count("failed"):
        title += f", {states.count('failed')} failed"
    table = Table.by_columns(_columns(config, space, metric), trials[:_SHOWN])
    console = table_console()
    console.print(table.to_console(title))
    if importance:
        shares = []
        for name, share in importance.items():
            shares.append(f"{name} {share:.2f}")
        console.print(f"importance: {', '.join(shares)}")
    equal = tied(trials)
    if equal:
        # As it is: names of files, and lists, may look like markup.
        console.print(_tie(space, equal, metric), soft_wrap=True, markup=False)
    for trial in trials:
        if trial.state == "failed":
            line = f"trial {trial.number} failed: {trial.reason}"
            console.print(line, soft_wrap=True, markup=False)


def _tie(space: SearchSpace, equal: Sequence[SweepTrial], metric: str) -> str:
    """What is to be known where several trials have the best score."""
    varied = []
    for name in space.varied:
        # By their texts: lists have no hash.
        values = {str(trial.values.get(name)) for trial in equal}
        if len(values) > 1:
            varied.append(name)
    told = []
    for trial in equal[:_SHOWN]:
        parts = []
        for name in varied:
            if name in trial.values:
                parts.append(f"{name} {trial.values[name]}")
        told.append(", ".join(parts) or f"trial {trial.number}")
    text = (
        f"{len(equal)} trials tie at {metric} {equal[0].score:.4f}: {'; '.join(told)}. Nothing here"
        " says which is better; named is the one with the fewest parameters, or else the first"
    )
    # Of the rows that decide, where they are few.
    for finding in _findings(equal[0]):
        if finding.name == "small-selection":
            text += f". {finding.text}"
    return text


def _findings(trial: SweepTrial) -> Sequence[Finding]:
    if trial.run is None:
        return ()
    folder = Path(trial.run)
    seeds = sorted(folder.glob(f"seed-*/{SUMMARY}"))
    for file in (folder / SUMMARY, *seeds):
        # A run may have been deleted since: its score is still in the study.
        if file.is_file():
            return Summary.from_json(read_json(file)).health
    return ()


def _columns(config: SweepConfig, space: SearchSpace, metric: str) -> list[Column[SweepTrial]]:
    def reported(trial: SweepTrial) -> str:
        texts = []
        for split, scores in (trial.reported or {}).items():
            # The selecting split has a column of its own.
            if split != space.base.objective.select_on:
                texts.append(f"{split} {scores[metric]:.4f}")
        return ", ".join(texts)

    # A setting with one value tells no trial from another.
    columns = [_value_column(name) for name in space.varied]
    seeds = len(config.trial_seeds)
    name = metric
    if seeds > 1:
        name += f", {seeds} seeds"
    columns += [
        Column(name, _score),
        Column("reported", reported),
        Column("parameters", _parameters),
        Column("s", _seconds),
    ]
    return columns


def _value_column(name: str) -> Column[SweepTrial]:
    def value(trial: SweepTrial) -> str:
        # Empty where its pooler does not read the setting.
        value = trial.values.get(name, "")
        if isinstance(value, float):
            return f"{value:.4g}"
        return str(value)

    return Column(name, value)


def _score(trial: SweepTrial) -> str:
    if trial.state == "complete":
        text = f"{trial.score:.4f}"
        if trial.deviation is not None:
            text += f" ± {trial.deviation:.4f}"
        return text
    return trial.state


def _parameters(trial: SweepTrial) -> str:
    if trial.parameters:
        return f"{trial.parameters:,}"
    return ""


def _seconds(trial: SweepTrial) -> str:
    if trial.seconds:
        return f"{trial.seconds:.0f}"
    return ""
