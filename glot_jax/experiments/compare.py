"""`glot compare`: every combination trained with every seed, and one table of them."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from glot_jax.config.base import PROGRAM
from glot_jax.config.compare import CompareConfig
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.experiments.grid import Combination, Grid, is_run_of, other_settings
from glot_jax.files import TABLE_STYLE, make_folders, read_json, write_json
from glot_jax.reporting.report import ReportOptions, write_report
from glot_jax.reporting.statistics import number_text, p_text
from glot_jax.reporting.tables import Column, Table, table_console
from glot_jax.run_folders.run_folder import CONFIG, SUMMARY, RunFolder, Summary
from glot_jax.store.reader import HiddenStore
from glot_jax.training.joint import train_runs
from glot_jax.training.workspace import Workspace

MANY_RUNS = 1000
"""Runs from which on a comparison is only begun with --yes."""
MANY_VARIANTS = 20
"""Variants from which on the highest mean is called chosen, and not better."""
_FILE = "comparison.json"


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison."""

    combination: Combination
    config: TrainConfig
    """With its seed and its folder."""

    @property
    def finished(self) -> bool:
        """Whether an earlier call, or this one, has trained it to its end."""
        return (self.config.out / SUMMARY).is_file()


def require_small(grid: Grid, config: CompareConfig) -> None:
    """Whether a comparison may begin without being asked for twice.

    Raises:
        UsageError: it has more than a thousand runs.
    """
    runs = len(grid.combinations) * len(config.seeds)
    if runs > MANY_RUNS and not config.yes:
        raise UsageError(
            rule=f"a comparison of more than {MANY_RUNS:,} runs must be confirmed",
            got=f"{len(grid.combinations):,} combinations x {len(config.seeds)} seeds: {runs:,}",
            fix="Give fewer values, or --yes.",
        )


def run_compare(config: CompareConfig, grid: Grid) -> int:
    """Train what is missing, write the report and print the table.

    Returns:
        The exit code: 1 where a run has failed, and the others are compared all the same.

    Raises:
        UsageError: OUT holds runs of another store, or of other settings where those of this grid
            belong; no run has ended well, or a file cannot be written.
        KeyboardInterrupt: Ctrl-C; what is running is saved, and the same command goes on.
    """
    store = HiddenStore(config.store)
    make_folders(config.out)
    kept = _kept_runs(config.out, store.content)
    runs = _plan(config, grid, kept)
    _say(_opening(grid, runs, config.seeds))
    failed = _train(config, runs)
    # By folder: a run of an earlier grid keeps its name on disk and gets that of this table.
    labels = {run.config.out: run.combination.label for run in runs}
    options = ReportOptions(
        title=f"{config.store.name}: {len(grid.combinations)} settings compared",
        labels=labels,
        remarks=[f"{label}, failed: {reason}" for label, reason in failed],
        reference=config.reference or runs[0].combination.label,
        resamples=config.resamples,
        across_layers=True,
    )
    # Not the folder: it may hold runs of an earlier, larger grid.
    folders = [run.config.out for run in runs if run.finished]
    if not folders:
        raise UsageError(
            rule="a comparison needs a run that ended well",
            got="; ".join(f"{label}: {reason}" for label, reason in failed[:3]),
            fix="Change what the messages name; the same command goes on.",
        )
    values = write_report(folders, config.out / "report", options)
    # One store, one task, one metric: one table.
    (comparison,) = values["comparisons"]
    write_json(
        config.out / _FILE,
        {
            "store": store.content,
            "seeds": list(config.seeds),
            "combinations": [
                {"label": combination.label, "folder": combination.folder}
                for combination in grid.combinations
            ],
            "failed": [{"run": label, "reason": reason} for label, reason in failed],
            "comparison": comparison,
        },
        TABLE_STYLE,
    )
    _print_table(comparison)
    for line in _closing(config, grid, comparison):
        print(line)
    for label, reason in failed:
        _say(f"failed: {label}: {reason}")
    return 1 if failed else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _kept_runs(out: Path, content: str) -> dict[int, list[RunFolder]]:
    """Runs that lie in OUT already, by seed.

    They are found by their settings, not by their names: a grid that got another axis names them
    otherwise, and keeps them.

    Raises:
        UsageError: one of them is of another store.
    """
    kept: dict[int, list[RunFolder]] = {}
    # Sorted: of two runs of one setting the same one is taken on every file system.
    for path in sorted(out.glob(f"*/seed-*/{CONFIG}")):
        folder = RunFolder.open(path.parent)
        if folder.store != content:
            raise UsageError(
                rule="all runs of a comparison must be of one store",
                got=f"{path.parent}, of store {str(folder.store)[:12]} and not {content[:12]}",
                fix="Choose another --out.",
            )
        kept.setdefault(folder.config.seed, []).append(folder)
    return kept


