"""The stress test: extract once, tune and train every pooler, and print each score beside what a control reaches."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from glot_jax.config import (
    ExtractConfig,
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PoolerConfig,
    StressConfig,
    TrainConfig,
    UsageError,
    lookup,
)

SELF_LOOPS = "glot-self-loops"
"""GLOT whose graph links every token to itself alone: what is left of its score is not owed to the graph."""


def run_stress(config: StressConfig) -> list[dict[str, Any]]:
    """Run it and write OUT/stress.json and OUT/stress.png; the records are returned too.

    A record has protocol, ratio, pooler or control, seed, accuracy (test split, at the epoch and learning rate best on
    the validation split). Records of poolers add lr, validation, parameters and seconds; those of controls have no
    training seed of their own and carry the seed of the data.
    """
    from glot_jax.pooling import POOLERS
    from glot_jax.texts.diagnostic import PROTOCOLS

    # Misspellings are found before minutes of work, not after.
    for name in config.poolers:
        lookup(POOLERS, name, "pooler (--poolers)")
    for protocol in config.protocol:
        lookup(PROTOCOLS, protocol, "protocol (--protocol)")
    for lr in config.lrs:
        _train_config(config, config.out, "glot", lr, config.seeds[0])
    extractions = [_extract_config(config, protocol, ratio) for protocol in config.protocol for ratio in config.ratios]
    plot_stress = _plotter()
    config.out.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    for extract in extractions:
        records += _run_protocol(config, extract)
        _print_table(records, extract.protocol, extract.ratio, config)
        # After every protocol: what is done is not lost with what follows.
        (config.out / "stress.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    plot_stress(records, config.out / "stress.png")
    print(f"wrote {config.out / 'stress.json'} and {config.out / 'stress.png'}", file=sys.stderr)
    return records


def _plotter() -> Callable[..., None]:
    try:
        from glot_jax.analysis.figures import plot_stress
    except ImportError as error:
        raise UsageError("the figure needs matplotlib", str(error), "Install the extra: pip install 'glot-jax[viz]'.") from error
    return plot_stress


def _extract_config(config: StressConfig, protocol: str, ratio: float) -> ExtractConfig:
    train_rows, test_rows = config.rows
    return ExtractConfig(
        backbone=config.backbone, task="diagnostic", out=config.out / "stores" / f"{Path(config.backbone).name}-{protocol}-{ratio:g}",
        protocol=protocol, ratio=ratio, diagnostic_rows=(train_rows, test_rows, test_rows), sample_seed=config.seeds[0],  # type: ignore[arg-type]
    )


def _run_protocol(config: StressConfig, extract: ExtractConfig) -> list[dict[str, Any]]:
    from glot_jax.extraction import dump

    dump(extract)
    where = {"protocol": extract.protocol, "ratio": extract.ratio}
    records = [
        {**where, "control": name, "seed": extract.sample_seed, "accuracy": accuracy}
        for name, accuracy in _controls(extract).items()
    ]
    residents: dict[tuple, Any] = {}
    variants = [*config.poolers, *([SELF_LOOPS] if "glot" in config.poolers else [])]
    for variant in variants:
        for run in _tuned_runs(config, extract.out, variant, residents):
            records.append({**where, "pooler": variant, **run})
            print(f"{extract.protocol} {extract.ratio:g} {variant} seed {run['seed']}: {run['accuracy']:.3f} at lr {run['lr']:g}", file=sys.stderr)
    return records


def _controls(extract: ExtractConfig) -> dict[str, float]:
    """Test accuracies of the probes that see no relation between words."""
    from glot_jax.texts import open_task
    from glot_jax.texts.diagnostic import StressRow, controls, whole_words

    def vocabulary() -> list[str]:
        from glot_jax.extraction.backbone import load_tokenizer, vocabulary
        from glot_jax.extraction.sources import find_source

        return whole_words(vocabulary(load_tokenizer(find_source(extract.backbone, extract.revision))))

    task = open_task(extract, vocabulary=vocabulary)
    splits = {
        name: [StressRow(example.texts[0], int(example.label or 0)) for example in split] for name, split in task.splits.items()
    }
    return controls(extract.protocol, splits, extract.sample_seed)


def _tuned_runs(
    config: StressConfig, store: Path, variant: str, residents: dict[tuple, Any]
) -> list[dict[str, Any]]:
    """One result per seed, each at the learning rate the first seed found best on the validation split."""
    first = config.seeds[0]
    tried = {lr: _train_once(config, store, variant, lr, first, residents) for lr in config.lrs}
    # Of equal accuracies the lower loss decides: on small validation splits ties are common.
    chosen = max(tried, key=lambda lr: (tried[lr]["validation"]["best"]["accuracy"], -tried[lr]["validation"]["best"]["loss"]))
    runs = []
    for seed in config.seeds:
        summary = tried[chosen] if seed == first else _train_once(config, store, variant, chosen, seed, residents)
        runs.append({
            "seed": seed, "accuracy": summary["test"]["best"]["accuracy"], "lr": chosen,
            "validation": summary["validation"]["best"]["accuracy"], "parameters": sum(summary["parameters"].values()),
            "seconds": summary["seconds"]["train"],
        })
    return runs


def _train_once(
    config: StressConfig, store: Path, variant: str, lr: float, seed: int, residents: dict[tuple, Any]
) -> dict[str, Any]:
    """Train, or take up a run that an earlier call began or finished."""
    from glot_jax.training import train

    run = _train_config(config, store, variant, lr, seed)
    return train(run, resume=(run.out / "config.json").exists(), quiet=True, residents=residents)


def _train_config(config: StressConfig, store: Path, variant: str, lr: float, seed: int) -> TrainConfig:
    pooler, graph = ("glot", "self") if variant == SELF_LOOPS else (variant, "threshold")
    return TrainConfig(
        store=store, out=config.out / "runs" / store.name / f"{variant}-lr{lr:g}-seed{seed}", epochs=config.epochs, seed=seed,
        batch_size=config.batch_size, buckets=1, graph=GraphConfig(graph=graph, tau=config.tau), pooler=PoolerConfig(pooler=pooler, hidden_dim=config.hidden_dim),
        optimizer=OptimizerConfig(lr=lr), objective=ObjectiveConfig(select_on="validation"),
    )


def _print_table(records: list[dict[str, Any]], protocol: str, ratio: float, config: StressConfig) -> None:
    table = Table(title=f"stress test, {protocol}, {ratio:.0%} distractors, {config.rows[0]} training rows, chance 0.5")
    for column in ("pooler or control", "test accuracy", "validation", "lr", "parameters", "train s"):
        table.add_column(column, justify="left" if column.startswith("pooler") else "right")
    here = [record for record in records if record["protocol"] == protocol and record["ratio"] == ratio]
    for name in dict.fromkeys(record.get("pooler", record.get("control")) for record in here):
        rows = [record for record in here if record.get("pooler", record.get("control")) == name]
        accuracy = _mean_deviation([record["accuracy"] for record in rows])
        if "control" in rows[0]:
            table.add_row(f"control: {name}", accuracy, "", "", "", "")
            continue
        table.add_row(
            str(name), accuracy, _mean_deviation([record["validation"] for record in rows]), f"{rows[0]['lr']:g}",
            f"{rows[0]['parameters']:,}", f"{statistics.mean(record['seconds'] for record in rows):.1f}",
        )
    # A pipe has no width of its own, and half a name helps nobody.
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table)


def _mean_deviation(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"