def _plan(config: CompareConfig, grid: Grid, kept: dict[int, list[RunFolder]]) -> list[PlannedRun]:
    """Every run of the grid, in the folder that it has already or will have.

    Raises:
        UsageError: that folder holds a run of other settings.
    """
    runs = []
    for combination in grid.combinations:
        for seed in config.seeds:
            out = config.out / combination.folder / f"seed-{seed}"
            planned = dataclasses.replace(combination.config, seed=seed, out=out)
            same = [item for item in kept.get(seed, []) if is_run_of(item.config, planned)]
            if same:
                planned = dataclasses.replace(planned, out=same[0].path)
            elif (out / CONFIG).is_file():
                _refuse_other_run(RunFolder.open(out), planned)
            runs.append(PlannedRun(combination, planned))
    return runs


def _refuse_other_run(folder: RunFolder, planned: TrainConfig) -> None:
    """Refuse a folder with a run that is not the one that belongs there.

    A folder is named by what varies alone: with another value of a setting that does not, such as
    more --epochs, the run before has the name of the run that is asked for.

    Raises:
        UsageError: always; it tells the settings that differ.
    """
    changed = other_settings(folder.config, planned)
    if folder.config.seed != planned.seed:
        # Renamed by hand.
        changed.append(f"seed: {folder.config.seed} -> {planned.seed}")
    raise UsageError(
        rule="a run that is kept must have the settings that are asked for",
        got=f"{folder.path}, of others: {'; '.join(changed)}",
        fix="Give the settings that it was trained with, or choose another --out.",
    )


def _opening(grid: Grid, runs: Sequence[PlannedRun], seeds: Sequence[int]) -> str:
    line = f"{len(grid.combinations)} combinations x {len(seeds)} seeds: {len(runs)} runs"
    if grid.repeats:
        line += (
            f"; {grid.repeats} further combinations mean the same as one of these (their pooler"
            " does not read what differs)"
        )
    # Of an earlier call, or of a smaller grid.
    done = sum(run.finished for run in runs)
    if done:
        line += f"; {done} are finished already"
    return line


def _train(config: CompareConfig, runs: Sequence[PlannedRun]) -> list[tuple[str, str]]:
    """Train what is not finished; label and reason of what has failed."""
    workspace = Workspace()
    # One dispatch for many runs is what a GPU is for; on a CPU each is told when it ends.
    together = config.joint == "on" or (config.joint == "auto" and jax.default_backend() != "cpu")
    # In the order of the grid, so that runs of one program follow one another on a CPU too.
    groups: dict[str, list[PlannedRun]] = {}
    for number, run in enumerate(runs):
        if not run.finished:
            program = json.dumps(run.config.part(PROGRAM), default=str, sort_keys=True)
            groups.setdefault(program if together else str(number), []).append(run)
    failed = []
    # Not the clock of the day, which may be set while a comparison runs for hours.
    begin = time.monotonic()
    missing = sum(map(len, groups.values()))
    ended = 0
    for members in groups.values():
        try:
            configs = [run.config for run in members]
            # What is told of each run by itself, but how far it is.
            name = f"run {ended + 1} of {missing}"
            train_runs(
                configs,
                workspace=workspace,
                joint=config.joint,
                quiet=name,
            )
        except UsageError as error:
            # Of this run, or of this group; what is finished of it has its summary.
            reason = str(error)
        except (KeyboardInterrupt, SystemExit):
            # The run says nothing by itself here: it was trained quietly.
            _say(f"{config.out}: stopped; the same command finishes the runs that are left")
            raise
        else:
            reason = None
        ended += len(members)
        # By the mean so far: later runs need fewer programs, and larger layers take longer.
        left = (time.monotonic() - begin) / ended * (missing - ended)
        for run in members:
            name = f"{run.combination.label}, seed {run.config.seed}"
            if reason is not None and not run.finished:
                failed.append((name, reason))
                _say(f"run {ended} of {missing}: {name}: failed: {reason}")
                continue
            _say(f"run {ended} of {missing}: {name}: {_score_of(run)}{_time_left(left)}")
    return failed


def _score_of(run: PlannedRun) -> str:
    summary = Summary.from_json(read_json(run.config.out / SUMMARY))
    metric = next(iter(summary.selecting.best))
    text = f"{metric} {summary.selecting.best[metric]:.3f} on {summary.selected_on}"
    # What is wrong with it stands in the report; that something is must be seen at once.
    # Each kind once: a run may lack classes in several splits.
    names = dict.fromkeys(finding.name for finding in summary.health)
    return text + (f" ({', '.join(names)})" if names else "")


def _time_left(seconds: float) -> str:
    # Less than a line takes to read.
    if seconds < 1:
        return ""
    if seconds < 90:
        return f"; {seconds:.0f} s left"
    return f"; {seconds / 60:.0f} min left"


def _print_table(comparison: dict[str, Any]) -> None:
    first = comparison["variants"][0]["split"]
    rows = [entry for entry in comparison["variants"] if entry["split"] == first]
    has_tests = any(entry["difference"] for entry in rows)
    has_stuck = any(entry["learned"] for entry in rows)

    def difference(entry: dict[str, Any]) -> str:
        tested = entry["difference"]
        if not tested:
            return ""
        # Differences are reference - variant. Subtracted from 0: no gap is +0.000.
        return f"{0 - tested['value']:+.3f}{p_text(tested['p'], tested['p_seeds'])}"

    def learned(entry: dict[str, Any]) -> str:
        return f"{entry['learned'][2]} of {entry['seeds']}" if entry["learned"] else "all"

    def holm(entry: dict[str, Any]) -> str:
        return "" if entry["holm_p"] is None else f"{entry['holm_p']:.3f}"

    columns: list[Column[dict[str, Any]]] = [
        Column("variant", lambda entry: entry["variant"], align="left"),
        Column("seeds", lambda entry: str(entry["seeds"])),
        Column(
            f"{first} {comparison['metric']}",
            lambda entry: (
                number_text(entry["mean"], entry["deviation"])
                + ("†" if entry["selected_here"] else "")
            ),
        ),
        Column("learned", learned, shown_if=has_stuck),
        Column(f"less {comparison['reference']} (p rows; seeds)", difference, shown_if=has_tests),
        Column("p, Holm", holm, shown_if=has_tests),
        Column("parameters", lambda entry: f"{entry['parameters']:,}"),
        Column("train s", lambda entry: f"{entry['train_seconds']:.1f}"),
    ]
    title = f"{comparison['task']}, {comparison['backbone']}"
    table_console().print(Table.by_columns(columns, rows).to_console(title))


def _closing(config: CompareConfig, grid: Grid, comparison: dict[str, Any]) -> list[str]:
    first = comparison["variants"][0]["split"]
    rows = [entry for entry in comparison["variants"] if entry["split"] == first]
    best = max(rows, key=lambda entry: entry["mean"])
    label = best["variant"]
    folder = next(item.folder for item in grid.combinations if item.label == label)
    score = f"{comparison['metric']} {number_text(best['mean'], best['deviation'])} on {first}"
    lines = [f"{config.out / 'report'}/report.html"]
    if any(entry["selected_here"] for entry in rows):
        lines.append(f"†: epochs were chosen on {first} itself, which flatters its scores.")
    if len(rows) <= MANY_VARIANTS:
        return [f"The highest mean: {label}, {score}.", *lines]
    # The best of many is partly the luckiest: it is only a candidate.
    # Behind those that have chosen it, and as many.
    seeds = " ".join(str(max(config.seeds) + number + 1) for number in range(len(config.seeds)))
    run = shlex.quote(str(config.out / folder / f"seed-{config.seeds[0]}" / CONFIG))
    again = f"train.py --config {run} --seeds {seeds} --out {shlex.quote(str(config.out))}-again"
    lines.append(
        f"Chosen of {len(rows)}: {label}, {score}. The highest of so many means is flattered by"
        f" chance; on new seeds: {again}"
    )
    return lines
